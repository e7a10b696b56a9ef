"""The CUDA kernels of ``CupyBackend``, as text. Importable without CuPy and without a GPU.

One text, plain ``extern "C"`` functions, is compiled for float and for double through the macro ``REAL``. Every kernel
is correct for any number of blocks and any power of two of threads, one included: a sequence of loops in which the
threads of a block (or of the grid) share out elements, with barriers between them. So a compiler for the CPU can run
the same text thread by thread, and that is how the tests check it where there is no GPU.

Sums have a fixed order: there are no atomic operations on floats, and a second run on the same device gives the same
bits. Arrays handed in twice (``out`` that is an input) are allowed, hence no ``__restrict__``.
"""

from __future__ import annotations

from ...activations import ACTIVATIONS, Activation
from ...updates import Rule
from . import small_networks, updates
from .elementwise import ROWS, activation_kernels, take_rows_kernels
from .flat import BUFFERS, NUMBERS
from .losses import loss_kernels
from .normalization import NORMALIZE
from .small_networks import head_kernels
from .text import BATCH, DEPENDENT, DIVIDE, HASH, head
from .trees import COLUMN_SUMS, TREES
from .updates import UPDATES, joined_update_kernels, rule_kernel, rule_kernels

#: What kernels that call ``wait_for_launch_before`` read before that, by the beginning of a kernel's name.
EARLY = small_networks.EARLY | updates.EARLY


def source(real: str) -> str:
    """The CUDA text with ``REAL`` as ``"float"`` or ``"double"``, and with the activations known by now."""
    parts = [head(real), DIVIDE, BATCH, DEPENDENT, TREES]
    parts += [activation_kernels(a, a.name) for a in ACTIVATIONS.values() if a.has_cuda]
    parts += [ROWS, NORMALIZE, *loss_kernels(), HASH, UPDATES + BUFFERS + NUMBERS, COLUMN_SUMS, *head_kernels()]
    parts += [*rule_kernels(), *joined_update_kernels(), *take_rows_kernels()]
    return "\n".join(parts)


def source_of(activation: Activation, name: str, real: str) -> str:
    """A CUDA text with the kernels of one activation only, under ``name``."""
    return f"{head(real)}\n{DIVIDE}\n{activation_kernels(activation, name)}"


def source_of_rule(rule: Rule, name: str, real: str) -> str:
    """A CUDA text with the kernel of one rule of updating only, under ``name``."""
    return f"{head(real)}\n{rule_kernel(rule, name)}"

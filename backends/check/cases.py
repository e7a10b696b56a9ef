"""The inputs that ``backends.check`` tries: random, at the edges, and chosen to do harm.

Every operation has a function that yields its cases, in one of the files that ``MAKERS`` comes from. What a case holds
depends on the seed, the operation and the dtype alone, so that it can be repeated.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS
from ..arguments import check_dtype, check_flag, check_seed, check_text, unknown
from ..typing import Array
from ..updates import RULES
from .array_cases import ARRAY_MAKERS
from .distortion_cases import DISTORTION_MAKERS
from .inputs import Inputs, Made
from .loss_cases import LOSS_MAKERS
from .matrix_cases import MATRIX_MAKERS
from .picture_cases import PICTURE_MAKERS
from .update_cases import UPDATE_MAKERS


@dataclass(frozen=True, eq=False)
class Case:
    """Inputs of an operation. ``options`` are the keyword arguments; arrays among them go to the device too."""

    operation: str
    name: str
    inputs: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Array]:
        """The arrays that are given in a dict."""
        return next((x for x in self.inputs if isinstance(x, dict)), {})


def parts() -> list[str]:
    """Every operation; one that is other code for each activation or rule stands there once for each of them.

    ``"matmul"``, ``"bias_activation relu"``, ``"update adam"``, ...: ``cases`` and ``check`` take these names too.
    """
    return [f"{operation} {part}".rstrip() for operation in MAKERS for part in PARTS.get(operation, ("",))]


def cases(operation: str, dtype: str, seed: int = 0, flushes: bool = False) -> Iterator[Case]:
    """The cases of an operation, or of one of its ``parts``.

    Args:
        dtype: what the floats of the inputs are rounded to.
        flushes: whether the device may take denormals for 0. Where a comparison with 0 hangs on that, there is no
            right answer, and such inputs are left out.
    """
    operation, _, part = check_text("operation", operation, "the name of an operation").partition(" ")
    if operation not in MAKERS:
        raise ValueError(unknown("operation", operation, MAKERS))
    dtype, flushes = check_dtype("dtype", dtype), check_flag("flushes", flushes)
    seed = check_seed("seed", seed)
    known = list(PARTS.get(operation, ("",)))
    if part and part not in known:
        raise ValueError(unknown("operation", f"{operation} {part}", parts()))
    for one in [part] if part else known:
        rng = np.random.default_rng((seed, zlib.crc32(f"{operation} {one} {dtype}".encode())))
        yield from _cases_of(operation, Inputs(rng, np.dtype(dtype), flushes, one))


def _cases_of(operation: str, make: Inputs) -> Iterator[Case]:
    for name, inputs, options in MAKERS[operation](make):
        words = (x if isinstance(x, str) else "x".join(map(str, _extents(x))) for x in inputs)
        shapes = " ".join(filter(None, words))
        said = " ".join(f"{key}={value}" for key, value in options.items() if not isinstance(value, np.ndarray))
        yield Case(operation, " ".join(filter(None, (name, shapes, said))), inputs, options)


def _extents(x: Any) -> tuple[int, ...]:
    """The shape of an array, or an input that is a height and a width."""
    shape: tuple[int, ...] = x if isinstance(x, tuple) else getattr(x, "shape", ())
    return shape


MAKERS: dict[str, Callable[[Inputs], Made]] = {
    **MATRIX_MAKERS,
    **LOSS_MAKERS,
    **UPDATE_MAKERS,
    **ARRAY_MAKERS,
    **PICTURE_MAKERS,
    **DISTORTION_MAKERS,
}
#: The operations that are other code for each activation or rule.
PARTS: dict[str, Collection[str]] = {
    "bias_activation": ACTIVATIONS,
    "bias_activation_backward": ACTIVATIONS,
    "update": RULES,
}
#: What has no result that could be right or wrong: it is called, and tested in ``tests/backends``.
WITHOUT_RESULT = {"use", "synchronize"}

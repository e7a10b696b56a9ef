"""NumPy on the CPU: the operations of ``base.Backend`` in place, through the BLAS, without temporaries.

Where an operation needs memory it uses scratch memory that belongs to the backend and the calling thread, so that a
training step allocates nothing once every shape has been seen.

A step can be recorded (``recording``). So an operation takes NumPy's functions from ``self._memory.numpy``, which notes
them then, and calls whatever else computes through ``self._call``. All that it does beside, looking at shapes for one,
is done once for all steps of a size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..collectives import Node
from ..typing import Array
from .activations import NumpyActivations
from .convolution import NumpyConvolutions
from .distortion import NumpyDistortions
from .flat_buffers import NumpyFlatBuffers
from .losses import NumpyLosses
from .normalization import NumpyNormalizations
from .pooling import NumpyPoolings
from .products import NumpyProducts
from .rows import NumpyRows
from .updates import NumpyUpdates


class NumpyBackend(
    NumpyProducts,
    NumpyActivations,
    NumpyNormalizations,
    NumpyLosses,
    NumpyUpdates,
    NumpyFlatBuffers,
    NumpyRows,
    NumpyConvolutions,
    NumpyPoolings,
    NumpyDistortions,
):
    """The CPU, through NumPy. Each kind of operation has a file of its own, from ``products`` to ``distortion``."""

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        return self._call(super().asarray, x, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        array = super().zeros(shape, dtype)
        self._call(array.fill, 0)
        return array

    def copy(self, x: Array, out: Array | None = None) -> Array:
        np = self._memory.numpy
        out = np.empty(x.shape, x.dtype) if out is None else out
        np.copyto(out, x, casting="unsafe")
        return out

    def sum_over_processes(self, own: Sequence[Array], nodes: Sequence[Node], blocks: int, out: Array) -> Array:
        if self.collectives.size == 1:
            return self._call(super().sum_over_processes, own, nodes, blocks, out)
        self._call(self.collectives.sum_nodes, own, nodes, blocks, out)
        return out

"""Rows of a zarr array, read range by range by the library, which is imported by who calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..checks import DataError
from ..reading import reading
from .hdf5 import check_chunk_size
from .source import sampled_identity


class ZarrSource:
    """A zarr array.

    Args:
        array: a ``zarr.Array``.
        name: for messages; where it is stored, by default.

    Raises:
        DataError: it holds no numbers, or its chunks are too large.
    """

    def __init__(self, array: Any, name: str = "") -> None:
        self._array, self.name = array, name or str(getattr(array, "store_path", array.name))
        with reading(self.name):
            self.shape, stored = tuple(array.shape), np.dtype(array.dtype)
            if stored.kind not in "biufU":
                raise DataError(f"{self.name} holds no numbers (it has type {stored}); store it as an array of numbers")
            if not self.shape:
                raise DataError(f"{self.name} holds a single number; store an array of rows")
            self.dtype, self.chunk = stored.newbyteorder("="), int(array.chunks[0])
            # Of a shard only the chunks that are wanted are read.
            check_chunk_size(math.prod(array.chunks) * stored.itemsize, self.name)

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        with reading(self.name):
            out[...] = self._array[start:stop]

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return sampled_identity(self)

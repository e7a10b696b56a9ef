"""Pooling of pictures by loops that Numba compiles; what ``numba_kernels`` says of its loops holds for these."""

from __future__ import annotations

import numpy as np

from ..pictures import Windows
from ..pictures.windows import Pair
from ..typing import Array
from .numba_kernels import compiled
from .pooling import NumpyPoolings


@compiled
def fold(x: Array, size: Pair, stride: Pair, y: Array) -> None:
    """y <- the largest of each window; NaN where there is one"""
    (rows, columns), (down, right) = size, stride
    for i in range(y.shape[0]):
        for r in range(y.shape[1]):
            for q in range(y.shape[2]):
                for k in range(y.shape[3]):
                    y[i, r, q, k] = x[i, r * down, q * right, k]
                for a in range(rows):
                    for b in range(columns):
                        for k in range(y.shape[3]):
                            best, here = y[i, r, q, k], x[i, r * down + a, q * right + b, k]
                            y[i, r, q, k] = best if best >= here or best != best else here


@compiled
def choose(dy: Array, x: Array, y: Array, size: Pair, stride: Pair, left: Array, dx: Array) -> None:
    """dx <- dy where x is the first of a window that equals y, of windows that do not overlap; 0 elsewhere in windows

    Args:
        left: memory for a number of each channel.
    """
    (rows, columns), (down, right) = size, stride
    zero = dx.dtype.type(0)
    for i in range(y.shape[0]):
        for r in range(y.shape[1]):
            for q in range(y.shape[2]):
                for k in range(y.shape[3]):
                    left[k] = dy[i, r, q, k]
                for a in range(rows):
                    for b in range(columns):
                        for k in range(y.shape[3]):
                            is_first, d = x[i, r * down + a, q * right + b, k] == y[i, r, q, k], left[k]
                            dx[i, r * down + a, q * right + b, k] = d if is_first else zero
                            left[k] = zero if is_first else d


class NumbaPoolings(NumpyPoolings):
    """The largest of windows without padding, and the way back through those that do not overlap, each in one loop."""

    def _fold_largest(self, windows: Windows, x: Array, y: Array) -> bool:
        if windows.padding != (0, 0) or not _are_plain(x, y):
            return super()._fold_largest(windows, x, y)
        fold(x, windows.size, windows.stride, y)
        return True

    def _choose_largest(self, windows: Windows, dy: Array, x: Array, y: Array, dx: Array) -> bool:
        size, stride, grid = windows.size, windows.stride, windows.grid
        overlap = stride[0] < size[0] or stride[1] < size[1]
        if windows.padding != (0, 0) or overlap or not _are_plain(dy, x, y, dx):
            return super()._choose_largest(windows, dy, x, y, dx)
        if size != stride or windows.padded != (size[0] * grid[0], size[1] * grid[1]):
            dx.fill(0)
        choose(dy, x, y, size, stride, np.empty(x.shape[3], x.dtype), dx)
        return True


def _are_plain(*arrays: Array) -> bool:
    first = arrays[0].dtype
    return all(array.flags.c_contiguous and array.dtype == first for array in arrays)

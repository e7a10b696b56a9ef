"""Pooling through NumPy: in blocks of pictures, on several threads, each operation in one noted call; see
``pooling_blocks``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, isfinite

import numpy

from ..base import Backend
from ..pictures import Windows
from ..pictures.pooling import check_pooling
from ..pictures.windows import Pair
from ..typing import Array
from .core import NumpyCore
from .pooling_blocks import Block, Blocks, Pooling


class NumpyPoolings(NumpyCore):
    """Pooling of pictures, and the chain rule through it."""

    def max_pool2d(
        self, x: Array, size: Pair, *, stride: Pair, padding: Pair = (0, 0), out: Array | None = None
    ) -> Array:
        windows = check_pooling("max_pool2d", x.shape, size, stride, padding)
        out = self.empty((x.shape[0], *windows.grid, x.shape[3])) if out is None else out

        def compute(mine: Block, block: slice) -> None:
            if not self._fold_largest(windows, x[block], out[block]):
                mine.fold(numpy.maximum, mine.with_padding(x[block]), out[block])

        return self._pool(Pooling(windows, x.shape[3], -inf, self.dtype_name), compute, out)

    def max_pool2d_backward(
        self,
        dy: Array,
        x: Array,
        y: Array,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        out: Array | None = None,
    ) -> Array:
        windows = check_pooling("max_pool2d_backward", x.shape, size, stride, padding)
        out = self.empty(x.shape) if out is None else out

        def compute(mine: Block, block: slice) -> None:
            of_dy, of_x, of_y, dx = dy[block], x[block], y[block], out[block]
            if not (_is_finite(of_y) and _is_finite(of_dy)):
                # A product with 0 would be NaN, and NaN does not equal itself.
                Backend.max_pool2d_backward(self, of_dy, of_x, of_y, size, stride=stride, padding=padding, out=dx)
            elif not self._choose_largest(windows, of_dy, of_x, of_y, dx):
                mine.choose(mine.with_padding(of_x), of_dy, of_y, mine.without_padding(dx))
                mine.finish(dx)

        return self._pool(Pooling(windows, x.shape[3], -inf, self.dtype_name), compute, out)

    def avg_pool2d(
        self,
        x: Array,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        count_padding: bool = True,
        out: Array | None = None,
    ) -> Array:
        windows = check_pooling("avg_pool2d", x.shape, size, stride, padding)
        out = self.empty((x.shape[0], *windows.grid, x.shape[3])) if out is None else out
        shares = self._shares(windows, count_padding)

        def compute(mine: Block, block: slice) -> None:
            mine.fold(numpy.add, mine.with_padding(x[block]), out[block])
            numpy.multiply(out[block], shares, out=out[block])

        return self._pool(Pooling(windows, x.shape[3], 0.0, self.dtype_name), compute, out)

    def avg_pool2d_backward(
        self,
        dy: Array,
        shape: Pair,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        count_padding: bool = True,
        out: Array | None = None,
    ) -> Array:
        pictures = (dy.shape[0], *shape, dy.shape[3])
        windows = check_pooling("avg_pool2d_backward", pictures, size, stride, padding)
        out = self.empty(pictures) if out is None else out
        shares = self._shares(windows, count_padding)

        def compute(mine: Block, block: slice) -> None:
            numpy.multiply(dy[block], shares, out=mine.grid)
            mine.spread(mine.grid, mine.without_padding(out[block]))
            mine.finish(out[block])

        return self._pool(Pooling(windows, dy.shape[3], 0.0, self.dtype_name), compute, out)

    def _fold_largest(self, windows: Windows, x: Array, y: Array) -> bool:
        """y <- the largest of each window, where there is a loop for it; whether there is."""
        return False

    def _choose_largest(self, windows: Windows, dy: Array, x: Array, y: Array, dx: Array) -> bool:
        """dx <- dy at the first of the largest values of each window, of finite numbers, where there is a loop for it;
        whether there is."""
        return False

    def _pool(self, it: Pooling, compute: Callable[[Block, slice], None], out: Array) -> Array:
        """Compute the blocks of all pictures, and note that."""
        m = out.shape[0]
        blocks: Blocks = self._constant("pooling", (it, m), lambda: Blocks(it, m))
        work = partial(blocks.each, compute)
        self._call_shared(blocks.cost, self._share, blocks.job, work, blocks.cost, blocks.prepare)
        return out


def _is_finite(x: Array) -> bool:
    """Whether all are finite; also False for some that are very large."""
    numbers = x.reshape(-1)
    return isfinite(numpy.dot(numbers, numbers))

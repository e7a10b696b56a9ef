"""Pooling through NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..base import Backend
from ..pictures.pooling import check_pooling
from ..pictures.windows import Pair
from ..typing import Array
from .core import NumpyCore


class NumpyPoolings(NumpyCore):
    """Pooling of pictures, and the chain rule through it: one noted call each."""

    def max_pool2d(
        self, x: Array, size: Pair, *, stride: Pair, padding: Pair = (0, 0), out: Array | None = None
    ) -> Array:
        windows = check_pooling("max_pool2d", x.shape, size, stride, padding)
        out = self.empty((x.shape[0], *windows.grid, x.shape[3])) if out is None else out
        return self._call(partial(Backend.max_pool2d, self, stride=stride, padding=padding, out=out), x, size)

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
        out = self.empty(x.shape) if out is None else out
        operation = partial(Backend.max_pool2d_backward, self, stride=stride, padding=padding, out=out)
        return self._call(operation, dy, x, y, size)

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
        placed: dict[str, Any] = {"stride": stride, "padding": padding, "count_padding": count_padding}
        return self._call(partial(Backend.avg_pool2d, self, out=out, **placed), x, size)

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
        out = self.empty((dy.shape[0], *shape, dy.shape[3])) if out is None else out
        placed: dict[str, Any] = {"stride": stride, "padding": padding, "count_padding": count_padding}
        return self._call(partial(Backend.avg_pool2d_backward, self, out=out, **placed), dy, shape, size)

"""Pooling: the largest or the mean value of what each window sees, channel by channel."""

from __future__ import annotations

from math import inf

from ..core import Core
from ..typing import Array
from .convolution import padded
from .windows import Pair, Windows


class PoolingOperations(Core):
    """Pooling of pictures, and the chain rule through it."""

    def max_pool2d(
        self, x: Array, size: Pair, *, stride: Pair, padding: Pair = (0, 0), out: Array | None = None
    ) -> Array:
        """The largest value in each window, channel by channel; NaN where there is one.

        Args:
            x: (m, h, w, c).
            size, stride, padding: of the windows (``Windows``); ``padding`` is never the largest, and at most half the
                size.
            out: (m, rows, columns, c); must not overlap x.
        """
        windows = check_pooling("max_pool2d", x.shape, size, stride, padding)
        views = windows.views(padded(self, x, windows, -inf))
        y = views[0]
        for view in views[1:]:
            y = self.xp.maximum(y, view)
        return self._result(y, self._own(y, out))

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
        """The chain rule through ``max_pool2d``: dx is the sum of dy over the windows whose largest value, the first of
        equal ones row by row, is there; where that is NaN, the first NaN.

        Args:
            dy, y: (m, rows, columns, c); y is what ``max_pool2d`` gave for x.
            x, size, stride, padding: as it had them.
            out: in the shape of x; must overlap nothing else.
        """
        xp, windows = self.xp, check_pooling("max_pool2d_backward", x.shape, size, stride, padding)
        is_picture = windows.views(padded(self, xp.ones(x.shape, dtype=xp.bool, device=self.device.handle), windows))
        x = padded(self, x, windows, -inf)
        dx = xp.zeros_like(x)
        left = xp.ones(y.shape, dtype=xp.bool, device=self.device.handle)  # windows whose largest value is to come
        for view, mine, (_, _, rows, columns) in zip(windows.views(x), is_picture, windows.positions(), strict=True):
            chosen = left & mine & ((view == y) | ((view != view) & (y != y)))
            dx[:, rows, columns, :] = dx[:, rows, columns, :] + xp.where(chosen, dy, xp.zeros_like(dy))
            left = left & ~chosen
        return self._result(dx[:, *windows.inside, :], out)

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
        """The mean of each window, channel by channel: the sum over it divided by its number of values.

        Args:
            x: (m, h, w, c).
            size, stride, padding: of the windows (``Windows``); ``padding`` is of zeros, and at most half the size.
            count_padding: whether the zeros of the padding count in that number.
            out: (m, rows, columns, c); must not overlap x.
        """
        windows = check_pooling("avg_pool2d", x.shape, size, stride, padding)
        views = windows.views(padded(self, x, windows))
        total = views[0]
        for view in views[1:]:
            total = total + view
        y = total * self._shares(windows, count_padding)
        return self._result(y, out)

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
        """The chain rule through ``avg_pool2d``: dx is the sum, over the windows that have it, of dy divided by the
        number of values of the window.

        Args:
            dy: (m, rows, columns, c).
            shape: height and width of the pictures that ``avg_pool2d`` had.
            size, stride, padding, count_padding: as it had them.
            out: (m, height, width, c); must not overlap dy.
        """
        xp, (m, _, _, c) = self.xp, dy.shape
        windows = check_pooling("avg_pool2d_backward", (m, *shape, c), size, stride, padding)
        part = dy * self._shares(windows, count_padding)
        dx = xp.zeros((m, *windows.padded, c), dtype=dy.dtype, device=self.device.handle)
        for _, _, rows, columns in windows.positions():
            dx[:, rows, columns, :] = dx[:, rows, columns, :] + part
        return self._result(dx[:, *windows.inside, :], out)

    def _shares(self, windows: Windows, count_padding: bool) -> Array | float:
        """1 / the number of values of a window, for all or for each: a number, or (rows, columns, 1)."""
        if count_padding or windows.padding == (0, 0):
            return 1.0 / (windows.size[0] * windows.size[1])
        counts = [[1.0 / count for count in row] for row in windows.counts()]
        return self.xp.asarray(counts, dtype=self.dtype, device=self.device.handle)[:, :, None]

    def _own(self, y: Array, out: Array | None) -> Array:
        """Where a result goes that may be a view of the input."""
        return self.empty(y.shape, y.dtype) if out is None else out


def check_pooling(operation: str, x: tuple[int, ...], size: Pair, stride: Pair, padding: Pair) -> Windows:
    """The windows of a pooling of pictures of shape ``x``.

    Raises:
        ValueError: they do not fit.
    """
    if len(x) != 4:
        raise ValueError(f"{operation}: x must be (m, h, w, c), not of shape {x}")
    if any(2 * around > side for around, side in zip(padding, size, strict=True)):
        raise ValueError(f"{operation}: a padding of {padding} is more than half of windows of {size}")
    return Windows.over((x[1], x[2]), size, stride, padding)

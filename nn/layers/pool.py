"""Pooling of pictures (m, height, width, channels): the largest or the mean value of each window, or of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backends.pictures.windows import Pair
from backends.typing import Array, Shape

from .base import Context, Layer, check_flags, in_shape
from .pictures import as_pictures, check_pair, pair, picture_of, windows_of


@dataclass(frozen=True, repr=False)
class Pooling(Layer, abstract=True):
    """One number for each window, channel by channel.

    Rows are pictures (height, width, channels), for one channel also (height, width); the result is (rows, columns,
    channels) with rows = (height + 2 padding - kernel) // stride + 1.

    Args:
        kernel_size: height and width of a window; one number for both.
        stride: from one window to the next, down and right; None for ``kernel_size``: windows side by side.
        padding: rows and columns around the picture, at most half a window.
    """

    kernel_size: int | Pair
    stride: int | Pair | None = None
    padding: int | Pair = 0

    def __post_init__(self) -> None:
        check_pair(self, "kernel_size", 1)
        if self.stride is not None:
            check_pair(self, "stride", 1)
        check_pair(self, "padding", 0)
        if any(2 * around > side for around, side in zip(pair(self.padding), pair(self.kernel_size), strict=True)):
            raise ValueError(
                f"{type(self).__name__}: padding must be at most half of kernel_size ({self.kernel_size}), not "
                f"{self.padding}"
            )

    @property
    def windows(self) -> dict[str, Any]:
        """The settings of the operations: size, stride and padding as pairs."""
        size = pair(self.kernel_size)
        return {"size": size, "stride": pair(self.stride or size), "padding": pair(self.padding)}

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        size, stride, padding = (self.windows[name] for name in ("size", "stride", "padding"))
        windows = windows_of(self, shape, None, size, stride, padding)
        return (*windows.grid, picture_of(self, shape, None)[2])

    def _result(self, x: Array, ctx: Context) -> Array:
        return ctx.buffer("y", (x.shape[0], *(self.output_shape(x.shape[1:]) or ())))


@dataclass(frozen=True, repr=False)
class MaxPool2d(Pooling):
    """The largest value of each window; the padding is never the largest."""

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = the largest of each window"""
        shape, x = x.shape, as_pictures(x, ctx)
        y = ctx.backend.max_pool2d(x, **self.windows, out=self._result(x, ctx))
        ctx.saved = x, y, shape
        return y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy where the largest value of its window is, the first of equal ones; 0 elsewhere"""
        if not ctx.needs_dx:
            return None
        x, y, shape = ctx.saved
        dx = ctx.backend.max_pool2d_backward(dy, x, y, **self.windows, out=ctx.buffer("dx", x.shape))
        return in_shape(dx, shape, ctx)


@dataclass(frozen=True, repr=False)
class AvgPool2d(Pooling):
    """The mean of each window.

    Args:
        count_include_pad: whether the zeros of the padding count in the number that the sum is divided by.
    """

    count_include_pad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(self, "count_include_pad")

    @property
    def windows(self) -> dict[str, Any]:
        """The same, and whether padding counts."""
        return super().windows | {"count_padding": self.count_include_pad}

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = the mean of each window"""
        ctx.saved = x.shape
        x = as_pictures(x, ctx)
        return ctx.backend.avg_pool2d(x, **self.windows, out=self._result(x, ctx))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = the sum, over the windows that see a value, of dy divided by the number of values of the window"""
        if not ctx.needs_dx:
            return None
        shape = ctx.saved
        dx = ctx.backend.avg_pool2d_backward(
            dy, (shape[1], shape[2]), **self.windows, out=ctx.buffer("dx", (*shape[:3], dy.shape[3]))
        )
        return in_shape(dx, shape, ctx)


class GlobalPooling(Layer, abstract=True):
    """One number for each channel: (m, height, width, channels) becomes (m, channels)."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return None if shape is None else (picture_of(self, shape, None)[2],)


@dataclass(frozen=True, repr=False)
class GlobalAvgPool2d(GlobalPooling):
    """The mean of each channel over the whole picture."""

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = the mean over height and width"""
        ctx.saved = x.shape
        x = as_pictures(x, ctx)
        m, h, w, c = x.shape
        y = ctx.backend.avg_pool2d(x, (h, w), stride=(h, w), out=ctx.buffer("y", (m, 1, 1, c)))
        return ctx.backend.xp.reshape(y, (m, c))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy / (height width), everywhere"""
        if not ctx.needs_dx:
            return None
        shape, (m, c) = ctx.saved, dy.shape
        h, w = shape[1:3]
        dy = ctx.backend.xp.reshape(dy, (m, 1, 1, c))
        dx = ctx.backend.avg_pool2d_backward(dy, (h, w), (h, w), stride=(h, w), out=ctx.buffer("dx", (m, h, w, c)))
        return in_shape(dx, shape, ctx)


@dataclass(frozen=True, repr=False)
class GlobalMaxPool2d(GlobalPooling):
    """The largest value of each channel in the whole picture."""

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = the largest over height and width"""
        shape, x = x.shape, as_pictures(x, ctx)
        m, h, w, c = x.shape
        y = ctx.backend.max_pool2d(x, (h, w), stride=(h, w), out=ctx.buffer("y", (m, 1, 1, c)))
        ctx.saved = x, y, shape
        return ctx.backend.xp.reshape(y, (m, c))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy where the largest value of the channel is, the first of equal ones; 0 elsewhere"""
        if not ctx.needs_dx:
            return None
        x, y, shape = ctx.saved
        size = x.shape[1], x.shape[2]
        dy = ctx.backend.xp.reshape(dy, y.shape)
        dx = ctx.backend.max_pool2d_backward(dy, x, y, size, stride=size, out=ctx.buffer("dx", x.shape))
        return in_shape(dx, shape, ctx)

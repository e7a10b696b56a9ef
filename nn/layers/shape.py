"""Layers that move the numbers of a row and compute none: into another shape, or another order."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import index
from typing import ClassVar

from backends.arguments import check_shape
from backends.typing import Array, Shape

from .base import Context, Layer


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Each row, of whatever shape, as one row of numbers: (m, 28, 28) becomes (m, 784)."""

    only_moves: ClassVar[bool] = True

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        return (prod(shape),)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = x, seen as (m, the rest)"""
        ctx.saved = x.shape
        return ctx.backend.xp.reshape(x, (x.shape[0], -1))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy, seen in the shape of x"""
        return ctx.backend.xp.reshape(dy, ctx.saved)


@dataclass(frozen=True, repr=False, init=False)
class Reshape(Layer):
    """Each row in another shape: ``Reshape(28, 28, 1)`` makes pictures of one channel of rows of 784 numbers.

    Args:
        shape: of a row.
    """

    only_moves: ClassVar[bool] = True

    shape: Shape

    def __init__(self, *extents: int, shape: Shape | None = None) -> None:
        if len(extents) == 1 and isinstance(extents[0], tuple | list):
            extents = tuple(extents[0])
        if (shape is None) == (not extents):
            raise ValueError("Reshape: give the shape of a row, as in Reshape(28, 28, 1)")
        wanted = extents if shape is None else shape
        check_shape("Reshape: shape", wanted)
        object.__setattr__(self, "shape", tuple(index(extent) for extent in wanted))

    def __repr__(self) -> str:
        return f"Reshape({', '.join(map(str, self.shape))})"

    def input_shape(self) -> Shape:
        return (prod(self.shape),)

    def output_shape(self, shape: Shape | None) -> Shape:
        if shape is not None and prod(shape) != prod(self.shape):
            raise ValueError(f"{self!r} takes rows of {prod(self.shape)} numbers, not of shape {shape}")
        return self.shape

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = x, seen as rows of ``shape``: (m, ...)"""
        ctx.saved = x.shape
        return ctx.backend.xp.reshape(x, (x.shape[0], *self.shape))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy, seen in the shape of x"""
        return ctx.backend.xp.reshape(dy, ctx.saved)


@dataclass(frozen=True, repr=False)
class ChannelsLast(Layer):
    """Pictures (channels, height, width), as PyTorch keeps them, as (height, width, channels)."""

    only_moves: ClassVar[bool] = True

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        if len(shape) != 3:
            raise ValueError(f"{self!r} takes pictures (channels, height, width), not rows of shape {shape}")
        return shape[1], shape[2], shape[0]

    def forward(self, x: Array, ctx: Context) -> Array:
        """y[i, r, s, c] = x[i, c, r, s]"""
        m, c, h, w = x.shape
        view = ctx.backend.xp.permute_dims(x, (0, 2, 3, 1))
        return ctx.backend.copy(view, ctx.buffer("y", (m, h, w, c)))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx[i, c, r, s] = dy[i, r, s, c]"""
        if not ctx.needs_dx:
            return None
        m, h, w, c = dy.shape
        view = ctx.backend.xp.permute_dims(dy, (0, 3, 1, 2))
        return ctx.backend.copy(view, ctx.buffer("dx", (m, c, h, w)))

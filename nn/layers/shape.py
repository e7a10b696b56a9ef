"""Layers that change the shape of rows and no number in them."""

from __future__ import annotations

from dataclasses import dataclass

from backends.typing import Array, Shape

from .base import Context, Layer


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Each row, of whatever shape, as one row of numbers: (m, 28, 28) becomes (m, 784)."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        size = 1
        for extent in shape:
            size *= extent
        return (size,)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = x, seen as (m, the rest)"""
        ctx.saved = x.shape
        return ctx.backend.xp.reshape(x, (x.shape[0], -1))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy, seen in the shape of x"""
        return ctx.backend.xp.reshape(dy, ctx.saved)

"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass

from backends.random import mask_key
from backends.typing import Array

from .base import Context, Layer, check_setting


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """y = x * mask in training, y = x otherwise; the mask is 0 with probability ``rate``, else 1 / (1 - rate).

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014, in the inverted
    form, which needs nothing at prediction. The mask depends on the model's seed, the layer's index and the step alone:
    it is the same on every device.
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        check_setting(self, "rate", least=0.0, below=1.0)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = x * mask"""
        ctx.saved = None
        if not ctx.training or self.rate == 0.0:
            return x
        key = mask_key(ctx.seed, f"{ctx.name}/{ctx.block}" if ctx.block else ctx.name)
        ctx.saved = ctx.backend.dropout_mask(
            x.shape, rate=self.rate, key=key, step=ctx.step, out=ctx.buffer("mask", x.shape)
        )
        return ctx.backend.multiply(x, ctx.saved, out=ctx.buffer("y", x.shape))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy * mask"""
        return dy if ctx.saved is None else ctx.backend.multiply(dy, ctx.saved, out=dy)

    def inside(self, phase: str, ctx: Context, given: Array) -> dict[str, Array]:
        """The mask."""
        return {"dropout mask": ctx.saved} if phase == "forward" and ctx.saved is not None else {}

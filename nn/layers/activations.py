"""Activations as layers. Their formulas and derivatives are the table in ``backends/activations.py``.

After a ``Linear`` layer the model joins them to it, and at the end of a network ``Sigmoid`` and ``Softmax`` are joined
to the loss that belongs to them; so each of these classes computes only where it stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backends.activations import get_activation
from backends.typing import Array

from .base import Context, Layer


class ElementwiseActivation(Layer, abstract=True):
    """y = f(x), element by element."""

    function: ClassVar[str]

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = f(x)"""
        y = ctx.backend.bias_activation(x, None, self.function, out=ctx.buffer("y", x.shape))
        ctx.saved = x if get_activation(self.function).needs_z else y
        return y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy * f'(x), f' computed from y where it can be"""
        return ctx.backend.bias_activation_backward(dy, ctx.saved, self.function, out=dy)[0]


@dataclass(frozen=True, repr=False)
class Sigmoid(ElementwiseActivation):
    """y = 1 / (1 + exp(-x))"""

    function: ClassVar[str] = "sigmoid"


@dataclass(frozen=True, repr=False)
class Tanh(ElementwiseActivation):
    """y = tanh(x)"""

    function: ClassVar[str] = "tanh"


@dataclass(frozen=True, repr=False)
class ReLU(ElementwiseActivation):
    """y = max(x, 0)"""

    function: ClassVar[str] = "relu"


@dataclass(frozen=True, repr=False)
class Softmax(Layer):
    """y_j = exp(x_j) / sum_k exp(x_k) along each row: the probabilities of n classes. For the end of a network."""

    function: ClassVar[str] = "softmax"

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = softmax(x)"""
        ctx.saved = ctx.backend.softmax(x, out=ctx.buffer("y", x.shape))
        return ctx.saved

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx_j = y_j (dy_j - sum_k dy_k y_k)"""
        return ctx.backend.softmax_backward(dy, ctx.saved, out=dy)


#: The layers by the names that the command line uses.
ACTIVATION_LAYERS: dict[str, type[Layer]] = {layer.function: layer for layer in (Sigmoid, Tanh, ReLU)}

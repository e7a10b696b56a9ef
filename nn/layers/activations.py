"""Activations as layers. Their formulas and derivatives are the table in ``backends/activations.py``.

After a ``Linear`` layer the model joins them to it, and at the end of a network ``Sigmoid`` and ``Softmax`` are joined
to the loss that belongs to them; so each of these classes computes only where it stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backends.activations import get_activation, name_with
from backends.arguments import check_choice
from backends.typing import Array

from .base import Context, Layer, as_matrix, check_setting, in_shape


class ElementwiseActivation(Layer, abstract=True):
    """y = f(x), element by element: the function of that name in the table."""

    function: ClassVar[str]

    @property
    def activation(self) -> str:
        """The name in the table of the function with these settings: ``function``, unless a subclass has some."""
        return self.function

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = f(x)"""
        shape, x = x.shape, as_matrix(x, ctx)
        y = ctx.backend.bias_activation(x, None, self.activation, out=ctx.buffer("y", x.shape))
        ctx.saved = x if get_activation(self.activation).needs_z else y
        return in_shape(y, shape, ctx)

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy * f'(x), f' computed from y where it can be"""
        shape, dy = dy.shape, as_matrix(dy, ctx)
        dx = ctx.backend.bias_activation_backward(dy, ctx.saved, self.activation, out=dy)[0]
        return in_shape(dx, shape, ctx)


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
class GELU(ElementwiseActivation):
    """y = x Phi(x), Phi the distribution function of the normal distribution; or by tanh, which is faster.

    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", 2016. The defaults are PyTorch's and Keras's.

    Args:
        approximate: ``"none"``, or ``"tanh"`` for y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    """

    function: ClassVar[str] = "gelu"

    approximate: str = "none"

    def __post_init__(self) -> None:
        check_choice("GELU: approximate", self.approximate, ("none", "tanh"))

    @property
    def activation(self) -> str:
        return "gelu" if self.approximate == "none" else "gelu_tanh"


@dataclass(frozen=True, repr=False)
class SiLU(ElementwiseActivation):
    """y = x / (1 + exp(-x)), also called swish. Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units", 2018."""

    function: ClassVar[str] = "silu"


@dataclass(frozen=True, repr=False)
class Softplus(ElementwiseActivation):
    """y = log(1 + exp(x)). Everywhere: PyTorch gives x itself above 20, which is off by 2e-9 there."""

    function: ClassVar[str] = "softplus"


@dataclass(frozen=True, repr=False)
class LeakyReLU(ElementwiseActivation):
    """y = x above 0, negative_slope x below. The default is PyTorch's; Keras's is 0.3.

    Args:
        negative_slope: above 0 and below 1.
    """

    function: ClassVar[str] = "leaky_relu"

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        check_setting(self, "negative_slope", above=0.0, below=1.0, hint="; ReLU() has 0")

    @property
    def activation(self) -> str:
        return name_with("leaky_relu", self.negative_slope)


@dataclass(frozen=True, repr=False)
class ELU(ElementwiseActivation):
    """y = x above 0, alpha (exp(x) - 1) below. Clevert, Unterthiner and Hochreiter, 2015.

    Args:
        alpha: above 0.
    """

    function: ClassVar[str] = "elu"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_setting(self, "alpha", above=0.0)

    @property
    def activation(self) -> str:
        return name_with("elu", self.alpha)


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
ACTIVATION_LAYERS: dict[str, type[Layer]] = {
    layer.function: layer for layer in (Sigmoid, Tanh, ReLU, LeakyReLU, ELU, GELU, SiLU, Softplus)
}

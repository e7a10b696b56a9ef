"""Fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from backends.activations import get_activation
from backends.arguments import check_text
from backends.typing import Array, Shape

from ..initializers import Initializer, get_initializer
from .base import Context, Layer, activate, check_features, check_flags, check_sizes

#: What a comparison calls x W + b, where backward needs it.
BEFORE_ACTIVATION = "value before the activation"
#: What it calls dz.
GRADIENT_BEFORE_ACTIVATION = "gradient before the activation"


@dataclass(frozen=True, repr=False)
class Linear(Layer):
    """y = f(x W + b): a fully connected layer, with an activation that is the identity unless named.

    ``Linear(784, 64), Sigmoid()`` and ``Linear(784, 64, activation="sigmoid")`` are the same network: the plan joins
    the former into the latter, because bias and activation are one operation.

    Args:
        in_features, out_features: the numbers of columns of x and y.
        bias: whether there is a b.
        weight_init, bias_init: initial values, see ``nn.initializers``.
        activation: one of ``backends.activations``.
    """

    products: ClassVar[tuple[str, ...]] = ("output", "weight")
    ends_in_activation: ClassVar[bool] = True

    in_features: int
    out_features: int
    bias: bool = True
    weight_init: Any = "glorot_uniform"
    bias_init: Any = "zeros"
    activation: str = "identity"

    def __post_init__(self) -> None:
        check_sizes(self, "in_features", "out_features")
        check_flags(self, "bias")
        get_activation(check_text("Linear: activation", self.activation, "the name of an activation"))
        get_initializer(self.weight_init)
        get_initializer(self.bias_init)

    def parameters(self) -> dict[str, tuple[Shape, Initializer]]:
        weight = {"weight": ((self.in_features, self.out_features), get_initializer(self.weight_init))}
        return weight | ({"bias": ((self.out_features,), get_initializer(self.bias_init))} if self.bias else {})

    def input_shape(self) -> Shape:
        return (self.in_features,)

    def output_shape(self, shape: Shape | None) -> Shape:
        check_features(self, self.in_features, shape)
        return (self.out_features,)

    def forward(self, x: Array, ctx: Context) -> Array:
        """z = x W;  y = f(z + b)"""
        buffer = ctx.buffer("z", (x.shape[0], self.out_features))
        z = ctx.backend.matmul(x, ctx.parameters["weight"], out=buffer, **ctx.sinks["output"])
        y, kept = activate(z, ctx.parameters.get("bias"), self.activation, ctx)
        ctx.saved = x, kept
        return y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dz = dy * f'(z);  db = the column sums of dz;  dW = x^T dz;  dx = dz W^T"""
        x, kept = ctx.saved
        backend, db = ctx.backend, ctx.gradients.get("bias")
        dz, _ = backend.bias_activation_backward(dy, kept, self.activation, out=dy, bias_gradient=db)
        backend.matmul(x, dz, transpose_a=True, **ctx.sinks["weight"])
        if not ctx.needs_dx:
            return None
        return backend.matmul(dz, ctx.parameters["weight"], transpose_b=True, out=ctx.buffer("dx", x.shape))

    def inside(self, phase: str, ctx: Context, given: Array) -> dict[str, Array]:
        """x W + b, where forward keeps it; dz, which backward leaves where dy was."""
        if phase == "forward":
            return {BEFORE_ACTIVATION: ctx.saved[1]} if get_activation(self.activation).needs_z else {}
        return {GRADIENT_BEFORE_ACTIVATION: given} if self.activation != "identity" else {}

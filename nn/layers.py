"""Layers: forward and backward by hand.

A layer is a description; it holds no arrays. What it computes with comes in a ``Context``: the backend, its parameters
and their gradients, and memory that stays from step to step. What backward needs, forward leaves in ``ctx.saved``.

    y = layer.forward(x, ctx)        x: (m, n_in), y: (m, n_out)
    dx = layer.backward(dy, ctx)     the loss's gradient with respect to x, from that with respect to y

Backward writes the gradients of the parameters into ``ctx.gradients``; it may overwrite ``dy``, and returns None where
``ctx.needs_dx`` is false (nobody asks for the gradient of the data).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, NamedTuple

from backends import Backend
from backends.activations import get_activation
from backends.random import mask_key

from .initializers import Initializer, get_initializer

Array = Any
Shape = tuple[int, ...]


class Accumulation(NamedTuple):
    """Where the gradients of weights go instead: ``v <- kept v + fresh gradient``.

    Attributes:
        views: the v of each parameter, by its name in the model.
        kept, fresh: the factors.
    """

    views: dict[str, Array]
    kept: float
    fresh: float


@dataclass
class Context:
    """What a layer computes with: one for each layer of a model, made anew by no step.

    Attributes:
        parameters, gradients: views into the model's flat buffers, by name.
        buffer: ``buffer(name, shape)`` gives memory of that shape, the same at every call.
        training: whether this forward belongs to a training step (dropout asks).
        step: the number of the training step; an int, or a (1,) array on the device.
        factor: what the rows are to be multiplied by, 1/255 for pixels: the first layer takes it into its products, so
            that nobody passes over the whole batch for it. 1 in every other layer.
        accumulation: if not None, ``Linear`` adds the gradient of its weight there and does not write it to
            ``gradients``.
        needs_dx: whether backward must return dx.
        seed: of the model.
        name: the layer's place in the model, as in its parameters' names.
    """

    backend: Backend
    parameters: dict[str, Array]
    gradients: dict[str, Array]
    buffer: Callable[[str, Shape], Array]
    seed: int
    name: str
    needs_dx: bool = True
    training: bool = False
    step: int | Array = 0
    factor: float = 1.0
    accumulation: Accumulation | None = None
    saved: Any = None

    def weight_gradient(self) -> tuple[Array, float, float]:
        """Where a product leaves the gradient of the weight, and the factors of what stands there and of the product:
        the place in ``gradients``, 0 and 1, or those of the ``accumulation``."""
        if self.accumulation is None:
            return self.gradients["weight"], 0.0, 1.0
        views, kept, fresh = self.accumulation
        return views[f"{self.name}.weight"], kept, fresh


class Layer:
    """A step of a network. Subclasses are frozen dataclasses of their settings."""

    def __repr__(self) -> str:
        """The settings that differ from their defaults, as one would write them."""
        described: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        settings = [
            repr(value) if setting.default is MISSING else f"{setting.name}={value!r}"
            for setting in described
            if (value := getattr(self, setting.name)) != setting.default
        ]
        return f"{type(self).__name__}({', '.join(settings)})"

    def parameters(self) -> dict[str, tuple[Shape, Initializer]]:
        """Name, shape and start values of each parameter."""
        return {}

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """The shape of an output row for an input row of ``shape``; None stands for a shape that is not known.

        Raises:
            ValueError: rows of that shape do not fit this layer.
        """
        return shape

    def forward(self, x: Array, ctx: Context) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Linear(Layer):
    """y = f(x W + b): a fully connected layer, with an activation that is the identity unless named.

    ``Linear(784, 64), Sigmoid()`` and ``Linear(784, 64, activation="sigmoid")`` are the same network: the model joins
    the former into the latter, because bias and activation are one operation.

    Args:
        in_features, out_features: the numbers of columns of x and y.
        bias: whether there is a b.
        weight_init, bias_init: start values, see ``nn.initializers``.
        activation: one of ``backends.activations``.
    """

    in_features: int
    out_features: int
    bias: bool = True
    weight_init: Any = "glorot_uniform"
    bias_init: Any = "zeros"
    activation: str = "identity"

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"Linear: {name} must be a whole number of at least 1, not {getattr(self, name)!r}")
        get_activation(self.activation)
        get_initializer(self.weight_init)
        get_initializer(self.bias_init)

    def parameters(self) -> dict[str, tuple[Shape, Initializer]]:
        weight = {"weight": ((self.in_features, self.out_features), get_initializer(self.weight_init))}
        return weight | ({"bias": ((self.out_features,), get_initializer(self.bias_init))} if self.bias else {})

    def output_shape(self, shape: Shape | None) -> Shape:
        if shape is not None and shape != (self.in_features,):
            hint = "; put Flatten() before it" if len(shape) > 1 else ""
            raise ValueError(f"{self!r} takes rows of {self.in_features} numbers, not of shape {shape}{hint}")
        return (self.out_features,)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = f(s x W + b), s = ctx.factor"""
        room = ctx.buffer("y", (x.shape[0], self.out_features))
        z = ctx.backend.matmul(x, ctx.parameters["weight"], alpha=ctx.factor, out=room)
        y = ctx.backend.bias_activation(z, ctx.parameters.get("bias"), self.activation, out=z)
        ctx.saved = x, y
        return y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dz = dy * f'(z);  dW = s x^T dz;  db = the column sums of dz;  dx = dz W^T"""
        x, y = ctx.saved
        backend, gradients = ctx.backend, ctx.gradients
        dz, _ = backend.bias_activation_backward(dy, y, self.activation, out=dy, bias_gradient=gradients.get("bias"))
        out, kept, fresh = ctx.weight_gradient()
        backend.matmul(x, dz, transpose_a=True, alpha=fresh * ctx.factor, beta=kept, out=out)
        if not ctx.needs_dx:
            return None
        return backend.matmul(dz, ctx.parameters["weight"], transpose_b=True, out=ctx.buffer("dx", x.shape))


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


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """y = x * mask in training, y = x otherwise; the mask is 0 with probability ``rate``, else 1 / (1 - rate).

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014, in the inverted
    form, which needs nothing at prediction. The mask depends on the model's seed, the layer's place and the step alone:
    it is the same on every device.
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"Dropout: the rate must be at least 0 and below 1, not {self.rate}")

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = x * mask"""
        ctx.saved = None
        if not ctx.training or self.rate == 0.0:
            return x
        key = mask_key(ctx.seed, ctx.name)
        ctx.saved = ctx.backend.dropout_mask(
            x.shape, rate=self.rate, key=key, step=ctx.step, out=ctx.buffer("mask", x.shape)
        )
        return ctx.backend.multiply(x, ctx.saved, out=ctx.buffer("y", x.shape))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy * mask"""
        return dy if ctx.saved is None else ctx.backend.multiply(dy, ctx.saved, out=dy)

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
from backends.typing import Array, Shape

from ..initializers import Initializer


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

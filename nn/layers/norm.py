"""Normalization: of each row by itself, or of each column over the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backends.typing import Array, Shape

from ..initializers import Initializer, get_initializer
from .base import Context, Layer, as_matrix, check_features, check_flags, check_setting, check_sizes, in_shape
from .pictures import picture_of

#: What a comparison calls x^ and 1 / sqrt(variance + epsilon), which backward needs.
NORMALIZED, INVERSE = "normalized", "inverse deviation"


@dataclass(frozen=True, repr=False)
class Normalization(Layer, abstract=True):
    """y = weight x^ + bias, x^ the rows normalized along ``axis``; weight begins as 1, bias as 0, and neither decays.

    Args:
        features: the number of columns of x and y.
        epsilon: is added to the variance.
        affine: whether there are a weight and a bias.
    """

    axis: ClassVar[int]

    features: int
    epsilon: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        check_sizes(self, "features")
        check_setting(self, "epsilon", above=0.0)
        check_flags(self, "affine")

    def parameters(self) -> dict[str, tuple[Shape, Initializer]]:
        if not self.affine:
            return {}
        shape = (self.features,)
        return {"weight": (shape, get_initializer("constant:1")), "bias": (shape, get_initializer("zeros"))}

    def input_shape(self) -> Shape:
        return (self.features,)

    def output_shape(self, shape: Shape | None) -> Shape:
        check_features(self, self.features, shape)
        return (self.features,)

    def _normalize(self, x: Array, ctx: Context, running: dict[str, Array] | None, momentum: float) -> Array:
        m, n = x.shape
        y, normalized, inverse = ctx.backend.normalize(
            x,
            ctx.parameters.get("weight"),
            ctx.parameters.get("bias"),
            running,
            axis=self.axis,
            epsilon=self.epsilon,
            momentum=momentum,
            normalized=ctx.buffer("normalized", (m, n)),
            inverse=ctx.buffer("inverse", (m if self.axis == 1 else n,)),
            out=ctx.buffer("y", (m, n)),
        )
        ctx.saved = normalized, inverse
        return y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """With g = dy weight and means along the axis: dx = (g - mean(g) - x^ mean(g x^)) / sqrt(variance + epsilon);
        dweight = the column sums of dy x^;  dbias = the column sums of dy"""
        normalized, inverse = ctx.saved
        return ctx.backend.normalize_backward(
            dy,
            normalized,
            inverse,
            ctx.parameters.get("weight"),
            axis=self.axis,
            bias_gradient=ctx.gradients.get("bias"),
            gain_gradient=ctx.gradients.get("weight"),
            out=dy,
        )[0]

    def inside(self, phase: str, ctx: Context, given: Array) -> dict[str, Array]:
        """x^ and 1 / sqrt(variance + epsilon), which backward needs."""
        if phase == "backward" or not isinstance(ctx.saved, tuple):
            return {}
        return {NORMALIZED: ctx.saved[0], INVERSE: ctx.saved[1]}


@dataclass(frozen=True, repr=False)
class LayerNorm(Normalization):
    """Each row by its own mean and variance: x^ = (x - mean) / sqrt(variance + epsilon), in training and after.

    Ba, Kiros and Hinton, "Layer normalization", 2016. The defaults are PyTorch's; Keras's epsilon is 1e-3.
    """

    axis: ClassVar[int] = 1

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = weight (x - mean) / sqrt(variance + epsilon) + bias, mean and variance of each row"""
        return self._normalize(x, ctx, None, 0.0)


@dataclass(frozen=True, repr=False)
class BatchNorm(Normalization):
    """Each column by its mean and variance over the batch, and by running ones after training.

    Ioffe and Szegedy, "Batch normalization", 2015. In training x^ = (x - mean) / sqrt(variance + epsilon) with mean and
    variance of the batch, and each running statistic moves to (1 - momentum) times itself plus momentum times that of
    the batch; of the variance that is the unbiased one, divided by m - 1. They begin as 0 and 1, are state of the
    layer, and take the batch's place in ``predict`` and ``evaluate``.

    All of that is PyTorch's ``BatchNorm1d`` with its defaults. In Keras ``momentum`` is what stays, 0.99 for 0.01 here,
    epsilon is 1e-3, and the running variance is that divided by m. Rows that are weighted count alike here.

    A batch of one row has no variance: training with one is refused, before it begins where the last batch of an epoch
    would be one.

    Args:
        momentum: how much of the batch's statistics enters the running ones, from 0 to 1.
    """

    axis: ClassVar[int] = 0
    least_rows: ClassVar[int] = 2
    moves_state: ClassVar[bool] = True

    momentum: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_setting(self, "momentum", least=0.0, most=1.0)

    def output_shape(self, shape: Shape | None) -> Shape:
        if shape is not None and len(shape) == 3 and shape[2] == self.features:
            raise ValueError(
                f"{self!r} takes rows of {self.features} numbers, not of shape {shape}; put "
                f"BatchNorm2d({self.features}) in its place"
            )
        return super().output_shape(shape)

    def state(self) -> dict[str, tuple[Shape, Initializer]]:
        shape = (self.features,)
        return {
            "running_mean": (shape, get_initializer("zeros")),
            "running_variance": (shape, get_initializer("constant:1")),
        }

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = weight (x - mean) / sqrt(variance + epsilon) + bias, mean and variance of each column"""
        mean, variance = ctx.state["running_mean"], ctx.state["running_variance"]
        if ctx.training:
            if x.shape[0] == 1:
                raise ValueError(
                    f"layer {ctx.name}, {self!r}: a training batch of one row has no variance; give it more rows"
                )
            return self._normalize(x, ctx, {"mean": mean, "variance": variance}, self.momentum)
        ctx.saved = x
        weight, bias = ctx.parameters.get("weight"), ctx.parameters.get("bias")
        buffer = ctx.buffer("y", x.shape)
        return ctx.backend.normalize_by(x, mean, variance, weight, bias, epsilon=self.epsilon, out=buffer)

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """As of every normalization; where forward has predicted, mean and variance are numbers that x does not move:
        dx = dy weight / sqrt(variance + epsilon)"""
        if isinstance(ctx.saved, tuple):
            return super().backward(dy, ctx)
        backend, x, epsilon = ctx.backend, ctx.saved, self.epsilon
        mean, variance = ctx.state["running_mean"], ctx.state["running_variance"]
        weight, zero = ctx.parameters.get("weight"), backend.zeros(mean.shape)
        if weight is not None:
            normalized = backend.normalize_by(
                x, mean, variance, None, None, epsilon=epsilon, out=ctx.buffer("normalized", x.shape)
            )
            backend.column_sum(backend.multiply(dy, normalized, out=normalized), out=ctx.gradients["weight"])
            backend.column_sum(dy, out=ctx.gradients["bias"])
        return backend.normalize_by(dy, zero, variance, weight, None, epsilon=epsilon, out=ctx.buffer("dx", x.shape))


@dataclass(frozen=True, repr=False)
class BatchNorm2d(BatchNorm):
    """Each channel of pictures (height, width, channels) by its mean and variance over the batch, height and width; by
    running ones after training.

    ``BatchNorm`` of the matrix (m height width, channels), which says all else, so also PyTorch's ``BatchNorm2d``.

    Args:
        features: the number of channels.
    """

    least_rows: ClassVar[int] = 1

    def input_shape(self) -> Shape | None:  # type: ignore[override]
        return None

    def output_shape(self, shape: Shape | None) -> Shape | None:  # type: ignore[override]
        if shape == (self.features,):
            raise ValueError(
                f"{self!r} takes pictures (height, width, {self.features}), not rows of shape {shape}; put "
                f"BatchNorm({self.features}) in its place"
            )
        return None if shape is None else picture_of(self, shape, self.features, plain=False)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = weight (x - mean) / sqrt(variance + epsilon) + bias, mean and variance of each channel"""
        return in_shape(super().forward(as_matrix(x, ctx), ctx), x.shape, ctx)

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """As of ``BatchNorm``, over all windows"""
        dx = super().backward(as_matrix(dy, ctx), ctx)
        return None if dx is None else in_shape(dx, dy.shape, ctx)


#: The layers by the names that the command line uses.
NORMS: dict[str, type[Normalization]] = {"batch": BatchNorm, "layer": LayerNorm}

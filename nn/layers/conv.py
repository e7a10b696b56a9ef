"""Convolutions of pictures (m, height, width, channels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from backends.activations import get_activation
from backends.arguments import check_text, shown
from backends.pictures.windows import Pair
from backends.typing import Array, Shape

from ..initializers import Initializer, get_initializer
from .base import Context, Layer, check_flags, check_sizes, in_shape
from .linear import BEFORE_ACTIVATION, GRADIENT_BEFORE_ACTIVATION
from .pictures import as_pictures, check_pair, pair, windows_of

#: The padding that keeps height and width.
SAME = "same"


@dataclass(frozen=True, repr=False)
class Conv2d(Layer):
    """y = f(x * W + b): each filter is laid on every window of the picture, with an activation that is the identity
    unless named; ``Backend.conv2d`` has the formula.

    Rows are pictures (height, width, in_channels), for one channel also (height, width); the result is (rows, columns,
    out_channels) with rows = (height + 2 padding - kernel) // stride + 1. The weight is (kernel height, kernel width,
    in_channels / groups, out_channels), as Keras keeps it. As after ``Linear``, the plan joins an activation layer that
    follows it.

    Args:
        in_channels, out_channels: of x and y.
        kernel_size: height and width of a filter; one number for both.
        stride: from one window to the next, down and right.
        padding: rows and columns of zeros around the picture, or ``"same"`` for so many that y is as large as x, which
            odd kernels with a stride of 1 have.
        groups: into how many the channels are split; each has filters of its own. ``in_channels`` of them make a
            depthwise convolution.
        bias: whether there is a b.
        weight_init, bias_init: initial values, see ``nn.initializers``.
        activation: one of ``backends.activations``.
    """

    products: ClassVar[tuple[str, ...]] = ("output", "weight")
    target: ClassVar[str] = "weight_gradient"
    ends_in_activation: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    kernel_size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair | str = 0
    groups: int = 1
    bias: bool = True
    weight_init: Any = "glorot_uniform"
    bias_init: Any = "zeros"
    activation: str = "identity"

    def __post_init__(self) -> None:
        check_sizes(self, "in_channels", "out_channels", "groups")
        check_pair(self, "kernel_size", 1)
        check_pair(self, "stride", 1)
        if isinstance(self.padding, str):
            self._check_same(self.padding)
        else:
            check_pair(self, "padding", 0)
        for name in ("in_channels", "out_channels"):
            if (number := getattr(self, name)) % self.groups:
                raise ValueError(f"Conv2d: {name} ({number}) cannot be split into {self.groups} groups of equal size")
        check_flags(self, "bias")
        get_activation(check_text("Conv2d: activation", self.activation, "the name of an activation"))
        get_initializer(self.weight_init)
        get_initializer(self.bias_init)

    def _check_same(self, padding: str) -> None:
        if padding != SAME:
            hint = '; "valid" is padding=0' if padding == "valid" else ""
            raise ValueError(f'Conv2d: padding must be whole numbers or "{SAME}", not {shown(padding)}{hint}')
        if pair(self.stride) != (1, 1):
            raise ValueError(
                f'Conv2d: padding="{SAME}" needs a stride of 1, not {self.stride}; give the padding in numbers, as '
                f"padding={self._half[0] if self._half[0] == self._half[1] else self._half}"
            )
        if any(side % 2 == 0 for side in pair(self.kernel_size)):
            raise ValueError(
                f'Conv2d: padding="{SAME}" needs a kernel_size of odd numbers, not {self.kernel_size}, for which one '
                "side would get more than the other"
            )

    @property
    def _half(self) -> Pair:
        height, width = pair(self.kernel_size)
        return height // 2, width // 2

    @property
    def around(self) -> Pair:
        """The padding in numbers."""
        return self._half if isinstance(self.padding, str) else pair(self.padding)

    @property
    def windows(self) -> dict[str, Any]:
        """The settings of the operations: stride and padding as pairs, and groups."""
        return {"stride": pair(self.stride), "padding": self.around, "groups": self.groups}

    def parameters(self) -> dict[str, tuple[Shape, Initializer]]:
        shape = (*pair(self.kernel_size), self.in_channels // self.groups, self.out_channels)
        weight = {"weight": (shape, get_initializer(self.weight_init))}
        return weight | ({"bias": ((self.out_channels,), get_initializer(self.bias_init))} if self.bias else {})

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        windows = windows_of(self, shape, self.in_channels, pair(self.kernel_size), pair(self.stride), self.around)
        return (*windows.grid, self.out_channels)

    def multiply_adds(self, shape: Shape | None) -> int:
        """Each filter is multiplied with every window once."""
        of_a_window = super().multiply_adds(shape)
        if shape is None:
            return of_a_window
        rows, columns, _ = self.output_shape(shape) or (1, 1, 0)
        return rows * columns * of_a_window

    def forward(self, x: Array, ctx: Context) -> Array:
        """z = alpha (x * W) + b;  y = f(z), the plan's alpha being 1 unless it scales the rows"""
        shape, x = x.shape, as_pictures(x, ctx)
        y_shape = (x.shape[0], *(self.output_shape(x.shape[1:]) or ()))
        z = ctx.buffer("z", y_shape) if get_activation(self.activation).needs_z else None
        y = ctx.backend.conv2d(
            x,
            ctx.parameters["weight"],
            ctx.parameters.get("bias"),
            self.activation,
            **self.windows,
            z_out=z,
            out=ctx.buffer("y", y_shape),
            **ctx.sinks["output"],
        )
        ctx.saved = x, y if z is None else z, shape
        return y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dz = dy * f'(z);  db = the sums of dz over all windows;  dW = the sum over all windows of what they see times
        dz;  dx = for each number the sum of W dz over the windows that see it"""
        x, kept, shape = ctx.saved
        dx = ctx.backend.conv2d_backward(
            dy,
            kept,
            x,
            ctx.parameters["weight"],
            self.activation,
            **self.windows,
            needs_dx=ctx.needs_dx,
            bias_gradient=ctx.gradients.get("bias"),
            dz=dy,
            out=ctx.buffer("dx", x.shape) if ctx.needs_dx else None,
            **ctx.sinks["weight"],
        )[0]
        return None if dx is None else in_shape(dx, shape, ctx)

    def inside(self, phase: str, ctx: Context, given: Array) -> dict[str, Array]:
        """x * W + b, where forward keeps it; dz, which backward leaves where dy was."""
        if phase == "forward":
            return {BEFORE_ACTIVATION: ctx.saved[1]} if get_activation(self.activation).needs_z else {}
        return {GRADIENT_BEFORE_ACTIVATION: given} if self.activation != "identity" else {}

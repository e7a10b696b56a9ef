"""What a layer is: forward and backward by hand.

A layer is a description; it holds no arrays. What it computes with comes in a ``Context``: the backend, its parameters
and their gradients, and buffers that stay from step to step. What backward needs, forward leaves in ``ctx.saved``.

    y = layer.forward(x, ctx)        x: (m, n_in), y: (m, n_out)
    dx = layer.backward(dy, ctx)     the loss's gradient with respect to x, from that with respect to y

A layer says *what* is computed, the plan of the network (``nn.plan``) *where it goes*: a matrix product whose result is
an output or the gradient of a parameter takes its factors and its target from ``ctx.sinks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from math import prod
from typing import Any, ClassVar

from backends import Backend
from backends.activations import get_activation
from backends.arguments import NamedArguments, check_flag, check_kind, check_number, check_whole_number
from backends.typing import Array, Shape

from ..initializers import Initializer

#: The layers by name. A layer enters by being defined: those of xpnet under the names of their classes, others with
#: their module before it. Saving and loading a model go by it.
LAYERS: dict[str, type[Layer]] = {}

#: So many rows and columns a matrix may have: BLAS counts them by 32 bits.
LARGEST_SIDE = 2**31 - 1
#: Keywords of ``Backend.matmul`` (alpha, beta, times, out), or of another operation that has these.
Sink = dict[str, Any]


@dataclass
class Context:
    """What a layer computes with: one for each layer of a plan, made anew by no step.

    Attributes:
        parameters, gradients, state: views into the network's flat buffers, by name.
        buffer: ``buffer(name, shape)`` gives a buffer of that shape, the same at every call.
        sinks: keywords for the matrix products that the layer names in ``products``.
        seed: of the model.
        name: the layer's index in the model, as in its parameters' names.
        block: which block of a batch the rows are, where each has masks of its own.
        needs_dx: whether backward must return dx.
        training: whether this is a training step (dropout asks).
        step: the number of the training step; an int, or a (1,) array on the device.
        saved: what forward leaves for backward.
    """

    backend: Backend
    parameters: dict[str, Array]
    gradients: dict[str, Array]
    state: dict[str, Array]
    buffer: Callable[[str, Shape], Array]
    seed: int
    name: str
    block: int = 0
    sinks: dict[str, Sink] = field(default_factory=dict)
    needs_dx: bool = True
    training: bool = False
    step: int | Array = 0
    saved: Any = None


def activate(z: Array, bias: Array | None, activation: str, ctx: Context) -> tuple[Array, Array]:
    """y = f(z + b), which takes z's buffer, and what ``bias_activation_backward`` needs of it: y; or z + b where the
    derivative cannot be had from y, which then goes to a buffer of its own."""
    if get_activation(activation).needs_z:
        y = ctx.backend.bias_activation(z, bias, activation, out=ctx.buffer("y", z.shape), z_out=z)
        return y, z
    y = ctx.backend.bias_activation(z, bias, activation, out=z)
    return y, y


def in_shape(x: Array, shape: Shape, ctx: Context) -> Array:
    """``x`` seen in a shape that may be its own."""
    return x if x.shape == shape else ctx.backend.xp.reshape(x, shape)


def as_matrix(x: Array, ctx: Context) -> Array:
    """Rows of any shape as a matrix, its columns the last axis: the channels of pictures."""
    return x if x.ndim == 2 else ctx.backend.xp.reshape(x, (prod(x.shape[:-1]), x.shape[-1]))


class Layer(NamedArguments):
    """A function of rows, with its derivative. Subclasses are frozen dataclasses of their settings.

    Attributes:
        products: which results the layer computes by one operation ``backend.matmul(..., **ctx.sinks[name])`` each, or
            by a convolution: ``"output"``, or names of parameters, for their gradients. Such a product can be scaled,
            and a gradient can be added to a velocity by the product itself. A subclass that computes otherwise, by a
            forward or backward of its own, has none unless it says so.
        target: what the operation that computes a gradient calls the array where it goes; the other keywords of a sink
            are ``alpha``, ``beta`` and ``times``.
        recordable: whether forward and backward compute by operations of ``ctx.backend`` alone, on arrays of the
            context, so that a step can be repeated without their Python code. Of a subclass with a forward or backward
            of its own it is not known, unless it says so; its steps then run on the CPU as they are written.
        ends_in_activation: whether y = f(z + b), f being the function that its setting ``activation`` names: an
            activation layer after it is then joined into it, because bias and activation are one operation.
        only_moves: whether it moves the numbers of a row and computes none: the shape of rows, or their order. Not of a
            subclass with a forward or backward of its own, unless it says so.
        own_way: whether forward or backward are not those of a layer of xpnet.
        least_rows: how many rows a training batch must have at least.
        moves_state: whether ``forward`` moves the layer's state in training, to be saved with the model.
        registered_name: its name in ``LAYERS``.
    """

    products: ClassVar[tuple[str, ...]] = ()
    target: ClassVar[str] = "out"
    recordable: ClassVar[bool] = False
    ends_in_activation: ClassVar[bool] = False
    only_moves: ClassVar[bool] = False
    own_way: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1
    moves_state: ClassVar[bool] = False
    registered_name: ClassVar[str] = ""

    def __init_subclass__(cls, *, abstract: bool = False, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        own = vars(cls)
        is_ours = cls.__module__.startswith(__name__.rpartition(".")[0] + ".")
        if "forward" in own or "backward" in own:
            if "products" not in own:
                cls.products = ()
            if "recordable" not in own:
                cls.recordable = is_ours
            if cls.only_moves and "only_moves" not in own:
                cls.only_moves = False
            if not is_ours:
                cls.own_way = True
        cls.registered_name = cls.__name__ if is_ours else f"{cls.__module__}.{cls.__qualname__}"
        if not abstract:
            LAYERS[cls.registered_name] = cls

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
        """Name, shape and initial values of each parameter: what training moves."""
        return {}

    def state(self) -> dict[str, tuple[Shape, Initializer]]:
        """Name, shape and initial values of what the layer keeps beside its parameters, such as running statistics:
        saved with the model, not trained. ``forward`` writes it in place, in ``ctx.state``, when ``ctx.training``."""
        return {}

    def input_shape(self) -> Shape | None:
        """The shape of the rows that the layer takes; None where its settings do not say."""
        return None

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """The shape of an output row for an input row of ``shape``; None stands for a shape that is not known.

        Raises:
            ValueError: rows of that shape do not fit this layer.
        """
        return shape

    def multiply_adds(self, shape: Shape | None) -> int:
        """How many multiply-adds the products of ``forward`` have for one row of ``shape``, as a summary counts them.
        Unless a layer knows better, as a convolution does, each of its matrices is multiplied by the row once."""
        shapes = [shape for shape, _ in self.parameters().values()]
        return sum(prod(shape) for shape in shapes if len(shape) > 1)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y for the rows ``x``. Must not write into ``x``."""
        raise NotImplementedError

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx from ``dy``, which may be overwritten; the gradients of the parameters go to ``ctx.gradients``.

        None where ``ctx.needs_dx`` is false (nobody asks for the gradient of the data).
        """
        raise NotImplementedError

    def to_onnx(self, x: str, graph: Any) -> str:
        """Write ``forward``, as it predicts, into an ONNX graph: a layer of one's own does, if it is to be exported.

        Args:
            x: the name of the input.
            graph: an ``nn.storage.onnx_graph.OnnxGraph``. ``graph.add("Mul", x, graph.array("scale"))`` writes an
                operator; ``graph.array(name)`` is the layer's parameter or state of that name.

        Returns:
            The name of the output.
        """
        raise NotImplementedError

    def inside(self, phase: str, ctx: Context, given: Array) -> dict[str, Array]:
        """What a comparison of devices looks at beside the result, by name, in the order of its computation.

        Args:
            phase: ``"forward"`` or ``"backward"``, which has just run.
            given: the x or dy that it was given, as it has left it.
        """
        return {}


def check_sizes(layer: Layer, *names: str) -> None:
    """Raise an error unless these settings of a layer are whole numbers that a side of a matrix may have."""
    for name in names:
        _set(
            layer, name, check_whole_number(f"{type(layer).__name__}: {name}", getattr(layer, name), most=LARGEST_SIDE)
        )


def check_flags(layer: Layer, *names: str) -> None:
    """Raise an error unless these settings of a layer are True or False."""
    for name in names:
        _set(layer, name, check_flag(f"{type(layer).__name__}: {name}", getattr(layer, name)))


def check_setting(layer: Layer, name: str, **limits: Any) -> None:
    """Raise an error unless this setting of a layer is a number, within these limits of ``check_number``."""
    _set(layer, name, check_number(f"{type(layer).__name__}: {name}", getattr(layer, name), **limits))


def _set(layer: Layer, name: str, value: Any) -> None:
    """A number of NumPy becomes one of Python, which a file can hold."""
    if type(value) is not type(getattr(layer, name)):
        object.__setattr__(layer, name, value)


def check_features(layer: Layer, features: int, shape: Shape | None) -> None:
    """Raise a ValueError where rows of ``shape`` are none of so many numbers, which is what ``layer`` takes."""
    if shape is not None and shape != (features,):
        hint = "; put Flatten() before it" if len(shape) > 1 else ""
        if hint and prod(shape) != features:
            hint += f", and let it take {prod(shape)}"
        raise ValueError(f"{layer!r} takes rows of {features} numbers, not of shape {shape}{hint}")


def check_batches(layers: Sequence[Layer], rows: int, batch_size: int, blocks: int = 1) -> None:
    """Raise a ValueError where the last batch of an epoch, or a block of it, would be too short for a layer."""
    for layer in layers if isinstance(layers, Sequence) else [layers]:
        check_kind("each of layers", layer, Layer, "a Layer")
    check_whole_number("rows", rows)
    check_whole_number("batch_size", batch_size)
    check_whole_number("blocks", blocks)
    last = min(rows, rows % batch_size or batch_size)
    cut = f", in {blocks} blocks," if blocks > 1 else ""
    for index, layer in enumerate(layers):
        if last // blocks < layer.least_rows > 1:  # a block may be empty, unless that matters
            raise ValueError(
                f"layer {index}, {layer!r}: a training batch needs at least {layer.least_rows} rows, but {rows} rows "
                f"in batches of {batch_size}{cut} leave {last // blocks} for the last one; choose another batch_size"
            )

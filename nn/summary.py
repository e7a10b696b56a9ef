"""What a network is made of and what a training step costs, in numbers that follow from its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, NamedTuple

from backends.typing import Shape

from .layers import Layer
from .notebook import html_table
from .optimizers import Optimizer
from .stages import join_activations

#: Bytes of a number.
ITEMSIZE = {"float32": 4, "float64": 8}
#: What a summary says of a network that takes pictures of any size, before it has seen some.
UNKNOWN = (
    "shapes that are not known yet are ?, so FLOPs and memory are too low; Reshape(height, width, channels) as the "
    "first layer tells that of pictures"
)


class LayerSummary(NamedTuple):
    """A layer in numbers.

    Attributes:
        name: its index, as in the names of its parameters.
        layer: as one would write it.
        output_shape: of a row that it gives; None where that is not known before the first row.
        parameters, state: how many numbers it learns, and how many it keeps beside them.
        forward, backward: floating-point operations of its matrix products, for all rows of a batch.
    """

    name: str
    layer: str
    output_shape: Shape | None
    parameters: int
    state: int
    forward: int
    backward: int

    @property
    def flops(self) -> int:
        """Those of a training step."""
        return self.forward + self.backward


@dataclass(frozen=True, repr=False)
class Summary:
    """What ``Sequential.summary`` gives: printed, it is a table.

    A multiply-add counts as 2 floating-point operations. Those of the matrix products are counted: x W of the outputs,
    x^T dz of the weights' gradients, and dz W^T of the inputs' gradients, which the first layer with parameters does
    without. What is computed element by element (biases, activations, loss, update) is not. A layer that computes
    otherwise says so by its ``multiply_adds``.

    Attributes:
        layers: a line for each.
        batch_size: rows of a step.
        dtype: of all numbers.
        optimizer: what it is called; "" for none.
        bytes: what is kept, by its name: ``"parameters"``, ``"gradients"``, ``"optimizer"``, ``"state"`` and
            ``"batch"`` (the rows, the outputs of the layers and the gradients of both, an activation in the memory of
            the ``Linear`` before it); without what a backend needs for itself.
    """

    layers: tuple[LayerSummary, ...]
    batch_size: int
    dtype: str
    optimizer: str
    bytes: dict[str, int]

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations of a training step."""
        return sum(layer.flops for layer in self.layers)

    @property
    def forward_flops(self) -> int:
        """Those of its forward pass, which is all that a prediction of so many rows takes."""
        return sum(layer.forward for layer in self.layers)

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes.values())

    HEAD: ClassVar[tuple[str, ...]] = ("", "layer", "output", "parameters", "FLOPs per step")

    def _lines(self) -> list[tuple[str, ...]]:
        lines = [(x.name, x.layer, _shape(x.output_shape), f"{x.parameters:,}", _short(x.flops)) for x in self.layers]
        return [*lines, ("", "in all", "", f"{self.parameters:,}", _short(self.flops))]

    def _costs(self) -> tuple[str, ...]:
        sizes = {"optimizer": f"optimizer ({self.optimizer})", "batch": "rows, outputs and their gradients"}
        kept = [f"{sizes.get(name, name)} {_size(size)}" for name, size in self.bytes.items() if size]
        return (
            f"a step on {self.batch_size} row{'s' * (self.batch_size != 1)} in {self.dtype}: "
            f"{_short(self.flops)} FLOPs, {_short(self.forward_flops)} of them forward "
            "(matrix products, 2 for a multiply-add)",
            f"memory: {', '.join(kept)}; {_size(self.total_bytes)} in all",
            *([UNKNOWN] if any(layer.output_shape is None for layer in self.layers) else []),
        )

    def __repr__(self) -> str:
        *lines, total = self._lines()
        widths = [max(map(len, column)) for column in zip(self.HEAD, *lines, total, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        table = (_line(self.HEAD, widths), rule, *(_line(line, widths) for line in lines), rule, _line(total, widths))
        return "\n".join((*table, "", *self._costs()))

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self._lines(), text_columns=3, caption="; ".join(self._costs()))


def summarize(
    layers: Sequence[Layer],
    row_shape: Shape | None,
    batch_size: int,
    dtype: str,
    optimizer: Optimizer | None = None,
) -> Summary:
    """The summary of a network whose layers fit each other, for rows of that shape."""
    found: list[LayerSummary] = []
    shape = row_shape
    is_first = True  # the gradient of its input is nobody's
    for index, layer in enumerate(layers):
        per_row = layer.multiply_adds(shape)
        parameters = _numbers(spec for spec, _ in layer.parameters().values())
        products = bool(parameters) + (not is_first)
        shape = layer.output_shape(shape)
        found.append(
            LayerSummary(
                str(index),
                repr(layer),
                shape,
                parameters,
                _numbers(spec for spec, _ in layer.state().values()),
                2 * batch_size * per_row,
                2 * batch_size * per_row * products,
            )
        )
        is_first = is_first and not parameters
    itemsize = ITEMSIZE[dtype]
    count = sum(layer.parameters for layer in found)
    arrays = 0 if optimizer is None else len(optimizer.kept())
    # The last of the layers that are joined gives the output.
    starts = [index for index, _ in join_activations(layers)]
    ends = [*(start - 1 for start in starts[1:]), len(layers) - 1]
    outputs = _numbers([row_shape or (), *(found[end].output_shape or () for end in ends)])
    numbers: Mapping[str, int] = {
        "parameters": count,
        "gradients": count,
        "optimizer": count * arrays,
        "state": sum(layer.state for layer in found),
        "batch": 2 * batch_size * outputs,
    }
    return Summary(
        tuple(found),
        batch_size,
        dtype,
        "" if optimizer is None else type(optimizer).__name__,
        {name: number * itemsize for name, number in numbers.items()},
    )


def _numbers(shapes: Iterable[Shape]) -> int:
    """How many numbers arrays of these shapes have; () stands for a shape that is not known, and so for none."""
    return sum(prod(shape) for shape in shapes if shape)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else " x ".join(map(str, shape))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Two columns of text and three of numbers."""
    aligned = [
        f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _short(number: int) -> str:
    """In thousands, millions, ...: 64.2 M."""
    return _scaled(float(number), 1000.0, ("", " k", " M", " G", " T", " P"))


def _size(number: int) -> str:
    """Of memory: 2.6 MiB."""
    return _scaled(float(number), 1024.0, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(number: float, factor: float, units: Sequence[str]) -> str:
    unit = 0
    while number >= factor and unit < len(units) - 1:
        number /= factor
        unit += 1
    return f"{number:.0f}{units[unit]}" if unit == 0 or number >= 100 else f"{number:.3g}{units[unit]}"

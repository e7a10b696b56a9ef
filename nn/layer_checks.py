"""Whether layers make a network: what each of them takes from the one before, and the loss from the last."""

from __future__ import annotations

from inspect import signature
from typing import Any

from backends.arguments import shown
from backends.typing import Shape

from .layers import LAYERS, Dropout, Layer, Softmax, Standardize
from .own_layers import is_own
from .stages import end_of, function_of, output_activation_of

#: Of a network whose outputs are not known.
_NO_OUTPUTS = "a network needs a Linear layer, from which the number of its outputs follows"


def checked_layers(layers: tuple[Any, ...]) -> tuple[list[Layer], int]:
    """The layers as a list, and how many outputs they give; an error if two neighbours do not fit."""
    if len(layers) == 1 and isinstance(layers[0], list | tuple):
        layers = tuple(layers[0])
    if not layers:
        raise ValueError("a network needs at least one layer")
    shape: Shape | None = None
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            kind = _layer_called(layer) if isinstance(layer, str) else layer
            hint = ""
            if isinstance(kind, type) and issubclass(kind, Layer):
                hint = f"; write {kind.__name__}({_dots(kind)})"
            raise TypeError(f"layer {index} is {shown(layer)}, not a layer{hint}")
        if "output" in layer.parameters():
            raise ValueError(f"layer {index} names a parameter `output`, as its result is called; give it another name")
        if isinstance(layer, Standardize) and not all(before.only_moves for before in layers[:index]):
            raise ValueError(f"layer {index} is {layer!r}, which takes raw columns; let the network begin with it")
        if isinstance(layer, Softmax) and index < len(layers) - 1:
            raise ValueError(f"layer {index} is Softmax(), which belongs at the end of a network")
        try:
            shape = layer.output_shape(shape)
        except ValueError as error:
            before = layers[index - 1] if index else None
            own = f"; by its output_shape {before!r} gives rows of shape {shape}" if before and is_own(before) else ""
            raise ValueError(f"layer {index} does not fit the one before it: {error}{own}") from None
    if shape is None or len(shape) != 1:
        raise ValueError(f"{_NO_OUTPUTS}{_why_no_outputs(layers, shape)}")
    return list(layers), shape[0]


def check_loss(layers: list[Layer], output_activation: str) -> None:
    """Raise a ValueError where a loss with this output activation is not computed from what the layers end in: the last
    one is another function, or dropout follows that function."""
    last = layers[end_of(layers)]
    if output_activation and function_of(last) not in ("identity", output_activation):
        raise ValueError(
            f"the loss is computed from the values before {output_activation}, but the network ends in {last!r}; "
            f"let it end in a Linear layer, or in {output_activation.capitalize()}()"
        )
    before_dropout = [layer for layer in layers if not isinstance(layer, Dropout)]
    if output_activation and isinstance(last, Dropout) and output_activation_of(before_dropout):
        raise ValueError(
            f"the loss is computed from the values before {output_activation}, but {last!r} comes after it; put it "
            "before the last Linear layer"
        )


def _layer_called(name: str) -> type[Layer] | None:
    """The kind of layer that a text means: ``"relu"`` and ``"leaky_relu"`` are names of activations elsewhere."""
    letters = name.replace("_", "").replace(" ", "").lower()
    return next((kind for known, kind in LAYERS.items() if known.lower() == letters), None)


def _dots(kind: type[Layer]) -> str:
    """Dots for a kind of layer that needs arguments, and nothing for one that needs none."""
    needed = [parameter for parameter in signature(kind).parameters.values() if parameter.default is parameter.empty]
    return "..." if needed else ""


def _why_no_outputs(layers: tuple[Layer, ...], shape: Shape | None) -> str:
    """What to do about a network whose last rows have this shape."""
    if shape is not None:
        end = "Flatten() or GlobalAvgPool2d()" if len(shape) == 3 else "Flatten()"
        return f", but it ends in rows of shape {shape}; put {end} after it"
    has_filters = any(layer.parameters() for layer in layers)
    return "; begin one on pictures with Reshape(height, width, channels)" if has_filters else ""

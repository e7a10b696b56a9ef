"""A trained network as JSON, for a page that computes it: ``page/page.js`` has the other half of what stands here."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from backends.typing import Shape

from .. import layers
from ..data import Dataset
from ..layers import (
    AvgPool2d,
    BatchNorm,
    ChannelsLast,
    Conv2d,
    Dropout,
    ElementwiseActivation,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    Reshape,
    Softmax,
    Standardize,
)
from ..layers.pictures import pair
from ..model import Sequential
from ..stages import output_activation_of
from .pictures import pictures_of

#: The activations that ``page.js`` has; some may have a number in brackets.
ACTIVATIONS = frozenset(
    {"identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus", "softmax"}
)
#: How weights may be written, the most exact way first: as they are, or as whole numbers of so many bits with a factor
#: for each column.
BITS = (32, *range(16, 5, -1))
#: Why there is nothing to draw for.
NO_PICTURES = "the rows are not known to be pictures of one channel"
NO_PROBABILITIES = "the network gives no probabilities of classes"
#: Rows that the page can show to the network.
MOST_ROWS = 20
#: Rows from which the pen is measured.
MOST_MEASURED = 2000
#: What counts as ink, as a share of the darkest.
INK_FROM = 0.25


def why_not(model: Sequential, data: Dataset | None) -> str:
    """Why a page cannot show drawings to this network; "" where it can.

    It can where rows are pictures of one channel, the network gives probabilities of classes, and all its layers are
    among those that the page computes.
    """
    if data is None or model.units is None or drawings_of(model, data) is None:
        return NO_PICTURES
    if model.task != "classes" or not model.output_activation:
        return NO_PROBABILITIES
    for index, (layer, shape) in enumerate(_with_shapes(model, data)):
        if stage_of(layer, {}, shape) is None:
            return f"the page cannot compute layer {index}, {layer!r}"
    return ""


def _with_shapes(model: Sequential, data: Dataset) -> Iterator[tuple[Layer, Shape]]:
    """Each layer with the shape of the rows that it is given."""
    shape: Shape | None = model.shaped(data[:1]).x.shape[1:]
    for layer in model.layers:
        assert shape is not None
        yield layer, shape
        shape = layer.output_shape(shape)


def network_of(model: Sequential, data: Dataset, names: list[str], bits: int, pen: Mapping[str, Any]) -> dict[str, Any]:
    """What a page needs to compute ``model`` for rows like those of ``data``.

    Args:
        names: of the classes.
        bits: one of ``BITS``, for the weights.
        pen: see ``pen_of``.

    Raises:
        ValueError: see ``why_not``.
    """
    if why := why_not(model, data):
        raise ValueError(why)
    units = model.units
    assert units is not None
    state = model.state_dict()
    stages = []
    for index, (layer, shape) in enumerate(_with_shapes(model, data)):
        own = {name.partition(".")[2]: value for name, value in state.items() if name.partition(".")[0] == str(index)}
        stage = stage_of(layer, {name: packed(value, bits) for name, value in own.items()}, shape)
        stages += [stage] if stage else []
    if not output_activation_of(model.layers):  # the outputs are what the probabilities are computed from
        stages.append({"kind": "activation", "activation": model.output_activation})
    some = np.linspace(0, len(data) - 1, min(MOST_ROWS, len(data))).round().astype(int)
    shown = data[some]
    return {
        "stages": stages,
        "names": names,
        "bits": bits,
        "scale": units.scale,
        "shift": units.shift,
        "pen": pen,
        "rows": [
            {"pixels": packed(x.ravel()), "label": names[label], "row": int(row)}
            for x, label, row in zip(shown.x, shown.y, some, strict=True)
        ],
    }


def stage_of(layer: Layer, arrays: dict[str, Any], shape: Shape) -> dict[str, Any] | None:
    """What the page has to do for a layer that is given rows of ``shape``, with its ``arrays``; {} for nothing, None
    where it cannot."""
    if not type(layer).__module__.startswith(f"{layers.__name__}."):
        return None  # a subclass may compute something else
    if isinstance(layer, Dropout | Flatten | Reshape):
        return {}
    if isinstance(layer, ChannelsLast):
        return {"kind": "channels_last", "channels": shape[0]}
    if isinstance(layer, Linear) and _is_known(layer.activation):
        return {"kind": "linear", "outputs": layer.out_features, "activation": layer.activation} | arrays
    if isinstance(layer, Conv2d) and _is_known(layer.activation):
        of_layer = {"kind": "conv2d", "groups": layer.groups, "activation": layer.activation}
        windows = _windows(layer, shape, pair(layer.kernel_size), pair(layer.stride), layer.around)
        return of_layer | windows | arrays
    if isinstance(layer, MaxPool2d | AvgPool2d):
        size = pair(layer.kernel_size)
        stride = size if layer.stride is None else pair(layer.stride)
        windows = _windows(layer, shape, size, stride, pair(layer.padding))
        return _pooling(isinstance(layer, MaxPool2d), getattr(layer, "count_include_pad", True)) | windows
    if isinstance(layer, GlobalMaxPool2d | GlobalAvgPool2d):
        windows = _windows(layer, shape, shape[:2], (1, 1), (0, 0))
        return _pooling(isinstance(layer, GlobalMaxPool2d)) | windows
    if isinstance(layer, Standardize):
        running = {f"running_{name}": array for name, array in arrays.items() if name in ("mean", "variance")}
        return {"kind": "normalize", "epsilon": 0.0} | running
    if isinstance(layer, BatchNorm | LayerNorm):  # BatchNorm2d is a BatchNorm
        return {"kind": "normalize", "epsilon": layer.epsilon} | arrays
    if isinstance(layer, ElementwiseActivation) and _is_known(layer.activation):
        return {"kind": "activation", "activation": layer.activation}
    return {"kind": "activation", "activation": "softmax"} if isinstance(layer, Softmax) else None


def _windows(layer: Layer, shape: Shape, size: Shape, stride: Shape, padding: Shape) -> dict[str, Any]:
    """Windows over a picture, and the shapes (height, width, channels) of the picture and of the result."""
    grid = layer.output_shape(shape) or ()
    return {
        "picture": (*shape, 1)[:3],
        "size": size,
        "stride": stride,
        "padding": padding,
        "grid": (1, 1, *grid)[-3:],
    }


def _pooling(largest: bool, count_padding: bool = True) -> dict[str, Any]:
    return {"kind": "max_pool2d"} if largest else {"kind": "avg_pool2d", "count_padding": count_padding}


def _is_known(activation: str) -> bool:
    return activation.partition("(")[0] in ACTIVATIONS


def packed(values: np.ndarray, bits: int = 32) -> dict[str, Any]:
    """An array as text. Matrices and filters of fewer than 32 bits are whole numbers, one bit after the other, the
    lowest first, and each column or filter has a factor of its own; so the error is at most 1 / (2^bits - 2) of its
    largest weight. Bytes stay bytes."""
    if values.dtype == np.uint8:
        return {"bits": 8, "data": _text(values)}
    if bits == 32 or values.ndim < 2:
        return {"bits": 32, "data": _text(values.astype("<f4"))}
    values = values.reshape(-1, values.shape[-1])
    limit = 2 ** (bits - 1) - 1
    factors = np.nan_to_num(np.abs(values)).max(axis=0) / limit
    whole = np.rint(np.nan_to_num(values) / np.where(factors == 0, 1.0, factors)).astype(np.int64) + limit
    by_bit = (whole.reshape(-1, 1) >> np.arange(bits)) & 1
    text = _text(np.packbits(by_bit.astype(np.uint8), bitorder="little"))
    return {"bits": bits, "data": text, "factors": packed(factors), "count": values.size}


def drawings_of(model: Sequential, data: Dataset) -> np.ndarray | None:
    """(n, height, width): the first rows, where they are pictures of one channel; else None."""
    found = pictures_of(model, data, slice(MOST_MEASURED))
    if found is None or (found.ndim == 4 and found.shape[3] != 1):
        return None
    return found.reshape(found.shape[:3])


def pen_of(drawings: np.ndarray) -> dict[str, Any]:
    """How a drawing becomes a picture like ``drawings`` (n, height, width): their shape, the raw numbers of paper and
    ink, whether these are whole, how large what is drawn is, where its centre of mass lies and how thick its lines are,
    in pixels.

    The thickness is that of a long line, whose outline is twice its length: 2 area / outline, where the outline is the
    total variation of the picture times pi / 4, the mean of that over all directions.
    """
    shape, x = drawings.shape[1:], drawings.astype(np.float64)
    low, high = float(x.min()), float(x.max())
    paper, ink = (low, high) if x.mean() <= (low + high) / 2 else (high, low)
    drawn = (x - paper) / ((ink - paper) or 1.0)
    inked = drawn > INK_FROM
    size = max(float(np.median(_extents(np.any(inked, axis=axis)))) for axis in (1, 2))
    area = np.maximum(drawn.sum(axis=(1, 2)), 1e-9)
    centre = [float((drawn.sum(axis=axis) @ (np.arange(length) + 0.5) / area).mean()) for axis, length in
              ((2, shape[0]), (1, shape[1]))]  # fmt: skip
    framed = np.pad(drawn, ((0, 0), (1, 1), (1, 1)))
    outline = sum(np.abs(np.diff(framed, axis=axis)).sum(axis=(1, 2)) for axis in (1, 2)) * (math.pi / 4)
    return {
        "height": shape[0],
        "width": shape[1],
        "paper": paper,
        "ink": ink,
        "whole": drawings.dtype == np.uint8,
        "size": size,
        "centre": centre,
        "thickness": float(np.median(2 * area / np.maximum(outline, 1e-9))),
    }


def _extents(marked: np.ndarray) -> np.ndarray:
    """(m, n) marks: how far it is from the first to the last of each row."""
    return np.asarray(marked.shape[1] - marked[:, ::-1].argmax(axis=1) - marked.argmax(axis=1))


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()

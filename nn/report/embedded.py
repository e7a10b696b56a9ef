"""A trained network as JSON, for a page that computes it: ``page/page.js`` has the other half of what stands here."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from .. import layers
from ..data import Dataset
from ..layers import BatchNorm, Dropout, ElementwiseActivation, Flatten, Layer, LayerNorm, Linear, Softmax, Standardize
from ..model import Sequential
from ..plan import output_activation_of

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
#: What counts as ink, as a share of the darkest.
INK_FROM = 0.25


def why_not(model: Sequential, data: Dataset | None) -> str:
    """Why a page cannot show drawings to this network; "" where it can.

    It can where rows are pictures of one channel, the network gives probabilities of classes, and all its layers are
    among those that the page computes.
    """
    if data is None or model.units is None or _picture_shape(data) is None:
        return NO_PICTURES
    if model.task != "classes" or not model.output_activation:
        return NO_PROBABILITIES
    for index, layer in enumerate(model.layers):
        if stage_of(layer, {}) is None:
            return f"the page cannot compute layer {index}, {layer!r}"
    return ""


def network_of(model: Sequential, data: Dataset, names: list[str], bits: int) -> dict[str, Any]:
    """What a page needs to compute ``model`` for rows like those of ``data``.

    Args:
        names: of the classes.
        bits: one of ``BITS``, for the weights.

    Raises:
        ValueError: see ``why_not``.
    """
    if why := why_not(model, data):
        raise ValueError(why)
    units = model.units
    assert units is not None
    state = model.state_dict()
    stages = []
    for index, layer in enumerate(model.layers):
        own = {name.partition(".")[2]: value for name, value in state.items() if name.partition(".")[0] == str(index)}
        stage = stage_of(layer, {name: packed(value, bits) for name, value in own.items()})
        stages += [stage] if stage else []
    if not output_activation_of(model.layers):  # the outputs are what the probabilities are computed from
        stages.append({"kind": "activation", "activation": model.output_activation})
    some = np.linspace(0, len(data) - 1, min(MOST_ROWS, len(data))).round().astype(int)
    return {
        "stages": stages,
        "names": names,
        "bits": bits,
        "scale": units.scale,
        "shift": units.shift,
        "pen": pen_of(data),
        "rows": [{"pixels": packed(data.x[row].ravel()), "label": names[data.y[row]], "row": int(row)} for row in some],
    }


def stage_of(layer: Layer, arrays: dict[str, Any]) -> dict[str, Any] | None:
    """What the page has to do for a layer, with its ``arrays``; {} for nothing, None where it cannot."""
    if not type(layer).__module__.startswith(f"{layers.__name__}."):
        return None  # a subclass may compute something else
    if isinstance(layer, Dropout | Flatten):
        return {}
    if isinstance(layer, Linear) and _is_known(layer.activation):
        return {"kind": "linear", "outputs": layer.out_features, "activation": layer.activation} | arrays
    if isinstance(layer, Standardize):
        running = {f"running_{name}": array for name, array in arrays.items() if name in ("mean", "variance")}
        return {"kind": "normalize", "epsilon": 0.0} | running
    if isinstance(layer, BatchNorm | LayerNorm):
        return {"kind": "normalize", "epsilon": layer.epsilon} | arrays
    if isinstance(layer, ElementwiseActivation) and _is_known(layer.activation):
        return {"kind": "activation", "activation": layer.activation}
    return {"kind": "activation", "activation": "softmax"} if isinstance(layer, Softmax) else None


def _is_known(activation: str) -> bool:
    return activation.partition("(")[0] in ACTIVATIONS


def packed(values: np.ndarray, bits: int = 32) -> dict[str, Any]:
    """An array as text. Matrices of fewer than 32 bits are whole numbers, one bit after the other, the lowest first,
    and each column has a factor of its own; so the error is at most 1 / (2^bits - 2) of its largest weight. Bytes stay
    bytes."""
    if values.dtype == np.uint8:
        return {"bits": 8, "data": _text(values)}
    if bits == 32 or values.ndim < 2:
        return {"bits": 32, "data": _text(values.astype("<f4"))}
    limit = 2 ** (bits - 1) - 1
    factors = np.nan_to_num(np.abs(values)).max(axis=0) / limit
    whole = np.rint(np.nan_to_num(values) / np.where(factors == 0, 1.0, factors)).astype(np.int64) + limit
    by_bit = (whole.reshape(-1, 1) >> np.arange(bits)) & 1
    text = _text(np.packbits(by_bit.astype(np.uint8), bitorder="little"))
    return {"bits": bits, "data": text, "factors": packed(factors), "count": values.size}


def pen_of(data: Dataset) -> dict[str, Any]:
    """How a drawing becomes a picture like those of ``data``: their shape, the raw numbers of paper and ink, whether
    these are whole, how large what is drawn is, where its centre of mass lies and how thick its lines are, in pixels.

    The thickness is that of a long line, whose outline is twice its length: 2 area / outline, where the outline is the
    total variation of the picture times pi / 4, the mean of that over all directions.
    """
    shape = _picture_shape(data)
    assert shape is not None
    x: np.ndarray = data.x[:2000].reshape(-1, *shape).astype(np.float64)
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
        "whole": data.x.dtype == np.uint8,
        "size": size,
        "centre": centre,
        "thickness": float(np.median(2 * area / np.maximum(outline, 1e-9))),
    }


def _extents(marked: np.ndarray) -> np.ndarray:
    """(m, n) marks: how far it is from the first to the last of each row."""
    return np.asarray(marked.shape[1] - marked[:, ::-1].argmax(axis=1) - marked.argmax(axis=1))


def _picture_shape(data: Dataset) -> tuple[int, int] | None:
    """(height, width) of pictures of one channel."""
    shape = data.image_shape
    if shape is None or (len(shape) == 3 and shape[2] != 1):
        return None
    return shape[0], shape[1]


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()

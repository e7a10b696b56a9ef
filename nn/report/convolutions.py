"""What convolutions look for and what they find: filters, and feature maps of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backends.arguments import check_whole_number

from ..data import Dataset
from ..layers import Conv2d
from ..model import Sequential


def convolutions(model: Sequential) -> list[int]:
    """The indices of the layers that are convolutions."""
    return [index for index, layer in enumerate(model.layers) if isinstance(layer, Conv2d)]


def filters_of(model: Sequential, layer: int | None = None) -> tuple[int, np.ndarray]:
    """The index of a convolution and its filters, (filters, channels, height, width); of each group of channels they
    have the channels of that group.

    Args:
        layer: its index; None for the first.

    Raises:
        ValueError: there is none at that index.
    """
    known = convolutions(model)
    index = _first(known) if layer is None else _index(model, layer)
    if index not in known:
        choices = " or ".join(f"layer={other}" for other in known)
        hint = f"{choices} is a convolution" if known else "this network has no convolution"
        raise ValueError(f"layer {index} of the network is {model[index]!r}, which has no filters; {hint}")
    weight = model.backend.to_numpy(model.parameters[f"{index}.weight"])
    return index, np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


def maps_of(model: Sequential, rows: Any, layer: int | None = None) -> tuple[list[int], np.ndarray]:
    """What the filters of a layer answer to each row, (rows, filters, height, width), and the indices of the layers
    that have computed it: an activation is joined to the convolution before it.

    Args:
        rows: as ``predict`` takes them.
        layer: the index of a layer that gives pictures; None for the first convolution.

    Raises:
        ValueError: it gives none.
    """
    index = _first(convolutions(model)) if layer is None else _index(model, layer)
    outputs = {int(name): array for name, array in model.layer_outputs(rows).items()}
    computed = max(name for name in outputs if name <= index)  # which an activation is joined to
    maps = outputs[computed]
    if maps.ndim != 4:
        known = ", ".join(str(name) for name, array in outputs.items() if array.ndim == 4)
        hint = f"the layers that do are {known}" if known else "no layer does"
        raise ValueError(f"layer {index}, {model[index]!r}, gives no pictures; {hint}")
    end = min((name for name in outputs if name > computed), default=len(model))
    return [*range(computed, end)], np.ascontiguousarray(maps.transpose(0, 3, 1, 2))


def only_row(model: Sequential, picture: Any) -> Dataset:
    """One picture, alone or in an array or a ``Dataset`` of one row, as the network takes it.

    Raises:
        ValueError: there are several.
    """
    data = model.rows(picture)
    if len(data) != 1:
        raise ValueError(f"this shows one picture, not {len(data):,}; say data[5:6] for one of them")
    return data


def _first(known: Sequence[int]) -> int:
    if not known:
        raise ValueError("this network has no convolution")
    return known[0]


def _index(model: Sequential, layer: int) -> int:
    least, most = -len(model), len(model) - 1
    return check_whole_number("layer", layer, least=least, most=most) % len(model)

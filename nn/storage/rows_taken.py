"""Which rows a network takes, as those tell it that it is written for."""

from __future__ import annotations

from collections.abc import Iterable

from ..layers import (
    AvgPool2d,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Dropout,
    ElementwiseActivation,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    MaxPool2d,
)
from ..model import Sequential

#: The layers that take pictures, by how they compute.
ON_PICTURES = (Conv2d, MaxPool2d, AvgPool2d, GlobalAvgPool2d, GlobalMaxPool2d, BatchNorm2d)


def row_shape_of(model: Sequential) -> tuple[int | None, ...]:
    """The shape of the rows that a network takes; None for an extent that any may be, or is not known."""
    return model.row_shape or (model.units and model.units.row_shape) or pictures_taken(model.layers) or (None,)


def pictures_taken(layers: Iterable[Layer]) -> tuple[int | None, ...] | None:
    """The shape of the pictures that the first layers of a network take, None for what may be any number; None where
    they take no pictures, or bring rows into this shape themselves."""
    channels_first = False
    for layer in layers:
        if isinstance(layer, ON_PICTURES):
            channels = getattr(layer, "in_channels", getattr(layer, "features", None))
            return (channels, None, None) if channels_first else (None, None, channels)
        if isinstance(layer, ChannelsLast):
            channels_first = True
        elif not isinstance(layer, ElementwiseActivation | Dropout):
            break
    return None


def are_plain(model: Sequential) -> bool:
    """Whether the first layers take pictures of one channel as (height, width)."""
    return len(row_shape_of(model)) == 2 and pictures_taken(model.layers) is not None

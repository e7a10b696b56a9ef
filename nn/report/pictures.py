"""Rows as pictures, in the shape in which a person looks at them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data import Dataset, StreamedDataset
from ..layers import ChannelsLast, Dropout, Flatten, Layer, Reshape
from ..model import Sequential


def pictures_of(model: Sequential, data: Dataset, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray | None:
    """``rows`` of ``data`` as pictures (n, height, width) or (n, height, width, channels), their numbers as they are;
    None where nothing says that they are pictures.

    A network that begins by putting the channels last says so; else the ``image_shape`` of the data; else the shape
    that rows have, as they are or as the network takes them.
    """
    x: np.ndarray = model.shaped(data[rows if isinstance(rows, slice) else np.asarray(rows, np.int64)]).x
    seen, layers = x, _leading(model)
    for layer in layers:
        if isinstance(layer, ChannelsLast):
            seen = np.moveaxis(seen, 1, -1)
        elif not isinstance(layer, Dropout):
            seen = seen.reshape(len(x), *(layer.output_shape(seen.shape[1:]) or ()))
    if data.image_shape is not None and not any(isinstance(layer, ChannelsLast) for layer in layers):
        return x.reshape(len(x), *data.image_shape)
    return next((found for found in (seen, x) if found.ndim in (3, 4)), None)


def range_of(data: Dataset | StreamedDataset) -> tuple[float, float]:
    """The smallest and the largest number of the rows as they are stored, as far as they were looked at."""
    if isinstance(data, Dataset):
        return float(data.x.min()), float(data.x.max())
    return data.units.low, data.units.high


def picture_shape(model: Sequential, data: Dataset) -> tuple[int, ...] | None:
    """(height, width) or (height, width, channels) of such a picture; None where rows are no pictures."""
    found = pictures_of(model, data, slice(1))
    return None if found is None else found.shape[1:]


def _leading(model: Sequential) -> list[Layer]:
    """The first layers of a network, as long as they change no number of a row."""
    layers: list[Layer] = []
    for layer in model.layers:
        if not isinstance(layer, Reshape | ChannelsLast | Flatten | Dropout):
            break
        layers.append(layer)
    return layers


def from_0_to_1(pictures: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pictures of numbers from ``low`` to ``high`` as float64 from 0 to 1: (n, h, w) grey, or (n, h, w, 3 or 4) of red,
    green, blue and opacity; other channels are averaged."""
    scaled = (pictures.astype(np.float64) - low) / ((high - low) or 1.0)
    return scaled.mean(axis=3) if scaled.ndim == 4 and scaled.shape[3] not in (3, 4) else scaled

"""Rows as pictures, in the shape in which a person looks at them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data import Dataset, StreamedDataset
from ..model import Sequential
from ..picture_shape import picture_of


def pictures_of(model: Sequential, data: Dataset, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray | None:
    """``rows`` of ``data`` as pictures (n, height, width) or (n, height, width, channels), their numbers as they are;
    None where nothing says that they are pictures (``nn.picture_shape``)."""
    shaped: Dataset = model.shaped(data[rows if isinstance(rows, slice) else np.asarray(rows, np.int64)])
    found = picture_of(shaped, model.layers)
    if found is None:
        return None
    if found.channels_first:
        height, width, channels = found.shape
        return np.moveaxis(shaped.x.reshape(-1, channels, height, width), 1, -1)
    return shaped.x.reshape(-1, *found.shape)


def range_of(data: Dataset | StreamedDataset) -> tuple[float, float]:
    """The smallest and the largest number of the rows as they are stored, as far as they were looked at."""
    if isinstance(data, Dataset):
        return float(data.x.min()), float(data.x.max())
    return data.units.low, data.units.high


def picture_shape(model: Sequential, data: Dataset) -> tuple[int, ...] | None:
    """(height, width) or (height, width, channels) of such a picture; None where rows are no pictures."""
    found = picture_of(model.shaped(data[:1]), model.layers)
    return None if found is None else found.shape


def from_0_to_1(pictures: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pictures of numbers from ``low`` to ``high`` as float64 from 0 to 1: (n, h, w) grey, or (n, h, w, 3 or 4) of red,
    green, blue and opacity; other channels are averaged."""
    scaled = (pictures.astype(np.float64) - low) / ((high - low) or 1.0)
    return scaled.mean(axis=3) if scaled.ndim == 4 and scaled.shape[3] not in (3, 4) else scaled

"""Training pictures as a network sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backends.arguments import check_kind, check_seed, check_whole_number

from ...data import Augment, as_rows
from ...picture_shape import shape_to_distort
from ..distorted import distorted
from ..pictures import range_of
from .layout import check_installed, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def augmentation(augment: Augment, data: Any, count: int = 10, epochs: int = 5, seed: int = 0) -> Figure:
    """The first ``count`` rows of ``data``, and below each what training sees of it in each of the first epochs.

    Args:
        augment: how pictures are distorted, as ``Trainer`` takes it.
        data: pictures: a ``Dataset``, or an array (n, height, width) or (n, height, width, channels) of any library;
            also those larger than memory.
        seed: of the network: with that seed these are the very pictures that it is trained on.

    Raises:
        ValueError: the rows are no pictures.
    """
    check_installed()
    check_kind("augment", augment, Augment, "an Augment")
    data = as_rows(data)
    count, epochs = check_whole_number("count", count), check_whole_number("epochs", epochs)
    first, (low, high) = data[:count], range_of(data)
    height, width, channels = shape = shape_to_distort(first)
    seen = distorted(first, augment, epochs, check_seed("seed", seed))
    images = np.concatenate([first.x.reshape(1, -1, *shape), seen])
    gap = max(1, round(0.1 * max(height, width)))
    tiled = np.full((len(images), height + gap, len(first), width + gap, channels), np.nan)
    tiled[:, gap // 2 : gap // 2 + height, :, gap // 2 : gap // 2 + width] = images.transpose(0, 2, 1, 3, 4)
    tiled = tiled.reshape(len(images) * (height + gap), len(first) * (width + gap), channels)
    tiled = (tiled - low) / ((high - low) or 1.0)
    figure = new_figure(0.7 * len(first) + 1.2, 0.7 * (epochs + 1) * height / width + 0.6)
    axes = figure.subplots()
    tiled = np.nan_to_num(tiled, nan=1.0) if channels in (3, 4) else tiled.mean(axis=2)
    axes.imshow(tiled, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    middles = (np.arange(len(images)) + 0.5) * (height + gap) - 0.5
    axes.set_yticks(middles, ["as they are", *(f"epoch {epoch}" for epoch in range(1, epochs + 1))])
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.suptitle(wrapped(f"Training pictures: {augment}", figure), fontsize=11)
    return figure

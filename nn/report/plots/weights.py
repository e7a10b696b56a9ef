"""What a network looks for: the first layer's weights, the filters of a convolution and what they answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.arguments import check_whole_number

from ...model import Sequential
from ..convolutions import filters_of, maps_of, only_row
from ..pictures import from_0_to_1, pictures_of
from .layout import check_installed, columns_of, draw_tiles, new_figure, picture_grid, some, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Filters of more channels are drawn as one picture each.
MOST_CHANNELS = 16


def first_layer_weights(model: Sequential, image_shape: tuple[int, ...], count: int = 64) -> Figure:
    """What the first ``count`` units of the first layer look for: their weights, each laid out as a picture.

    Each has a scale of its own, from minus to plus its largest, on which 0 is white. Colour channels are averaged.

    Raises:
        ValueError: no layer has a weight for each pixel.
    """
    check_installed()
    from matplotlib import colormaps

    weights = weights_of_pixels(model, image_shape)
    if weights is None:
        raise ValueError(f"no layer of this network takes pictures of shape {image_shape}")
    units = weights.shape[1]
    images = weights.T[:count].reshape(-1, *image_shape)
    if images.ndim == 4:
        images = images.mean(axis=3)
    which = f"{len(images)} of {units:,} units" if len(images) < units else f"{units} unit{'s' * (units != 1)}"
    colors = colormaps["RdBu_r"].resampled(33)  # not 256 colours: a smaller file, and nothing less to see
    head = f"Weights of the first layer: {which}, each on its own scale"
    return picture_grid(images, head, color_map=colors, limits=None)


def weights_of_pixels(model: Sequential, image_shape: tuple[int, ...]) -> np.ndarray | None:
    """The first weights (fan-in, units) of the network that have a row for each pixel."""
    for values in model.state_dict().values():
        if values.ndim == 2 and len(values) == math.prod(image_shape):
            return np.asarray(values)
        if values.ndim > 2:  # what comes after a convolution has a row for each number of a feature map
            break
    return None


def filters(model: Sequential, layer: int | None = None, count: int = 64) -> Figure:
    """What the first ``count`` filters of a ``Conv2d`` look for: each as a small picture, or as one for each of its
    channels side by side. All have one scale, on which 0 is white: ink on red raises the answer, on blue lowers it.

    The filters of a deep layer may have too many channels to be told apart; then each is one picture of how strongly
    it looks at each of its pixels, the root of the sum of the squares over the channels.

    Args:
        layer: its index in the network; None for the first.

    Raises:
        ValueError: there is no convolution at that index.
    """
    check_installed()
    check_whole_number("count", count)
    index, weights = filters_of(model, layer)
    total, channels = weights.shape[:2]
    shown, each = weights[:count], ""
    if channels > MOST_CHANNELS:
        shown = np.sqrt((shown**2).sum(axis=1, keepdims=True))
        each = f", each the root of the sum of squares over {channels:,} channels"
    elif channels > 1:
        each = f", each with its {channels} channels side by side"
    head = f"{some(len(shown), total, 'filter')} of layer {index}, {model[index]!r}{each}"
    blocks = columns_of(len(shown)) if shown.shape[1] == 1 else max(round(math.sqrt(len(shown) / shown.shape[1])), 1)
    columns, rows = blocks * shown.shape[1], math.ceil(len(shown) / blocks)
    figure = new_figure(min(max(0.6 * columns, 4.0), 12.0) + 1.0, min(max(0.6 * rows, 1.5), 16.0) + 0.7)
    draw_tiles(figure.subplots(), shown, blocks)
    figure.suptitle(wrapped(head, figure), fontsize=11)
    return figure


def feature_maps(model: Sequential, picture: Any, layer: int | None = None, count: int = 64) -> Figure:
    """What the first ``count`` filters of a layer answer to a picture, beside that picture: red above 0, blue below,
    all on one scale.

    An activation right after a convolution is computed with it, so the answers are those after it.

    Args:
        picture: a row as ``predict`` takes it: an array in the units of the training rows, or a ``Dataset`` of one row,
            ``data[5:6]``.
        layer: the index of a layer that gives pictures, such as a convolution or pooling; None for the first
            convolution.

    Raises:
        ValueError: the layer gives no pictures, there is no convolution, or there are several pictures.
    """
    check_installed()
    check_whole_number("count", count)
    row = only_row(model, picture)
    layers, (maps,) = maps_of(model, row, layer)
    given = pictures_of(model, row, slice(1))
    names = ", ".join(f"{index} {model[index]!r}" for index in layers)
    figure = new_figure(11.0, 6.0)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    left.set_axis_off()
    if given is not None:
        left.imshow(from_0_to_1(given, float(given.min()), float(given.max()))[0], cmap="gray", vmin=0.0, vmax=1.0)
        left.set_title("the picture", fontsize=10)
    shown = maps[:count, None]
    draw_tiles(right, shown, columns_of(len(shown)))
    figure.suptitle(wrapped(f"{some(len(shown), len(maps), 'feature map')} of layer {names}", figure), fontsize=11)
    return figure

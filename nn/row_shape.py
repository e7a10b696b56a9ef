"""Which shape the rows of a network have, and rows in that shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.typing import Shape

from .data import Dataset
from .data.checks import DataError, check_range
from .data.rows import shape_of
from .data.values import is_frame
from .layers import ChannelsLast, Dropout, ElementwiseActivation, Layer, Reshape


def row_shape(layers: Sequence[Layer]) -> Shape | None:
    """The shape of the rows that the layers take, as far as they say: (784,) for a first ``Linear``."""
    for layer in layers:
        if (shape := layer.input_shape()) is not None:
            return shape
        if isinstance(layer, ChannelsLast) or not (
            layer.only_moves or isinstance(layer, ElementwiseActivation | Dropout)
        ):
            break
    return None


def shape_for(layers: Sequence[Layer], x: Any) -> Shape | None:
    """``row_shape``; where the layers take pictures of any size, the shape of ``x`` if it is one picture: its rows
    fit the network as little as it fits as a row."""
    shape = row_shape(layers)
    if shape is None and len(given := shape_of(x)) in (2, 3) and not is_frame(x) and problem_with(layers, given[1:]):
        return None if problem_with(layers, given) else given
    return shape


def problem_with(layers: Sequence[Layer], shape: Shape) -> str:
    """Why rows of this shape do not fit the layers; "" where they do."""
    row: Shape | None = tuple(shape)
    for layer in layers:
        try:
            row = layer.output_shape(row)
        except ValueError as error:
            return str(error)
    return ""


def shaped(layers: Sequence[Layer], data: Any, dtype: str) -> Any:
    """``Sequential.shaped``, of a data set for a network that computes in this dtype."""
    if isinstance(data, Dataset):  # others are looked at when they are read
        for name, numbers in (("x", data.x), ("y", data.y)):
            check_range(numbers, name, dtype)
    first, picture = layers[0], data.image_shape or ()
    if isinstance(first, Reshape) and _has_channels_first(picture, first.shape):
        raise DataError(
            f"the rows of the data, of shape {picture}, have their channels first, and {first!r} would mix them "
            "up; put ChannelsLast() in its place"
        )
    shapes = [data.row_shape, (data.n_features,), data.image_shape]
    problems = []
    for shape in shapes:
        if shape is not None:
            problem = problem_with(layers, shape)
            if not problem:
                return data if shape == shapes[0] else data.shaped_for(shape)
            problems.append(f"the rows of the data, of shape {tuple(shape)}, do not fit: {problem}")
    # A network without a row shape begins with a layer on pictures: the pictures that were given are the problem.
    raise DataError(problems[0 if row_shape(layers) else -1])


def _has_channels_first(picture: Shape, wanted: Shape) -> bool:
    """Whether a picture is one of shape ``wanted``, (height, width, channels), with several channels in front."""
    return len(wanted) == 3 and wanted[2] > 1 and picture == (wanted[2], *wanted[:2]) != wanted

"""Which shape a picture has that is a row: decided here, for distortions, reports, plots and the command line alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from backends.typing import Shape

from .data import DataError, Dataset
from .data.streamed import StreamedDataset
from .layers import ChannelsLast, Dropout, Flatten, Layer, Reshape

#: More channels than that are none, where the first extent of a row could be their number.
MOST_CHANNELS = 4


class Picture(NamedTuple):
    """How the numbers of a row are a picture.

    Attributes:
        shape: (height, width) or (height, width, channels), as a person looks at it.
        channels_first: whether they lie in the row as (channels, height, width), which the network moves.
    """

    shape: Shape
    channels_first: bool = False


def picture(row: Shape, image: Shape | None = None, layers: Iterable[Layer] = ()) -> Picture | None:
    """What a row is as a picture; None where nothing says that it is one.

    A network that begins by putting the channels last says so; else the data set does, by its ``image_shape`` or the
    shape of its rows; and of flat rows a ``Reshape`` that the network begins with.

    Args:
        row: the shape of a row as the network takes it.
        image: the ``image_shape`` of the data set.
        layers: of the network. Only the first ones are looked at, as long as they change no number of a row.

    Raises:
        ValueError: rows of that shape do not fit these layers.
    """
    seen, reshaped = row, None
    for layer in layers:
        if isinstance(layer, ChannelsLast):
            height, width, channels = layer.output_shape(seen) or (0, 0, 0)
            return Picture((height, width, channels), channels_first=True)
        if isinstance(layer, Reshape | Flatten):
            seen = layer.output_shape(seen) or seen
            reshaped = reshaped or (seen if len(seen) in (2, 3) else None)
        elif not isinstance(layer, Dropout):
            break
    found = next((shape for shape in (image, row, reshaped) if shape is not None and len(shape) in (2, 3)), None)
    return None if found is None else Picture(tuple(int(extent) for extent in found))


def picture_of(data: Dataset | StreamedDataset, layers: Iterable[Layer] = ()) -> Picture | None:
    """The same for rows in the shape in which the network takes them, see ``Sequential.shaped``."""
    return picture(data.row_shape, data.image_shape, layers)


def shape_to_distort(data: Dataset | StreamedDataset, layers: Iterable[Layer] = ()) -> tuple[int, int, int]:
    """Height, width and channels of rows that are distorted at random, before the first of these layers.

    Raises:
        DataError: they are no pictures, or have their channels first.
    """
    found = picture_of(data, layers)
    if found is None:
        raise DataError(
            f"augment distorts pictures, and rows of shape {data.row_shape} are not known to be any; give rows of "
            "(height, width) or (height, width, channels), or a Dataset with an image_shape"
        )
    if found.channels_first:
        raise DataError(
            "augment takes pictures (height, width, channels), and this network begins with ChannelsLast(); move the "
            "channels of the rows to the end"
        )
    height, width, channels = (*found.shape, 1)[:3]
    if channels > MOST_CHANNELS and height <= MOST_CHANNELS:
        raise DataError(
            f"augment takes pictures (height, width, channels), and rows of shape {found.shape} seem to have their "
            "channels first; move them to the end"
        )
    return height, width, channels

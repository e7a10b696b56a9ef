"""Which shape a picture has that is a row: what says so first, and that all who ask are told the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import (
    Augment,
    AvgPool2d,
    ChannelsLast,
    Conv2d,
    DataError,
    Dataset,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    Reshape,
    Sequential,
    Softmax,
    Trainer,
)
from nn.commands.inputs import picture_of_model
from nn.picture_shape import Picture, picture, shape_to_distort
from nn.report.pictures import picture_shape, pictures_of

#: The first layers, the shape of a row, the image_shape of the data, and what the picture is.
CASES: list[tuple[list[Layer], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None, bool]] = [
    ([], (42,), None, None, False),
    ([], (6, 7), None, (6, 7), False),
    ([], (6, 7, 3), None, (6, 7, 3), False),
    ([], (2, 3, 4, 5), None, None, False),
    ([], (42,), (6, 7), (6, 7), False),
    ([], (42,), (6, 7, 1), (6, 7, 1), False),
    ([], (42,), (42,), None, False),
    ([Reshape(7, 6)], (42,), None, (7, 6), False),
    ([Reshape(7, 6, 1)], (6, 7), None, (6, 7), False),  # the data set says more than a layer after it
    ([Reshape(7, 6, 1)], (42,), (6, 7), (6, 7), False),
    ([Flatten()], (6, 7), None, (6, 7), False),
    ([Reshape(7, 6, 1), Flatten()], (42,), None, (7, 6, 1), False),
    ([Dropout(0.1), Reshape(7, 6)], (42,), None, (7, 6), False),
    ([Linear(42, 30), Reshape(5, 6)], (42,), None, None, False),  # of other numbers than the row's
    ([AvgPool2d(2), Reshape(9, 1)], (6, 7), None, (6, 7), False),
    ([ChannelsLast()], (3, 6, 7), None, (6, 7, 3), True),
    ([ChannelsLast()], (3, 6, 7), (3, 6, 7), (6, 7, 3), True),  # the network says which of them are channels
    ([Reshape(3, 6, 7), ChannelsLast()], (126,), (3, 6, 7), (6, 7, 3), True),
]


@pytest.mark.parametrize(("layers", "row", "image", "shape", "channels_first"), CASES)
def test_what_a_row_is_as_a_picture(
    layers: list[Layer], row: Any, image: Any, shape: tuple[int, ...] | None, channels_first: bool
) -> None:
    assert picture(row, image, layers) == (None if shape is None else Picture(shape, channels_first))


def network(layers: list[Layer], row: tuple[int, ...]) -> Sequential:
    """One that begins with these layers and takes rows of this shape."""
    shape: Any = row
    for layer in layers:
        shape = layer.output_shape(shape)
    return Sequential(*layers, Flatten(), Linear(int(np.prod(shape)), 2), Softmax(), backend="cpu")


@pytest.mark.parametrize(("layers", "row", "image", "shape", "channels_first"), CASES)
def test_all_who_ask_are_told_the_same(
    layers: list[Layer], row: Any, image: Any, shape: tuple[int, ...] | None, channels_first: bool
) -> None:
    """Reports and plots, distortions, and the command that reads pictures from files."""
    numbers = np.arange(3 * np.prod(row), dtype=np.float32).reshape(3, *row)
    data = Dataset(numbers, np.array([0, 1, 0]), image_shape=image)
    model = network(layers, row)
    assert picture_shape(model, data) == shape
    found = pictures_of(model, data, slice(2))
    if shape is None:
        assert found is None
    else:
        assert found is not None
        plain = numbers[:2].reshape(2, shape[2], *shape[:2]).transpose(0, 2, 3, 1) if channels_first else numbers[:2]
        np.testing.assert_array_equal(found, plain.reshape(2, *shape))
    trainer = Trainer(model, augment=Augment(shift=1))
    if shape is None or channels_first:
        with pytest.raises(DataError, match="begins with ChannelsLast" if channels_first else "not known to be any"):
            trainer.fit(data, 1)
        return
    assert shape_to_distort(model.shaped(data), model.layers) == (*shape, 1)[:3]
    trainer.fit(data, 1)
    known = picture_of_model(model)
    assert known is not None
    assert known.shape == (shape[:2] if shape[2:] == (1,) else shape)


def test_pictures_for_a_network_that_moves_their_channels() -> None:
    """It was trained on rows of (channels, height, width); a file is read as (height, width, channels)."""
    model = Sequential(ChannelsLast(), Conv2d(3, 4, 3), GlobalAvgPool2d(), Linear(4, 2), Softmax(), backend="cpu")
    assert picture_of_model(model) is None
    Trainer(model).fit(np.random.default_rng(0).random((8, 3, 6, 7)), [0, 1] * 4, epochs=1)
    assert picture_of_model(model) == Picture((6, 7, 3), channels_first=True)

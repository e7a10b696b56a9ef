"""Shapes of pictures: which layers take, which are refused, and one picture alone."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nn import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Dataset,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Trainer,
)
from tests.helpers.small_pictures import LABELS, PIXELS

RNG = np.random.default_rng(14)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv2d(1, 8, 3), (28, 28, 1), (26, 26, 8)),
        (Conv2d(1, 8, 3), (28, 28), (26, 26, 8)),
        (Conv2d(3, 8, (3, 5), padding="same"), (9, 7, 3), (9, 7, 8)),
        (Conv2d(4, 8, 3, stride=(2, 1), padding=(1, 0), groups=4), (9, 7, 4), (5, 5, 8)),
        (MaxPool2d(2), (7, 6, 3), (3, 3, 3)),
        (MaxPool2d(2), (6, 6), (3, 3, 1)),
        (AvgPool2d((3, 2), stride=(1, 2), padding=(1, 1)), (5, 5, 2), (5, 3, 2)),
        (GlobalAvgPool2d(), (5, 4, 3), (3,)),
        (GlobalMaxPool2d(), (5, 4), (1,)),
        (BatchNorm2d(3), (5, 4, 3), (5, 4, 3)),
        (Reshape(4, 5, 2), (40,), (4, 5, 2)),
        (Reshape(4, 5, 2), None, (4, 5, 2)),
        (ChannelsLast(), (3, 32, 30), (32, 30, 3)),
        *((layer, None, None) for layer in (Conv2d(1, 8, 3), MaxPool2d(2), GlobalAvgPool2d(), BatchNorm2d(3))),
    ],
)
def test_shapes_of_rows(layer: Layer, shape: Any, expected: Any) -> None:
    assert layer.output_shape(shape) == expected
    if shape is not None:
        model = Sequential(layer, Flatten(), Linear(int(np.prod(expected)), 2), backend="cpu")
        assert model(np.ones((3, *shape))).shape == (3, 2)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(1, 8, 3), (784,), "not rows of shape (784,); put Reshape(28, 28, 1) before it"),
        (Conv2d(3, 8, 3), (3072,), "not rows of shape (3072,); put Reshape(32, 32, 3) before it"),
        (Conv2d(1, 8, 3), (20,), "not rows of shape (20,); put Reshape(height, width, 1) before it"),
        (Conv2d(3, 8, 3), (3, 32, 32), "(height, width, 3), not rows of shape (3, 32, 32); put ChannelsLast() before"),
        (Conv2d(3, 8, 3), (32, 32, 4), "rows of shape (32, 32, 4); let it take 4 channels, or give it others"),
        (Conv2d(1, 8, 5), (4, 9, 1), "has windows of 5 x 5, which are larger than pictures of 4 x 9"),
        (Conv2d(1, 8, 7, padding=1), (4, 9, 1), "larger than pictures of 4 x 9 and a padding of 1 x 1"),
        (MaxPool2d(4), (3, 9, 2), "MaxPool2d(4) has windows of 4 x 4, which are larger than pictures of 3 x 9"),
        (MaxPool2d(2), (784,), "takes pictures (height, width, channels), not rows of shape (784,)"),
        (GlobalAvgPool2d(), (10,), "takes pictures (height, width, channels), not rows of shape (10,)"),
        (BatchNorm2d(3), (5, 5, 4), "takes pictures (height, width, 3), not rows of shape (5, 5, 4)"),
        (BatchNorm2d(8), (8,), "not rows of shape (8,); put BatchNorm(8) in its place"),
        (BatchNorm(8), (5, 5, 8), "not of shape (5, 5, 8); put BatchNorm2d(8) in its place"),
        (BatchNorm(8), (5, 5, 4), "not of shape (5, 5, 4); put Flatten() before it, and let it take 100"),
        (Linear(100, 8), (5, 5, 4), "not of shape (5, 5, 4); put Flatten() before it"),
        (BatchNorm2d(1), (5, 5), "not rows of shape (5, 5); put Reshape(5, 5, 1) before it"),
        (Reshape(4, 5, 2), (41,), "Reshape(4, 5, 2) takes rows of 40 numbers, not of shape (41,)"),
        (ChannelsLast(), (32, 30), "takes pictures (channels, height, width), not rows of shape (32, 30)"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_a_remedy(layer: Layer, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        layer.output_shape(shape)
    assert repr(layer) in str(refused.value)
    with pytest.raises(ValueError, match="not fit"):
        Sequential(layer, Flatten(), Linear(7, 2), backend="cpu").dataset((np.ones((2, *shape)), [0, 1]))


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        # Flat rows of these sizes would fit Reshape(9, 9, 3), and be other pictures: the shape that was given is named.
        ((Conv2d(3, 8, 3),), (3, 9, 9), "the rows of the data, of shape (3, 9, 9), do not fit: Conv2d(3, 8, 3) takes"),
        ((Conv2d(3, 8, 3),), (3, 9, 9), "put ChannelsLast() before it"),
        ((Reshape(9, 9, 3), GlobalAvgPool2d(), Reshape(3, 1)), (3, 9, 9), "put ChannelsLast() in its place"),
        ((Conv2d(1, 8, 3),), (9, 9, 3), "of shape (9, 9, 3); let it take 3 channels, or give it others"),
        ((MaxPool2d(10),), (9, 9), "windows of 10 x 10, which are larger than pictures of 9 x 9"),
        ((Conv2d(1, 8, 3),), (81,), "not rows of shape (81,); put Reshape(9, 9, 1) before it"),
    ],
)
def test_pictures_that_do_not_fit_are_named_in_the_shape_they_were_given(
    layers: tuple[Layer, ...], shape: Any, message: str
) -> None:
    units = 3 if isinstance(layers[0], Reshape) else 7
    model = Sequential(*layers, Flatten(), Linear(units, 2), backend="cpu")
    with pytest.raises(ValueError, match=re.escape(message)):
        model(np.ones((2, *shape)))
    if isinstance(layers[0], Reshape):  # flat rows say nothing of an order, and grey pictures have none
        assert model(np.ones((2, 243))).shape == model(np.ones((2, *layers[0].shape))).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(0, 8, 3), "Conv2d: in_channels must be a whole number of at least 1, not 0"),
        (lambda: Conv2d(1, 8, 0), "Conv2d: kernel_size must be a whole number of at least 1, not 0"),
        (
            lambda: Conv2d(1, 8, (3, 3, 3)),  # type: ignore[arg-type]
            "Conv2d: kernel_size must be a whole number, or two for height and width",
        ),
        (lambda: Conv2d(1, 8, (3, 0)), r"Conv2d: kernel_size[1] must be a whole number of at least 1, not 0"),
        (lambda: Conv2d(1, 8, 3, stride=0), "Conv2d: stride must be a whole number of at least 1, not 0"),
        (lambda: Conv2d(1, 8, 3, padding=-1), "Conv2d: padding must be a whole number of at least 0, not -1"),
        (lambda: Conv2d(1, 8, 3, padding="valid"), 'numbers or "same", not \'valid\'; "valid" is padding=0'),
        (lambda: Conv2d(1, 8, 3, 2, "same"), "needs a stride of 1, not 2; give the padding in numbers, as padding=1"),
        (lambda: Conv2d(1, 8, (4, 3), padding="same"), "needs a kernel_size of odd numbers, not (4, 3)"),
        (lambda: Conv2d(3, 8, 3, groups=2), "Conv2d: in_channels (3) cannot be split into 2 groups of equal size"),
        (lambda: Conv2d(4, 9, 3, groups=2), "Conv2d: out_channels (9) cannot be split into 2 groups of equal size"),
        (lambda: Conv2d(1, 8, 3, activation="rleu"), "rleu"),
        (lambda: MaxPool2d(2, padding=2), "MaxPool2d: padding must be at most half of kernel_size (2), not 2"),
        (lambda: AvgPool2d((2, 4), padding=(0, 3)), "must be at most half of kernel_size ((2, 4)), not (0, 3)"),
        (lambda: Reshape(), "Reshape: give the shape of a row, as in Reshape(28, 28, 1)"),
        (lambda: Reshape(28, -1), "Reshape: shape must be a tuple of whole numbers above 0, not (28, -1)"),
        (
            lambda: Sequential(Conv2d(1, 10, 3), GlobalAvgPool2d(), backend="cpu"),
            "from which the number of its outputs follows; begin one on pictures with Reshape(height, width, channels)",
        ),
        (
            lambda: Sequential(Reshape(5, 5, 1), Conv2d(1, 2, 3), backend="cpu"),
            "but it ends in rows of shape (3, 3, 2); put Flatten() or GlobalAvgPool2d() after it",
        ),
        (
            lambda: Sequential(Reshape(28, 28, 1), Conv2d(1, 8, 3), Linear(8, 2), backend="cpu"),
            "layer 2 does not fit the one before it: Linear(8, 2) takes rows of 8 numbers, not of shape (26, 26, 8)",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_layers_are_written_as_one_would_write_them() -> None:
    for layer in [
        Conv2d(3, 8, 5), Conv2d(3, 6, (3, 5), 2, (1, 0), 3, activation="relu"), Conv2d(1, 2, 3, padding="same"),
        MaxPool2d(2), MaxPool2d((2, 3), 1, 1), AvgPool2d(2, count_include_pad=False), GlobalAvgPool2d(),
        GlobalMaxPool2d(), BatchNorm2d(3, momentum=0.2), Reshape(4, 5), ChannelsLast(),
    ]:  # fmt: skip
        assert eval(repr(layer)) == layer
        assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer
    assert repr(Conv2d(3, 8, (5, 5), [2, 2])) == "Conv2d(3, 8, 5, stride=2)"  # type: ignore[arg-type]
    assert Reshape((4, 5)) == Reshape(4, 5) == Reshape(shape=(4, 5)) == Reshape(np.int64(4), 5)  # type: ignore
    assert Conv2d(1, 2, np.int64(3)) == Conv2d(1, 2, 3)  # type: ignore[arg-type]


def test_rows_come_in_any_shape_that_has_the_pictures_in_it() -> None:
    model = Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 3), Softmax(), backend="cpu")
    Trainer(model).fit(PIXELS, LABELS, epochs=1)
    expected = model(PIXELS)
    np.testing.assert_array_equal(model(PIXELS[..., None]), expected)
    np.testing.assert_array_equal(model(PIXELS.reshape(30, 36)), expected)
    np.testing.assert_array_equal(model(Dataset(PIXELS.reshape(30, 36), LABELS, 1 / 255, image_shape=(6, 6))), expected)
    np.testing.assert_allclose(model(PIXELS[4]), expected[4:5], rtol=1e-6)


def test_pictures_with_their_channels_first_that_are_flattened_at_once_are_no_flat_rows() -> None:
    model = Sequential(ChannelsLast(), Flatten(), Linear(24, 2), backend="cpu")
    assert model.row_shape is None
    x = RNG.normal(size=(5, 2, 3, 4))
    flat = Sequential(Linear(24, 2), backend="cpu")
    flat.load_state_dict({f"0.{name.partition('.')[2]}": values for name, values in model.state_dict().items()})
    np.testing.assert_array_equal(model(x), flat(x.transpose(0, 2, 3, 1).reshape(5, 24)))


@pytest.mark.parametrize("channels", [1, 3])
def test_one_picture_alone_for_a_network_that_has_seen_none(channels: int) -> None:
    """Its first layer takes pictures of any size, and rows of a picture are none. Pixels are scaled as in an array."""
    layers = Conv2d(channels, 4, 3), ReLU(), GlobalAvgPool2d(), Linear(4, 3), Softmax()
    model = Sequential(*layers, backend="cpu", seed=1)
    pixels = RNG.integers(0, 256, size=(2, 9, 8, channels), dtype=np.uint8)
    shapes = [(9, 8, channels)] + ([(9, 8)] if channels == 1 else [])
    wanted = model(pixels)
    for shape in shapes:
        for one in (
            pixels[0].reshape(shape),
            pixels[0].reshape(shape).tolist(),
            pixels[0].reshape(shape).astype(float),
        ):
            np.testing.assert_array_equal(model(one), wanted[:1])
        trainer = Trainer(Sequential(*layers, backend="cpu", seed=1))
        assert trainer.evaluate((pixels[0].reshape(shape), [1])) == trainer.evaluate((pixels[:1], [1]))
    if channels == 1:
        np.testing.assert_array_equal(model(pixels[..., 0]), wanted)
    with pytest.raises(ValueError, match=r"do not fit: Conv2d\(.*\) takes pictures"):
        model(RNG.uniform(size=(5, 9, 8, 2)))
    Trainer(model).fit(pixels, [0, 1], epochs=1)
    larger = RNG.integers(0, 256, size=(12, 12, channels), dtype=np.uint8)
    np.testing.assert_array_equal(model(larger), model(larger[None]))


def test_what_may_be_several_pictures_is_several() -> None:
    model = Sequential(Conv2d(1, 4, 1), GlobalAvgPool2d(), Linear(4, 3), backend="cpu")
    assert model(RNG.uniform(size=(5, 4, 1))).shape == model(RNG.uniform(size=(5, 4, 3))).shape == (5, 3)

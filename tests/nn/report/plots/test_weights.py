"""The first layer's weights, filters and feature maps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from nn import Linear, Sequential, Trainer
from nn.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, GlobalMaxPool2d, MaxPool2d, ReLU, Reshape, Tanh
from nn.report import plots
from nn.report.convolutions import filters_of
from tests.helpers.with_emulated import WITH_EMULATED, made
from tests.nn.report.plots.drawn import DIGITS, convolutional, head, images


def test_first_layer_weights_are_its_columns(ten: Trainer) -> None:
    figure = plots.first_layer_weights(ten.model, (8, 8))
    weights = ten.model.state_dict()["0.weight"]
    np.testing.assert_array_equal(images(figure), [weights[:, unit].reshape(8, 8) for unit in range(12)])
    limits = np.abs(weights).max(axis=0)
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(-limit, limit) for limit in limits]
    limit = limits[0]
    negative, zero, positive = figure.axes[0].images[0].to_rgba(np.array([[-limit, 0, limit]]))[0]
    np.testing.assert_allclose(zero, to_rgba("white"), atol=0.05)
    assert negative[2] > negative[0] + 0.2  # blue
    assert positive[0] > positive[2] + 0.2  # red
    assert head(figure) == "Weights of the first layer: 12 units, each on its own scale"


def test_first_layer_weights_are_counted_and_channels_averaged(ten: Trainer) -> None:
    figure = plots.first_layer_weights(ten.model, (4, 4, 4), 5)
    weights = ten.model.state_dict()["0.weight"]
    np.testing.assert_allclose(images(figure), [weights[:, i].reshape(4, 4, 4).mean(axis=2) for i in range(5)])
    assert head(figure) == "Weights of the first layer: 5 of 12 units, each on its own scale"


def test_first_layer_weights_of_zeros() -> None:
    model = Sequential(Linear(4, 1, weight_init="zeros"), backend="cpu")
    figure = plots.first_layer_weights(model, (2, 2))
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    assert head(figure) == "Weights of the first layer: 1 unit, each on its own scale"


@pytest.mark.parametrize("shape", [(28, 28), (2, 2)])
def test_a_network_of_other_rows_has_no_weights_to_show(ten: Trainer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"pictures of shape {shape}")):
        plots.first_layer_weights(ten.model, shape)


def test_filters_have_one_scale_around_0() -> None:
    model = convolutional(Conv2d(1, 6, (3, 2)), ReLU(), GlobalAvgPool2d())
    figure = plots.filters(model)
    axes, bar = figure.axes
    weights = model.state_dict()["1.weight"]
    found = [np.asarray(image.get_array()) for image in axes.images]
    np.testing.assert_array_equal(found, [weights[:, :, 0, number] for number in range(6)])
    limit = np.abs(weights).max()
    assert {image.get_clim() for image in axes.images} == {(-limit, limit)}
    assert bar.get_ylim() == pytest.approx((-limit, limit))
    assert head(figure).replace("\n", " ") == "The 6 filters of layer 1, Conv2d(1, 6, (3, 2))"
    corners = [(image.get_extent()[0], image.get_extent()[3]) for image in axes.images]
    assert len(set(corners)) == 6
    assert corners == sorted(corners, key=lambda corner: (corner[1], corner[0]))  # as a text is read


def test_filters_of_several_channels_have_a_picture_for_each() -> None:
    model = convolutional(Conv2d(1, 4, 3), Conv2d(4, 70, 3, groups=2), Flatten(), Linear(4 * 4 * 70, 10))
    weights = model.state_dict()["2.weight"]
    for layer in (2, -3):
        figure = plots.filters(model, layer)
        found = [np.asarray(image.get_array()) for image in figure.axes[0].images]
        np.testing.assert_array_equal(found, [weights[:, :, c, number] for number in range(64) for c in (0, 1)])
        assert "The first 64 of 70 filters of layer 2" in head(figure)
        assert "its 2 channels side by side" in head(figure).replace("\n", " ")


def test_filters_of_many_channels_are_their_strength() -> None:
    model = convolutional(Conv2d(1, 20, 3), Conv2d(20, 5, 3), GlobalMaxPool2d())
    figure = plots.filters(model, 2, 4)
    found = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    strength = np.sqrt((model.state_dict()["2.weight"] ** 2).sum(axis=2))
    np.testing.assert_allclose(found, [strength[:, :, number] for number in range(4)], rtol=1e-6)
    assert "root of the sum of squares over 20 channels" in head(figure).replace("\n", " ")


def test_filters_of_a_layer_that_has_none(ten: Trainer) -> None:
    model = convolutional(Conv2d(1, 6, 3), ReLU(), Conv2d(6, 2, 3), GlobalAvgPool2d())
    with pytest.raises(
        ValueError,
        match=re.escape("layer 2 of the network is ReLU(), which has no filters; layer=1 or layer=3 is a convolution"),
    ):
        plots.filters(model, 2)
    with pytest.raises(ValueError, match="this network has no convolution"):
        plots.filters(ten.model)
    with pytest.raises(ValueError, match="which has no filters; this network has no convolution"):
        plots.filters(ten.model, 0)
    with pytest.raises(ValueError, match="layer must be a whole number of at least -5 and at most 4, not 5"):
        plots.filters(model, 5)
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, not 0"):
        plots.filters(model, count=0)


@pytest.mark.parametrize(
    ("layer", "named", "after"),
    [
        (None, "layer 1 Conv2d(1, 3, 3), 2 ReLU()", "2"),
        (1, "layer 1 Conv2d(1, 3, 3), 2 ReLU()", "2"),
        (2, "layer 1 Conv2d(1, 3, 3), 2 ReLU()", "2"),
        (3, "layer 3 BatchNorm2d(3)", "3"),
        (4, "layer 4 Tanh()", "4"),
        (-3, "layer 5 MaxPool2d(2)", "5"),
    ],
)
def test_feature_maps_are_what_the_layer_gives(layer: int | None, named: str, after: str) -> None:
    layers = [Conv2d(1, 3, 3), ReLU(), BatchNorm2d(3), Tanh(), MaxPool2d(2), Flatten(), Linear(27, 10)]
    model = convolutional(*layers)
    Trainer(model).fit(DIGITS, 1)
    figure = plots.feature_maps(model, DIGITS[7:8], layer)
    picture, maps, bar = figure.axes
    np.testing.assert_allclose(np.asarray(picture.images[0].get_array()), DIGITS.x[7].reshape(8, 8) / DIGITS.x[7].max())
    # The network as far as that layer, computed by the network itself.
    shape = {"2": (6, 6, 3), "3": (6, 6, 3), "4": (6, 6, 3), "5": (3, 3, 3)}[after]
    part = Sequential(*model[: int(after) + 1], Flatten(), backend="cpu")
    part.load_state_dict({name: v for name, v in model.state_dict().items() if int(name.split(".")[0]) <= int(after)})
    wanted = part(DIGITS.x[7:8] * DIGITS.scale).reshape(shape)
    found = [np.asarray(image.get_array()) for image in maps.images]
    np.testing.assert_allclose(found, wanted.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)
    limit = np.abs(wanted).max()
    np.testing.assert_allclose([image.get_clim() for image in maps.images], [(-limit, limit)] * 3, rtol=1e-6)
    assert bar.get_ylim()[0] == pytest.approx(-limit if wanted.min() < 0 else 0)
    assert head(figure).replace("\n", " ") == f"The 3 feature maps of {named}"


@pytest.mark.parametrize("picture", ["flat", "grey", "one row", "dataset"])
def test_a_picture_may_come_in_any_form(picture: str) -> None:
    model = convolutional(Conv2d(1, 3, 3), GlobalAvgPool2d(), Linear(3, 10))
    Trainer(model).fit(DIGITS, 1)
    x = DIGITS.x[3]
    given: Any = {"flat": x, "grey": x.reshape(8, 8), "one row": x[None], "dataset": DIGITS[3:4]}[picture]
    shown, maps, _ = plots.feature_maps(model, given).axes
    np.testing.assert_allclose(np.asarray(shown.images[0].get_array()), x.reshape(8, 8) / x.max())
    wanted = model.layer_outputs(x[None])["1"][0]
    np.testing.assert_allclose([np.asarray(image.get_array()) for image in maps.images], wanted.transpose(2, 0, 1))


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_convolutions_are_shown_from_any_device(which: tuple[str, bool]) -> None:
    layers = [Reshape(8, 8, 1), Conv2d(1, 3, 3), ReLU(), Flatten(), Linear(108, 10)]
    wanted, model = (Sequential(*layers, backend=backend) for backend in ("cpu", made(which, "float32")))
    np.testing.assert_array_equal(filters_of(model)[1], filters_of(wanted)[1])
    assert len(plots.filters(model).axes[0].images) == 3
    found, expected = (
        [np.asarray(image.get_array()) for image in plots.feature_maps(each, DIGITS[:1]).axes[1].images]
        for each in (model, wanted)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_feature_maps_of_no_picture_say_so() -> None:
    model = convolutional(Conv2d(1, 3, 3), ReLU(), Flatten(), Linear(108, 10))
    with pytest.raises(ValueError, match=r"layer 3, Flatten\(\), gives no pictures; the layers that do are 0, 1"):
        plots.feature_maps(model, DIGITS[:1], 3)
    with pytest.raises(ValueError, match=r"one picture, not 20; say data\[5:6\]"):
        plots.feature_maps(model, DIGITS[:20])


def test_weights_after_a_convolution_are_no_pictures() -> None:
    """As many numbers as pixels, but each is one of a feature map."""
    model = convolutional(Conv2d(1, 4, 3, padding=1), MaxPool2d(2), Flatten(), Linear(64, 10))
    with pytest.raises(ValueError, match="no layer of this network takes pictures"):
        plots.first_layer_weights(model, (8, 8))

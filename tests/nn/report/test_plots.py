from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from nn import SGD, Dataset, History, Linear, Sequential, Sigmoid, Softmax, Trainer, load_data
from nn.layers import (
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    MaxPool2d,
    ReLU,
    Reshape,
    Tanh,
)
from nn.report import plots
from nn.report.convolutions import filters_of
from tests.helpers.with_emulated import WITH_EMULATED, made

DIGITS = load_data("digits").train[:200]
EVERYTHING = ["cost.png", "confusion.png", "digits.png", "mistakes.png", "weights.png"]


def trained(data: Dataset, *layers: Layer, loss: str = "softmax_cross_entropy", epochs: int = 1) -> Trainer:
    trainer = Trainer(Sequential(*layers, backend="cpu"), loss, SGD(0.1))
    trainer.fit(data, epochs)
    return trainer


def always(scores: list[float], link: Layer, loss: str) -> Trainer:
    """A network whose outputs are its inputs times ``scores``, so that a test can say what it predicts."""
    trainer = Trainer(Sequential(Linear(4, len(scores)), link, backend="cpu"), loss)
    weights = np.zeros((4, len(scores)))
    weights[0] = scores
    trainer.model.load_state_dict({"0.weight": weights, "0.bias": np.zeros(len(scores))})
    return trainer


def pictures_of(firsts: list[float], labels: list[int], names: tuple[str, ...] | None = None) -> Dataset:
    """Pictures of 2x2, whose first pixel is given and whose others count the rows."""
    x = np.array([[first, row, 0, 0] for row, first in enumerate(firsts)], dtype=np.float32)
    return Dataset(x, np.array(labels), class_names=names, image_shape=(2, 2))


@pytest.fixture(scope="module")
def ten() -> Trainer:
    """A network that has learned the digits badly: there are mistakes."""
    return trained(DIGITS, Linear(64, 12), Sigmoid(), Linear(12, 10), Softmax(), epochs=3)


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def curves(axes: Axes) -> list[Any]:
    return [np.asarray(line.get_xydata()).tolist() for line in axes.lines]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def head(figure: Figure) -> str:
    return figure.get_suptitle()


# ---- the cost curve --------------------------------------------------------------------------------------------------


def test_cost_curve_shows_the_history() -> None:
    history = History(
        [
            {"epoch": 1, "loss": 0.9, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4, "seconds": 1.0},
            {"epoch": 2, "loss": 0.8, "accuracy": 0.6},
            {"epoch": 3, "loss": 0.7, "accuracy": 0.7, "val_loss": 0.95, "val_accuracy": 0.45},
        ]
    )
    figure = plots.cost_curve(history)
    loss, accuracy = figure.axes
    assert titles(figure) == ["Loss by epoch", "Accuracy by epoch"]
    assert curves(loss) == [
        [[1, 0.9], [2, 0.8], [3, 0.7]],
        [[1, 1.0], [3, 0.95]],
    ]
    assert curves(accuracy) == [
        [[1, 0.5], [2, 0.6], [3, 0.7]],
        [[1, 0.4], [3, 0.45]],
    ]
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text().partition(",")[0] for text in legend.get_texts()] == ["training", "validation"]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ("epoch", "loss"),
        ("epoch", "accuracy"),
    ]


def test_cost_curve_of_values_without_validation() -> None:
    figure = plots.cost_curve(History([{"epoch": 7, "loss": 0.9}]))
    (axes,) = figure.axes
    assert curves(axes) == [[[7, 0.9]]]
    figure.canvas.draw()
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [7]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([1.0, 0.5, 0.2], "linear"), ([1.0, 0.1, 0.05], "log"), ([1.0, 0.1, 0.0], "linear"), ([1.0, -2.0], "linear")],
)
def test_cost_curve_is_logarithmic_where_the_loss_spans_decades(losses: list[float], scale: str) -> None:
    history = History([{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, 1)])
    (axes,) = plots.cost_curve(history).axes
    assert axes.get_yscale() == scale
    assert ("logarithmic" in axes.get_ylabel()) == (scale == "log")


def test_a_validation_loss_counts_for_the_scale() -> None:
    history = History([{"epoch": 1, "loss": 1.0, "val_loss": 20.0}])
    assert plots.cost_curve(history).axes[0].get_yscale() == "log"


def test_many_epochs_are_a_line_without_dots_and_few_have_them() -> None:
    history = History([{"epoch": 1, "loss": 1.0, "val_loss": 1.0}])
    for epoch in range(2, 100):
        history.append({"epoch": epoch, "loss": 1.0})
    lines = plots.cost_curve(history).axes[0].lines
    assert [(line.get_marker(), line.get_linestyle()) for line in lines] == [("", "-"), ("o", "None")]
    few = plots.cost_curve(History(history.records[:3])).axes[0].lines
    assert [(line.get_marker(), line.get_linestyle()) for line in few] == [(".", "-"), ("o", "None")]


def test_the_last_epoch_is_named_and_has_its_values(ten: Trainer) -> None:
    history = History([{"epoch": epoch, "loss": 1 / epoch, "val_loss": 2.0} for epoch in range(3, 18)])
    (axes,) = plots.cost_curve(history).axes
    assert axes.get_xticks().tolist() == [3, 10, 17]
    labels: list[Any] = list(axes.texts)
    assert [(text.get_text(), text.xy) for text in labels] == [("0.05882", (1, 1 / 17)), ("2", (1, 2.0))]
    assert [text.get_verticalalignment() for text in labels] == ["top", "bottom"]


@pytest.mark.parametrize(
    ("lowest", "ticks"),
    [(0.09, ["0.1", "0.2", "0.5", "1"]), (0.009, ["0.01", "0.03", "0.1", "0.3", "1"]), (1e-5, ["0.0001", "0.01", "1"])],
)
def test_ticks_of_a_logarithmic_scale_are_plain_numbers(lowest: float, ticks: list[str]) -> None:
    figure = plots.cost_curve(History([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": lowest}]))
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    shown = [
        label for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True) if low <= tick <= high
    ]
    assert [label.get_text() for label in shown if label.get_text() in ticks] == ticks


def test_every_metric_has_a_panel_and_the_chosen_epoch_a_mark() -> None:
    history = History(
        [{"epoch": epoch, "loss": 1.0, "val_loss": 2.0, "val_f_one": 0.5, "seconds": 1.0} for epoch in (1, 2)]
    )
    figure = plots.cost_curve(history)
    assert titles(figure) == ["Loss by epoch", "F one by epoch"]
    assert curves(figure.axes[1]) == [[[1, 0.5], [2, 0.5]]]
    history.best_epoch = 2
    assert [axes.lines[-1].get_xdata() for axes in plots.cost_curve(history).axes] == [[2, 2], [2, 2]]


def test_predicted_against_true() -> None:
    data = Dataset(np.eye(4, dtype=np.float32), np.array([1.0, 2.0, 3.0, 5.0]))
    trainer = trained(data, Linear(4, 1), loss="mean_squared_error")
    figure = plots.predicted_against_true(trainer, data)
    drawn, diagonal = curves(figure.axes[0])
    np.testing.assert_allclose(drawn, np.stack((data.y, trainer.predict(data).ravel()), axis=1), rtol=1e-6)
    assert diagonal[0][0] == diagonal[0][1] == min(np.ravel(drawn))
    assert diagonal[1][0] == diagonal[1][1] == max(np.ravel(drawn))
    error = np.abs(trainer.predict(data).ravel() - data.y).mean()
    assert f"mean absolute error {error:.4g}" in titles(figure)[0]
    with pytest.raises(ValueError, match="needs rows with values"):
        plots.predicted_against_true(trainer, DIGITS)


def test_cost_curve_of_no_epochs_says_so() -> None:
    figure = plots.cost_curve(History())
    assert (figure.axes, [text.get_text() for text in figure.texts]) == ([], ["Nothing has been trained yet."])


# ---- the confusion matrix --------------------------------------------------------------------------------------------


def cells(figure: Figure, n: int) -> np.ndarray:
    matrix = np.full((n, n), -1)
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        matrix[int(row), int(column)] = int(text.get_text())
    return matrix


def test_confusion_heat_map_counts_as_scikit_learn_does(ten: Trainer) -> None:
    expected = confusion_matrix(DIGITS.y, ten.predict(DIGITS), labels=range(10))
    assert (expected != expected.T).any()
    figure = plots.confusion_heat_map(ten, DIGITS)
    axes = figure.axes[0]
    assert np.array_equal(cells(figure, 10), expected)
    np.testing.assert_allclose(images(figure)[0], expected / expected.sum(axis=1, keepdims=True))
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert [label.get_text() for label in axes.get_yticklabels()] == list("0123456789")
    assert axes.get_title() == f"Confusion matrix: {np.trace(expected)} of 200 right"


def test_confusion_heat_map_transposed(ten: Trainer) -> None:
    expected = confusion_matrix(DIGITS.y, ten.predict(DIGITS), labels=range(10))
    figure = plots.confusion_heat_map(ten, DIGITS, "predicted")
    assert np.array_equal(cells(figure, 10), expected.T)
    np.testing.assert_allclose(images(figure)[0], (expected / expected.sum(axis=1, keepdims=True)).T)
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("predicted class", "true class")


def test_rare_mistakes_have_a_colour_and_numbers_a_contrast() -> None:
    trainer = always([-1.0, 1.0], Softmax(), "softmax_cross_entropy")
    trainer.model.task = "classes"
    data = pictures_of([-1.0] * 99 + [1.0], [0] * 100, (r"$\no$", "a long named class"))
    figure = plots.confusion_heat_map(trainer, data)
    figure.canvas.draw()  # a name is no formula
    axes = figure.axes[0]
    assert cells(figure, 2).tolist() == [[99, 1], [0, 0]]  # and class 1, without rows, divides nothing by zero
    often, seldom, never, _ = axes.images[0].to_rgba(images(figure)[0]).reshape(4, 4)[:, :3].mean(axis=1)
    assert often < seldom - 0.3 < seldom < never - 0.1
    assert [text.get_color() for text in axes.texts] == ["white", "black", "silver", "silver"]
    assert [label.get_text() for label in axes.get_xticklabels()] == [r"$\no$", "a long named…"]


def test_the_scale_of_colours_says_what_it_shows(ten: Trainer) -> None:
    of_shares = plots.confusion_heat_map(ten, DIGITS).axes[1]
    assert of_shares.get_ylabel() == "share of the true class"
    assert [text.get_text() for text in of_shares.get_yticklabels()] == ["0%", "1%", "5%", "20%", "50%", "100%"]


def test_many_classes_are_colours_alone() -> None:
    data = Dataset(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 139]))
    figure = plots.confusion_heat_map(trained(data, Linear(4, 140), Softmax()), data)
    assert images(figure)[0].shape == (140, 140)
    assert len(figure.axes[0].texts) == 0
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][:3] == ["0", "3", "6"]


@pytest.mark.parametrize(("classes", "numbers", "names"), [(30, 900, 30), (31, 0, 31), (60, 0, 60), (61, 0, 31)])
def test_from_how_many_classes_on_numbers_and_then_names_are_left_out(classes: int, numbers: int, names: int) -> None:
    data = Dataset(np.eye(4, dtype=np.float32), np.array([0, 1, 2, classes - 1]))
    axes = plots.confusion_heat_map(trained(data, Linear(4, classes), Softmax(), epochs=0), data).axes[0]
    assert (len(axes.texts), len(axes.get_xticklabels()), len(axes.get_yticklabels())) == (numbers, names, names)


def test_a_network_with_more_outputs_than_there_are_classes() -> None:
    trainer = always([0.0, 0.0, 1.0], Softmax(), "softmax_cross_entropy")
    data = pictures_of([1.0, 1.0], [0, 1])
    assert cells(plots.confusion_heat_map(trainer, data), 3).tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert titles(plots.digit_grid(trainer, data)) == ["2 / 0", "2 / 1"]


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_digit_grid_shows_the_first_rows(ten: Trainer) -> None:
    figure = plots.digit_grid(ten, DIGITS, 23)
    predicted = ten.predict(DIGITS)[:23]
    assert titles(figure) == [f"{guess} / {label}" for guess, label in zip(predicted, DIGITS.y[:23], strict=True)]
    colors = [axes.title.get_color() for axes in figure.axes]
    assert colors == ["black" if right else "red" for right in predicted == DIGITS.y[:23]]
    assert set(colors) == {"black", "red"}
    np.testing.assert_allclose(images(figure), DIGITS.x[:23].reshape(-1, 8, 8) / 16)
    assert head(figure) == f"The first 23 rows, {colors.count('black')} right: predicted / label"


def test_digit_grid_of_fewer_rows(ten: Trainer) -> None:
    assert len(images(plots.digit_grid(ten, DIGITS[:3]))) == 3


def test_how_many_pictures_there_are_unless_one_says(ten: Trainer) -> None:
    assert len(images(plots.digit_grid(ten, DIGITS))) == 25
    untrained = Trainer(Sequential(Linear(64, 10), seed=0, backend="cpu"))
    assert len(images(plots.worst_mistakes(untrained, DIGITS))) == 25
    wide = Sequential(Linear(64, 70), seed=0, backend="cpu")
    assert len(images(plots.first_layer_weights(wide, (8, 8)))) == 64


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 2)), (2, (4, 2)), (3, (4, 2, 3)), (4, (4, 2, 4))])
def test_pictures_with_channels(channels: int, shape: tuple[int, ...]) -> None:
    x = np.arange(2 * 8 * channels, dtype=np.float32).reshape(2, -1) - 3
    data = Dataset(x, np.array([0, 1]), image_shape=(4, 2, channels))
    trainer = trained(data, Linear(8 * channels, 2), Softmax())
    first, last = images(plots.digit_grid(trainer, data))
    assert first.shape == last.shape == shape
    scaled = (x[1].reshape(4, 2, channels) + 3) / (x.size - 1)
    np.testing.assert_allclose(last, scaled if channels > 2 else scaled.mean(axis=2), rtol=1e-6)


def test_worst_mistakes_come_in_the_order_of_their_probability() -> None:
    trainer = always([0.0, 1.0, -1.0], Softmax(), "softmax_cross_entropy")
    data = pictures_of([1.0, 3.0, 2.0, -1.5, 9.0], [0, 0, 1, 0, 1])  # predicted 1, 1, 1, 2, 1: rows 0, 1, 3 are wrong
    figure = plots.worst_mistakes(trainer, data)
    p = trainer.predict_proba(data)
    assert titles(figure) == [f"1 ({p[1, 1]:.3f}) / 0", f"2 ({p[3, 2]:.3f}) / 0", f"1 ({p[0, 1]:.3f}) / 0"]
    assert p[1, 1] > p[3, 2] > p[0, 1] > 0.5
    low, high = -1.5, 9.0
    np.testing.assert_allclose([image[0, 1] * (high - low) + low for image in images(figure)], [1, 3, 0], atol=1e-6)
    assert head(figure).startswith("All mistakes (3), the surest first")
    figure = plots.worst_mistakes(trainer, data, 2)
    assert titles(figure) == [f"1 ({p[1, 1]:.3f}) / 0", f"2 ({p[3, 2]:.3f}) / 0"]
    assert head(figure).startswith("The 2 surest of 3 mistakes")


def test_worst_mistakes_of_one_sigmoid_output() -> None:
    trainer = always([1.0], Sigmoid(), "binary_cross_entropy")
    data = pictures_of([-3.0, 1.0, 2.0, -1.0], [1, 0, 1, 1], ("not 7", "7"))
    figure = plots.worst_mistakes(trainer, data)
    assert titles(figure) == ["not 7 (0.953) / 7", "7 (0.731) / not 7", "not 7 (0.731) / 7"]
    assert cells(plots.confusion_heat_map(trainer, data), 2).tolist() == [[0, 1], [2, 1]]


def test_long_names_take_a_line_each() -> None:
    trainer = always([1.0], Sigmoid(), "binary_cross_entropy")
    data = pictures_of([-3.0, 1.0], [1, 1], ("a chihuahua", "a blueberry muffin"))
    assert titles(plots.digit_grid(trainer, data)) == [
        "a chihuahua\n/ a blueberry m…",
        "a blueberry m…\n/ a blueberry m…",
    ]


def test_no_mistakes_are_a_sentence() -> None:
    trainer = always([1.0], Sigmoid(), "binary_cross_entropy")
    figure = plots.worst_mistakes(trainer, pictures_of([-1.0, 1.0], [0, 1]))
    assert (figure.axes, [text.get_text() for text in figure.texts]) == (
        [],
        ["No mistakes: all 2 rows are predicted right."],
    )
    assert figure.texts[0].get_position() == (0.5, 0.5)


@pytest.mark.parametrize("draw", [plots.digit_grid, plots.worst_mistakes, plots.confusion_heat_map])
def test_pictures_that_need_classes_say_so(draw: Any) -> None:
    data = Dataset(DIGITS.x, DIGITS.x[:, :1].astype(np.float32), image_shape=(8, 8))
    with pytest.raises(ValueError, match="needs rows with class labels"):
        draw(trained(data, Linear(64, 1), loss="mean_squared_error"), data)


def test_rows_that_are_no_pictures_say_so(ten: Trainer) -> None:
    with pytest.raises(ValueError, match="no image_shape"):
        plots.digit_grid(ten, replace(DIGITS, image_shape=None))


# ---- weights ---------------------------------------------------------------------------------------------------------


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


# ---- convolutions ----------------------------------------------------------------------------------------------------


def convolutional(*layers: Layer, shape: tuple[int, ...] = (8, 8, 1)) -> Sequential:
    return Sequential(Reshape(*shape), *layers, backend="cpu", seed=1)


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


def test_draw_all_of_a_convolutional_network(tmp_path: Path) -> None:
    trainer = trained(DIGITS, Reshape(8, 8, 1), Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(144, 10), Softmax())
    names = ["cost.png", "confusion.png", "digits.png", "mistakes.png", "filters.png", "maps.png"]
    assert plots.draw_all(trainer, DIGITS, tmp_path, "true") == names


def test_weights_after_a_convolution_are_no_pictures() -> None:
    """As many numbers as pixels, but each is one of a feature map."""
    model = convolutional(Conv2d(1, 4, 3, padding=1), MaxPool2d(2), Flatten(), Linear(64, 10))
    with pytest.raises(ValueError, match="no layer of this network takes pictures"):
        plots.first_layer_weights(model, (8, 8))


@pytest.mark.parametrize("kind", ["flat", "pictures", "channels first", "reshaped"])
def test_rows_of_three_channels_are_in_colour(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    y = np.arange(12) % 2
    after: list[Layer] = [Conv2d(3, 2, 3), GlobalAvgPool2d(), Linear(2, 2), Softmax()]
    first: dict[str, list[Layer]] = {
        "flat": [Reshape(6, 5, 3)], "pictures": [], "channels first": [ChannelsLast()], "reshaped": [Reshape(6, 5, 3)],
    }  # fmt: skip
    data = {
        "flat": Dataset(pixels.reshape(12, -1), y, image_shape=(6, 5, 3)),
        "pictures": Dataset(pixels, y),
        "channels first": Dataset(np.moveaxis(pixels, 3, 1), y, image_shape=(3, 6, 5)),
        "reshaped": Dataset(pixels.reshape(12, -1), y),
    }[kind]
    trainer = trained(data, *first[kind], *after)
    found = images(plots.digit_grid(trainer, data))
    np.testing.assert_allclose(found, pixels / 255)
    np.testing.assert_allclose(images(plots.feature_maps(trainer.model, data[:1]))[0], pixels[0] / 255)
    wrong = np.flatnonzero(trainer.predict(data) != y)
    assert len(images(plots.worst_mistakes(trainer, data))) == len(wrong)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_draw_all_writes_everything(ten: Trainer, tmp_path: Path) -> None:
    assert plots.draw_all(ten, DIGITS, tmp_path, "true") == EVERYTHING
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(EVERYTHING)
    for name in EVERYTHING:
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content.endswith(b"IEND\xaeB`\x82")
        assert b"Software" not in content
        assert len(content) < 200_000


def test_the_sizes_of_pictures_follow_from_what_they_show(ten: Trainer, tmp_path: Path) -> None:
    """In hundredths of an inch: room for every panel, class and picture."""
    found = {"losses": plots.cost_curve(History([{"epoch": 1, "loss": 0.9}])), "none": plots.cost_curve(History())}
    found["five"] = plots.cost_curve(History([{"epoch": 1, **dict.fromkeys("abcde", 1.0)}]))
    found |= {"history": plots.cost_curve(ten.history), "weights": plots.first_layer_weights(ten.model, (8, 8))}
    for count in (1, 25, 26):
        found[f"{count} digits"] = plots.digit_grid(ten, DIGITS, count)
    for classes in (2, 8, 40):
        data = Dataset(np.eye(4, dtype=np.float32), np.array([0, 0, 1, classes - 1]))
        found[f"{classes} classes"] = plots.confusion_heat_map(trained(data, Linear(4, classes), Softmax()), data)
    assert {name: tuple((figure.get_size_inches() * 100).round().tolist()) for name, figure in found.items()} == {
        "five": (1500, 760), "losses": (500, 380), "none": (500, 380), "history": (1000, 380), "weights": (600, 290),
        "1 digits": (600, 250), "25 digits": (650, 850), "26 digits": (910, 690),
        "2 classes": (520, 420), "8 classes": (620, 520), "40 classes": (1720, 1620),
    }  # fmt: skip
    plots.write_picture(found["losses"], tmp_path / "cost.png")
    width_and_height = (tmp_path / "cost.png").read_bytes()[16:24]
    assert struct.unpack(">II", width_and_height) == (500, 380)


def test_draw_all_writes_the_same_bytes_again_but_transposed(ten: Trainer, tmp_path: Path) -> None:
    contents = []
    for rows_are in ("true", "true", "predicted"):
        assert plots.draw_all(ten, replace(DIGITS, image_shape=None), tmp_path, rows_are) == EVERYTHING[:2]
        contents.append([(tmp_path / name).read_bytes() for name in EVERYTHING[:2]])
    assert contents[0] == contents[1]
    assert contents[1][0] == contents[2][0]
    assert contents[1][1] != contents[2][1]


def test_draw_all_without_epochs_or_test_rows(tmp_path: Path) -> None:
    trainer = always([0.0, 1.0], Softmax(), "softmax_cross_entropy")
    assert plots.draw_all(trainer, None, tmp_path, "true") == []
    data = pictures_of([1.0, 2.0], [1, 0])
    assert plots.draw_all(trainer, data, tmp_path, "true") == EVERYTHING[1:]
    assert (sorted(path.name for path in tmp_path.iterdir())) == sorted(EVERYTHING[1:])


def test_draw_all_of_a_regression(tmp_path: Path) -> None:
    data = Dataset(DIGITS.x, DIGITS.x[:, :1].astype(np.float32), 1 / 16)
    trainer = trained(data, Linear(64, 1), loss="mean_squared_error")
    assert plots.draw_all(trainer, data, tmp_path, "true") == ["cost.png", "values.png"]
    pictures = replace(data, image_shape=(8, 8))
    assert plots.draw_all(trainer, pictures, tmp_path, "true") == ["cost.png", "values.png", "weights.png"]


def test_draw_all_of_a_network_without_probabilities(tmp_path: Path) -> None:
    trainer = trained(DIGITS, Linear(64, 10), loss="mean_squared_error")
    assert plots.draw_all(trainer, DIGITS, tmp_path, "true") == [n for n in EVERYTHING if n != "mistakes.png"]


def test_a_picture_that_fails_leaves_the_old_file(
    ten: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cost.png").write_bytes(b"old")

    def break_off(self: Figure, file: Any, **kwargs: Any) -> None:
        file.write(b"\x89PNG and no more")
        raise OSError("disk")

    monkeypatch.setattr(Figure, "savefig", break_off)
    with pytest.raises(OSError, match="disk"):
        plots.draw_all(ten, None, tmp_path, "true")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("cost.png", b"old")]


def test_the_old_file_is_replaced_not_overwritten(ten: Trainer, tmp_path: Path) -> None:
    (tmp_path / "cost.png").write_bytes(b"old")
    (tmp_path / "link").hardlink_to(tmp_path / "cost.png")
    assert plots.draw_all(ten, None, tmp_path, "true") == ["cost.png"]
    assert (tmp_path / "link").read_bytes() == b"old"


def test_drawing_leaves_pyplot_alone(ten: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it would fail
    for figure in (plots.cost_curve(ten.history), plots.digit_grid(ten, DIGITS, 1)):
        assert isinstance(figure.canvas, FigureCanvasAgg)


def test_missing_matplotlib_is_a_sentence(ten: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plots.check_installed()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    asks: list[Callable[[], Any]] = [
        plots.check_installed,
        lambda: plots.cost_curve(ten.history),
        lambda: plots.confusion_heat_map(ten, DIGITS),
        lambda: plots.digit_grid(ten, DIGITS),
        lambda: plots.worst_mistakes(ten, DIGITS),
        lambda: plots.first_layer_weights(ten.model, (8, 8)),
        lambda: plots.predicted_against_true(ten, DIGITS),
        lambda: plots.filters(ten.model),
        lambda: plots.feature_maps(ten.model, DIGITS[:1]),
        lambda: plots.draw_all(ten, DIGITS, tmp_path / "pictures"),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=r"^pictures need matplotlib, .*pip install matplotlib$"):
            ask()
    assert [*tmp_path.iterdir()] == []

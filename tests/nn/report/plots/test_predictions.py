"""The confusion matrix, pictures beside their predictions, mistakes, values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from nn import Dataset, Linear, Sequential, Sigmoid, Softmax, Trainer
from nn.layers import ChannelsLast, Conv2d, GlobalAvgPool2d, Layer, Reshape
from nn.report import plots
from tests.nn.report.plots.drawn import DIGITS, always, curves, head, images, pictures_of, titles, trained


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

"""The cost curve."""

from __future__ import annotations

from typing import Any

import pytest

from nn import History, Trainer
from nn.report import plots
from tests.nn.report.plots.drawn import curves, titles


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


def test_cost_curve_of_no_epochs_says_so() -> None:
    figure = plots.cost_curve(History())
    assert (figure.axes, [text.get_text() for text in figure.texts]) == ([], ["Nothing has been trained yet."])

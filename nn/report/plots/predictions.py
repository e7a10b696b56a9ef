"""Rows beside their predictions: the confusion matrix, pictures, mistakes, values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...data import Dataset
from ...model import Sequential
from ...trainer import Trainer
from ..collected import REGRESSION, probabilities_of, regression_figures, shortened
from ..pictures import from_0_to_1, pictures_of, range_of
from .layout import check_installed, new_figure, picture_grid, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRONG = "red"
#: A confusion matrix of more classes has colours only: numbers would be too small to read.
MOST_NUMBERS = 30
#: And of more than this it names only some.
MOST_TICKS = 60
LONGEST_NAME = 14


def confusion_heat_map(trainer: Trainer, data: Dataset, rows_are: str = "true") -> Figure:
    """How many rows of each class were predicted as each class.

    The colour of a cell is its share of the true class, on a scale that tells 1% from none; mistakes are rare, and on a
    plain scale only the diagonal would be seen.

    Args:
        data: rows with class labels.
        rows_are: ``"true"``: a row of the matrix for each true class, as scikit-learn has it; ``"predicted"``: for each
            predicted class.
    """
    check_installed()
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import PercentFormatter
    from sklearn.metrics import confusion_matrix

    predicted, names = _predicted_classes(trainer, data)
    counts = confusion_matrix(data.y, predicted, labels=list(range(len(names))))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    down, across = "true class", "predicted class"
    if rows_are == "predicted":
        counts, shares, down, across = counts.T, shares.T, across, down
    side = min(max(0.5 * len(names), 3.0), 15.0)
    figure = new_figure(side + 2.2, side + 1.2)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1 / 3, vmin=0.0, vmax=1.0))
    if len(names) <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.2 else "black" if count else "silver"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    ticks = range(0, len(names), math.ceil(len(names) / MOST_TICKS))
    size = 10 if len(names) <= MOST_NUMBERS else 6
    shown = [names[tick] for tick in ticks]
    axes.set_xticks(ticks, shown, parse_math=False, fontsize=size, rotation=90 if max(map(len, names)) > 6 else 0)
    axes.set_yticks(ticks, shown, parse_math=False, fontsize=size)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    axes.set_title(f"Confusion matrix: {np.trace(counts):,} of {len(data):,} right")
    figure.colorbar(
        image,
        ax=axes,
        label="share of the true class",
        shrink=0.8,
        ticks=[0.0, 0.01, 0.05, 0.2, 0.5, 1.0],
        format=PercentFormatter(1.0, decimals=0),
    )
    return figure


def digit_grid(trainer: Trainer, data: Dataset, count: int = 25) -> Figure:
    """The first ``count`` rows of ``data`` as pictures, each with its prediction and its label, wrong ones in red."""
    check_installed()
    first = data[:count]
    predicted, names = _predicted_classes(trainer, first)
    titles = [(names[guess], names[label]) for guess, label in zip(predicted, first.y, strict=True)]
    right = predicted == first.y
    colors = np.where(right, "black", WRONG)
    head = f"The first {len(first)} rows, {right.sum()} right: predicted / label"
    return picture_grid(_pictures(trainer.model, data, range(len(first))), head, titles, colors)


def worst_mistakes(trainer: Trainer, data: Dataset, count: int = 25) -> Figure:
    """The rows that were predicted wrongly with the highest probability: what the network is sure of and mistaken."""
    check_installed()
    predicted, names = _predicted_classes(trainer, data)
    confidence = probabilities_of(trainer, data)[np.arange(len(data)), predicted]
    wrong = np.flatnonzero(predicted != data.y)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    if not len(wrong):
        return say(new_figure(6.0, 2.0), f"No mistakes: all {len(data):,} rows are predicted right.")
    titles = [(f"{names[predicted[i]]} ({confidence[i]:.3f})", names[data.y[i]]) for i in worst]
    which = f"The {len(worst)} surest of {len(wrong):,} mistakes"
    if len(worst) == len(wrong):
        which = f"All mistakes ({len(wrong)}), the surest first"
    return picture_grid(_pictures(trainer.model, data, worst), f"{which}: predicted (probability) / label", titles)


def predicted_against_true(trainer: Trainer, data: Dataset, count: int = 5000) -> Figure:
    """The predicted values of the first ``count`` rows against the true ones, with the line on which both are equal.

    Raises:
        ValueError: the targets are classes.
    """
    check_installed()
    if data.has_classes or trainer.model.task != "values":
        raise ValueError("this picture needs rows with values as targets, and a network that was trained to fit them")
    first = data[:count]
    true, predicted = first.y.ravel(), np.ravel(trainer.predict(first))
    found = regression_figures(trainer, first)
    figure = new_figure(5.0, 5.0)
    axes = figure.subplots()
    axes.plot(true, predicted, linestyle="", marker=".", alpha=0.5)
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color="seagreen", linestyle="--", linewidth=1, label="both are equal")
    axes.set_xlabel("true value")
    axes.set_ylabel("predicted value")
    axes.set_title("\n".join(f"{REGRESSION[name]} {value:.4g}" for name, value in found.items()), fontsize=10)
    axes.grid(visible=True, alpha=0.25)
    axes.legend()
    return figure


def _predicted_classes(trainer: Trainer, data: Dataset) -> tuple[np.ndarray, list[str]]:
    """The predicted class of each row, and the names of all classes that the data or the network can give."""
    if not data.has_classes or trainer.model.task != "classes":
        raise ValueError("this picture needs rows with class labels, and a network that was trained to tell classes")
    names = [shortened(name, LONGEST_NAME) for name in data.class_names or ()]
    names += [str(label) for label in range(len(names), max(trainer.model.n_outputs, 2))]
    return np.asarray(trainer.predict(data)), names


def _pictures(model: Sequential, data: Dataset, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rows as pictures from 0 to 1, see ``from_0_to_1``."""
    found = pictures_of(model, data, rows)
    if found is None:
        raise ValueError("these rows are not pictures; their data set has no image_shape")
    return from_0_to_1(found, *range_of(data))

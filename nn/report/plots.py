"""Pictures of a run: the cost curve, the confusion matrix, rows beside their predictions, the first layer's weights.

Each is a matplotlib ``Figure``, which a notebook shows and ``figure.savefig(path)`` writes. Matplotlib is optional, so
it is imported only when something is drawn; and never through pyplot, so that drawing needs no screen and leaves the
caller's own figures and settings alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset
from ..files import write_atomically
from ..history import History
from ..model import Sequential
from ..trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

WRONG = "red"
#: Losses that span more than this factor are drawn on a logarithmic scale: on a linear one their end would look flat.
LOG_FROM = 10.0
#: Curves of more epochs are lines without a dot for each.
MOST_DOTS = 30
#: A confusion matrix of more classes has colours only: numbers would be too small to read.
MOST_NUMBERS = 30
#: And of more than this it names only some.
MOST_TICKS = 60
LONGEST_NAME = 14


def check_installed() -> None:
    """Raise a ValueError if there is no matplotlib: to be asked before a training run, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("pictures need matplotlib, which is not installed; pip install matplotlib") from None


def draw_all(trainer: Trainer, test: Dataset | None, folder: Path, rows_are: str) -> list[str]:
    """Write the pictures that make sense for this run to ``folder`` as PNG, each file whole or not at all.

    Args:
        test: rows to predict; without them there is a cost curve only.
        rows_are: see ``confusion_heat_map``.

    Returns:
        The names of the files: those of ``cost.png``, ``confusion.png``, ``digits.png``, ``mistakes.png`` and
        ``weights.png`` that were written.
    """
    model, pictures = trainer.model, dict[str, Callable[[], "Figure"]]()
    if len(trainer.history):
        pictures["cost.png"] = lambda: cost_curve(trainer.history)
    if test is not None and test.has_classes and model.task == "classes":
        pictures["confusion.png"] = lambda: confusion_heat_map(trainer, test, rows_are)
        if test.image_shape is not None:
            pictures["digits.png"] = lambda: digit_grid(trainer, test)
            if model.output_activation:  # without probabilities no mistake is worse than another
                pictures["mistakes.png"] = lambda: worst_mistakes(trainer, test)
    if test is not None and test.image_shape is not None:
        shape = test.image_shape
        if weights_of_pixels(model, shape) is not None:
            pictures["weights.png"] = lambda: first_layer_weights(model, shape)
    for name, draw in pictures.items():
        write_picture(draw(), folder / name)
    return list(pictures)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    content = BytesIO()
    # The name and version of the program would make the bytes differ where the picture does not.
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    write_atomically(path, content.getvalue())


def cost_curve(history: History) -> Figure:
    """The loss by epoch, and beside it, for classes, the accuracy; of the training and of the validation rows."""
    from matplotlib.ticker import PercentFormatter

    panels = [name for name in ("loss", "accuracy") if any(name in record for record in history)]
    figure = new_figure(5.0 * max(len(panels), 1), 3.8)
    if not panels:
        return _say(figure, "Nothing has been trained yet.")
    for name, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        values = _draw_curves(axes, history, name)
        axes.set_title(f"{name.capitalize()} by epoch")
        axes.set_ylabel(name)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        elif min(values) > 0 and max(values) / min(values) > LOG_FROM:
            axes.set_yscale("log")
            axes.set_ylabel(f"{name} (logarithmic)")
    return figure


def _draw_curves(axes: Axes, history: History, name: str) -> list[float]:
    """Draw one column of the history and its twin of the validation rows, and return all their values."""
    from matplotlib.ticker import MaxNLocator

    labels = {name: "training, mean over the epoch", f"val_{name}": "validation, after the epoch"}
    drawn: list[float] = []
    for column, label in labels.items():
        points = [(record["epoch"], record[column]) for record in history if column in record]
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, label=label, marker="." if len(points) <= MOST_DOTS else "")
            drawn += values
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    return drawn


def confusion_heat_map(trainer: Trainer, data: Dataset, rows_are: str = "true") -> Figure:
    """How many rows of each class were predicted as each class.

    The colour of a cell is its share of the true class, on a scale that tells 1% from none; mistakes are rare, and on a
    plain scale only the diagonal would be seen.

    Args:
        data: rows with class labels.
        rows_are: ``"true"``: a row of the matrix for each true class, as scikit-learn has it; ``"predicted"``: for each
            predicted class.
    """
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
    first = data[:count]
    predicted, names = _predicted_classes(trainer, first)
    titles = [(names[guess], names[label]) for guess, label in zip(predicted, first.y, strict=True)]
    right = predicted == first.y
    colors = np.where(right, "black", WRONG)
    head = f"The first {len(first)} rows, {right.sum()} right: predicted / label"
    return _picture_grid(_pictures(data, range(len(first))), head, titles, colors)


def worst_mistakes(trainer: Trainer, data: Dataset, count: int = 25) -> Figure:
    """The rows that were predicted wrongly with the highest probability: what the network is sure of and mistaken."""
    predicted, names = _predicted_classes(trainer, data)
    probabilities = trainer.predict_proba(data)
    if probabilities.shape[1] == 1:  # one sigmoid output gives the probability of class 1
        probabilities = np.hstack((1 - probabilities, probabilities))
    confidence = probabilities[np.arange(len(data)), predicted]
    wrong = np.flatnonzero(predicted != data.y)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    if not len(wrong):
        return _say(new_figure(6.0, 2.0), f"No mistakes: all {len(data):,} rows are predicted right.")
    titles = [(f"{names[predicted[i]]} ({confidence[i]:.3f})", names[data.y[i]]) for i in worst]
    which = f"The {len(worst)} surest of {len(wrong):,} mistakes"
    if len(worst) == len(wrong):
        which = f"All mistakes ({len(wrong)}), the surest first"
    return _picture_grid(_pictures(data, worst), f"{which}: predicted (probability) / label", titles)


def first_layer_weights(model: Sequential, image_shape: tuple[int, ...], count: int = 64) -> Figure:
    """What the first ``count`` units of the first layer look for: their weights, each laid out as a picture.

    All share one scale, on which 0 is white. Colour channels are averaged.

    Raises:
        ValueError: no layer has a weight for each pixel.
    """
    from matplotlib import colormaps

    weights = weights_of_pixels(model, image_shape)
    if weights is None:
        raise ValueError(f"no layer of this network takes pictures of shape {image_shape}")
    units = weights.shape[1]
    images = weights.T[:count].reshape(-1, *image_shape)
    if images.ndim == 4:
        images = images.mean(axis=3)
    shown = f"{len(images)} of {units:,} units" if len(images) < units else f"{units} unit{'s' * (units != 1)}"
    limit = float(np.abs(images).max()) or 1.0
    colors = colormaps["RdBu_r"].resampled(33)  # not 256 colours: a smaller file, and nothing less to see
    figure = _picture_grid(images, f"Weights of the first layer: {shown}", color_map=colors, limits=(-limit, limit))
    figure.set_figwidth(figure.get_figwidth() + 1.2)
    figure.colorbar(figure.axes[0].images[0], ax=figure.axes, label="weight", shrink=0.8)
    return figure


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def _predicted_classes(trainer: Trainer, data: Dataset) -> tuple[np.ndarray, list[str]]:
    """The predicted class of each row, and the names of all classes that the data or the network can give."""
    if not data.has_classes or trainer.model.task != "classes":
        raise ValueError("this picture needs rows with class labels, and a network that was trained to tell classes")
    names = [_short(name) for name in data.class_names or ()]
    names += [str(label) for label in range(len(names), max(trainer.model.n_outputs, 2))]
    return np.asarray(trainer.predict(data)), names


def _pictures(data: Dataset, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rows as pictures from 0 to 1: (n, h, w) grey, or (n, h, w, 3 or 4); other channels are averaged."""
    if data.image_shape is None:
        raise ValueError("these rows are not pictures; their data set has no image_shape")
    low, high = float(data.x.min()), float(data.x.max())
    images: np.ndarray = data.x[np.asarray(rows)].reshape(-1, *data.image_shape).astype(np.float64)
    images = (images - low) / ((high - low) or 1.0)
    return images.mean(axis=3) if images.ndim == 4 and images.shape[3] not in (3, 4) else images


def weights_of_pixels(model: Sequential, image_shape: tuple[int, ...]) -> np.ndarray | None:
    """The first weights (fan-in, units) of the network that have a row for each pixel."""
    for values in model.state_dict().values():
        if values.ndim == 2 and len(values) == math.prod(image_shape):
            return np.asarray(values)
    return None


# ---- figures ---------------------------------------------------------------------------------------------------------


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, of a size in inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _say(figure: Figure, sentence: str) -> Figure:
    figure.text(0.5, 0.5, sentence, ha="center", va="center", fontsize=12)
    return figure


def _picture_grid(
    images: np.ndarray,
    head: str,
    titles: Sequence[tuple[str, str]] = (),
    colors: Sequence[str] | np.ndarray = (),
    *,
    color_map: str | Colormap = "gray",
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Pictures in a grid as square as can be, with a ``head`` and over each its title ``prediction / label``."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    between = " / " if all(len(" / ".join(title)) <= 18 for title in titles) else "\n/ "
    side = 1.3 if titles else 0.8
    figure = new_figure(max(side * columns, 6.0), max((side + 0.3 * bool(titles)) * rows, 2.0) + 0.5)
    figure.suptitle(head)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if index >= len(images):
            axes.remove()
            continue
        axes.imshow(images[index], cmap=color_map, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        if titles:
            color = colors[index] if len(colors) else "black"
            axes.set_title(between.join(titles[index]), fontsize=9, color=str(color), parse_math=False)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"

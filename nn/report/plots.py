"""Pictures of a run: the cost curve, the confusion matrix, rows beside their predictions, the first layer's weights,
the filters of a convolution and what they answer.

Each is a matplotlib ``Figure``, which a notebook shows and ``figure.savefig(path)`` writes. Matplotlib is optional, so
it is imported only when something is drawn; and never through pyplot, so that drawing needs no screen and leaves the
caller's own figures and settings alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.arguments import check_kind, check_path, check_seed, check_whole_number

from ..data import Augment, Dataset, as_rows
from ..files import write_atomically
from ..history import History
from ..model import Sequential
from ..picture_shape import shape_to_distort
from ..trainer import Trainer
from .collected import LOGARITHMIC, REGRESSION, curve_names, probabilities_of, regression_figures, shortened
from .convolutions import convolutions, filters_of, maps_of, only_row
from .distorted import distorted
from .pictures import from_0_to_1, picture_shape, pictures_of, range_of
from .svg import LOG_FROM, MOST_DOTS, are_rare, epoch_ticks, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

#: The files that ``draw_all`` may write.
PICTURES = (
    "cost.png", "confusion.png", "digits.png", "mistakes.png", "values.png", "weights.png", "filters.png", "maps.png",
)  # fmt: skip
WRONG = "red"
#: Panels of the cost curve beside each other.
MOST_PANELS = 3
#: A confusion matrix of more classes has colours only: numbers would be too small to read.
MOST_NUMBERS = 30
#: And of more than this it names only some.
MOST_TICKS = 60
LONGEST_NAME = 14
#: Filters of more channels are drawn as one picture each.
MOST_CHANNELS = 16


def check_installed() -> None:
    """Raise a ValueError if there is no matplotlib: for a training run to ask before it, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("pictures need matplotlib, which is not installed; pip install matplotlib") from None


def draw_all(trainer: Trainer, test: Dataset | None, folder: str | Path, rows_are: str = "true") -> list[str]:
    """Write the pictures that make sense for this run to ``folder`` as PNG, each file whole or not at all.

    Args:
        test: rows to predict; without them there is a cost curve only.
        folder: must be there.
        rows_are: see ``confusion_heat_map``.

    Returns:
        The names of the files: those of ``PICTURES`` that were written.
    """
    check_installed()
    model, pictures, folder = trainer.model, dict[str, Callable[[], "Figure"]](), check_path("folder", folder)
    if len(trainer.history):
        pictures["cost.png"] = lambda: cost_curve(trainer.history)
    if test is not None and test.has_classes and model.task == "classes":
        pictures["confusion.png"] = lambda: confusion_heat_map(trainer, test, rows_are)
        if picture_shape(model, test) is not None:
            pictures["digits.png"] = lambda: digit_grid(trainer, test)
            if model.output_activation:  # without probabilities no mistake is worse than another
                pictures["mistakes.png"] = lambda: worst_mistakes(trainer, test)
    if test is not None and test.has_targets and not test.has_classes and model.task == "values":
        pictures["values.png"] = lambda: predicted_against_true(trainer, test)
    shape = None if test is None else picture_shape(model, test)
    if test is not None and shape is not None:
        if weights_of_pixels(model, shape) is not None:
            pictures["weights.png"] = lambda: first_layer_weights(model, shape)
        if convolutions(model):
            pictures["filters.png"] = lambda: filters(model)
            pictures["maps.png"] = lambda: feature_maps(model, test[:1])
    for name, draw in pictures.items():
        write_picture(draw(), folder / name, trainer.history.run)
    return list(pictures)


def write_picture(figure: Figure, path: str | Path, run: str = "") -> None:
    """Write a PNG file, whole or not at all; its text ``run`` is the id of the run that it is of."""
    content = BytesIO()
    # The name and version of the program would make the bytes differ where the picture does not.
    metadata = {"Software": None} | ({"run": run} if run else {})
    figure.savefig(content, format="png", dpi=100, metadata=metadata)
    write_atomically(check_path("path", path), content.getvalue())


def cost_curve(history: History) -> Figure:
    """The loss by epoch, and beside it accuracy and other metrics; of the training and of the validation rows.

    Rows that are evaluated in few epochs have points and no line. The epoch that training chose as the best is marked.
    """
    check_installed()
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

    panels = curve_names(dict.fromkeys(name for record in history for name in record))
    columns = min(max(len(panels), 1), MOST_PANELS)
    rows = math.ceil(max(len(panels), 1) / columns)
    figure = new_figure(5.0 * columns, 3.8 * rows)
    if not panels:
        return _say(figure, "Nothing has been trained yet.")
    for index, name in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        values = _draw_curves(axes, history, name)
        axes.set_title(f"{name.replace('_', ' ').capitalize()} by epoch")
        axes.set_ylabel(name.replace("_", " "))
        if "accuracy" in name:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        elif name in LOGARITHMIC and min(values) > 0 and max(values) / min(values) > LOG_FROM:
            axes.set_yscale("log")
            axes.set_ylabel(f"{name} (logarithmic)")
            digits = (
                (1, 2, 5) if max(values) / min(values) < 100 else (1, 3) if max(values) / min(values) < 1e4 else (1,)
            )
            axes.yaxis.set_major_locator(LogLocator(subs=digits))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
    return figure


def _draw_curves(axes: Axes, history: History, name: str) -> list[float]:
    """Draw one column of the history and its twin of the validation rows, and return all their values."""
    labels = {name: "training, mean over the epoch", f"val_{name}": "validation, after the epoch"}
    drawn, ends = list[float](), list[tuple[float, str]]()
    for color, (column, label) in zip(("C0", "C1"), labels.items(), strict=True):
        points = [(record["epoch"], record[column]) for record in history if record.get(column) is not None]
        if points:
            epochs, values = zip(*points, strict=True)
            rare = are_rare(points, len(history))
            marker = "o" if rare else "." if len(points) <= MOST_DOTS else ""
            axes.plot(epochs, values, label=label, marker=marker, linestyle="" if rare else "-", color=color)
            drawn += values
            ends.append((values[-1], color))
    beside = axes.get_yaxis_transform()  # x in widths of the axes
    for index, (value, color) in enumerate(sorted(ends)):
        aligned = "bottom" if index else "top" if len(ends) > 1 else "center"  # so that neither covers the other
        text = shown(value, percent="accuracy" in name)
        axes.annotate(text, (1, value), (4, 0), beside, "offset points", color=color, va=aligned, fontsize=9)
    if history.best_epoch is not None:
        axes.axvline(history.best_epoch, color="seagreen", linestyle="--", linewidth=1, label="best epoch", zorder=0)
    axes.set_xlabel("epoch")
    axes.set_xticks(epoch_ticks(history[0]["epoch"], history[-1]["epoch"]))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    return drawn


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
    return _picture_grid(_pictures(trainer.model, data, range(len(first))), head, titles, colors)


def worst_mistakes(trainer: Trainer, data: Dataset, count: int = 25) -> Figure:
    """The rows that were predicted wrongly with the highest probability: what the network is sure of and mistaken."""
    check_installed()
    predicted, names = _predicted_classes(trainer, data)
    confidence = probabilities_of(trainer, data)[np.arange(len(data)), predicted]
    wrong = np.flatnonzero(predicted != data.y)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    if not len(wrong):
        return _say(new_figure(6.0, 2.0), f"No mistakes: all {len(data):,} rows are predicted right.")
    titles = [(f"{names[predicted[i]]} ({confidence[i]:.3f})", names[data.y[i]]) for i in worst]
    which = f"The {len(worst)} surest of {len(wrong):,} mistakes"
    if len(worst) == len(wrong):
        which = f"All mistakes ({len(wrong)}), the surest first"
    return _picture_grid(_pictures(trainer.model, data, worst), f"{which}: predicted (probability) / label", titles)


def first_layer_weights(model: Sequential, image_shape: tuple[int, ...], count: int = 64) -> Figure:
    """What the first ``count`` units of the first layer look for: their weights, each laid out as a picture.

    Each has a scale of its own, from minus to plus its largest, on which 0 is white. Colour channels are averaged.

    Raises:
        ValueError: no layer has a weight for each pixel.
    """
    check_installed()
    from matplotlib import colormaps

    weights = weights_of_pixels(model, image_shape)
    if weights is None:
        raise ValueError(f"no layer of this network takes pictures of shape {image_shape}")
    units = weights.shape[1]
    images = weights.T[:count].reshape(-1, *image_shape)
    if images.ndim == 4:
        images = images.mean(axis=3)
    which = f"{len(images)} of {units:,} units" if len(images) < units else f"{units} unit{'s' * (units != 1)}"
    colors = colormaps["RdBu_r"].resampled(33)  # not 256 colours: a smaller file, and nothing less to see
    head = f"Weights of the first layer: {which}, each on its own scale"
    return _picture_grid(images, head, color_map=colors, limits=None)


def filters(model: Sequential, layer: int | None = None, count: int = 64) -> Figure:
    """What the first ``count`` filters of a ``Conv2d`` look for: each as a small picture, or as one for each of its
    channels side by side. All have one scale, on which 0 is white: ink on red raises the answer, on blue lowers it.

    The filters of a deep layer may have too many channels to be told apart; then each is one picture of how strongly
    it looks at each of its pixels, the root of the sum of the squares over the channels.

    Args:
        layer: its index in the network; None for the first.

    Raises:
        ValueError: there is no convolution at that index.
    """
    check_installed()
    check_whole_number("count", count)
    index, weights = filters_of(model, layer)
    total, channels = weights.shape[:2]
    shown, each = weights[:count], ""
    if channels > MOST_CHANNELS:
        shown = np.sqrt((shown**2).sum(axis=1, keepdims=True))
        each = f", each the root of the sum of squares over {channels:,} channels"
    elif channels > 1:
        each = f", each with its {channels} channels side by side"
    head = f"{_some(len(shown), total, 'filter')} of layer {index}, {model[index]!r}{each}"
    blocks = _columns(len(shown)) if shown.shape[1] == 1 else max(round(math.sqrt(len(shown) / shown.shape[1])), 1)
    columns, rows = blocks * shown.shape[1], math.ceil(len(shown) / blocks)
    figure = new_figure(min(max(0.6 * columns, 4.0), 12.0) + 1.0, min(max(0.6 * rows, 1.5), 16.0) + 0.7)
    _draw_tiles(figure.subplots(), shown, blocks)
    figure.suptitle(_wrapped(head, figure), fontsize=11)
    return figure


def feature_maps(model: Sequential, picture: Any, layer: int | None = None, count: int = 64) -> Figure:
    """What the first ``count`` filters of a layer answer to a picture, beside that picture: red above 0, blue below,
    all on one scale.

    An activation right after a convolution is computed with it, so the answers are those after it.

    Args:
        picture: a row as ``predict`` takes it: an array in the units of the training rows, or a ``Dataset`` of one row,
            ``data[5:6]``.
        layer: the index of a layer that gives pictures, such as a convolution or pooling; None for the first
            convolution.

    Raises:
        ValueError: the layer gives no pictures, there is no convolution, or there are several pictures.
    """
    check_installed()
    check_whole_number("count", count)
    row = only_row(model, picture)
    layers, (maps,) = maps_of(model, row, layer)
    given = pictures_of(model, row, slice(1))
    names = ", ".join(f"{index} {model[index]!r}" for index in layers)
    figure = new_figure(11.0, 6.0)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    left.set_axis_off()
    if given is not None:
        left.imshow(from_0_to_1(given, float(given.min()), float(given.max()))[0], cmap="gray", vmin=0.0, vmax=1.0)
        left.set_title("the picture", fontsize=10)
    shown = maps[:count, None]
    _draw_tiles(right, shown, _columns(len(shown)))
    figure.suptitle(_wrapped(f"{_some(len(shown), len(maps), 'feature map')} of layer {names}", figure), fontsize=11)
    return figure


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def augmentation(augment: Augment, data: Any, count: int = 10, epochs: int = 5, seed: int = 0) -> Figure:
    """The first ``count`` rows of ``data``, and below each what training sees of it in each of the first epochs.

    Args:
        augment: how pictures are distorted, as ``Trainer`` takes it.
        data: pictures: a ``Dataset``, or an array (n, height, width) or (n, height, width, channels) of any library;
            also those larger than memory.
        seed: of the network: with that seed these are the very pictures that it is trained on.

    Raises:
        ValueError: the rows are no pictures.
    """
    check_installed()
    check_kind("augment", augment, Augment, "an Augment")
    data = as_rows(data)
    count, epochs = check_whole_number("count", count), check_whole_number("epochs", epochs)
    first, (low, high) = data[:count], range_of(data)
    height, width, channels = shape = shape_to_distort(first)
    seen = distorted(first, augment, epochs, check_seed("seed", seed))
    images = np.concatenate([first.x.reshape(1, -1, *shape), seen])
    gap = max(1, round(0.1 * max(height, width)))
    tiled = np.full((len(images), height + gap, len(first), width + gap, channels), np.nan)
    tiled[:, gap // 2 : gap // 2 + height, :, gap // 2 : gap // 2 + width] = images.transpose(0, 2, 1, 3, 4)
    tiled = tiled.reshape(len(images) * (height + gap), len(first) * (width + gap), channels)
    tiled = (tiled - low) / ((high - low) or 1.0)
    figure = new_figure(0.7 * len(first) + 1.2, 0.7 * (epochs + 1) * height / width + 0.6)
    axes = figure.subplots()
    tiled = np.nan_to_num(tiled, nan=1.0) if channels in (3, 4) else tiled.mean(axis=2)
    axes.imshow(tiled, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    middles = (np.arange(len(images)) + 0.5) * (height + gap) - 0.5
    axes.set_yticks(middles, ["as they are", *(f"epoch {epoch}" for epoch in range(1, epochs + 1))])
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.suptitle(_wrapped(f"Training pictures: {augment}", figure), fontsize=11)
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


def weights_of_pixels(model: Sequential, image_shape: tuple[int, ...]) -> np.ndarray | None:
    """The first weights (fan-in, units) of the network that have a row for each pixel."""
    for values in model.state_dict().values():
        if values.ndim == 2 and len(values) == math.prod(image_shape):
            return np.asarray(values)
        if values.ndim > 2:  # what comes after a convolution has a row for each number of a feature map
            break
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
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Figure:
    """Pictures in a grid, with a ``head`` and over each its title ``prediction / label``.

    Args:
        limits: the numbers that have the first and the last colour; None: minus and plus the largest of each picture.
    """
    columns = _columns(len(images))
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
        limit = float(np.abs(images[index]).max()) or 1.0
        low, high = limits or (-limit, limit)
        axes.imshow(images[index], cmap=color_map, vmin=low, vmax=high, interpolation="nearest")
        if titles:
            color = colors[index] if len(colors) else "black"
            axes.set_title(between.join(titles[index]), fontsize=9, color=str(color), parse_math=False)
    return figure


def _draw_tiles(axes: Axes, images: np.ndarray, blocks: int) -> None:
    """Pictures (n, k, h, w) with one scale: n blocks of k pictures side by side, so many blocks in a line."""
    from matplotlib import colormaps

    _, k, height, width = images.shape
    gap = 0.15 * max(height, width)
    limit = float(np.abs(images).max()) or 1.0
    across, down = k * (width + gap) + (gap if k > 1 else 0.0), height + (gap if k == 1 else 2 * gap)
    for number, block in enumerate(images):
        row, column = divmod(number, blocks)
        for channel, image in enumerate(block):
            left, top = column * across + channel * (width + gap), row * down
            drawn = axes.imshow(
                image,
                cmap=colormaps["RdBu_r"],
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
                extent=(left, left + width, top + height, top),
            )
    axes.set_xlim(-gap, min(blocks, len(images)) * across)
    axes.set_ylim(math.ceil(len(images) / blocks) * down, -gap)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor("0.85")  # neither of the colours, so that white pictures have an end
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=35)
    bar.ax.set_ylim(-limit if images.min() < 0 else 0.0, limit)


def _some(shown: int, total: int, what: str) -> str:
    """How many of them are shown, in words."""
    if shown < total:
        return f"The first {shown} of {total:,} {what}s"
    return f"The {total} {what}s" if total > 1 else f"The {what}"


def _wrapped(head: str, figure: Figure) -> str:
    """A title in as many lines as the width of the figure asks for."""
    return fill(head, round(12 * figure.get_figwidth()))


def _columns(count: int) -> int:
    """How many columns a grid has: of those with which it is nearly square, what leaves the fewest empty cells."""
    root = math.sqrt(count)
    return min(range(math.ceil(root), math.ceil(1.5 * root) + 1), key=lambda columns: (-count % columns, columns))

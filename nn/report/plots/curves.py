"""The cost curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...history import History
from ..collected import LOGARITHMIC, curve_names
from ..svg import LOG_FROM, MOST_DOTS, are_rare, epoch_ticks, shown
from .layout import check_installed, new_figure, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels of the cost curve beside each other.
MOST_PANELS = 3


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
        return say(figure, "Nothing has been trained yet.")
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

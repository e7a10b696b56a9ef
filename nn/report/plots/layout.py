"""How pictures are laid out in a matplotlib figure, and written to a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.arguments import check_path

from ...files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


def check_installed() -> None:
    """Raise a ValueError if there is no matplotlib: for a training run to ask before it, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("pictures need matplotlib, which is not installed; pip install matplotlib") from None


def write_picture(figure: Figure, path: str | Path, run: str = "") -> None:
    """Write a PNG file, whole or not at all; its text ``run`` is the id of the run that it is of."""
    content = BytesIO()
    # The name and version of the program would make the bytes differ where the picture does not.
    metadata = {"Software": None} | ({"run": run} if run else {})
    figure.savefig(content, format="png", dpi=100, metadata=metadata)
    write_atomically(check_path("path", path), content.getvalue())


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, of a size in inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def say(figure: Figure, sentence: str) -> Figure:
    """The figure with a sentence where there is nothing to draw."""
    figure.text(0.5, 0.5, sentence, ha="center", va="center", fontsize=12)
    return figure


def picture_grid(
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
    columns = columns_of(len(images))
    rows = math.ceil(len(images) / columns)
    between = " / " if all(len(" / ".join(title)) <= 18 for title in titles) else "\n/ "
    side = 1.3 if titles else 0.8
    figure = new_figure(max(side * columns, 6.0), max((side + 0.3 * bool(titles)) * rows, 2.0) + 0.5)
    figure.suptitle(head)
    # Ticks are not seen, but where they are their text is measured for each title, which takes a second in all.
    grid: Any = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
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


def draw_tiles(axes: Axes, images: np.ndarray, blocks: int) -> None:
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


def some(shown: int, total: int, what: str) -> str:
    """How many of them are shown, in words."""
    if shown < total:
        return f"The first {shown} of {total:,} {what}s"
    return f"The {total} {what}s" if total > 1 else f"The {what}"


def wrapped(head: str, figure: Figure) -> str:
    """A title in as many lines as the width of the figure asks for."""
    return fill(head, round(12 * figure.get_figwidth()))


def columns_of(count: int) -> int:
    """How many columns a grid has: of those with which it is nearly square, what leaves the fewest empty cells."""
    root = math.sqrt(count)
    return min(range(math.ceil(root), math.ceil(1.5 * root) + 1), key=lambda columns: (-count % columns, columns))

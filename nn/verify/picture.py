"""The result of a comparison as files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_atomically
from .result import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_comparison(
    comparison: Comparison, folder: Path, *, lines: bool = True, picture: bool = False, run: str = ""
) -> list[str]:
    """Write the curve as ``compare.jsonl`` and as ``compare.png``, each file whole or not at all, with the id of
    the run; their names."""
    written = []
    if lines:
        write_atomically(folder / "compare.jsonl", comparison.to_json_lines(run).encode())
        written.append("compare.jsonl")
    if picture:
        from ..report.plots import write_picture

        write_picture(curve_picture(comparison), folder / "compare.png", run)
        written.append("compare.png")
    return written


def curve_picture(comparison: Comparison) -> Figure:
    """How the differences of the free runs grow, step by step, on a logarithmic scale."""
    from ..report.plots import new_figure

    figure = new_figure(13.0, 3.8)
    panels = {"loss": "loss", "gradient": "gradients", "parameter": "parameters"}
    for (name, title), axes in zip(panels.items(), figure.subplots(1, 3, squeeze=False)[0], strict=True):
        for device in comparison.devices[1:]:
            records = [record for record in comparison.curve if record["device"] == device]
            differences = [record[f"{name}_difference"] or math.nan for record in records]  # no 0 on this scale
            axes.plot([record["step"] for record in records], differences, label=device, marker=".", markersize=3)
        axes.set_yscale("log")
        axes.set_title(f"{title.capitalize()}: difference from {comparison.devices[0]}", parse_math=False, fontsize=11)
        axes.set_xlabel("step")
        axes.set_ylabel("largest difference / largest value")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend()
    return figure

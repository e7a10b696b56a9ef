"""``python -m benchmarks.growth``: how the seconds of an epoch grow with the rows, the width, the depth and the batch.

Beside xpnet stand the matrix products of the same epoch, the floor; and beside its steps of one row a loop written by
hand for just those. All take turns in one process, after some steps to warm up. An epoch that takes longer than
``--seconds`` is timed in part: its first steps, and the others count like those. One that takes far less is repeated.
After each axis ``benchmarks/results/growth-DEVICE.md`` and ``.json`` are written, and a picture in ``docs/images``;
axes that were not chosen keep what an earlier run measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from backends import Backend, DeviceError, get_backend
from benchmarks.by_hand import OneRow
from benchmarks.contenders.config import CONFIGS, Config
from benchmarks.contenders.products import Products
from benchmarks.contenders.xpnet import Xpnet
from benchmarks.epoch import RESULTS, load_rows, machine, ratio
from nn import Callback, Trainer
from nn.report import plots

IMAGES = Path(__file__).parent.parent / "docs" / "images"
#: Small enough for batches of one row and for 16 layers: rows are made to be timed here, not to be learned.
BASE = replace(CONFIGS["small"], learning_rate=0.01)
DEEP_WIDTH = 256
#: Steps to warm up before each timing, and for the first estimate of how long an epoch takes.
TRIAL = 10


@dataclass(frozen=True)
class Point:
    """What an epoch is timed of."""

    config: Config
    rows: int

    @property
    def steps(self) -> int:
        return -(-self.rows // self.config.batch_size)


@dataclass(frozen=True)
class Axis:
    """Points that differ in one number: what it is, what all have in common, and the points by that number."""

    label: str
    setting: str
    points: dict[int, Point]


def make_axes(rows: int) -> dict[str, Axis]:
    """All axes; ``rows`` is how many rows there are where their number is not what differs."""

    def layers(*hidden: int) -> tuple[int, ...]:
        return (BASE.widths[0], *hidden, BASE.widths[-1])

    small, some, batch = "784-64-10 sigmoid", f"{rows:,} rows", f"batch {BASE.batch_size}"
    counts = [max(rows // 10, 1), rows, 10 * rows, 100 * rows]
    batches = sorted({min(size, rows) for size in (1, 16, 128, 1024, 8192, rows)})
    deep = replace(BASE, activation="relu")
    return {
        "rows": Axis("training rows", f"{small}, {batch}", {n: Point(BASE, n) for n in counts}),
        "width": Axis(
            "units in the hidden layer",
            f"784-width-10 sigmoid, {batch}, {some}",
            {n: Point(replace(BASE, widths=layers(n)), rows) for n in (16, 64, 256, 1024, 4096)},
        ),
        "depth": Axis(
            f"hidden layers of {DEEP_WIDTH} units",
            f"784-{DEEP_WIDTH}-...-10 relu, {batch}, {some}",
            {n: Point(replace(deep, widths=layers(*[DEEP_WIDTH] * n)), rows) for n in (1, 2, 4, 8, 16)},
        ),
        "batch": Axis(
            "rows in a batch",
            f"{small}, {some}",
            {n: Point(replace(BASE, batch_size=n), rows) for n in batches},
        ),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write."""
    names = list(make_axes(BASE.batch_size))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda, cuda:N")
    parser.add_argument("--axis", nargs="+", choices=names, default=names, help="what grows; all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that are timed")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows; on the axis of rows a tenth to 100x")
    parser.add_argument("--seconds", type=float, default=2.0, help="time only a part of epochs that take longer")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where all files go")
    parser.add_argument("--no-picture", action="store_true", help="write tables only")
    parser.add_argument("--dry", action="store_true", help="print the tables but write no files")
    settings = parser.parse_args(argv)
    try:
        backend = get_backend(settings.device)
        if not (settings.dry or settings.no_picture):
            plots.check_installed()
    except (DeviceError, ValueError) as error:
        parser.error(str(error))
    path = (settings.out or RESULTS) / f"growth-{settings.device.replace(':', '-')}"
    images = None if settings.no_picture else settings.out or IMAGES
    measured: dict[str, Any] = {}
    if not settings.dry and path.with_suffix(".json").exists():
        measured = json.loads(path.with_suffix(".json").read_text())
    (x, y), _, origin = load_rows(settings.rows)
    known: dict[Point, dict[str, Any]] = {}
    for name, axis in make_axes(settings.rows).items():
        if name not in settings.axis:
            continue
        outcomes = []
        for value, point in axis.points.items():
            if point not in known:  # the small network with its usual rows and batches stands on three axes
                known[point] = race(point, x, y, settings)
            outcomes.append({"value": value, **known[point]})
            print(f"{name} {value}: {said(outcomes[-1])}", file=sys.stderr, flush=True)
        measured[name] = {
            "label": axis.label,
            "setting": axis.setting,
            "origin": origin,
            "rounds": settings.rounds,
            "machine": machine(),
            "versions": versions(backend),
            "points": outcomes,
        }
        if not settings.dry:
            measured = {name: measured[name] for name in names if name in measured}
            save(measured, path, images)
    print(table(measured))
    return 0


def versions(backend: Backend) -> str:
    import nn

    return f"xpnet {nn.__version__}, {backend.device.version()} on {backend.device.hardware()}"


# ---- who takes part --------------------------------------------------------------------------------------------------


class Racer(Protocol):
    """Says how many seconds an epoch takes, from its first ``steps`` steps."""

    def seconds(self, steps: int) -> float: ...


class Floor(Products):
    """The matrix products."""

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        super().__init__(config, x, y, device)
        self.all_sizes = self.sizes

    def seconds(self, steps: int) -> float:
        self.sizes = self.all_sizes[:steps]
        begun = perf_counter()
        self.epoch()
        return (perf_counter() - begun) * sum(self.all_sizes) / sum(self.sizes)


class Ours(Xpnet):
    """xpnet. The rows go to the device once, as they do for a training of many epochs."""

    def seconds(self, steps: int) -> float:
        whole = steps * self.batch_size >= len(self.rows)
        part = Part(steps * self.batch_size)
        begun = perf_counter()
        self.trainer.fit(self.rows, 1, self.batch_size, callbacks=[] if whole else [part])
        spent = perf_counter() - begun
        return spent if whole else spent + (len(self.rows) - part.seen) * part.seconds_per_row()


class Part(Callback):
    """Ends an epoch after ``rows`` rows or soon after, and knows their pace.

    The shuffle of all rows and what else happens once an epoch come before the end of the first steps, where the clock
    is started: they do not count for the rows that are left out.
    """

    reads_gradients = False
    takes_parts = True

    def __init__(self, rows: int) -> None:
        self.last = rows
        self.seen = 0
        self.marks: list[tuple[int, float]] = []

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.seen += rows
        is_first, is_last = not self.marks, self.seen >= self.last
        if is_first or is_last:
            trainer.backend.synchronize()
            self.marks.append((self.seen, perf_counter()))
        if is_last and not is_first:
            trainer.stop("this part is enough to time")

    def seconds_per_row(self) -> float:
        """Of those after the first steps; 0 where there are none."""
        (seen, begun), (seen_last, ended) = self.marks[0], self.marks[-1]
        return (ended - begun) / (seen_last - seen) if seen_last > seen else 0.0


class ByHand:
    """A loop written by hand for one row a step."""

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray) -> None:
        self.rows, self.loop = len(x), OneRow(config.widths, config.learning_rate, x, y)

    def seconds(self, steps: int) -> float:
        begun = perf_counter()
        self.loop.train(steps)
        return (perf_counter() - begun) * self.rows / min(steps, self.rows)


# ---- measuring -------------------------------------------------------------------------------------------------------


def race(point: Point, x: np.ndarray, y: np.ndarray, settings: argparse.Namespace) -> dict[str, Any]:
    """The seconds of each round by who took them, or the reason why there are none under ``"skipped"``.

    ``x`` and ``y`` are repeated where the point has more rows.
    """
    config, rows = point.config, point.rows
    size = {"widths": config.widths, "activation": config.activation, "batch_size": config.batch_size, "rows": rows}
    there = available()
    if needed(point) > there:
        return {**size, "skipped": f"takes {needed(point) / 1e9:.1f} GB of memory, {there / 1e9:.1f} are free"}
    # The rows are really there so many times, not by strides: they have to come from as far in memory as others would.
    x, y = (x[:rows], y[:rows]) if rows <= len(x) else (np.resize(x, (rows, *x.shape[1:])), np.resize(y, rows))
    try:
        racers: dict[str, Racer] = {
            "products": Floor(config, x, y, settings.device),
            "xpnet": Ours(config, x, y, settings.device),
        }
        if config.batch_size == 1 and settings.device == "cpu":
            racers["by hand"] = ByHand(config, x, y)
        for racer in racers.values():
            racer.seconds(TRIAL)  # the first steps also make the buffers for their results, and compile
        epoch = racers["xpnet"].seconds(min(TRIAL, point.steps))
        steps = min(point.steps, max(math.ceil(point.steps * settings.seconds / epoch), TRIAL))
        repeats = math.ceil(settings.seconds / 10 / epoch)
        seconds: dict[str, list[float]] = {name: [] for name in racers}
        for _ in range(settings.rounds):
            for name, racer in racers.items():
                racer.seconds(TRIAL)
                seconds[name].append(sum(racer.seconds(steps) for _ in range(repeats)) / repeats)
    except MemoryError as error:
        return {**size, "skipped": str(error) or "there is not enough memory"}
    return {**size, "steps": steps, "repeats": repeats, "seconds": seconds}


def needed(point: Point) -> int:
    """Bytes that a point takes on the host, generously."""
    widths = point.config.widths
    # A row, and its label and position in the shuffle, with the copies that are made to check and to draw them.
    rows = point.rows * (widths[0] + 64)
    activations = 32 * point.config.batch_size * sum(widths)
    return rows + activations + 32 * sum(n_in * n_out for n_in, n_out in pairwise(widths))


def available() -> int:
    """Bytes of memory that can be had without swapping; where nobody says, half of all."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):  # more than what is free: files in memory make room
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


# ---- showing ---------------------------------------------------------------------------------------------------------


def save(measured: dict[str, Any], path: Path, images: Path | None) -> None:
    """The figures, the table and, where there is a folder for it, the picture made of them."""
    path.with_suffix(".json").write_text(json.dumps(measured, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(measured))
    if images is not None:
        plots.write_picture(picture(measured), images / f"{path.name}.png")


def short(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def said(outcome: dict[str, Any]) -> str:
    if "skipped" in outcome:
        return f"skipped: it {outcome['skipped']}"
    return ", ".join(f"{name} {short(median(seconds))} s" for name, seconds in outcome["seconds"].items())


def table(measured: dict[str, Any]) -> str:
    """A Markdown table for each axis."""
    lines = []
    for axis in measured.values():
        label = axis["label"]
        lines += [f"{label[0].upper()}{label[1:]}; {axis['setting']}, float32:", ""]
        lines += [
            f"| {label} | xpnet, s per epoch | products, s per epoch | x products | us per step | us per row | timed |",
            "|---|---|---|---|---|---|---|",
        ]
        for outcome in axis["points"]:
            lines.append(f"| {outcome['value']:,} | {' | '.join(cells(outcome))} |")
        lines += ["", *(by_hand(outcome) for outcome in axis["points"] if "by hand" in outcome.get("seconds", ()))]
    lines.append("Medians (range) of rounds in turn; us per step and per row are xpnet's.")
    for told in dict.fromkeys(
        f"{axis['rounds']} rounds, rows {axis['origin']}, {axis['machine']}, {axis['versions']}"
        for axis in measured.values()
    ):
        lines.append(f"Measured with {told}.")
    return "\n".join([*lines, ""])


def cells(outcome: dict[str, Any]) -> list[str]:
    if "skipped" in outcome:
        return [""] * 5 + [f"no: {outcome['skipped']}"]
    ours, floor = outcome["seconds"]["xpnet"], outcome["seconds"]["products"]
    steps = -(-outcome["rows"] // outcome["batch_size"])
    epoch = median(ours)
    return [
        f"{short(epoch)} ({short(min(ours))} to {short(max(ours))})",
        short(median(floor)),
        f"{ratio(ours, floor):.2f}",
        short(1e6 * epoch / steps),
        short(1e6 * epoch / outcome["rows"]),
        "whole epochs" if outcome["steps"] == steps else f"from {outcome['steps']:,} steps",
    ]


def by_hand(outcome: dict[str, Any]) -> str:
    """A paragraph on steps of one row."""
    ours, theirs = outcome["seconds"]["xpnet"], outcome["seconds"]["by hand"]
    return (
        f"One row a step, written by hand for this network: {short(1e6 * median(theirs) / outcome['rows'])} us per "
        f"step; xpnet takes {ratio(ours, theirs):.2f} times that.\n"
    )


def picture(measured: dict[str, Any]) -> Any:
    """A panel for each axis: seconds of an epoch by what grows, both logarithmic; over each point x products."""
    from matplotlib.ticker import NullLocator

    figure = plots.new_figure(10.0, 3.8 * math.ceil(len(measured) / 2))
    grid = figure.subplots(math.ceil(len(measured) / 2), 2, squeeze=False).flat
    for axes in grid[len(measured) :]:
        axes.remove()
    for panel, axes in zip(measured.values(), grid, strict=False):
        points = [point for point in panel["points"] if "seconds" in point]
        values = [point["value"] for point in points]
        ours, floor = ([median(point["seconds"][name]) for point in points] for name in ("xpnet", "products"))
        axes.loglog(values, ours, "o-", color="black", label="xpnet, and how many times the products")
        axes.loglog(values, floor, "s--", color="gray", label="matrix products alone")
        for value, height, point in zip(values, ours, points, strict=True):
            text = f"{ratio(point['seconds']['xpnet'], point['seconds']['products']):.1f}"
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
            axes.annotate(
                text, (value, height), (0, 8), textcoords="offset points", ha="center", fontsize=8, bbox=paper
            )
            if "by hand" in point["seconds"]:
                axes.loglog(value, median(point["seconds"]["by hand"]), "k^", mfc="none", label="one row, by hand")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(y=0.15)
        axes.set_title(panel["setting"], fontsize=10)
        axes.set_xlabel(panel["label"])
        axes.set_ylabel("seconds per epoch")
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main())

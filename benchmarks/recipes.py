"""``python -m benchmarks.recipes``: run every recipe over several seeds, and write the table of what they reach.

Raw figures go to ``benchmarks/results/recipes-DEVICE.json``, after each run, and the table made of them to ``.md``
beside it; recipes that were not run keep what an earlier run measured. A figure is that of the last epoch, never of
the best one, and over several seeds it is their mean. Of recipes that evaluate the test rows after each epoch and are
run by name, ``recipes-DEVICE-NAME.png`` shows the test error by epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import fmean, median, stdev
from time import perf_counter
from typing import TYPE_CHECKING, Any

import recipes
import train
from nn import __version__
from nn.report import figure_text, figures, is_reproduced, span_text
from nn.report.plots import new_figure, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
#: Recipes of an hour, or for a GPU: they are run only where they are named.
LONG = ("ciresan-2500", "mnist-cnn", "simard-mlp")
#: Figures beside those that a recipe names, for whoever reads the raw results.
ALWAYS = ("start_loss", "loss", "loss@101", "accuracy", "val_accuracy", "test_accuracy", "test_loss")


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 if a figure of the recipes run lies outside its range."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"recipes to run; all but {', '.join(LONG)} if none is named"
    )
    parser.add_argument("--device", default="auto", help="as for train.py")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument(
        "--limit", type=int, metavar="ROWS", help="use only the first ROWS rows: a try, nothing is kept"
    )
    settings = parser.parse_args(argv)
    unknown = set(settings.names) - set(recipes.names())
    if unknown or settings.seeds < 1:
        parser.error(f"no recipe {sorted(unknown)}" if unknown else "--seeds must be at least 1")
    good = True
    for name in settings.names or [name for name in recipes.names() if name not in LONG]:
        for number, part in enumerate(recipes.load(name).parts):
            runs = []
            for seed in range(settings.seeds):
                run, outcome = measure(name, number, seed, settings.device, settings.limit)
                runs.append(outcome)
                reproduced = judge(part, [outcome])
                good = good and all(reproduced.values())
                shown = {key: figure_text(key, outcome["figures"][key]) for key in reproduced}
                print(f"{name} part {number + 1} seed {seed}: {shown} in {outcome['seconds']:.1f} s", flush=True)
                if settings.limit is None:
                    keep(f"{name}/{number + 1}", part, run, runs, picture=bool(settings.names))
    return 0 if good else 1


def measure(name: str, part: int, seed: int, device: str, limit: int | None) -> tuple[train.Run, dict[str, Any]]:
    """One run of one part of a recipe: its figures, and the seconds that training took."""
    flags = ["--recipe", name, "--seed", str(seed), "--device", device, "--quiet"]
    run = train.prepare(train.parse([*flags, *(["--limit", str(limit)] if limit else [])])[part])
    started = perf_counter()
    train.train(run)
    seconds = perf_counter() - started
    found = figures(run.trainer, run.training, run.test, run.settings.predict)
    wanted = {*ALWAYS, *run.settings.reproduced, *run.settings.author}
    return run, {
        "seed": seed,
        "seconds": seconds,
        "figures": {key: found[key] for key in found if key in wanted},
        "curve": run.trainer.history["val_accuracy"] if run.settings.validation == "test" else [],
    }


def keep(key: str, part: recipes.Part, run: train.Run, runs: list[dict[str, Any]], picture: bool) -> None:
    """Write the runs of a part of a recipe, so far, beside what is there of others, and the table of all.

    Args:
        key: ``"lenet/1"`` for the first part of ``lenet``.
        run: the last of them.
        picture: whether to draw the test error by epoch, too, where it was measured.
    """
    path = RESULTS / f"recipes-{run.trainer.backend.device.spec.partition(':')[0]}.json"
    measured = json.loads(path.read_text()) if path.exists() else {}
    measured[key] = {"machine": machine(run), "runs": runs}
    path.write_text(json.dumps(measured, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(measured))
    if picture and runs[0]["curve"]:
        name = key.partition("/")[0]
        write_picture(curves(name, part, [one["curve"] for one in runs]), path.with_name(f"{path.stem}-{name}.png"))


def machine(run: train.Run) -> str:
    """Where the figures were measured."""
    device = run.trainer.backend.device
    return (
        f"{device.version()} on {device.hardware()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"xpnet {__version__}, {date.today().isoformat()}"
    )


def judge(part: recipes.Part, runs: list[dict[str, Any]]) -> dict[str, bool]:
    """For each figure that the part names, whether it lies in its range in every run."""
    return {
        name: all(is_reproduced(name, run["figures"][name], wanted) for run in runs)
        for name, wanted in part.reproduced.items()
    }


def table(measured: dict[str, Any]) -> str:
    """The Markdown table of all that was measured."""
    lines = [
        "| recipe | figure | the author | counts as reproduced | ours: mean ± standard deviation (lowest to highest) | "
        "| runs | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in recipes.names():
        parts = recipes.load(name).parts
        for number, part in enumerate(parts, 1):
            if f"{name}/{number}" not in measured:
                continue
            runs = measured[f"{name}/{number}"]["runs"]
            reproduced = judge(part, runs)
            label = f"`{name}`" if number == 1 else ""
            seconds = f"{len(runs)} | {median(run['seconds'] for run in runs):.1f}"
            for figure in dict.fromkeys([*part.author, *part.reproduced]):
                values = [run["figures"][figure] for run in runs if figure in run["figures"]]
                wanted = part.reproduced.get(figure)
                verdict = "" if wanted is None else "yes" if reproduced[figure] else "**no**"
                lines.append(
                    f"| {label} | {figure} | {part.author.get(figure, '')} | {span_text(figure, wanted)} | "
                    f"{summary(figure, values)} | {verdict} | {seconds} |"
                )
                label, seconds = "", " | "
    machines = dict.fromkeys(entry["machine"] for entry in measured.values())
    lines += [
        "",
        "Each run has a seed of its own, from 0. A figure is that of the last epoch, never of the best one; over "
        "several runs it is their mean, and no run is left out.",
        f"Measured with {'; '.join(machines)}.",
        "",
    ]
    return "\n".join(lines)


def summary(figure: str, values: list[Any]) -> str:
    """Mean, standard deviation and range over the seeds; one value where they agree."""
    if figure == "predictions":
        return "; ".join(dict.fromkeys(figure_text(figure, value[:5]) for value in values))
    if min(values) == max(values):
        return figure_text(figure, values[0])
    mean, low, high = (figure_text(figure, value) for value in (fmean(values), min(values), max(values)))
    deviation = f"{100 * stdev(values):.2f}" if "accuracy" in figure else f"{stdev(values):.2g}"
    return f"{mean} ± {deviation} ({low} to {high})"


def curves(name: str, part: recipes.Part, found: list[list[float]]) -> Figure:
    """The test error of each run by epoch, in percent, and that of the author at its end."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    for number, accuracies in enumerate(found):
        errors = [100 * (1 - accuracy) for accuracy in accuracies]
        label = f"xpnet, {len(found)} runs" if len(found) > 1 else "xpnet"
        axes.plot(range(1, len(errors) + 1), errors, color="C0", linewidth=1, label="_" if number else label)
    if author := re.match(r"([\d.]+) %", part.author.get("test_accuracy", "")):
        error = 100 - float(author[1])
        axes.axhline(error, color="C1", linestyle="--", label=f"the author's last: {error:.2f} %")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(title=f"{name}: test error by epoch", xlabel="epoch", ylabel="test error, % (logarithmic)")
    axes.grid(visible=True, alpha=0.25)
    axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())

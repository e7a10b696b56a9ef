"""``python -m benchmarks.agreement``: how far the backends of this machine are from the formulas and from each other.

Writes ``benchmarks/results/agreement.md``: for every operation the largest error of each backend and of each pair, and
for every recipe how far apart NumPy and the others are after 200 steps in float64.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import recipes
import train
from backends import Backend, get_backend
from backends.__main__ import chosen_backends
from backends.base import DTYPES
from backends.check import OPERATIONS, Result, check
from backends.random import permutation
from backends.registry import find_device
from benchmarks.recipes import LONG
from nn import Callback, Trainer, __version__

OUT = Path(__file__).parent / "results" / "agreement.md"
STEPS, ROWS = 200, 1500
Which = tuple[str, bool]

#: Recipes that would take long: reference operations have no quick convolutions.
LEFT_OUT = (*LONG, "lenet", "mnist-cnn-fast")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 1 if a result is out of its bound or a recipe further apart than 1e-9."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the inputs of the operations and of the recipes")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every N-th input only: a try")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE")
    settings = parser.parse_args(argv)
    devices = [(device.spec, fused) for device, fused in chosen_backends([], reference=False)]
    text, good = [], True
    for dtype in DTYPES:
        usable = [which for which in devices if dtype == "float32" or get_backend(which[0]).device.has_float64]
        found = {which: try_operations(which, None, dtype, settings) for which in usable}
        pairs = {pair: try_operations(*pair, dtype, settings) for pair in itertools.combinations(usable, 2)}
        text += operations_text(dtype, found, pairs)
        good &= not any(result.wrong for results in [*found.values(), *pairs.values()] for result in results)
    rows, apart = try_recipes(devices, settings.seed)
    text += recipes_text(rows, apart)
    good &= all(run.same_start and run.same_order and run.loss <= 1e-9 for run in apart)
    settings.output.write_text("\n".join([*header(devices, settings.seed, settings.every), *text]) + "\n")
    print(f"wrote {settings.output}")
    return 0 if good else 1


# ---- operations ------------------------------------------------------------------------------------------------------


def try_operations(which: Which, against: Which | None, dtype: str, settings: argparse.Namespace) -> list[Result]:
    """The results of the check of a backend, against another or against the formulas."""
    backend, other = make(which, dtype), None if against is None else make(against, dtype)
    print(f"{dtype} {name(which)} against {name(against) if against else 'the formulas'}", flush=True)
    return check(backend, settings.seed, against=other, every=settings.every)


def make(which: Which, dtype: str) -> Backend:
    spec, fused = which
    return get_backend(spec, dtype, fused)


def name(which: Which) -> str:
    """What a backend is called in the tables."""
    spec, fused = which
    return spec if fused or not find_device(spec).has_overrides else f"{spec} reference"


def operations_text(
    dtype: str, found: dict[Which, list[Result]], pairs: dict[tuple[Which, Which], list[Result]]
) -> list[str]:
    """The two tables of a dtype."""
    everything = list(itertools.chain(*found.values(), *pairs.values()))
    cases, wrong = sum(result.cases for result in everything), sum(result.wrong for result in everything)
    verdict = f"**{wrong:,} of them out of bounds**" if wrong else "all of them within their bounds"
    letter = {which: chr(ord("A") + index) for index, which in enumerate(found)}
    legend = ", ".join(f"{mark} {name(which)}" for which, mark in letter.items())
    against = [f"{letter[a]} - {letter[b]}" for a, b in pairs]
    return [
        f"## Operations in {dtype}",
        "",
        f"{cases:,} cases, {verdict}.",
        "Each backend against the formulas in extended precision: the largest error in relation to the size of the",
        "terms and, in brackets, the largest error in units of its own bound.",
        "",
        *markdown(["operation", *(f"{mark} {name(which)}" for which, mark in letter.items())], found, with_ratio=True),
        "",
        "Each against each: the largest difference in relation to the size of the terms",
        f"({legend}).",
        "",
        *markdown(["operation", *against], pairs, with_ratio=False),
        "",
    ]


def markdown(columns: list[str], found: dict[Any, list[Result]], with_ratio: bool) -> list[str]:
    """A table of results, an operation a line."""

    def cell(result: Result) -> str:
        if result.wrong:
            return f"**{result.verdict}**"
        if result.error == 0 == result.ratio:
            return "equal"
        return f"{result.error:.1e} ({result.ratio:.2f})" if with_ratio else f"{result.error:.1e}"

    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for index, operation in enumerate(OPERATIONS):
        lines.append(f"| {operation} | {' | '.join(cell(results[index]) for results in found.values())} |")
    return lines


# ---- recipes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Apart:
    """How far a backend is from NumPy after the steps of a recipe: relative loss, absolute parameters."""

    recipe: str
    backend: str
    steps: int
    same_start: bool
    same_order: bool
    loss: float
    parameters: float


class StopAfter(Callback):
    """Ends training after so many updates."""

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if trainer.model.step >= STEPS:
            trainer.stop(f"{STEPS} steps")


def try_recipes(devices: list[Which], seed: int) -> tuple[str, list[Apart]]:
    """Every part of every recipe that is not left out, on every backend with float64: which rows were used, and the
    differences."""
    with tempfile.TemporaryDirectory() as folder:
        flags, rows = mnist_rows(Path(folder))
        apart = []
        for recipe in [name for name in recipes.names() if name not in LEFT_OUT]:
            for part in range(len(recipes.load(recipe).parts)):
                first: dict[str, Any] | None = None
                for which in devices:
                    if not get_backend(which[0]).device.has_float64:
                        continue
                    label = f"{recipe} {part + 1}" if part else recipe
                    print(f"{label} on {name(which)}", flush=True)
                    outcome = train_recipe(recipe, part, which, seed, flags)
                    if first is None:
                        first = outcome
                    else:
                        apart.append(difference(label, name(which), first, outcome))
        return rows, apart


def mnist_rows(folder: Path) -> tuple[list[str], str]:
    """The flags that make a recipe use MNIST, or, where its files are not here, rows made up in its shape."""
    if os.environ.get("XPNET_DATA"):
        return [], f"the first {ROWS:,} rows of MNIST"
    rng = np.random.default_rng(0)
    x, y = [], []
    shapes = rng.integers(0, 256, (10, 28, 28))
    for count in (ROWS, ROWS):
        labels = rng.integers(0, 10, count)
        noise = rng.integers(-60, 60, (count, 28, 28))
        x.append(np.clip(shapes[labels] * (rng.random((count, 28, 28)) < 0.5) + noise, 0, 255).astype(np.uint8))
        y.append(labels)
    path = folder / "rows.npz"
    np.savez(path, x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])
    return ["--data", str(path)], f"{ROWS:,} rows made up in the shape of MNIST, whose files were not here"


def train_recipe(recipe: str, part: int, which: Which, seed: int, data: list[str]) -> dict[str, Any]:
    """The initial values, the first shuffles, the losses by epoch and the parameters after the steps."""
    spec, fused = which
    flags = ["--recipe", recipe, "--dtype", "float64", "--device", spec, "--seed", str(seed), "--quiet"]
    flags += [] if fused else ["--reference"]
    if recipes.load(recipe).parts[part].settings.get("data") == "mnist":
        flags += ["--limit", str(ROWS), *data]
    run = train.prepare(train.parse(flags)[part])
    trainer, rows = run.trainer, len(run.training)
    to_numpy = trainer.backend.to_numpy
    start = {key: value.copy() for key, value in trainer.model.state_dict().items()}
    on_device = trainer.backend.asarray
    orders = [np.array(to_numpy(on_device(permutation(rows, seed, epoch)))) for epoch in (1, 2, 3)]
    if run.settings.rows is not None and run.settings.targets is None:  # given weights and rows: there is no loss
        losses = np.ravel(trainer.model(run.training.x))
    else:
        size = run.settings.batch_size or rows
        epochs = -(-STEPS // -(-rows // size))
        callbacks = [StopAfter()]
        history = trainer.fit(run.training, epochs, size, shuffle=run.settings.shuffle, callbacks=callbacks)
        losses = np.array(history["loss"])
    return {
        "start": start,
        "orders": orders,
        "losses": losses,
        "end": {key: value.copy() for key, value in trainer.model.state_dict().items()},
        "steps": trainer.model.step,
    }


def difference(recipe: str, backend: str, first: dict[str, Any], other: dict[str, Any]) -> Apart:
    """How far two runs are apart."""
    same_start = all(value.tobytes() == other["start"][key].tobytes() for key, value in first["start"].items())
    same_order = all(np.array_equal(a, b) for a, b in zip(first["orders"], other["orders"], strict=True))
    losses = np.abs(other["losses"] / first["losses"] - 1)
    parameters = max(float(np.max(np.abs(other["end"][key] - value))) for key, value in first["end"].items())
    return Apart(recipe, backend, first["steps"], same_start, same_order, float(np.max(losses)), parameters)


def recipes_text(rows: str, apart: list[Apart]) -> list[str]:
    """The table of recipes."""

    def said(runs: list[Apart], attribute: str) -> str:
        return "yes" if all(getattr(run, attribute) for run in runs) else "**no**"

    backends = list(dict.fromkeys(run.backend for run in apart))
    lines = [
        f"## Recipes after {STEPS} steps in float64",
        "",
        f"NumPy's own operations against every other backend, on {rows}",
        "(recipes that bring rows of their own use those).",
        "First figure: the largest relative difference of an epoch's loss (an output, if nothing is trained).",
        "Second: the largest difference of a parameter at the end.",
        "",
        f"| recipe | steps | initial values equal | shuffles equal | {' | '.join(backends)} |",
        "|---" * (4 + len(backends)) + "|",
    ]
    for recipe in dict.fromkeys(run.recipe for run in apart):
        runs = [run for run in apart if run.recipe == recipe]
        figures = " | ".join(f"{run.loss:.1e}, {run.parameters:.1e}" for run in runs)
        same = f"{said(runs, 'same_start')} | {said(runs, 'same_order')}"
        lines.append(f"| `{recipe}` | {runs[0].steps} | {same} | {figures} |")
    largest = max((run.loss for run in apart), default=math.nan)
    lines += ["", f"The largest relative difference of a loss is {largest:.1e}; 1e-9 is allowed."]
    return lines


def header(devices: list[Which], seed: int, every: int) -> list[str]:
    """What was measured where."""
    lines = [
        "# How far the backends agree",
        "",
        "Written by `python -m benchmarks.agreement`; [docs/agreement.md](../../docs/agreement.md) says what the",
        "bounds are and why.",
        "",
        f"xpnet {__version__}, Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores, "
        f"seed {seed}, {f'one input of {every} tried, ' if every > 1 else ''}{date.today().isoformat()}:",
        "",
    ]
    for which in devices:
        device = get_backend(which[0]).device
        lines.append(f"- {name(which)}: {device.version()} on {device.hardware()}")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())

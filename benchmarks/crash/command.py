"""Runs through the command line: ``train.py --output``, ended by signals, and ``train.py --resume``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from .draw import RATES, Drawn
from .runs import ROOT, Fault, Processes
from .work import ARRAYS, NUMBERS, PLAIN, TIMES, WHOLE, arguments_of, content_of

#: The folder of the run, and its data and log, in the folder that the process works in.
RUN, DATA, LOG = "run", "data", "log"
#: What of ``settings.json`` two runs have in common if they are the same one.
TOLD = ("test", "stopped", "best_epoch", "monitor", "optimizer")


class Commands(Processes):
    """Starts ``train.py`` where others start the worker."""

    checkpoints = f"{RUN}/checkpoints"

    def make_whole(self, drawn: Drawn, folder: Path) -> float:
        seconds = 0.0
        for name in (PLAIN, WHOLE):
            flags = flags_of(drawn, often="" if name == WHOLE else "never")
            write_data(drawn, folder / name)
            with self.run(folder / name, *flags) as process:
                assert process.stdout is not None
                process.stdout.readline()
                began = time.perf_counter()
                self.wait(process, name)
            seconds = time.perf_counter() - began
            write_outcome(folder / name)
        return seconds

    def start(self, drawn: Drawn, folder: Path) -> subprocess.Popen[str]:
        if not any(folder.glob(f"{DATA}.*")):
            write_data(drawn, folder)
        has_begun = (folder / RUN / "run.json").exists()
        return self.run(folder, *(["--resume", RUN] if has_begun else flags_of(drawn)))

    def end(self, drawn: Drawn, folder: Path) -> None:
        with self.start(drawn, folder) as process:
            self.wait(process, "the last one")
        write_outcome(folder)

    def run(self, folder: Path, *flags: str) -> subprocess.Popen[str]:
        return self.open([sys.executable, str(ROOT / "train.py"), *flags], folder)


def write_data(drawn: Drawn, folder: Path) -> None:
    """The rows of a run: an archive of classes, with test rows, or a table of values."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = arguments_of(drawn)["train"]
    x, y = rows.features("float32"), rows.y
    if rows.has_classes:
        np.savez(folder / f"{DATA}.npz", x_train=x, y_train=y, x_test=x[-40:], y_test=y[-40:])
    else:
        head = ",".join([*(f"x{index}" for index in range(drawn.features)), "label"])
        np.savetxt(folder / f"{DATA}.csv", np.column_stack([x, y]), delimiter=",", header=head, comments="")


def flags_of(drawn: Drawn, often: str = "") -> list[str]:
    """The command of a run, as near to what was drawn as flags can say."""
    device, _, reference = drawn.device.partition("/")
    loss, settings = ("mean_squared_error", {}) if drawn.loss[0] == "own function" else drawn.loss
    has_classes = loss in ("softmax_cross_entropy", "binary_cross_entropy", "focal")
    data = f"{DATA}.npz" if has_classes else f"{DATA}.csv"
    # What is held out of the rows must not leave a batch of one row for it.
    norm, held_out = drawn.norm, "test" if has_classes and drawn.norm == "batch" else "0.2"
    if norm == "batch" and not has_classes:
        norm = "layer"
    given: dict[str, Any] = {
        "--device": device, "--dtype": drawn.dtype, "--data": data, "--hidden": drawn.hidden,
        "--activation": drawn.activation, "--dropout": drawn.dropout or None, "--norm": norm or None,
        "--seed": drawn.seed, "--loss": loss, "--optimizer": drawn.optimizer[0], "--lr": RATES[drawn.optimizer[0]],
        "--epochs": drawn.epochs, "--batch-size": drawn.batch_size, "--accumulate": drawn.accumulate,
        "--average": drawn.average, "--clip-norm": drawn.clip_norm, "--clip-value": drawn.clip_value,
        "--validation": held_out if drawn.validation else None, "--every": drawn.validation_every,
        "--class-weight": "balanced" if drawn.weights and has_classes else None,
        "--output": RUN, "--log": f"{LOG}.csv" if "CSVLog" in drawn.callbacks else f"{LOG}.jsonl",
        "--checkpoint-every": often or next(f"{count} {unit}" for unit, count in drawn.often.items()),
    }  # fmt: skip
    for name, value in (settings | drawn.optimizer[1]).items():
        given["--no-decoupled" if name == "decoupled" else f"--{name.replace('_', '-')}"] = value or True
    for name in ("EarlyStopping", "EarlyStopping of the last"):
        if name in drawn.callbacks:
            given |= {"--early-stopping": 2, "--min-delta": 1e-3, "--no-restore-best": name != "EarlyStopping"}
    if "ReduceOnPlateau" in drawn.callbacks:
        given |= {"--schedule": "plateau", "--plateau-patience": 1}
    elif drawn.schedule in ("step", "exponential", "cosine", "one_cycle"):
        given["--schedule"] = drawn.schedule
    elif drawn.schedule == "warmup":
        given |= {"--schedule": "cosine", "--warmup": 1}
    given |= {"--reference": bool(reference), "--no-shuffle": not drawn.shuffle}
    flags: list[str] = []
    for flag, value in given.items():
        if value is not None and value is not False:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            flags += [flag, *map(str, values)]
    return flags


def write_outcome(folder: Path) -> None:
    """Write all that two runs have in common if they are the same one, as the worker does: but for the run's id."""
    run = folder / RUN
    weights = run / "weights.safetensors"
    with safe_open(weights, framework="numpy") as file:
        description = json.loads(file.metadata()["xpnet"])
    about = json.loads((run / "settings.json").read_text())
    told = {"description": description, "about": {name: about.get(name) for name in TOLD}}
    for path in (run / "history.jsonl", *folder.glob(f"{LOG}.*")):
        told[path.name] = [_without_run(line) for line in content_of(path)]
    told["description"] = _without_run(description)
    save_file(load_file(weights), folder / ARRAYS)
    (folder / NUMBERS).write_text(json.dumps(told))
    if others := [path.name for path in run.iterdir() if path.name.endswith(".xpnet-draft")]:
        raise Fault(f"{', '.join(others)} was left in the run's folder")


def _without_run(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in ("run", *TIMES)}

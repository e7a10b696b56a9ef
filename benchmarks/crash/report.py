"""The page of figures."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nn import __version__

from .draw import MOST_KILLS, SIGNALS, Drawn
from .runs import DOING, ENDED, Outcome

#: What processes were doing when they were killed.
WHEN = (*DOING.values(), ENDED, *(f"{name} to train.py" for name in dict.fromkeys(SIGNALS)))
#: What a run may have, to be counted.
FEATURES: dict[str, Callable[[Drawn], Any]] = {
    "train.py and --resume": lambda run: run.command_line,
    "float64": lambda run: run.dtype == "float64",
    "a state of several megabytes, written after every step": lambda run: run.large,
    "a checkpoint after every step": lambda run: run.often == {"steps": 1},
    "after several steps": lambda run: run.often.get("steps", 1) > 1,
    "after every epoch, or every second one": lambda run: "epochs" in run.often,
    "after every 60 ms": lambda run: "minutes" in run.often,
    "SGD": lambda run: run.optimizer[0] == "sgd",
    "momentum or Nesterov": lambda run: "momentum" in run.optimizer[1],
    "Adam": lambda run: run.optimizer[0] == "adam",
    "AdamW": lambda run: run.optimizer[0] == "adamw",
    "RMSProp": lambda run: run.optimizer[0] == "rmsprop",
    "Adagrad": lambda run: run.optimizer[0] == "adagrad",
    "a schedule": lambda run: run.schedule,
    "dropout": lambda run: run.dropout,
    "BatchNorm": lambda run: run.norm == "batch",
    "LayerNorm": lambda run: run.norm == "layer",
    "rows shuffled": lambda run: run.shuffle,
    "a short last batch": lambda run: run.rows % run.batch_size,
    "several batches to an update": lambda run: run.accumulate > 1,
    "averaged weights": lambda run: run.average is not None,
    "gradients clipped": lambda run: run.clip_norm or run.clip_value,
    "validation rows": lambda run: run.validation,
    "weights of rows or classes": lambda run: run.weights,
    "a loss for classes": lambda run: run.classes > 2,
    "a loss of one's own": lambda run: run.loss[0] == "own function",
    "early stopping": lambda run: {"EarlyStopping", "EarlyStopping of the last"} & {*run.callbacks},
    "ReduceOnPlateau": lambda run: "ReduceOnPlateau" in run.callbacks,
    "LearningRateSchedule": lambda run: "LearningRateSchedule" in run.callbacks,
    "SaveModel": lambda run: {"SaveModel", "SaveModel of each"} & {*run.callbacks},
    "a log of epochs": lambda run: {"JSONLog", "CSVLog"} & {*run.callbacks},
    "a callback of one's own": lambda run: "own" in run.callbacks,
}


def page(outcomes: Sequence[Outcome], runs: int, command: str, jobs: int, seconds: float) -> str:
    """The figures of runs that took so long, of so many that there will be."""
    kills = [kill for outcome in outcomes for kill in outcome.kills]
    of_kills = [
        ("a draft of a checkpoint was left behind", sum(kill.draft for kill in kills)),
        ("there was no checkpoint yet", sum(kill.first for kill in kills)),
        ("the process had been resumed itself", sum(kill.resumed for kill in kills)),
    ]
    parts = [
        "# Killed and resumed",
        f"`{command}`: each run is killed by SIGKILL one to {MOST_KILLS} times at random moments (every fourth "
        "is one of `train.py`, ended by other signals, too), resumed, and compared with the same run without an "
        "interruption and without checkpoints: parameters, averages, what optimizer and layers keep, counters, records "
        "(but for their seconds), what callbacks remember, and the files that they write.",
        f"**{_same(outcomes)} of {len(outcomes)} runs ended bit for bit as if nothing had happened**, after "
        f"{len(kills)} kills." + (f" (The first {len(outcomes)} of {runs}.)" if len(outcomes) < runs else ""),
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {_cpu()}, {jobs} runs at a time, {seconds / 60:.0f} "
        f"minutes; xpnet {__version__}, Python {platform.python_version()}, {_versions()}.",
        _table(("killed", "kills"), [(words, sum(kill.doing == words for kill in kills)) for words in WHEN]),
        _table(("of all these", "kills"), of_kills),
        _table(("kills", "runs", "identical"), _by(outcomes, lambda outcome: len(outcome.kills))),
        _table(("device", "runs", "identical"), _by(outcomes, lambda outcome: outcome.drawn.device)),
        _table(
            ("runs with", "runs", "identical"),
            [
                (name, len(those), _same(those))
                for name, has in FEATURES.items()
                if (those := [outcome for outcome in outcomes if has(outcome.drawn)])
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _same(outcomes: Sequence[Outcome]) -> int:
    return sum(not outcome.fault for outcome in outcomes)


def _by(outcomes: Sequence[Outcome], key: Callable[[Outcome], Any]) -> list[tuple[Any, ...]]:
    groups = {value: [outcome for outcome in outcomes if key(outcome) == value] for value in map(key, outcomes)}
    return [(value, len(those), _same(those)) for value, those in sorted(groups.items())]


def _table(head: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())


def _versions() -> str:
    found = []
    for name in ("numpy", "numba", "array-api-strict", "safetensors"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)

"""What a report says, as numbers and text: the part of it that ``python -m nn compare`` reads again."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..data import Dataset
from ..history import History
from ..model import Sequential
from ..trainer import Trainer
from ..version import __version__
from .convolutions import convolutions

#: The first entry of what a report holds; another number where it means something else.
FORMAT = "xpnet report 1"
#: Epochs that a report keeps of a longer history: the best and the last, and others at equal distances.
MOST_EPOCHS = 1000
MOST_MISTAKES = 24
#: Columns that may be drawn on a logarithmic scale: errors, which come near 0. Scores come near 1.
LOGARITHMIC = {"loss", "mae", "rmse"}
#: The figures of a regression in words.
REGRESSION = {"mae": "mean absolute error", "rmse": "root mean squared error", "r2": "R²"}
#: Of more classes there is no table.
MOST_CLASSES = 200
#: Columns of a history that are no curves of their own.
NO_CURVES = {"epoch", "seconds", "rows_per_second", "learning_rate", "interrupted"}
#: Points of a picture of predicted against true values.
MOST_POINTS = 600


def collect(
    trainer: Trainer,
    test: Dataset | None = None,
    *,
    title: str = "",
    command: str = "",
    settings: Mapping[str, Any] | None = None,
    rows: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Everything that a report says, made of numbers, text, lists and dicts; its arguments are ``write_report``'s."""
    model, history = trainer.model, trainer.history
    best, why_best = best_epoch(history)
    found = {
        "format": FORMAT,
        "run": history.run,
        "title": title,
        "command": command,
        "settings": dict(settings or {}),
        "network": {
            "layers": [repr(layer) for layer in model.layers],
            "parameters": model.parameter_count,
            "loss": trainer.loss.name,
            "optimizer": optimizer_text(trainer),
            "augment": "" if trainer.augment is None else str(trainer.augment),
            "seed": model.seed,
        },
        "rows": dict(rows or {}) | ({} if test is None else {"test": len(test)}),
        "history": columns_of(history, best),
        "epochs": len(history),
        "stopped": history.stopped,
        "best": {"epoch": best, "why": why_best, "kept": history.best_is_kept},
        "seconds": sum(record["seconds"] for record in history),
        "result": {} if test is None else trainer.evaluate(test),
        "environment": environment(trainer),
        "weights_sha256": weights_checksum(model),
    }
    if test is not None and test.has_classes and model.task == "classes":
        found["classes"] = of_classes(trainer, test)
    elif test is not None and model.task == "values" and not test.has_classes:
        found["values"] = of_values(trainer, test)
        found["result"] |= found["values"].pop("figures")
    found["result"] = {name: value if _is_finite(value) else None for name, value in found["result"].items()}
    return found


def best_epoch(history: History) -> tuple[int | None, str]:
    """The best epoch and by what it is the best: what training says, else the lowest validation loss."""
    if history.best_epoch is not None:
        return history.best_epoch, history.monitor
    losses = {record["epoch"]: record["val_loss"] for record in history if _is_finite(record.get("val_loss"))}
    return (min(losses, key=losses.__getitem__), "val_loss") if losses else (None, "")


def columns_of(history: History, best: int | None = None) -> dict[str, list[float | None]]:
    """The history by column, at most ``MOST_EPOCHS`` of it; None where an epoch lacks a number or it is not finite."""
    records = list(history)
    if len(records) > MOST_EPOCHS:
        kept = {round(index) for index in np.linspace(0, len(records) - 1, MOST_EPOCHS - 1)}
        records = [record for index, record in enumerate(records) if index in kept or record["epoch"] == best]
    names = dict.fromkeys(name for record in history for name in record)
    return {name: [_rounded(record.get(name)) for record in records] for name in names}


def curve_names(columns: Iterable[str]) -> list[str]:
    """What has a curve, ``loss`` first: columns of a history, each with its twin of the validation rows."""
    return list(dict.fromkeys(name.removeprefix("val_") for name in columns if name not in NO_CURVES))


def look_of(name: str) -> dict[str, bool]:
    """How a column, or that of the validation rows, is drawn: keywords of ``svg.curves``."""
    return {"percent": "accuracy" in name, "may_be_logarithmic": name.removeprefix("val_") in LOGARITHMIC}


def of_classes(trainer: Trainer, data: Dataset) -> dict[str, Any]:
    """The confusion matrix, precision, recall and f1 of each class unless there are many, and the surest mistakes."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    names = all_names(trainer.model, data)
    labels, predicted = list(range(len(names))), np.asarray(trainer.predict(data))
    correct = predicted == data.y
    found: dict[str, Any] = {"count": len(names), "correct": int(correct.sum()), "wrong": int((~correct).sum())}
    if len(names) <= MOST_CLASSES:
        columns = precision_recall_fscore_support(data.y, predicted, labels=labels, zero_division=0)
        found |= {
            "names": names,
            "confusion": confusion_matrix(data.y, predicted, labels=labels).tolist(),
            "table": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(*columns, strict=True)
            ],
        }
    surest = np.flatnonzero(~correct)
    if trainer.model.output_activation:  # without probabilities no mistake is surer than another
        confidence = probabilities_of(trainer, data)[np.arange(len(data)), predicted]
        surest = surest[np.argsort(-confidence[surest], kind="stable")]
        found["mistakes"] = [
            {
                "row": int(row),
                "predicted": names[predicted[row]],
                "probability": _rounded(float(confidence[row])),
                "label": names[data.y[row]],
            }
            for row in surest[:MOST_MISTAKES]
        ]
    if convolutions(trainer.model):
        found["examples"] = [
            {"row": row, "predicted": names[predicted[row]], "label": names[data.y[row]]}
            for row in examples_of(data.y, correct, surest)
        ]
    return found


def examples_of(labels: np.ndarray, correct: np.ndarray, wrong: np.ndarray) -> list[int]:
    """A row that is predicted correctly and the first of the ``wrong`` ones, as far as there are such rows; both of the
    same class, where one of that class is correct."""
    alike = np.flatnonzero(correct & (labels == labels[wrong[0]])) if len(wrong) else wrong
    right = alike if len(alike) else np.flatnonzero(correct)
    return [*map(int, right[:1]), *map(int, wrong[:1])]


def of_values(trainer: Trainer, data: Dataset) -> dict[str, Any]:
    """The figures of a regression, and some of its predicted values beside the true ones."""
    points = np.stack((data.y.ravel(), np.ravel(trainer.predict(data))), axis=-1)
    finite = points[np.isfinite(points).all(axis=1)]
    some = np.unique(np.linspace(0, len(finite) - 1, min(MOST_POINTS, len(finite))).round().astype(int))
    return {
        "figures": regression_figures(trainer, data),
        "points": [[_rounded(value) for value in point] for point in finite[some].tolist()],
        "all_points": len(points),
    }


def regression_figures(trainer: Trainer, data: Dataset) -> dict[str, float]:
    """Mean absolute error, root mean squared error and R2, as the metrics of these names have them: NaN where a
    prediction is not finite. R2 is left out for a single row, of which it says nothing."""
    names = [name for name in REGRESSION if name != "r2" or len(data) > 1]
    if not np.isfinite(trainer.predict(data)).all():
        return dict.fromkeys(names, float("nan"))
    found = trainer.evaluate(data, metrics=names)
    return {name: found[name] for name in names}


def all_names(model: Sequential, data: Dataset) -> list[str]:
    """The names of all classes that the data or the network can give."""
    names = list(data.class_names or ())
    return names + [str(label) for label in range(len(names), max(model.n_outputs, 2))]


def shortened(name: str, most: int) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def probabilities_of(trainer: Trainer, data: Dataset) -> np.ndarray:
    """The probability of each class, (m, n); one sigmoid output gives that of class 1, so that n is 2."""
    found: np.ndarray = trainer.predict_proba(data)
    return np.hstack((1 - found, found)) if found.shape[1] == 1 else found


def optimizer_text(trainer: Trainer) -> str:
    """The optimizer, its learning rate, and its other settings that are not their defaults, in words."""
    optimizer: Any = trainer.optimizer
    shown = [
        f"{setting.name.replace('_', ' ')} {_short(value)}"
        for setting in fields(optimizer)
        if (value := getattr(optimizer, setting.name)) != setting.default or setting.name == "learning_rate"
    ]
    return ", ".join((type(optimizer).__name__, *shown))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def environment(trainer: Trainer) -> dict[str, str]:
    """Versions and device: what may change the last bits of a run. Nothing here names a machine or a person."""
    backend = trainer.backend
    return {
        "xpnet": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "system": f"{platform.system()} on {platform.machine()}",
        "device": f"{backend.device.spec}: {backend.device.version()} on {backend.device.hardware()}",
        "numbers": backend.dtype_name,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def weights_checksum(model: Sequential) -> str:
    """SHA-256 of the arrays of ``model.state_dict()``, each after its name and its shape, in the order of their names.

    A model that was saved and loaded has the same one.
    """
    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(f"{name} {values.shape} ".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _rounded(value: Any) -> float | None:
    """A number of six digits: more are not seen, and would fill the page."""
    if not _is_finite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")

"""The figures of a run, held against those that its author reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data import Dataset
from ..trainer import Trainer


def figures(trainer: Trainer, train: Dataset, test: Dataset | None, predict: list[Any] | None = None) -> dict[str, Any]:
    """The figures of a run by name, as a recipe's ``[reproduced]`` speaks of them.

    ``start_loss``, and for each column of the history (``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``) its last
    value and, as ``loss@100``, that of an epoch; ``test_loss``, ``test_accuracy`` and the ``predictions`` of the first
    test rows; of networks with few rows ``train_loss``, ``output[0,0]``, ``layer 0[0,0]``, ``gradient 0.weight[0,0]``
    and ``prediction[0,0]``.
    """
    result: dict[str, Any] = {}
    for record in trainer.history:
        for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
            if column in record:
                result.setdefault(f"start_{column}", record[column])
                result[f"{column}@{record['epoch']}"] = result[column] = record[column]
    if test is not None:
        result |= {f"test_{name}": value for name, value in trainer.evaluate(test).items()}
        result["predictions"] = trainer.predict(test[:10]).tolist()
    if len(train) <= 10:
        arrays = {"output": trainer.model(train)}
        arrays |= {f"layer {name}": values for name, values in trainer.model.layer_outputs(train).items()}
        if predict:
            arrays["prediction"] = trainer.model(predict)
        if train.has_targets:
            result["train_loss"] = trainer.evaluate(train)["loss"]
            arrays |= {f"gradient {name}": values for name, values in trainer.gradients(train).items()}
        for name, values in arrays.items():
            for index in np.ndindex(values.shape):
                result[f"{name}[{','.join(map(str, index))}]"] = float(values[index])
    return result


def is_reproduced(name: str, value: Any, wanted: list[Any]) -> bool:
    """Whether a figure lies in its range, or the first predictions are those wanted."""
    if name == "predictions":
        return list(value[: len(wanted)]) == wanted
    low, high = wanted
    return bool(low <= value <= high)


def figure_text(name: str, value: Any) -> str:
    """A figure in its usual form: accuracies in percent."""
    if name == "predictions":
        return ", ".join(str(label) for label in value)
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:.16g}" if "[" in name else f"{value:.5g}"


def reproduced_text(
    found: dict[str, Any], author: dict[str, str], reproduced: dict[str, list[Any]], changed: Sequence[str] = ()
) -> str:
    """A table: what the author of a system reports, the range that counts as reproduced, and what this run gave.

    Where flags have ``changed`` the problem, no figure of this run is one of the author's: the ranges are left out, and
    a line beneath says so.
    """
    if changed:
        table = reproduced_text(found, author, {name: [] for name in reproduced})
        return f"{table}\nnothing is reproduced: {', '.join(changed)} made this another run than the author's"
    rows = [("figure", "the author", "reproduced if in", "this run", "")]
    for name in dict.fromkeys([*author, *reproduced]):
        if name not in found:
            continue
        wanted = reproduced.get(name) or None
        value = found[name][: len(wanted or [])] if name == "predictions" else found[name]
        verdict = "" if wanted is None else "yes" if is_reproduced(name, value, wanted) else "no"
        rows.append((name, author.get(name, ""), span_text(name, wanted), figure_text(name, value), verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def span_text(name: str, wanted: list[Any] | None) -> str:
    """The range that counts as reproduced, in words; empty where there is none."""
    if wanted is None or name == "predictions":
        return "" if wanted is None else figure_text(name, wanted)
    low, high = (figure_text(name, bound) for bound in wanted)
    return low if low == high else f"{low} to {high}"

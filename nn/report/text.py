"""What a run is told by at its end: text for the terminal. Metrics are scikit-learn's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data import Dataset
from ..messages import printable
from ..trainer import Trainer


def result_text(result: Mapping[str, float], rows: int) -> str:
    """What ``Trainer.evaluate`` gives for so many test rows, in a line."""
    parts = [f"loss {result['loss']:.5f}"]
    if "accuracy" in result:
        accuracy = result["accuracy"]
        parts = [f"accuracy {accuracy:.2%} ({round(accuracy * rows):,} of {rows:,})", *parts]
    parts += [f"{name} {value:.5g}" for name, value in result.items() if name not in ("accuracy", "loss")]
    return f"test {', '.join(parts)}"


def classification_text(trainer: Trainer, data: Dataset, rows_are: str = "true") -> str:
    """Precision, recall, f1 and support of each class, and the confusion matrix.

    Args:
        data: rows with class labels.
        rows_are: ``"true"``: a row of the matrix for each true class, as scikit-learn has it; ``"predicted"``: for each
            predicted class.
    """
    from sklearn.metrics import classification_report, confusion_matrix

    predicted, labels, names = trainer.predict(data), list(range(data.n_classes)), _names(data)
    table = classification_report(data.y, predicted, labels=labels, target_names=names, digits=4, zero_division=0)
    matrix = confusion_matrix(data.y, predicted, labels=labels)
    if rows_are == "predicted":
        matrix = matrix.T
    columns = "predicted" if rows_are == "true" else "true"
    width = max(len(str(matrix.max())), *(len(name) for name in names)) + 2
    lines = ["".join(f"{cell:>{width}}" for cell in ["", *names])]
    lines += ["".join(f"{cell:>{width}}" for cell in [name, *row]) for name, row in zip(names, matrix, strict=True)]
    head = f"confusion matrix: rows are the {rows_are} classes, columns the {columns}"
    return "\n".join((table, head, *lines))


def predictions_text(trainer: Trainer, data: Dataset, count: int) -> str:
    """What is predicted for the first ``count`` rows beside what is true: classes by their names, or values."""
    first = data[:count]
    predicted = np.asarray(trainer.predict(first)).tolist()
    if data.has_classes:
        names = dict(enumerate(_names(data)))  # with more outputs than classes, a guess may be none of them
        cells = [(names.get(guess, str(guess)), names[label]) for guess, label in zip(predicted, first.y, strict=True)]
        head = ("predicted", "label")
    else:
        cells = [(_value_text(guess), _value_text(true)) for guess, true in zip(predicted, first.y, strict=True)]
        head = ("predicted", "true")
    widths = [max(map(len, column)) + 2 for column in zip(head, *cells, strict=True)]
    marks = ["", *("  wrong" if data.has_classes and guess != label else "" for guess, label in cells)]
    lines = [f"{a:>{widths[0]}}{b:>{widths[1]}}{mark}" for (a, b), mark in zip((head, *cells), marks, strict=True)]
    return "\n".join((f"the first {len(first)} test rows", *lines))


def _names(data: Dataset) -> list[str]:
    """The names of the classes, as a terminal may show them."""
    return [printable(name) for name in data.class_names or ()]


def _value_text(value: Any) -> str:
    return ", ".join(f"{number:.5g}" for number in np.ravel(value))


def inside_text(trainer: Trainer, data: Dataset, show: list[str], predict: list[Any] | None) -> str:
    """The inside of a tiny network: ``show`` names ``outputs``, ``layers``, ``loss`` or ``gradients``."""
    lines = []
    if "layers" in show:
        lines += [f"layer {name}: {values.tolist()}" for name, values in trainer.model.layer_outputs(data).items()]
    elif "outputs" in show:
        lines.append(f"outputs: {trainer.model(data).tolist()}")
    if "loss" in show:
        lines.append(f"loss: {trainer.evaluate(data)['loss']}")
    if "gradients" in show:
        lines += [f"gradient of {name}: {values.tolist()}" for name, values in trainer.gradients(data).items()]
    for row, output in zip(predict or [], trainer.model(predict) if predict else [], strict=True):
        lines.append(f"{row} -> {output.tolist()}")
    return "\n".join(lines)

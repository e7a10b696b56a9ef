"""Targets as a loss needs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.arguments import check_choice, check_flag, check_whole_number

from .checks import DataError, check_labels, check_numbers, check_values, first_true, floats_of
from .dataset import Dataset


def targets_of(data: Dataset, kind: str, n_outputs: int, unit_interval: bool) -> np.ndarray:
    """``encode_targets`` of a data set, whose class labels were checked when it was made and are not read again."""
    if kind == "classes" and 0 < data.n_classes <= n_outputs:
        return data.y
    return encode_targets(data.y, kind, n_outputs, unit_interval)


def encode_targets(y: Any, kind: str, n_outputs: int, unit_interval: bool = False) -> np.ndarray:
    """Targets as a network with ``n_outputs`` outputs and its loss need them.

    Args:
        y: labels (n,) or (n, 1), one-hot rows (n, k), or values (n,) or (n, k), of any array library.
        kind: ``"classes"`` for softmax cross-entropy: int64 (n,), each in [0, n_outputs). ``"values"`` for the other
            losses: float32 or float64 (n, n_outputs); integer labels become one-hot, or stay 0 and 1 for one output.
        unit_interval: values must lie in [0, 1], as binary cross-entropy needs.

    Raises:
        DataError: naming the first row that does not fit, or the number of columns.
    """
    check_choice("kind", kind, ("classes", "values"))
    n_outputs = check_whole_number("n_outputs", n_outputs)
    unit_interval = check_flag("unit_interval", unit_interval)
    y = check_numbers(y, "y")
    if y.ndim == 2 and y.shape[1] == 0:
        raise DataError("these rows have no targets; pass (x, y)")
    outputs = f"the network has {n_outputs} output{'s' if n_outputs != 1 else ''}"
    if kind == "classes":
        return check_labels(y, n_classes=n_outputs, reason=outputs)[0]
    if y.dtype.kind != "f" and (y.ndim == 1 or y.shape == (len(y), 1)):
        return _labels_as_values(y, n_outputs, outputs)
    values = check_values(y if y.dtype.kind == "f" or not y.size else floats_of(y))
    columns = 1 if values.ndim == 1 else values.shape[1]
    if columns != n_outputs:
        raise DataError(
            f"y has {columns} value{'s' if columns != 1 else ''} a row, but {outputs}; "
            "change the last layer, or pass integers if they are class labels"
        )
    values = values.reshape(-1, n_outputs)
    outside = (values < 0) | (values > 1)
    if unit_interval and outside.any():
        row, column = first_true(outside)
        raise DataError(f"y[{row}] is {values[row, column]}, but this loss needs targets from 0 to 1; rescale them")
    return values


def _labels_as_values(y: np.ndarray, n_outputs: int, outputs: str) -> np.ndarray:
    if n_outputs == 1:
        labels, _ = check_labels(y, n_classes=2, reason=f"{outputs}; pass floats to fit values")
        return labels.astype(np.float32).reshape(-1, 1)
    labels, _ = check_labels(y, n_classes=n_outputs, reason=outputs)
    one_hot = np.zeros((len(labels), n_outputs), dtype=np.float32)
    one_hot[np.arange(len(labels)), labels] = 1.0
    return one_hot

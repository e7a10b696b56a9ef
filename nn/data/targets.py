"""Targets as a loss needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from backends.arguments import check_choice, check_flag, check_whole_number

from .checks import DataError, check_labels, check_numbers, check_values, first_true, floats_of
from .dataset import Dataset
from .streamed.converted import ClassLabels
from .streamed.dataset import StreamedDataset

_NO_TARGETS = "these rows have no targets; pass (x, y)"


def targets_of(data: Dataset, kind: str, n_outputs: int, unit_interval: bool) -> np.ndarray:
    """``encode_targets`` of a data set, whose class labels were checked when it was made and are not read again."""
    if kind == "classes" and 0 < data.n_classes <= n_outputs:
        return data.y
    return encode_targets(data.y, kind, n_outputs, unit_interval)


def windows_of(data: StreamedDataset, kind: str, n_outputs: int, unit_interval: bool) -> Callable[..., np.ndarray]:
    """What makes targets, as ``encode_targets`` does, of those of rows that are read window by window, and of the
    number of the first of these.

    Raises:
        DataError: there are none, or they do not fit the network; what is wrong in a row is found when it is read.
    """
    if kind == "classes" and data.has_classes:
        if data.n_classes > n_outputs:
            encode_targets(data.y, kind, n_outputs)  # which names the first that does not fit, if there is one
        return _as_they_are

    def encode(y: np.ndarray, first: int = 0) -> np.ndarray:
        return _encoded(y, kind, n_outputs, unit_interval, first)

    return encode


def _as_they_are(y: np.ndarray, first: int = 0) -> np.ndarray:
    return y


def with_labels_read(data: StreamedDataset, names: tuple[str, ...]) -> StreamedDataset:
    """The same rows; their targets, numbers or one-hot rows, are the labels of these classes, and checked as they are
    read."""
    if data.targets is None:
        raise DataError(_NO_TARGETS)
    reason = f"the network has {len(names)} outputs"
    return replace(data, targets=ClassLabels(data.targets, len(names), reason), class_names=names)


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
    return _encoded(check_numbers(y, "y"), kind, n_outputs, unit_interval)


def _encoded(y: np.ndarray, kind: str, n_outputs: int, unit_interval: bool, first: int = 0) -> np.ndarray:
    """``encode_targets`` of numbers of which the first ``first`` rows are elsewhere."""
    if y.ndim == 2 and y.shape[1] == 0:
        raise DataError(_NO_TARGETS)
    outputs = f"the network has {n_outputs} output{'s' if n_outputs != 1 else ''}"
    if kind == "classes":
        return check_labels(y, n_classes=n_outputs, reason=outputs, first=first)[0]
    if y.dtype.kind != "f" and (y.ndim == 1 or y.shape == (len(y), 1)):
        return _labels_as_values(y, n_outputs, outputs, first)
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
        raise DataError(
            f"y[{first + row}] is {values[row, column]}, but this loss needs targets from 0 to 1; rescale them"
        )
    return values


def _labels_as_values(y: np.ndarray, n_outputs: int, outputs: str, first: int) -> np.ndarray:
    if n_outputs == 1:
        labels, _ = check_labels(y, n_classes=2, reason=f"{outputs}; pass floats to fit values", first=first)
        return labels.astype(np.float32).reshape(-1, 1)
    labels, _ = check_labels(y, n_classes=n_outputs, reason=outputs, first=first)
    one_hot = np.zeros((len(labels), n_outputs), dtype=np.float32)
    one_hot[np.arange(len(labels)), labels] = 1.0
    return one_hot

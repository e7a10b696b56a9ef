"""What ``fit`` is given: rows to train on, rows to evaluate on, and what each row counts."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from .data import Dataset
from .data.targets import targets_of
from .data.weights import by_class, weighted
from .feed import Rows
from .losses import Loss
from .model import Sequential


def check_owner(trainer: Any, *given: Any) -> None:
    """Raise a ValueError for rows on the device that another trainer has uploaded."""
    for rows in given:
        if isinstance(rows, Rows) and rows.owner() is not trainer:
            raise ValueError("these rows were uploaded by another Trainer; let this one upload them")


def training_and_validation(
    model: Sequential, loss: Loss, train: Any, validation: Any, sample_weight: Any, class_weight: Any
) -> tuple[Any, Any]:
    """The rows to train on, with their weights, and those to evaluate on, which may be a fraction of the former.

    Args:
        train, validation, sample_weight, class_weight: as ``Trainer.fit`` takes them.

    Raises:
        ValueError, TypeError: they cannot be used, or do not fit the network.
    """
    if isinstance(validation, bool):
        raise TypeError(f"validation is rows, or the fraction or number of rows to hold out, not {validation}")
    is_fraction = isinstance(validation, Real)  # NumPy's numbers, too
    if isinstance(train, Rows):
        if is_fraction:
            raise ValueError("rows that are on the device are not split; split their Dataset before upload")
        if not (sample_weight is None and class_weight is None):
            raise ValueError("rows that are on the device take no other weights; give them to their Dataset before")
        return train, validation
    train = with_labels(weighted(model.dataset(train), sample_weight), loss, model.n_outputs)
    if is_fraction:
        part = int(validation) if isinstance(validation, Integral) else float(validation)
        train, validation = train.split(part, seed=model.seed)
    if class_weight is not None:
        train = by_class(train, class_weight)
    return train, validation


def with_labels(data: Dataset, loss: Loss, n_outputs: int) -> Dataset:
    """The same rows; for a loss of classes with class labels, which may have been floats or one-hot before."""
    if loss.targets != "classes" or data.has_classes:
        return data
    labels = targets_of(data, "classes", n_outputs, False)
    return replace(data, y=labels, class_names=tuple(str(label) for label in range(n_outputs)))

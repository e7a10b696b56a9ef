"""Class labels by name: from text, numbers and booleans to class numbers 0, 1, ... and the names of the classes.

Whole numbers that begin with 0 are class numbers: a class without a row keeps its number. All other labels are names,
sorted as scikit-learn's ``LabelEncoder`` sorts them: 1, 2, 3 are three classes with these names, and so are -1 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .checks import LARGEST_LABEL, DataError, check_labels

Names = tuple[str, ...]


def numbered(n_classes: int) -> Names:
    """The names of classes that are known by their numbers: "0", "1", ..."""
    return tuple(str(label) for label in range(n_classes))


def are_numbers(names: Sequence[str] | None) -> bool:
    """Whether classes have no names but their numbers."""
    return not names or tuple(names) == numbered(len(names))


def classes_of(labels: np.ndarray, known: Names | None, place: Callable[[int], str]) -> tuple[np.ndarray, Names]:
    """Class numbers int64 (n,) and the names of the classes, from labels (n,): text (str), int64 or bool.

    Args:
        known: the names that the model knows; None: they follow from these labels.
        place: what messages call a row, as in ``y[3]``.

    Raises:
        DataError: naming the first label that is not known, or a number that looks like a value.
    """
    if known and not are_numbers(known):
        return _looked_up(labels, known, place), known
    if labels.dtype.kind == "b":
        return labels.astype(np.int64), ("False", "True")
    if labels.dtype.kind == "i" and labels.min() == 0:
        if labels.max() > LARGEST_LABEL:
            check_labels(labels, place(int(labels.argmax())).partition("[")[0])
        return labels, numbered(int(labels.max()) + 1)
    names, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), tuple(str(name) for name in names)


def _looked_up(labels: np.ndarray, known: Names, place: Callable[[int], str]) -> np.ndarray:
    """Their numbers among the known names. Integers are class numbers, where no class has a number for its name."""
    given, numbers = np.unique(labels, return_inverse=True)
    index = {name: number for number, name in enumerate(known)}
    if labels.dtype.kind == "i" and not any(is_integer(name) for name in known):
        index = {str(number): number for number in range(len(known))}
    table = np.array([index.get(str(label), -1) for label in given.tolist()], dtype=np.int64)
    found = table[numbers.reshape(labels.shape)]
    if (found < 0).any():
        row = int((found < 0).argmax())
        raise DataError(
            f"{place(row)} is {labels[row].item()!r}, a class that is not among those of the training rows: "
            f"{listed(known)}; correct the label or remove the row"
        )
    return found


def is_integer(name: str) -> bool:
    """Whether a name is written as a whole number."""
    return name.removeprefix("-").isdecimal()


def listed(names: Sequence[Any], most: int = 8) -> str:
    """Names for a message: the first few, and how many there are."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"

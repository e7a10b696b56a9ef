"""Class labels by name: from text, numbers and booleans to class numbers 0, 1, ... and the names of the classes.

Whole numbers that begin with 0 are class numbers: a class without a row keeps its number. All other labels are names,
sorted as scikit-learn's ``LabelEncoder`` sorts them: 1, 2, 3 are three classes with these names, and so are -1 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..messages import OneSentence
from .checks import LARGEST_LABEL, DataError, DataTypeError, check_labels, check_numbers, warn_user
from .frames import frame_values
from .values import column_of, is_absent, is_frame, is_series, library_of, listed, objects_of

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


def _looked_up(labels: np.ndarray, known: Names, place: Callable[[int], str], as_written: bool = False) -> np.ndarray:
    """Their numbers among the known names. Where names are whole numbers, integers may be meant as names or as class
    numbers; unless they are ``as_written``, what fits both ways is refused."""
    given, numbers = np.unique(labels, return_inverse=True)
    index = {name: number for number, name in enumerate(known)}
    found = np.array([index.get(str(label), -1) for label in given.tolist()], dtype=np.int64)
    if labels.dtype.kind == "i" and not as_written:
        are_numbers_too = given.min() >= 0 and given.max() < len(known)
        if are_numbers_too and (found >= 0).all() and (found != given).any():
            row = int((labels == given[int((found != given).argmax())]).argmax())
            raise DataError(
                f"{place(row)} is {labels[row]}, which is both a class number and the name of a class (these are "
                f"{listed(known)}): pass labels as text if they are names, or a Dataset with its class_names"
            )
        if are_numbers_too and (found < 0).any():
            found = given.astype(np.int64)
    result = found[numbers.reshape(labels.shape)]
    if (result < 0).any():
        row = int((result < 0).argmax())
        raise DataError(
            f"{place(row)} is {labels[row].item()!r}, a class that is not among those of the training rows: "
            f"{listed(known)}; correct the label or remove the row"
        )
    return result


def labels_of_file(y: np.ndarray, name: str, known: Names | None) -> tuple[np.ndarray, Names]:
    """Class numbers and names from what ``read_labels`` gives of an array of a file, called ``name``.

    Args:
        known: the names of the training rows, of which each label must be one; None: these are the training rows.

    Raises:
        DataError: naming the first that is no class.
    """

    def place(row: int) -> str:
        return f"{name}[{row}]"

    if (y.ndim == 2 and y.shape[1] > 1) or not y.size:
        labels, n_classes = check_labels(y, name, len(known) if known else None, "the labels of y_train")
        return labels, known or numbered(n_classes)
    y = y.reshape(-1)
    if y.dtype.kind in "Ub":
        return (_looked_up(y, known, place), known) if known else classes_of(y, None, place)
    if known is not None and are_numbers(known):
        return check_labels(y, name, len(known), "the labels of y_train")[0], known
    whole = y == np.floor(y) if y.dtype.kind == "f" else np.ones(len(y), bool)
    if (known is None and whole.all() and y.min() == 0) or not whole.all() or np.abs(y).max() > LARGEST_LABEL:
        labels, n_classes = check_labels(y, name)
        return labels, numbered(n_classes)
    whole_numbers = y.astype(np.int64)
    return (_looked_up(whole_numbers, known, place, True), known) if known else classes_of(whole_numbers, None, place)


def read_labels(y: Any, name: str) -> np.ndarray:
    """Targets of any kind as an array of numbers, or of text (dtype ``U``), (n,) or (n, k).

    Raises:
        DataTypeError: they are neither; naming the first that is missing, or is text among numbers.
    """
    if is_frame(y):
        y = column_of(y, 0) if y.shape[1] == 1 else frame_values(y, name)
    if is_series(y):
        y = _of_series(y)
    if not hasattr(y, "dtype") and not isinstance(y, list | tuple):
        return check_numbers(y, name)
    array = y if isinstance(y, np.ndarray) else None
    if array is None and isinstance(y, list | tuple):
        try:
            array = np.array(y, dtype=object) if _holds_text(y) else None
        except ValueError:
            array = None
    if array is None or isinstance(array, np.ma.MaskedArray) or array.dtype.kind not in "OUT":
        return check_numbers(y, name)
    values = array.reshape(-1).tolist() if array.ndim == 1 or array.shape == (len(array), 1) else None
    if not values:
        return check_numbers(y, name)
    for row, value in enumerate(values):
        if is_absent(value):
            raise DataTypeError(f"{name}[{row}] is missing ({value}); put a label there or remove the row")
    texts = [isinstance(value, str) for value in values]
    if not any(texts):
        return check_numbers(np.array(values), name)
    if not all(texts):
        row = texts.index(not texts[0])
        raise DataTypeError(
            f"{name}[{row}] is {values[row]!r}, but {name}[0] is {values[0]!r}; labels are all text or all numbers"
        )
    return np.array(values)


def _holds_text(values: Any) -> bool:
    return any(isinstance(value, str) or (isinstance(value, list | tuple) and _holds_text(value)) for value in values)


def _of_series(y: Any) -> Any:
    """A column of pandas or polars as NumPy has it; as objects where values are missing or no numbers."""
    if library_of(y) == "polars":
        return objects_of(y) if y.null_count() or not y.dtype.is_numeric() else y.to_numpy()
    if isinstance(y.dtype, np.dtype) and y.dtype.kind in "biuf":
        return np.asarray(y)
    values = np.asarray(y, dtype=object)
    kind = getattr(y.dtype, "kind", "O")
    return np.array(values.tolist()) if kind in "biuf" and not any(is_absent(v) for v in values.tolist()) else values


class LabelsWarning(OneSentence, UserWarning):
    """Integer labels that are names of classes, and so not what ``predict`` gives."""


def warn_of_names(names: Names) -> None:
    """Say which number each class has."""
    warn_user(
        f"the labels {listed(names)} are names of classes, which are numbered 0 to {len(names) - 1}: predict gives "
        "these numbers, and predict_names the labels",
        LabelsWarning,
    )

"""Input validation: what cannot be used is named by position and remedy, ``y[3] is -1, ...``, counted from 0 as in
NumPy.

In all of them ``name`` is how messages call the array: "x", or "digits.npz: x_train".
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from backends.arguments import ArgumentTypeError, check_text, check_whole_number, is_number, shown
from backends.devices import as_numpy

from ..messages import OneSentence, sentence
from .unusable import why_unusable

#: A label above this is taken for a value that was meant as a regression target.
LARGEST_LABEL = 100_000
#: float32 holds every integer up to here exactly.
EXACT_IN_FLOAT32 = 2**24


class DataError(OneSentence, ValueError):
    """Data that cannot be used; the message is one sentence: where, what is wrong, and what to do."""


class UnreadableError(DataError):
    """A file that cannot be read just now, whatever is in it."""


class DataTypeError(DataError, TypeError):
    """Data of a kind that cannot be used: text, objects, ragged lists."""


def check_numbers(values: Any, name: str) -> np.ndarray:
    """``values`` as a NumPy array of numbers in native byte order.

    Raises:
        DataTypeError: it is text, or no array of numbers.
    """
    _refuse_masked(values, name)
    try:
        return as_numpy(values)
    except TypeError as error:
        raise DataTypeError(why_unusable(values, name, str(error))) from None


def _refuse_masked(values: Any, name: str) -> None:
    """NumPy would give what stands under the mask."""
    if isinstance(values, list | tuple):
        for index, row in enumerate(values):
            if isinstance(row, np.ma.MaskedArray):
                _refuse_masked(row, f"{name}[{index}]")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        where = ", ".join(str(i) for i in first_true(np.ma.getmaskarray(values)))
        raise DataError(f"{name}[{where}] is masked; give {name}.filled(value), or leave out the row")


def check_rows(values: Any, name: str = "x") -> np.ndarray:
    """Rows (n, ...) as uint8, float32 or float64: numbers, at least one row and one feature, all finite."""
    x = check_numbers(values, name)
    if x.ndim < 2 or x.ndim > 4:
        raise DataError(
            f"{name} has shape {x.shape}, but rows are (n, features) or pictures (n, height, width[, channels]); "
            "reshape(1, -1) makes one row, reshape(-1, 1) one feature"
        )
    if x.size == 0:
        raise DataError(f"{name} is empty (shape {x.shape}); at least one row and one feature are needed")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind == "f":
        x = _two_floats(x)
        check_finite(x, name)
        return x
    return floats_of(x)


def floats_of(x: np.ndarray) -> np.ndarray:
    """Integers or bool as float32, or as float64 where float32 does not hold them exactly."""
    exact = max(-int(x.min()), int(x.max())) <= EXACT_IN_FLOAT32
    return x.astype(np.float32 if exact else np.float64)


def _two_floats(x: np.ndarray) -> np.ndarray:
    """float32 and float64 as they are, float16 as float32, wider ones as float64."""
    with np.errstate(over="ignore"):  # what is beyond float64 is infinite, which is refused
        return x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64, copy=False)


def check_finite(x: np.ndarray, name: str, first: int = 0) -> None:
    """Raises DataError at the first NaN or infinity of the float array ``x``, whose first row is row ``first``."""
    # NaN goes through min and max, which, unlike isfinite, need no array as large as the data.
    if np.isfinite(x.min()) and np.isfinite(x.max()):
        return
    where = first_true(~np.isfinite(x))
    raise DataError(f"{name}[{_index(where, first)}] is {x[where]}; remove the row or put a number there")


def _index(where: tuple[int, ...], first: int) -> str:
    """An index as one writes it, in an array of which the first ``first`` rows are left out."""
    return ", ".join(str(i) for i in (where[0] + first, *where[1:]))


def check_range(x: np.ndarray, name: str, dtype: str, first: int = 0) -> None:
    """Raises DataError at the first number of ``x`` beyond the largest of ``dtype``, which a network computes in; the
    first row of ``x`` is row ``first``."""
    if dtype != "float32" or x.dtype != np.float64 or not x.size:
        return
    largest = float(np.finfo(np.float32).max)
    if max(float(x.max()), -float(x.min())) <= largest:
        return
    where = first_true(np.abs(x) > largest)
    raise DataError(
        f"{name}[{_index(where, first)}] is {x[where]:g}, but the network computes in float32, which ends at 3.4e38; "
        "correct or rescale it, or let the network compute in float64"
    )


def check_same_length(x: np.ndarray, y: np.ndarray, x_name: str = "x", y_name: str = "y") -> None:
    """Raises DataError unless there is one target for each row."""
    if y.ndim == 0 or len(x) != len(y):
        n_targets = len(y) if y.ndim else "no"
        raise DataError(
            f"{x_name} has {len(x)} rows but {y_name} has {n_targets}; rows are examples, and each needs one target"
        )


def check_labels(
    y: np.ndarray, name: str = "y", n_classes: int | None = None, reason: str = "", first: int = 0
) -> tuple[np.ndarray, int]:
    """Class labels (n,) int64 and the number of classes.

    Args:
        y: whole numbers of any dtype, (n,) or (n, 1), or (n, k) one-hot.
        n_classes: how many classes there are; None finds out: k of one-hot rows, else the largest label + 1.
        reason: why there are so many, for the message.
        first: the number of the first row of y, for the message.

    Raises:
        DataError: naming the first row whose label is fractional, negative, too large, or not one-hot.
    """
    check_text("name", name)
    check_text("reason", reason)
    first = check_whole_number("first", first, 0)
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biuf":
        raise DataTypeError(f"{name} must be a NumPy array of numbers, not {shown(y)}")
    if n_classes is not None:
        n_classes = check_whole_number("n_classes", n_classes)
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"{name} has shape {y.shape}, but class labels are (n,), or (n, k) one-hot, with n at least 1")
    if y.ndim == 2 and y.shape[1] > 1:
        return _labels_of_one_hot(y, name, n_classes, reason, first)
    y = _two_floats(y.reshape(-1)) if y.dtype.kind == "f" else y.reshape(-1)
    end = LARGEST_LABEL + 1 if n_classes is None else n_classes
    bad = (y < 0) | (y >= end)
    if y.dtype.kind == "f":
        bad |= y != np.floor(y)  # NaN, too
    if bad.any():
        (row,) = first_true(bad)
        raise DataError(f"{name}[{first + row}] is {y[row]}, {_what_is_wrong(float(y[row]), n_classes, reason)}")
    labels = y.astype(np.int64)
    return labels, n_classes or int(labels.max()) + 1


TO_FIT_VALUES = "to fit values, give the trainer a float array and a loss for values"


def _what_is_wrong(label: float, n_classes: int | None, reason: str = "") -> str:
    if not math.isfinite(label) or label != math.floor(label):
        return f"which is no class; labels are whole numbers from 0 ({TO_FIT_VALUES})"
    if n_classes is not None:
        because = f" ({reason})" if reason else ""
        return f"outside the classes 0 to {n_classes - 1}{because}; correct the label or remove the row"
    if label < 0:
        renumber = "renumber the classes (sklearn.preprocessing.LabelEncoder does)"
        return f"but labels count from 0; {renumber}, or pass floats to fit values"
    return f"which looks like a value, not a class; renumber the classes from 0 ({TO_FIT_VALUES})"


def label_problem(label: float) -> str | None:
    """What is wrong with a number as a class label, as the end of a sentence, or None."""
    if not is_number(label):
        raise ArgumentTypeError(f"label must be a number, not {shown(label)}")
    fits = math.isfinite(label) and 0 <= label <= LARGEST_LABEL and label == math.floor(label)
    return None if fits else _what_is_wrong(label, None)


def _labels_of_one_hot(
    y: np.ndarray, name: str, n_classes: int | None, reason: str, first: int
) -> tuple[np.ndarray, int]:
    columns = y.shape[1]
    if n_classes is not None and columns != n_classes:
        because = f" ({reason})" if reason else ""
        raise DataError(
            f"{name} has {columns} columns, but one-hot rows need one for each of {n_classes} classes{because}"
        )
    bad = ~is_one_hot(y)
    if bad.any():
        (row,) = first_true(bad)
        raise DataError(
            f"{name}[{first + row}] is not one-hot; a row of class labels has one 1 and zeros, or pass labels (n,)"
        )
    return y.argmax(axis=1).astype(np.int64), columns


def is_one_hot(y: np.ndarray) -> np.ndarray:
    """Which rows of (n, k) have exactly one 1 and zeros: (n,) bool."""
    ones = y == 1
    rows: np.ndarray = ((y == 0) | ones).all(axis=1) & (ones.sum(axis=1) == 1)
    return rows


def check_values(y: np.ndarray) -> np.ndarray:
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"y has shape {y.shape}, but targets are (n,) or (n, k), with at least one row and column")
    y = _two_floats(y)
    check_finite(y, "y")
    return y


def check_weights(weights: np.ndarray, rows: int, name: str = "weights") -> np.ndarray:
    """Weights of rows (n,) or (n, 1) as floats (n,).

    Raises:
        DataError: there is not one for each of so many rows, or one is negative or not finite.
    """
    if weights.ndim == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    if weights.shape != (rows,):
        raise DataError(f"{name} has shape {weights.shape}, but each of the {rows} rows needs one weight: ({rows},)")
    weights = _two_floats(weights) if weights.dtype.kind == "f" else weights.astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        (row,) = first_true(bad)
        raise DataError(f"{name}[{row}] is {weights[row]}, but a weight is a finite number of at least 0")
    return weights


def first_true(bad: np.ndarray) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))


def warn_user(message: str, kind: type[UserWarning]) -> None:
    """Warn about code outside this package."""
    warnings.warn(sentence(message), kind, stacklevel=callers_level())


def callers_level() -> int:
    """The ``stacklevel`` at which the caller of this function's caller warns about code outside this package."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level

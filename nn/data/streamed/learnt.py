"""What is learnt of rows and targets before any is trained on: their dtype, whether they are pixels, the classes.

Rows are looked at evenly, as ``reading.looked_at`` says, targets are read whole, as they are few numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..checks import (
    EXACT_IN_FLOAT32,
    LARGEST_LABEL,
    DataError,
    DataTypeError,
    check_finite,
    is_one_hot,
    label_problem,
)
from ..labels import Names, classes_of, numbered, warn_of_names
from ..units import DARKEST_WHITE, PIXEL_SCALE, are_bytes, may_be_pictures, square
from .converted import CheckedNumbers, ClassLabels, Converted, LabelsByName
from .reading import PIECE, looked_at, parts_of, pieces, row_bytes
from .source import Source


class LearntRows(NamedTuple):
    """Rows in the dtype that they are used in, their scale, and their shape where they are pictures."""

    rows: CheckedNumbers
    scale: float
    image_shape: tuple[int, ...] | None


def learnt_rows(source: Source, *, all_rows: bool, pixels: bool, dtype: str | None) -> LearntRows:
    """What ``nn.data.rows.pack`` decides of rows in memory.

    Args:
        all_rows: whether all are looked at.
        pixels: whether they may turn out to be pixels, to be scaled.
        dtype: of integers that are no pixels; None: float32 where they fit.

    Raises:
        DataError: a number is NaN or infinite.
    """
    n, stored = source.shape[0], source.dtype
    may_be_pixels = pixels and may_be_pictures(source.shape)
    is_wide = stored.kind in "iu" and stored.itemsize > 2
    low, high = 0.0, 0.0
    if may_be_pixels or (is_wide and dtype is None):
        size = row_bytes(source)
        ranges = [(0, n)] if all_rows else looked_at(n, size, source.chunk)
        most = max(PIECE // size, 1)
        for start, stop in ((a + start, a + stop) for a, b in ranges for start, stop in pieces(b - a, most)):
            part = np.empty((stop - start, *source.shape[1:]), stored)
            source.read(start, stop, part)
            if stored.kind == "f":
                check_finite(part, source.name, start)
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            may_be_pixels = may_be_pixels and are_bytes(part)
            if not may_be_pixels and not (is_wide and dtype is None):
                break
    image_shape = source.shape[1:] if len(source.shape) > 2 else None
    if may_be_pixels and high > DARKEST_WHITE:
        return LearntRows(CheckedNumbers(source, np.uint8), PIXEL_SCALE, image_shape or square(source.shape[1]))
    if stored == np.uint8:
        chosen = "uint8"
    elif stored.kind == "f":
        chosen = "float32" if stored.itemsize <= 4 else "float64"
    else:
        chosen = dtype or ("float32" if max(-low, high) <= EXACT_IN_FLOAT32 else "float64")
    return LearntRows(CheckedNumbers(source, chosen), 1.0, image_shape)


def learnt_targets(
    source: Source,
    known: Names | None = None,
    n_classes: int | None = None,
    *,
    trained: bool = False,
    of_file: bool = False,
    whole_floats: bool = False,
) -> tuple[Converted, Names | None]:
    """Class labels and the names of the classes, or values and None, as ``as_dataset`` decides it.

    Args:
        known: the names of the classes.
        n_classes: how many classes a network tells apart.
        trained: whether it was trained on classes, which have no names unless they are ``known``.
        of_file: whether it is decided as for the targets of a file: one-hot rows are class labels, and so are integers
            that do not begin with 0, by which classes are called.
        whole_floats: whether whole numbers that are floats are class labels, too.

    Raises:
        DataError: a label is no class.
        DataTypeError: it is text, which the network was not trained on, or nothing that could be targets.
    """
    kind, shape, name = source.dtype.kind, source.shape, source.name
    if kind not in "biufU":
        raise DataTypeError(
            f"{name} holds neither numbers nor text (it has type {source.dtype}); store labels or values"
        )
    if len(shape) not in (1, 2) or 0 in shape:
        raise DataError(f"{name} has shape {shape}, but targets are (n,) or (n, k), with at least one row and column")
    several = len(shape) == 2 and shape[1] > 1
    if of_file and several and kind != "U" and _all_are(is_one_hot, source):
        return ClassLabels(source, len(known or ()) or shape[1]), known or numbered(shape[1])
    if kind == "f" and whole_floats and not several and _all_are(_are_labels, source):
        source = CheckedNumbers(source, np.float64)
    elif kind == "f" and not known:
        return CheckedNumbers(source, np.float32 if source.dtype.itemsize <= 4 else np.float64), None
    if kind == "U" and several:
        raise DataTypeError(f"{name} has text in several columns; store one label for each row")
    if several:
        if known:
            return ClassLabels(source, len(known)), known
        return _integer_values(source), None
    values, first = distinct(source)
    if kind == "U":
        if trained and not known:
            raise DataTypeError(f"{name} has text in it, but the network was trained on class numbers; store these")
        return _named(source, values, first, known)
    if kind == "b" and not known:
        return ClassLabels(source, 2), ("False", "True")
    if known and trained:  # in a file labels are what they are called, and no class numbers
        return _named(source, values, first, known, as_text=of_file)
    if of_file and not known and values[0] != 0 and np.abs(values).max() <= LARGEST_LABEL:
        return _named(source, values, first, None)
    if n_classes == len(values) and values[0] != 0 and not (values[0] >= 0 and values[-1] < n_classes):
        warn_of_names(tuple(str(value) for value in values.tolist()))
        return _named(source, values, first, None)
    if kind == "b":
        values = values.astype(np.int64)
    count = len(known) if known else min(int(values[-1]), LARGEST_LABEL) + 1
    for value, row in zip(values.tolist(), first.tolist(), strict=True):
        if problem := label_problem(value):
            raise DataError(f"{name}[{row}] is {value}, {problem}")
        if value >= count:
            raise DataError(
                f"{name}[{row}] is {value}, outside the classes 0 to {count - 1} (there are {count} class names); "
                "correct the label or remove the row"
            )
    return ClassLabels(source, count), known or numbered(count)


def _all_are(test: Callable[[np.ndarray], np.ndarray], source: Source) -> bool:
    """Whether a test of each row, or of each number, is true of all; stops at the first piece of which it is not."""
    return all(test(part).all() for _, part in parts_of(source))


def _are_labels(y: np.ndarray) -> np.ndarray:
    are: np.ndarray = (y == np.floor(y)) & (np.abs(y) <= LARGEST_LABEL)
    return are


def _named(
    source: Source, values: np.ndarray, first: np.ndarray, known: Names | None, *, as_text: bool = False
) -> tuple[Converted, Names]:
    labels = values if values.dtype.kind in "bU" else values.astype(np.int64)
    labels = labels.astype(str) if as_text and labels.dtype.kind == "i" else labels
    numbers, names = classes_of(labels, known, lambda index: f"{source.name}[{first[index]}]")
    return LabelsByName(source, values, numbers), names


def _integer_values(source: Source) -> CheckedNumbers:
    """Several columns of integers, which are values: as float32, or as float64 where that does not hold them."""
    fits = source.dtype.itemsize <= 2
    if not fits:
        fits = max(max(-int(part.min()), int(part.max())) for _, part in parts_of(source)) <= EXACT_IN_FLOAT32
    return CheckedNumbers(source, np.float32 if fits else np.float64)


def distinct(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The labels that there are, sorted, and the first row of each.

    Raises:
        DataError: there are more than any classes.
    """
    values, first = np.empty(0, source.dtype), np.empty(0, np.int64)
    for start, part in parts_of(source):
        found, rows = np.unique(part.reshape(-1), return_index=True)
        new = ~np.isin(found, values)
        if new.any():
            values, first = np.concatenate([values, found[new]]), np.concatenate([first, rows[new] + start])
            order = np.argsort(values, kind="stable")
            values, first = values[order], first[order]
        if len(values) > LARGEST_LABEL + 1:
            raise DataError(
                f"{source.name} has more than {LARGEST_LABEL:,} different labels; store floats to fit values"
            )
    return values, first

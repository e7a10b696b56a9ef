"""Rows and targets on the host: what a data set is; ``nn.data.rows`` makes one from arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backends.arguments import (
    ArgumentTypeError,
    NamedArguments,
    check_dtype,
    check_number,
    check_seed,
    check_shape,
    check_whole_number,
    is_number,
    is_whole_number,
    shown,
)
from backends.random import stream_key
from backends.typing import Shape

from .base import DatasetBase
from .checks import DataError, check_labels, check_same_length, check_weights, first_true
from .columns import Column
from .labels import are_numbers, classes_of
from .values import listed


@dataclass(frozen=True, eq=False)
class Dataset(DatasetBase, NamedArguments):
    """Rows with their targets, kept small: pixels stay uint8 and are scaled when a batch is gathered.

    A Dataset states its units: whatever network it is given to, its rows are ``x * scale + shift``.

    Attributes:
        x: (n, ...) uint8, float32 or float64, as stored. A row as the network sees it is ``x * scale + shift``. Rows
            that do not lie one after the other in memory are copied: gathering from others is many times slower.
        y: (n,) int64 class labels, or (n,) or (n, k) floats; (n, 0) floats for rows without targets.
        class_names: one name for each class; None where the targets are not classes. Filled in with "0", "1", ... for
            integer labels.
        image_shape: (height, width) or (height, width, channels) of a row that is a picture, else None.
        weights: (n,) floats of at least 0: how much each row counts in the loss and in the metrics, relative to the
            others; None where all count the same.
        columns: of the table that the rows were, with what was learnt of them; None where they have no names.

    Raises:
        DataError: rows and targets or weights differ in number, a dtype is none of these, a label has no class name, or
            a weight is negative or not finite.
    """

    x: np.ndarray
    y: np.ndarray
    scale: float = 1.0
    shift: float = 0.0
    class_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None
    weights: np.ndarray | None = None
    columns: tuple[Column, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("x", "y", "weights"):
            array = getattr(self, name)
            if not (isinstance(array, np.ndarray) or (name == "weights" and array is None)):
                remedy = "; as_dataset((x, y)) converts" if name != "weights" else ""
                raise ArgumentTypeError(f"{name} must be a NumPy array, not {shown(array)}{remedy}")
        for name in ("scale", "shift"):
            value = getattr(self, name)
            rows = isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0
            hint = "; a Dataset has one x and one y: make another of the test rows, Dataset(x_test, y_test)"
            object.__setattr__(self, name, check_number(f"Dataset: {name}", value, hint=hint if rows else ""))
        for name, kind in (("class_names", str), ("columns", Column), ("image_shape", int)):
            object.__setattr__(self, name, as_tuple(f"Dataset: {name}", getattr(self, name), kind))
        if self.x.dtype not in (np.uint8, np.float32, np.float64) or self.x.ndim < 2:
            raise DataError(
                f"x must be (n, features) of uint8, float32 or float64, not {self.x.shape} of {self.x.dtype}; "
                "as_dataset((x, y)) converts"
            )
        if not self.x.flags.c_contiguous:
            object.__setattr__(self, "x", np.ascontiguousarray(self.x))
        check_same_length(self.x, self.y)
        if self.weights is not None:
            object.__setattr__(self, "weights", check_weights(self.weights, len(self)))
        if self.y.dtype in (np.float32, np.float64) and self.y.ndim in (1, 2):
            return
        if self.y.dtype.kind not in "iu" or self.y.ndim != 1:
            raise DataError(
                f"y must be (n,) integer labels, or (n,) or (n, k) of float32 or float64, not {self.y.shape} of "
                f"{self.y.dtype}; as_dataset((x, y)) converts"
            )
        names = self.class_names
        if names is None:
            _, n_classes = check_labels(self.y)
            object.__setattr__(self, "class_names", tuple(str(label) for label in range(n_classes)))
        elif len(self.y):
            check_labels(self.y, n_classes=len(names), reason=f"there are {len(names)} class names")
        object.__setattr__(self, "y", self.y.astype(np.int64, copy=False))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> Dataset:
        """The rows of a slice (a view, where it leaves none out), of an array of indices, or of a mask."""
        if not isinstance(rows, slice):
            rows = indices_or_mask(rows, len(self))
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], weights=weights)

    @property
    def has_targets(self) -> bool:
        return self.y.ndim == 1 or self.y.shape[1] > 0

    @property
    def row_shape(self) -> Shape:
        return tuple(self.x.shape[1:])

    @property
    def target_shape(self) -> Shape:
        return tuple(self.y.shape[1:])

    def features(self, dtype: str = "float32") -> np.ndarray:
        """All rows as the network sees them: a new array (n, ...) of ``dtype``, ``x * scale + shift``."""
        x = self.x.astype(check_dtype("dtype", dtype))
        x *= self.scale
        x += self.shift
        return x

    def shaped_for(self, row_shape: Shape | None) -> Dataset:
        """The same rows in the shape that a network takes, a view: (784,) for a ``Linear`` layer, (28, 28) or
        (28, 28, 1) for a layer that takes pictures; None, where any shape will do, leaves them as they are.

        Flat rows may be pictures of any shape; rows whose ``image_shape`` is known take no other, except that
        extents of 1 may be left out or added.

        Raises:
            DataError: rows of this data set do not fit that shape.
        """
        check_shape("row_shape, unless it is None,", row_shape)
        have = self.x.shape[1:]
        if row_shape is None or have == tuple(row_shape):
            return self
        known = picture_in(have, self.image_shape, row_shape)
        return replace(self, x=self.x.reshape(len(self), *row_shape), image_shape=known)

    def with_classes(self, names: tuple[str, ...] | None) -> Dataset:
        """The same rows, their class labels numbered as ``names`` are, which a model was trained with.

        Classes without names, known by their numbers, keep these; so do all labels where the model's have none.

        Raises:
            DataError: a class is not among them.
        """
        own, names = self.class_names, as_tuple("names", names, str)
        if are_numbers(names) or own is None or own == names:
            return self
        assert names is not None
        if are_numbers(own) and len(own) <= len(names) and not set(own) <= set(names):
            return replace(self, class_names=names)
        labels = np.array(own)[self.y]
        y, _ = classes_of(labels, names, lambda row: f"y[{row}]")
        return replace(self, y=y, class_names=names)

    def only(self, classes: Sequence[int | str]) -> Dataset:
        """The rows of these classes, by number or name, renumbered 0, 1, ... in the order given: ``only([1, 2])`` tells
        ones from twos.

        Raises:
            DataError: a class is named twice, does not exist or has no rows.
        """
        number, names = renumbered(classes, self.class_names, self.y)
        rows = number[self.y] >= 0
        return replace(self[rows], y=number[self.y[rows]], class_names=names)

    def one_against_rest(self, label: int | str) -> Dataset:
        """The same rows, class 1 for those of class ``label``, a number or a name, and class 0 for all others."""
        (number,) = class_numbers([label], self.class_names, self.y)
        name = (self.class_names or ())[number]
        return replace(self, y=(self.y == number).astype(np.int64), class_names=(f"not {name}", name))

    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """``(rest, held_out)``: ``fraction`` of the rows, rounded up, are held out; both come out shuffled.

        With class labels, each class is held out in the same proportion. An int is the number of rows to hold out.

        Raises:
            DataError: ``fraction`` is not between 0 and 1, or there are too few rows to divide.
        """
        labels = self.y if self.y.dtype.kind == "i" else None
        rest, held_out = divided(len(self), labels, fraction, seed, self.class_names or ())
        return self[rest], self[held_out]


def class_numbers(classes: Sequence[int | str], names: Sequence[str] | None, y: np.ndarray) -> list[int]:
    """The numbers of classes that are given by number or name, each of which has rows among those with labels ``y``.

    Raises:
        DataError: one has none, or the targets are no classes.
    """
    if not names:
        raise DataError("classes cannot be chosen: the targets are values, not classes")
    numbers = []
    for label in classes:
        if not (isinstance(label, str) or is_whole_number(label)):
            raise ArgumentTypeError(f"a class is chosen by its number or its name, not by {shown(label)}")
        if isinstance(label, str):
            number = [*names].index(label) if label in names else -1
        else:
            number = label
        if not 0 <= number < len(names) or not (y == number).any():
            known = f"0 to {len(names) - 1}" if are_numbers(names) else listed(names)
            raise DataError(f"class {shown(label, quotes=False)} has no rows; the classes are {known}")
        numbers.append(number)
    return numbers


def renumbered(classes: Any, names: Sequence[str] | None, y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """What ``Dataset.only`` makes of each class: its new number, -1 for those that are left out; and their names."""
    if isinstance(classes, str | bytes) or not isinstance(classes, Sequence | np.ndarray):
        raise ArgumentTypeError(f"classes must be a list of numbers or names, not {shown(classes)}")
    chosen = class_numbers([*classes], names, y)
    assert names is not None
    if len(set(chosen)) < max(len(chosen), 2):
        raise DataError(f"classes {shown([*classes])}: name two different classes or more")
    number = np.full(len(names), -1)
    number[chosen] = range(len(chosen))
    return number, tuple(names[label] for label in chosen)


def divided(
    n: int, labels: np.ndarray | None, fraction: Any, seed: Any, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The indices of ``n`` rows in two parts, as ``Dataset.split`` divides them; ``labels`` None for no classes."""
    from sklearn.model_selection import train_test_split

    fraction, seed = checked_split(n, labels, fraction, seed, names)
    rest, held_out = train_test_split(
        np.arange(n), test_size=fraction, stratify=labels, random_state=stream_key(seed, "split") % 2**32
    )
    return rest, held_out


def picture_in(have: Shape, image_shape: Shape | None, row_shape: Shape) -> Shape | None:
    """The ``image_shape`` of rows of shape ``have`` that are brought into ``row_shape``.

    Raises:
        DataError: they do not fit into it.
    """
    picture = image_shape or (have if len(have) > 1 else None)
    changed = picture is not None and len(row_shape) > 1 and _without_ones(picture) != _without_ones(row_shape)
    if math.prod(row_shape) != math.prod(have) or changed:
        raise DataError(
            f"the rows of the data, of shape {picture or have}, do not fit: the network takes rows of shape "
            f"{tuple(row_shape)}; change its first layer, or give other rows"
        )
    return picture if picture is not None and len(picture) in (2, 3) else None


def indices_or_mask(rows: Any, n: int, name: str = "rows") -> np.ndarray:
    """What some of ``n`` rows are taken by, other than a slice, as an array; ``name`` is what messages call it.

    Raises:
        ArgumentTypeError, IndexError: it is neither indices nor a mask.
    """
    taken: np.ndarray = np.asarray(rows)
    if taken.ndim != 1:
        raise ArgumentTypeError("rows are taken by a slice or a one-dimensional array; say dataset[i : i + 1] for one")
    if not taken.size:
        taken = taken.astype(np.int64)  # np.asarray([]) is float64, which is no index
    if taken.dtype.kind not in "iub":
        raise ArgumentTypeError(f"{name} are taken by whole numbers or a mask, not by {shown(rows)}")
    if taken.dtype.kind == "b" and len(taken) != n:
        raise IndexError(f"{name}: a mask of {len(taken)} cannot take rows of a data set of {n}")
    if taken.dtype.kind != "b" and taken.size and not (-n <= taken.min() and taken.max() < n):
        (index,) = first_true((taken < -n) | (taken >= n))
        raise IndexError(f"{name}[{index}] is {taken[index]}, but the data set has {n} rows, 0 to {n - 1}")
    return taken


def as_tuple(name: str, values: Any, kind: type) -> tuple[Any, ...] | None:
    """A field of a Dataset, None or several of ``kind``, as a tuple."""
    if values is None:
        return None
    if not isinstance(values, list | tuple):
        raise ArgumentTypeError(f"{name} must be a tuple, or None, not {shown(values)}")
    if kind is int:
        return tuple(check_whole_number(f"{name}[{i}]", extent) for i, extent in enumerate(values))
    for value in values:
        if not isinstance(value, kind):
            wanted = "texts" if kind is str else "columns of a table"
            raise ArgumentTypeError(f"{name} must be {wanted}, not {shown(value)}")
    return tuple(values)


def _without_ones(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def checked_split(
    n: int, labels: np.ndarray | None, fraction: Any, seed: Any, names: Sequence[str]
) -> tuple[int | float, int]:
    """The fraction of ``n`` rows, or the number of them, that can be held out, and the seed.

    Raises:
        DataError: they cannot be divided in this way.
        ArgumentTypeError: the fraction is no number.
    """
    if not is_number(fraction):
        raise ArgumentTypeError(f"the fraction of rows to hold out must be a number, not {shown(fraction)}")
    fraction = int(fraction) if is_whole_number(fraction) else float(fraction)
    seed = check_seed("seed", seed)
    _check_can_split(n, labels, fraction, names)
    return fraction, seed


def _check_can_split(n: int, labels: np.ndarray | None, fraction: float, names: Sequence[str]) -> None:
    whole = isinstance(fraction, int) and fraction >= 1
    if not (whole or 0 < fraction < 1):
        raise DataError(f"the fraction of rows to hold out must lie between 0 and 1, not be {fraction}")
    held_out = int(fraction) if whole else math.ceil(fraction * n)
    smaller = min(held_out, n - held_out)
    if smaller < 1:
        raise DataError(f"{n} rows cannot be divided to hold out {fraction} of them; more rows are needed")
    if labels is None:
        return
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        # So many classes are rather values.
        hint = "; if these are values to fit, say so (--loss mse, or task='values')" if len(classes) > n / 10 else ""
        raise DataError(
            f"class {names[classes[counts.argmin()]]} has only one row, so it cannot be on both sides of a split; "
            f"add rows of that class or remove it{hint}"
        )
    if smaller < len(classes):
        raise DataError(
            f"holding out {fraction} of {n} rows leaves {smaller} on one side, fewer than the {len(classes)} classes; "
            "choose a fraction nearer to 0.5 or add rows"
        )

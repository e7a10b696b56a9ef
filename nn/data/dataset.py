"""Rows and targets on the host: what a data set is, and the checks at the door.

Everything that trains, evaluates or predicts takes its rows through ``as_dataset`` or ``nn.datasets.load_data`` and its
targets through ``encode_targets``, so that the code behind them never meets a ragged row, a NaN or a label that is no
class. A mistake is named by place and remedy: ``y[3] is -1, ...``, counted from 0 as NumPy does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backends.random import stream_key

from .checks import (
    DataError,
    DataTypeError,
    check_labels,
    check_numbers,
    check_rows,
    check_same_length,
    check_values,
    is_one_hot,
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows with their targets, kept small: pixels stay uint8 and are scaled when a batch is gathered.

    Attributes:
        x: (n, ...) uint8, float32 or float64, as stored. A row as the network sees it is ``x * scale + shift``. Rows
            that do not lie one after the other in memory are copied: gathering from others is many times slower.
        y: (n,) int64 class labels, or (n,) or (n, k) floats; (n, 0) floats for rows without targets.
        class_names: one name for each class; None where the targets are not classes. Filled in with "0", "1", ... for
            integer labels.
        image_shape: (height, width) or (height, width, channels) of a row that is a picture, else None.

    Raises:
        DataError: rows and targets differ in number, a dtype is none of these, or a label has no class name.
    """

    x: np.ndarray
    y: np.ndarray
    scale: float = 1.0
    shift: float = 0.0
    class_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.x.dtype not in (np.uint8, np.float32, np.float64) or self.x.ndim < 2:
            raise DataError(
                f"x must be (n, features) of uint8, float32 or float64, not {self.x.shape} of {self.x.dtype}; "
                "as_dataset((x, y)) converts"
            )
        if not self.x.flags.c_contiguous:
            object.__setattr__(self, "x", np.ascontiguousarray(self.x))
        check_same_length(self.x, self.y)
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
        """The rows of a slice (a view, where it leaves none out), of an array of positions, or of a mask."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.ndim != 1:
                raise TypeError("rows are taken by a slice or a one-dimensional array; say dataset[i : i + 1] for one")
            if not rows.size:
                rows = rows.astype(np.int64)  # np.asarray([]) is float64, which is no index
        return replace(self, x=self.x[rows], y=self.y[rows])

    @property
    def has_targets(self) -> bool:
        return self.y.ndim == 1 or self.y.shape[1] > 0

    @property
    def has_classes(self) -> bool:
        """Whether the targets are class labels."""
        return self.class_names is not None

    @property
    def n_classes(self) -> int:
        """How many classes there are, whether or not each has a row here; 0 where the targets are not classes."""
        return len(self.class_names or ())

    @property
    def n_features(self) -> int:
        return math.prod(self.x.shape[1:])

    def features(self, dtype: str = "float32") -> np.ndarray:
        """All rows as the network sees them: a new array (n, ...) of ``dtype``, ``x * scale + shift``."""
        x = self.x.astype(dtype)
        x *= self.scale
        x += self.shift
        return x

    def only(self, classes: Sequence[int]) -> Dataset:
        """The rows of these classes, renumbered 0, 1, ... in the order given: ``only([1, 2])`` tells ones from twos.

        Raises:
            DataError: a class is named twice, does not exist or has no rows.
        """
        names = self._names_of(classes)
        if len(set(classes)) < max(len(classes), 2):
            raise DataError(f"classes {list(classes)}: name two different classes or more")
        number = np.full(self.n_classes, -1)
        number[list(classes)] = range(len(classes))
        rows = number[self.y] >= 0
        return replace(self, x=self.x[rows], y=number[self.y[rows]], class_names=names)

    def one_against_rest(self, label: int) -> Dataset:
        """The same rows, class 1 for those of class ``label`` and class 0 for all others."""
        (name,) = self._names_of([label])
        return replace(self, y=(self.y == label).astype(np.int64), class_names=(f"not {name}", name))

    def _names_of(self, classes: Sequence[int]) -> tuple[str, ...]:
        names = self.class_names or ()
        for label in classes:
            if not 0 <= label < len(names) or not (self.y == label).any():
                raise DataError(f"class {label} has no rows; the classes are 0 to {len(names) - 1}")
        return tuple(names[label] for label in classes)

    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """``(rest, held_out)``: ``fraction`` of the rows, rounded up, are held out; both come out shuffled.

        With class labels, each class is held out in the same proportion. An int is the number of rows to hold out.

        Raises:
            DataError: ``fraction`` is not between 0 and 1, or there are too few rows to divide.
        """
        from sklearn.model_selection import train_test_split

        n = len(self)
        labels = self.y if self.y.dtype.kind == "i" else None
        _check_can_split(n, labels, fraction)
        rest, held_out = train_test_split(
            np.arange(n), test_size=fraction, stratify=labels, random_state=stream_key(seed, "split") % 2**32
        )
        return self[rest], self[held_out]


def _check_can_split(n: int, labels: np.ndarray | None, fraction: float) -> None:
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
        raise DataError(
            f"class {classes[counts.argmin()]} has only one row, so it cannot be on both sides of a split; "
            "add rows of that class or remove it"
        )
    if smaller < len(classes):
        raise DataError(
            f"holding out {fraction} of {n} rows leaves {smaller} on one side, fewer than the {len(classes)} classes; "
            "choose a fraction nearer to 0.5 or add rows"
        )


def as_dataset(data: Any) -> Dataset:
    """Checked rows and targets from arrays of any library (NumPy, CuPy, PyTorch, pandas) or lists.

    Args:
        data: a Dataset, returned as it is; or ``(x, y)``; or ``(x,)`` or ``(x, None)`` for rows without targets.
            x: (n, features), or pictures (n, height, width) or (n, height, width, channels), which are flattened and
            keep their ``image_shape``. uint8 means pixels and gets the scale 1/255. Floats stay float32 or float64,
            float16 becomes float32; other integers and bool become float32 (float64 beyond 2**24).
            y: integers and bool are class labels, and integer one-hot rows are turned into labels; floats are
            regression targets, even if they are whole (``encode_targets`` takes them for labels when told to).

    Raises:
        DataError: (a ValueError) no rows, different numbers of rows, NaN or infinity, a label that is no class.
        DataTypeError: (a TypeError too) text, or something that is no array of numbers.
    """
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, tuple) or len(data) not in (1, 2):
        raise DataTypeError("data must be a Dataset, a tuple (x, y), or (x,) for rows without targets")
    x = check_rows(data[0])
    if len(data) == 1 or data[1] is None:
        return pack(x, np.zeros((len(x), 0), dtype=np.float32))
    y = check_numbers(data[1], "y")
    check_same_length(x, y)
    if y.dtype.kind == "f" and y.ndim in (1, 2):
        return pack(x, check_values(y))
    if y.ndim == 2 and y.shape[1] > 1 and not is_one_hot(y).all():
        return pack(x, y.astype(np.float32))
    labels, n_classes = check_labels(y)
    return pack(x, labels, n_classes)


def as_rows(x: Any, scale: float, shift: float) -> Dataset:
    """Checked rows without targets, for prediction: a Dataset as it is, or an array of any library or a list of rows.

    uint8 rows get the given scale and shift, those of training; others are taken as already scaled.
    """
    if isinstance(x, Dataset):
        return x
    rows = as_dataset((x,))
    return replace(rows, scale=scale, shift=shift) if rows.x.dtype == np.uint8 else rows


def pack(x: np.ndarray, y: np.ndarray, n_classes: int = 0) -> Dataset:
    """A Dataset of checked rows and targets: pictures flattened, pixels with their scale, classes with names."""
    image_shape = x.shape[1:] if x.ndim > 2 else None
    return Dataset(
        x=x.reshape(len(x), -1),
        y=y,
        scale=1 / 255 if x.dtype == np.uint8 else 1.0,
        class_names=tuple(str(label) for label in range(n_classes)) or None,
        image_shape=image_shape,
    )

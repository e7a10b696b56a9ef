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

from backends.devices import as_numpy
from backends.random import stream_key

#: A label above this is taken for a value that was meant as a regression target.
LARGEST_LABEL = 100_000
#: float32 holds every integer up to here exactly.
EXACT_IN_FLOAT32 = 2**24


class DataError(ValueError):
    """Data that cannot be used; the message is one sentence: where, what is wrong, and what to do."""


class DataTypeError(DataError, TypeError):
    """Data of a kind that cannot be used: text, objects, ragged lists."""


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
        return pack(x, _check_values(y))
    if y.ndim == 2 and y.shape[1] > 1 and not _is_one_hot(y).all():
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


# ---- checks. `name` is how messages call the array: "x", or "digits.npz: x_train" ------------------------------------


def check_numbers(values: Any, name: str) -> np.ndarray:
    """``values`` as a NumPy array of numbers in native byte order.

    Raises:
        DataTypeError: it is text, or no array of numbers.
    """
    try:
        return as_numpy(values)
    except TypeError as error:
        if _has_text(values):
            raise DataTypeError(
                f"{name} has text in it; turn it into numbers first (labels: sklearn.preprocessing.LabelEncoder)"
            ) from None
        raise DataTypeError(f"{name} cannot be used: {error}") from None


def _has_text(values: Any) -> bool:
    try:
        return any(isinstance(value, str | bytes) for value in np.asarray(values, dtype=object).flat)
    except (ValueError, TypeError):
        return False


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
    exact = max(-int(x.min()), int(x.max())) <= EXACT_IN_FLOAT32
    return x.astype(np.float32 if exact else np.float64)


def _two_floats(x: np.ndarray) -> np.ndarray:
    """float32 and float64 as they are, float16 as float32, wider ones as float64."""
    return x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64, copy=False)


def check_finite(x: np.ndarray, name: str) -> None:
    """Raises DataError at the first NaN or infinity of the float array ``x``."""
    # NaN goes through min and max, which, unlike isfinite, need no array as large as the data.
    if np.isfinite(x.min()) and np.isfinite(x.max()):
        return
    where = _first(~np.isfinite(x))
    place = ", ".join(str(i) for i in where)
    raise DataError(f"{name}[{place}] is {x[where]}; remove the row or put a number there")


def check_same_length(x: np.ndarray, y: np.ndarray, x_name: str = "x", y_name: str = "y") -> None:
    """Raises DataError unless there is one target for each row."""
    if y.ndim == 0 or len(x) != len(y):
        n_targets = len(y) if y.ndim else "no"
        raise DataError(
            f"{x_name} has {len(x)} rows but {y_name} has {n_targets}; rows are examples, and each needs one target"
        )


def check_labels(
    y: np.ndarray, name: str = "y", n_classes: int | None = None, reason: str = ""
) -> tuple[np.ndarray, int]:
    """Class labels (n,) int64 and the number of classes.

    Args:
        y: whole numbers of any dtype, (n,) or (n, 1), or (n, k) one-hot.
        n_classes: how many classes there are; None finds out: k of one-hot rows, else the largest label + 1.
        reason: why there are so many, for the message.

    Raises:
        DataError: naming the first row whose label is fractional, negative, too large, or not one-hot.
    """
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"{name} has shape {y.shape}, but class labels are (n,), or (n, k) one-hot, with n at least 1")
    if y.ndim == 2 and y.shape[1] > 1:
        return _labels_of_one_hot(y, name, n_classes, reason)
    y = _two_floats(y.reshape(-1)) if y.dtype.kind == "f" else y.reshape(-1)
    end = LARGEST_LABEL + 1 if n_classes is None else n_classes
    bad = ~((y >= 0) & (y < end) & (y == np.floor(y)))
    if bad.any():
        (row,) = _first(bad)
        raise DataError(f"{name}[{row}] is {y[row]}, {_what_is_wrong(float(y[row]), n_classes, reason)}")
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
        return "but labels count from 0; renumber the classes (sklearn.preprocessing.LabelEncoder does)"
    return f"which looks like a value, not a class; renumber the classes from 0 ({TO_FIT_VALUES})"


def label_problem(label: float) -> str | None:
    """What is wrong with a number as a class label, as the end of a sentence, or None."""
    fits = math.isfinite(label) and 0 <= label <= LARGEST_LABEL and label == math.floor(label)
    return None if fits else _what_is_wrong(label, None)


def _labels_of_one_hot(y: np.ndarray, name: str, n_classes: int | None, reason: str) -> tuple[np.ndarray, int]:
    columns = y.shape[1]
    if n_classes is not None and columns != n_classes:
        because = f" ({reason})" if reason else ""
        raise DataError(
            f"{name} has {columns} columns, but one-hot rows need one for each of {n_classes} classes{because}"
        )
    bad = ~_is_one_hot(y)
    if bad.any():
        (row,) = _first(bad)
        raise DataError(f"{name}[{row}] is not one-hot; a row of class labels has one 1 and zeros, or pass labels (n,)")
    return y.argmax(axis=1).astype(np.int64), columns


def _is_one_hot(y: np.ndarray) -> np.ndarray:
    """Which rows of (n, k) have exactly one 1 and zeros: (n,) bool."""
    ones = y == 1
    rows: np.ndarray = ((y == 0) | ones).all(axis=1) & (ones.sum(axis=1) == 1)
    return rows


def _check_values(y: np.ndarray) -> np.ndarray:
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"y has shape {y.shape}, but targets are (n,) or (n, k), with at least one row and column")
    y = _two_floats(y)
    check_finite(y, "y")
    return y


def _first(bad: np.ndarray) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))


# ---- targets as a loss needs them ------------------------------------------------------------------------------------


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
    y = check_numbers(y, "y")
    if y.ndim == 2 and y.shape[1] == 0:
        raise DataError("these rows have no targets; pass (x, y)")
    outputs = f"the network has {n_outputs} output{'s' if n_outputs != 1 else ''}"
    if kind == "classes":
        return check_labels(y, n_classes=n_outputs, reason=outputs)[0]
    if kind != "values":
        raise ValueError(f"kind must be 'classes' or 'values', not {kind!r}")
    if y.dtype.kind != "f" and (y.ndim == 1 or y.shape == (len(y), 1)):
        return _labels_as_values(y, n_outputs, outputs)
    values = _check_values(y if y.dtype.kind == "f" else y.astype(np.float32))
    columns = 1 if values.ndim == 1 else values.shape[1]
    if columns != n_outputs:
        raise DataError(
            f"y has {columns} value{'s' if columns != 1 else ''} a row, but {outputs}; "
            "change the last layer, or pass integers if they are class labels"
        )
    values = values.reshape(-1, n_outputs)
    outside = (values < 0) | (values > 1)
    if unit_interval and outside.any():
        row, column = _first(outside)
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

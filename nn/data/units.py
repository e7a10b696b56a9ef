"""Units: how the numbers of a row become what the network sees, and which rows are pixels.

A network learns in the units of its training rows, so they belong to the model: ``Units.of`` reads them off the
training data, the model file keeps them, and ``nn.data.rows`` applies them to every array that comes later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from backends.arguments import ArgumentTypeError, NamedArguments, check_kind, check_number, check_text, shown

from ..messages import OneSentence, first_line
from .checks import check_finite, warn_user
from .columns import Column, from_list, to_list
from .dataset import Dataset
from .labels import are_numbers

#: Flat rows of fewer numbers than this are never taken for pixels.
FEWEST_PIXELS = 64
#: Pixels whose largest is not above this may be something else: counts, ages, or pictures of few shades.
DARKEST_WHITE = 127
PIXEL_SCALE = 1 / 255
#: How many numbers are looked at at a time, so that no array as large as the data is needed.
CHUNK = 1 << 18


class UnitsWarning(OneSentence, UserWarning):
    """The numbers of some rows cannot be in the units of the training rows."""


class LearnsUnits(Protocol):
    """Rows that are not in memory, which say what is known of their numbers."""

    @property
    def units(self) -> Units: ...


@dataclass(frozen=True)
class Units(NamedArguments):
    """The units of training rows: a row as the network sees it is ``x * scale + shift``.

    Attributes:
        scale, shift: those of the training ``Dataset``.
        low, high: the smallest and the largest raw number of the training rows; 0 and 0 where they are not known.
        smallest_peak: each training row has a largest number; the smallest of these, rows without a number above 0
            aside. 0 where it is not known. Training rows that lie within [0, 1], a short list of counts among longer
            ones for example, show in it, so that a later row like them is no reason to warn.
        row_shape: the shape of a raw row: (height, width[, channels]) of a picture, else (features,); None where it is
            not known.
        class_names: of the training rows, where classes have other names than their numbers; else None.
        columns: of the table that the training rows were, with what was learnt of them; None where it is not known.

    Raises:
        ValueError: a number is not finite, or an extent of ``row_shape`` is not positive.
    """

    scale: float = 1.0
    shift: float = 0.0
    low: float = 0.0
    high: float = 0.0
    smallest_peak: float = 0.0
    row_shape: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    columns: tuple[Column, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "shift", "low", "high", "smallest_peak"):
            object.__setattr__(self, name, check_number(f"the {name} of units", getattr(self, name)))
        for name, kind in (("row_shape", int), ("class_names", str), ("columns", Column)):
            values = getattr(self, name)
            right = isinstance(values, tuple) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
            if values is not None and not right:
                raise ArgumentTypeError(f"the {name} of units must be a tuple, or None, not {shown(values)}")
        if self.row_shape is not None and not (self.row_shape and all(extent > 0 for extent in self.row_shape)):
            raise ValueError(f"the row_shape of units must have positive extents, not {shown(self.row_shape)}")

    @classmethod
    def of(cls, dataset: Dataset | LearnsUnits) -> Units:
        """What training on these rows teaches a model: their scale and shift, and the range of their raw numbers.

        Raises:
            DataError: a number is NaN or infinite.
        """
        if not isinstance(dataset, Dataset):
            known = getattr(dataset, "units", None)
            check_kind("dataset", dataset if known is None else known, (Dataset, Units), "a Dataset")
            assert isinstance(known, Units)
            return known
        row_shape = dataset.image_shape or dataset.x.shape[1:]
        names = None if are_numbers(dataset.class_names) else dataset.class_names
        if not dataset.x.size:
            return cls(dataset.scale, dataset.shift, class_names=names, columns=dataset.columns)
        peaks = dataset.x.reshape(len(dataset), -1).max(axis=1)
        low, high = float(dataset.x.min()), float(peaks.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            check_finite(dataset.x, "x")
        above_0 = peaks[peaks > 0]
        return cls(
            scale=float(dataset.scale),
            shift=float(dataset.shift),
            low=low,
            high=high,
            smallest_peak=float(above_0.min()) if above_0.size else 0.0,
            row_shape=tuple(int(extent) for extent in row_shape),
            class_names=names,
            columns=dataset.columns,
        )

    def then(self, later: Units) -> Units:
        """The units after training on further rows: these rows' own, and the range of both where they are alike."""
        check_kind("later", later, Units, "Units")
        known: dict[str, Any] = {
            "class_names": later.class_names or self.class_names,
            "columns": later.columns or self.columns,
        }
        if (self.scale, self.shift) == (later.scale, later.shift):
            peaks = [peak for peak in (self.smallest_peak, later.smallest_peak) if peak > 0]
            known["low"], known["high"] = min(self.low, later.low), max(self.high, later.high)
            known["smallest_peak"] = min(peaks, default=0.0)
        return replace(later, **known)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and lists only, for JSON; ``Units.from_dict`` reads it back."""
        lists = {"row_shape": self.row_shape, "class_names": self.class_names}
        return (
            asdict(self)
            | {name: value and list(value) for name, value in lists.items()}
            | {"columns": to_list(self.columns)}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Units:
        """The units that ``to_dict`` wrote; what is missing, as in files of earlier versions, is not known.

        Raises:
            ValueError: a name is unknown, or a value is not a finite number.
        """
        check_kind("values", values, Mapping, "a mapping, as to_dict gives it")
        unknown = sorted(set(map(str, values)) - {field.name for field in fields(cls)})
        if unknown:
            there_are_none = ", ".join(shown(name, quotes=False) for name in unknown[:3])
            raise ValueError(f"units have no {there_are_none}; the file may be of a newer version")
        try:
            others = ("row_shape", "class_names", "columns")
            numbers = {name: float(value) for name, value in values.items() if name not in others}
            shape, names = values.get("row_shape"), values.get("class_names")
            return cls(
                **numbers,
                row_shape=None if shape is None else tuple(int(extent) for extent in shape),
                class_names=None if names is None else tuple(map(str, names)),
                columns=from_list(values.get("columns")),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"units must be numbers: {first_line(error)}") from None

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Warn if raw rows ``x``, called ``name`` in the message, cannot be in these units.

        There are two such cases. All numbers lie within [0, 1], but every training row went beyond 2. Or the training
        rows lay within [0, 1], but these go beyond 2, and not by a few outliers: most numbers that are not 0 are
        above 1. Rows with negative numbers, and rows of zeros only, are in any units.

        Warns:
            UnitsWarning: with both ranges and the remedy.
        """
        check_kind("x", x, np.ndarray, "a NumPy array")
        check_text("name", name)
        saw_more, saw_unit_interval = self._seen()
        if not (saw_more or saw_unit_interval) or not x.size:
            return
        high = float(x.max())
        if not self.may_differ(high):
            return
        low = float(x.min())
        if low < 0 or (high > 2 and 2 * np.count_nonzero(x > 1) <= np.count_nonzero(x)):
            return
        largest, what = (self.high, "multiply by 255") if saw_more else (high, "divide by 255")
        remedy = what if DARKEST_WHITE < largest <= 255 else "bring them to the units of the training rows"
        warn_user(
            f"the training rows went from {self.low:g} to {self.high:g}, but {name} goes from {low:g} to {high:g}: "
            f"{remedy}, or pass a Dataset that states its scale",
            UnitsWarning,
        )

    def may_differ(self, high: float) -> bool:
        """Whether ``check`` has to look at rows whose largest number is ``high``; else they are in these units."""
        saw_more, saw_unit_interval = self._seen()
        return (saw_more and 0 < high <= 1) or (saw_unit_interval and high > 2)

    def _seen(self) -> tuple[bool, bool]:
        """Whether every training row went beyond 2; whether all of them lay within [0, 1]."""
        return self.low >= 0 and self.smallest_peak > 2, self.low >= 0 and 0 < self.high <= 1


# ---- pixels ----------------------------------------------------------------------------------------------------------


def are_pixels(x: np.ndarray) -> bool:
    """Whether finite rows (n, ...) of any dtype are pixels from 0 to 255, by their shape and their numbers.

    They are pictures by shape, (n, height, width[, channels]), or rows of a square number of at least 64 columns or of
    three times as many; all numbers are whole and from 0 to 255, and the largest is above 127.
    """
    return may_be_pictures(x.shape) and float(x.max()) > DARKEST_WHITE and are_bytes(x)


def are_bytes(x: np.ndarray) -> bool:
    """Whether all numbers are whole and from 0 to 255; stops at the first rows that are not."""
    if x.dtype == np.uint8:
        return True
    if x.min() < 0 or x.max() > 255:
        return False
    rows = max(CHUNK // math.prod(x.shape[1:]), 1)
    parts = (x[start : start + rows] for start in range(0, len(x), rows))
    return all(np.array_equal(part, np.floor(part)) for part in parts)


def may_be_pictures(shape: tuple[int, ...]) -> bool:
    """Whether rows of an array (n, ...) of this shape can be pictures, whatever their numbers."""
    if len(shape) > 2:
        return True
    return any(shape[1] % channels == 0 and _is_large_square(shape[1] // channels) for channels in (1, 3))


def _is_large_square(n: int) -> bool:
    return n >= FEWEST_PIXELS and square(n) is not None


def square(n_features: int) -> tuple[int, int] | None:
    """(side, side) of pictures that were stored as rows of pixels, if they can be square."""
    side = math.isqrt(n_features)
    return (side, side) if side * side == n_features else None

"""What training rows teach about the columns of a table: their names, what stands for missing values, the categories.

It is learnt from the training rows, kept in the model's ``Units``, and applied to every table that comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .checks import DataError
from .values import listed

IMPUTATIONS = ("mean", "median", "most_frequent")

#: A column of a table as read: float64 with NaN for what is missing, or objects, str or None for what is missing.
RawColumn = np.ndarray
#: What messages call a cell, by its row.
Place = Callable[[int], str]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: "" where the table has no names.
        fill: what stands for a missing value; None: missing values are refused.
        categories: of a column of categories, sorted: each becomes a column of zeros and ones. None for numbers.
    """

    name: str = ""
    fill: float | str | None = None
    categories: tuple[str, ...] | None = None

    @property
    def learnt(self) -> bool:
        """Whether anything but its name was learnt of it."""
        return self.fill is not None or self.categories is not None

    @property
    def width(self) -> int:
        """How many columns the network sees of it."""
        return 1 if self.categories is None else len(self.categories)

    def encode(self, values: RawColumn, place: Place) -> np.ndarray:
        """(n, width) float64.

        Raises:
            DataError: a value is missing that nothing stands for, is text in a column of numbers, or is a category that
                the training rows did not have.
        """
        is_text = values.dtype.kind == "O"
        missing = np.array([value is None for value in values], bool) if is_text else np.isnan(values)
        if missing.any():
            if self.fill is None:
                raise DataError(f"{place(int(missing.argmax()))}: {MISSING_VALUE}")
            values = np.where(missing, np.array(self.fill, dtype=values.dtype), values)
        if self.categories is None:
            if is_text:
                raise DataError(f"{place(0)}: {values[0]!r} is not a number; {TEXT_COLUMN}")
            return values[:, None]
        texts = values if is_text else np.array([text_of(value) for value in values.tolist()], dtype=object)
        encoded = np.stack([texts == category for category in self.categories], axis=1).astype(np.float64)
        unknown = ~encoded.any(axis=1)
        if unknown.any():
            row = int(unknown.argmax())
            raise DataError(
                f"{place(row)}: {texts[row]!r} is a category that the training rows did not have: "
                f"{listed(self.categories)}; correct the cell or remove the row"
            )
        return encoded


MISSING_VALUE = (
    "the value is missing; put one there, remove the row, or have it imputed (--impute mean, median or most_frequent)"
)
TEXT_COLUMN = "correct the cell, or name the column as one of categories (--categorical)"


def text_of(value: Any) -> str:
    """A category as text; a whole number without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def as_texts(values: RawColumn) -> RawColumn:
    """A column as objects, str or None."""
    if values.dtype.kind == "O":
        return values
    return np.array([None if np.isnan(value) else text_of(value) for value in values.tolist()], dtype=object)


def column_order(
    names: Sequence[str] | None, learnt: Sequence[Column], width: int, what: str = "the table"
) -> list[int]:
    """Where the columns that were learnt are in a table with ``width`` columns of these names; in their order, where
    either has no names.

    Raises:
        DataError: one is missing, or there are others.
    """
    if names is None or not any(column.name for column in learnt):
        if width != len(learnt):
            raise DataError(f"{what} has {width} columns of features, but the training rows had {len(learnt)}")
        return list(range(width))
    wanted = [column.name for column in learnt]
    missing = [name for name in wanted if name not in names]
    unknown = [name for name in names if name not in wanted]
    if missing:
        raise DataError(
            f"{what} lacks the column{'s' * (len(missing) > 1)} {listed(missing)}, which the training rows had"
        )
    if unknown:
        raise DataError(
            f"{what} has the column{'s' * (len(unknown) > 1)} {listed(unknown)}, which the training rows had not; drop "
            "what is no feature"
        )
    return [list(names).index(name) for name in wanted]


def check_columns(own: Sequence[Column] | None, learnt: Sequence[Column] | None) -> None:
    """Refuse rows of a table whose columns are not those of the training rows.

    Raises:
        DataError: naming the first that differs.
    """
    if own is None or learnt is None or not any(column.name for column in learnt):
        return
    for index, (column, other) in enumerate(zip(own, learnt, strict=False)):
        if column.name and (column.name, column.categories) != (other.name, other.categories):
            what = "other categories" if column.name == other.name else f"the name {column.name!r}, not {other.name!r}"
            raise DataError(
                f"column {index + 1} of this table has {what}, unlike that of the training rows; read the table with "
                "columns=model.units.columns"
            )


def learn(
    names: Sequence[str],
    columns: Sequence[RawColumn],
    rows: np.ndarray,
    impute: str | None,
    categorical: Sequence[int],
) -> tuple[Column, ...]:
    """What these columns teach.

    Args:
        columns: (n,) each.
        rows: indices of the training rows, from which the statistics come. Categories come from all rows: they say what
            may stand in a column, not what is likely.
        impute: one of ``IMPUTATIONS``; None leaves missing values to be refused. Text and categories are imputed by the
            most frequent one whatever it says.
        categorical: the indices of the columns of categories.
    """
    learnt = []
    for index, (name, values) in enumerate(zip(names, columns, strict=True)):
        known, categories = values[rows], None
        if index in categorical:
            values = as_texts(values)
            known = values[rows]
            categories = tuple(sorted({value for value in values if value is not None}))
        learnt.append(Column(name, None if impute is None else _fill(known, impute), categories))
    return tuple(learnt)


def _fill(values: RawColumn, impute: str) -> float | str | None:
    from sklearn.impute import SimpleImputer

    if values.dtype.kind == "O":
        present = np.array([value for value in values if value is not None], dtype=object)
        impute = "most_frequent"
    else:
        present = values[~np.isnan(values)]
    if not present.size:
        return None
    fill = SimpleImputer(strategy=impute).fit(present[:, None]).statistics_[0]
    return str(fill) if present.dtype.kind == "O" else float(fill)


def encode(columns: Sequence[Column], raw: Sequence[RawColumn], place: Callable[[int, int], str]) -> np.ndarray:
    """(n, features) float64: the columns as the network takes them; ``place(row, column)`` names a cell."""

    def of_column(index: int) -> Place:
        return lambda row: place(row, index)

    parts = [column.encode(values, of_column(i)) for i, (column, values) in enumerate(zip(columns, raw, strict=True))]
    return np.concatenate(parts, axis=1)


def to_list(columns: Sequence[Column] | None) -> list[dict[str, Any]] | None:
    """For JSON."""
    return None if columns is None else [asdict(column) for column in columns]


def from_list(columns: Sequence[Mapping[str, Any]] | None) -> tuple[Column, ...] | None:
    """What ``to_list`` wrote."""
    if columns is None:
        return None
    made = (dict(column) for column in columns)
    return tuple(
        Column(**column | {"categories": None if column["categories"] is None else tuple(column["categories"])})
        for column in made
    )

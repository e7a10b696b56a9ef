"""Rows without targets from a table, its columns taken as the model's training rows had them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import DataError
from ..data.columns import Column, column_order, encode
from ..data.reading import check_text, reading
from ..data.streamed.parquet import ParquetFile, ParquetSource
from ..data.tables.frame import parquet_frame
from ..data.tables.head import FEWEST_NUMBERED, KNOWN_LABELS, chosen_columns
from ..data.tables.text import is_missing, number, open_text, rows, separator_of


def read_rows(path: Path, learnt: Sequence[Column] | None, n_features: int, drop: Sequence[str] = ()) -> np.ndarray:
    """The rows of a table as text, plain or compressed by gzip: (m, features) float64.

    Columns are taken by the names that those of the training rows have, and others are left out. Where either has no
    names, they are taken in their order, a column that is called as labels are left out, if there is one more than
    the model takes. Missing values and categories become what the training rows have taught.

    Args:
        learnt: of the training rows; None where nothing is known of their columns.
        n_features: how many numbers a row has; 0 where it is not known.
        drop: columns that are left out, by name or number.

    Raises:
        DataError: naming the line and the column.
    """
    with reading(path):
        try:
            check_text(path)
            separator = separator_of(path)
            with open_text(path) as file:
                table = rows(file, separator)
                line, first = next(table, (0, []))
                cells = [cell.strip() for cell in first]
                names = cells if _is_header(cells, learnt) else None
                order = _order(path, names, len(cells), learnt, n_features, drop)
                numbers = _Numbers(path, names, len(cells), order, learnt)
                if names is None:
                    numbers.add(line, first)
                for line, row in table:
                    numbers.add(line, row)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is neither a picture nor an array, and no UTF-8 text either ({error.reason})"
            ) from None
        except csv.Error as error:
            raise DataError(f"{path} is not a CSV file ({error}); save it as comma-separated text") from None
    return numbers.array()


def parquet_rows(
    path: Path, learnt: Sequence[Column] | None, n_features: int, drop: Sequence[str] = ()
) -> ParquetSource | Any:
    """Likewise the rows of a Parquet file: a source of numbers; or a DataFrame, where missing values and categories
    become what the training rows have taught.

    Args:
        learnt, n_features, drop: as of ``read_rows``.

    Raises:
        DataError: naming the column; or pyarrow, or pandas where it is needed, is not installed.
    """
    file = ParquetFile(path)
    names = [file.names[index] for index in _order(path, file.names, len(file.names), learnt, n_features, drop)]
    if any(column.learnt for column in learnt or ()):
        return parquet_frame(path, names)
    return ParquetSource(file, names)


def _is_header(cells: Sequence[str], learnt: Sequence[Column] | None) -> bool:
    """Whether a first line holds names: one that the training rows had; or else text, where they had numbers alone, or
    0, 1, 2, ... as pandas writes it."""
    known = {column.name for column in learnt or () if column.name}
    if known:
        return not known.isdisjoint(cells)
    if any(column.categories is not None for column in learnt or ()):
        return False
    named = [cell for cell in cells if number(cell) is None and not is_missing(cell)]
    return bool(named) or (len(cells) >= FEWEST_NUMBERED and list(cells) == [str(i) for i in range(len(cells))])


def _order(
    path: Path,
    names: Sequence[str] | None,
    width: int,
    learnt: Sequence[Column] | None,
    n_features: int,
    drop: Sequence[str],
) -> list[int]:
    """The indices of the features, in the order of the training rows."""
    dropped = set(chosen_columns(list(drop), names, width, str(path))) if drop else set()
    kept = [index for index in range(width) if index not in dropped]
    wanted = [column.name for column in learnt or ()]
    if names is not None and any(wanted):
        kept = [index for index in kept if names[index] in wanted]
        own = [names[index] for index in kept]
        if len(set(own)) < len(own):
            twice = next(name for name in own if own.count(name) > 1)
            raise DataError(f"{path}: two columns are called {twice!r}; rename one")
        return [kept[index] for index in column_order(own, learnt or (), len(own), str(path))]
    expected = len(wanted) or n_features
    if names is not None and len(kept) == expected + 1:
        labels = [index for index in kept if names[index].lower() in KNOWN_LABELS]
        kept = [index for index in kept if index not in labels[:1]]
    if expected and len(kept) != expected:
        hint = "; leave out what is no feature by --drop COLUMN, -1 for the last" if len(kept) > expected else ""
        raise DataError(f"{path} has {len(kept)} columns, but the model takes {expected}{hint}")
    return kept


class _Numbers:
    """The rows that were read so far."""

    def __init__(
        self, path: Path, names: Sequence[str] | None, width: int, order: list[int], learnt: Sequence[Column] | None
    ) -> None:
        self.path, self.names, self.width, self.order = path, names, width, order
        self.learnt = learnt if learnt is not None and any(column.learnt for column in learnt) else None
        self.lines: list[int] = []
        self.rows: list[np.ndarray] = []
        self.columns: list[list[float | str | None]] = [[] for _ in order]

    def add(self, line: int, row: Sequence[str]) -> None:
        if len(row) != self.width:
            raise DataError(f"{self.path}, line {line}: {len(row)} cells, but the first line has {self.width}")
        cells = [row[index] for index in self.order]
        self.lines.append(line)
        if self.learnt is None:
            values = [number(cell) for cell in cells]
            if None in values:
                at = values.index(None)
                what = "the value is missing" if is_missing(cells[at]) else f"{cells[at]!r} is not a number"
                raise DataError(f"{self.place(len(self.lines) - 1, at)}: {what}")
            self.rows.append(np.array(values, np.float64))
            return
        for at, (column, cell, kept) in enumerate(zip(self.learnt, cells, self.columns, strict=True)):
            if is_missing(cell):
                kept.append(None)
            elif column.categories is not None:
                kept.append(cell.strip())
            elif (value := number(cell)) is not None:
                kept.append(value)
            else:
                raise DataError(f"{self.place(len(self.lines) - 1, at)}: {cell!r} is not a number")

    def place(self, row: int, at: int) -> str:
        """What messages call a cell."""
        index = self.order[at]
        name = f" ({self.names[index]})" if self.names else ""
        return f"{self.path}, line {self.lines[row]}, column {index + 1}{name}"

    def array(self) -> np.ndarray:
        if not self.lines:
            raise DataError(f"{self.path} has no rows")
        if self.learnt is None:
            return np.stack(self.rows)
        raw = [
            np.array(kept, object) if column.categories is not None else np.array(kept, np.float64)
            for column, kept in zip(self.learnt, self.columns, strict=True)
        ]
        return encode(self.learnt, raw, self.place)

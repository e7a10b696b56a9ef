"""Ranges of the rows and targets of a data set, read from their sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from backends.arguments import check_whole_number
from backends.typing import Shape

from ..base import DatasetBase
from .chosen import read_chosen
from .reading import PIECE, pieces, read_ranges, read_rows, row_bytes
from .source import Source


class RangesOfRows(DatasetBase):
    """The rows that belong to a data set, and their targets, where they are stored.

    Attributes:
        rows: the source of x, of uint8, float32 or float64 as in memory.
        targets: the source of y; None for no targets.
        chosen: (m,) int64 indices of the stored rows that belong to it; None for all.
        row_shape: of a row as it is given.
        class_names: one name for each class; None where the targets are not classes.
    """

    rows: Source
    targets: Source | None
    chosen: np.ndarray | None
    row_shape: tuple[int, ...]
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return self.rows.shape[0] if self.chosen is None else len(self.chosen)

    @property
    def has_targets(self) -> bool:
        return self.targets is not None

    @property
    def target_shape(self) -> Shape:
        """Of the targets of a row: () for labels and for one value, (0,) without targets."""
        return (0,) if self.targets is None else self.targets.shape[1:]

    @property
    def y(self) -> np.ndarray:
        """All targets, read into memory: (n,) int64 class labels, or (n,) or (n, k) floats; (n, 0) for none."""
        if self.targets is None:
            return np.zeros((len(self), 0), np.float32)
        return all_targets(self, self.targets.dtype)

    def read(self, start: int, stop: int, x_out: np.ndarray, y_out: np.ndarray | None = None) -> None:
        """Write the rows from position ``start`` up to ``stop``, as they are stored, into ``x_out``, and their
        targets into ``y_out``. Both are contiguous: m rows of ``row_shape`` in the dtype of ``rows``, and m targets of
        ``target_shape`` in the dtype of ``targets``. Several threads may do so at once.

        Raises:
            DataError: a number is NaN or infinite, a label is no class, or the file is no longer what it was.
        """
        read_positions(self, [range(start, stop)], x_out, y_out)

    def parts(self, rows: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """x and y of so many rows after the other, as they are stored: of as many as have 4 MiB by default."""
        if rows is None:
            rows = max(PIECE // row_bytes(self.rows), 1)
        return (self._range(*ends) for ends in pieces(len(self), check_whole_number("rows", rows)))

    def _range(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.empty((stop - start, *self.row_shape), self.rows.dtype)
        dtype = np.float32 if self.targets is None else self.targets.dtype
        y = np.empty((stop - start, *self.target_shape), dtype)
        self.read(start, stop, x, y)
        return x, y

    def _at(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x, as it is stored, and y of these stored rows."""
        x = np.empty((len(stored), *self.rows.shape[1:]), self.rows.dtype)
        read_rows(self.rows, stored, x)
        if self.targets is None:
            return x, np.zeros((len(stored), 0), np.float32)
        y = np.empty((len(stored), *self.target_shape), self.targets.dtype)
        read_rows(self.targets, stored, y)
        return x, y

    def _stored_at(self, position: int) -> int:
        """The number of a row where it is stored."""
        return position if self.chosen is None else int(self.chosen[position])


def read_positions(
    data: RangesOfRows, ranges: Sequence[range], x_out: np.ndarray, y_out: np.ndarray | None = None
) -> None:
    """As ``RangesOfRows.read``, the rows of several ranges, one after the other: where these are short, in less time
    than one by one."""
    ranges = [rows for rows in ranges if rows]
    for source, out in ((data.rows, x_out), (data.targets, y_out)):
        if source is not None and out is not None and ranges:
            _read_from(data, source, ranges, out.reshape(len(out), *source.shape[1:], copy=False))


def _read_from(data: RangesOfRows, source: Source, ranges: Sequence[range], out: np.ndarray) -> None:
    if data.chosen is None:
        read_ranges(source, ranges, out)
    else:
        read_chosen(source, data.chosen, ranges, out)


def smallest_dtype(data: RangesOfRows) -> np.dtype[Any]:
    """That of targets in memory: of class labels, the one of the fewest bytes that holds them."""
    assert data.targets is not None
    return np.min_scalar_type(max(data.n_classes - 1, 0)) if data.has_classes else data.targets.dtype


def all_targets(data: RangesOfRows, dtype: np.dtype[Any]) -> np.ndarray:
    """``y`` as numbers of a dtype; a few MiB more are in memory while it is made."""
    assert data.targets is not None
    y = np.empty((len(data), *data.target_shape), dtype)
    for start, stop in pieces(len(data), max(PIECE // row_bytes(data.targets), 1)):
        part = np.empty((stop - start, *data.target_shape), data.targets.dtype)
        _read_from(data, data.targets, [range(start, stop)], part)
        y[start:stop] = part
    return y

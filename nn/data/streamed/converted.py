"""Rows and targets as a data set has them, made of those that lie in a source when they are read.

Rows become uint8, float32 or float64, class labels int64, values float32 or float64: the same numbers as in memory.
What cannot be used is named by its row, whenever it is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..checks import EXACT_IN_FLOAT32, DataError, check_finite, check_labels, first_true
from .reading import parts_in, read_parts, read_ranges
from .source import Source, first_byte


class Converted(ABC):
    """A source whose numbers are made of those of another.

    Attributes:
        name, shape, dtype, chunk: as of ``Source``.
        source: the other.
        chunks_are: what its format calls chunks.
    """

    def __init__(self, source: Source, dtype: Any) -> None:
        self.source, self.dtype = source, np.dtype(dtype)
        self.name, self.shape, self.chunk = source.name, source.shape, source.chunk
        self.chunks_are = getattr(source, "chunks_are", "chunks")

    @abstractmethod
    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""

    def identity(self) -> dict[str, Any]:
        """As of ``Source``: that of what is stored."""
        return self.source.identity()

    def _stored(self, start: int, stop: int) -> np.ndarray:
        """The rows as they are stored."""
        part = np.empty((stop - start, *self.source.shape[1:]), self.source.dtype)
        self.source.read(start, stop, part)
        return part


class CheckedNumbers(Converted):
    """Finite numbers: rows of a data set, or values to fit.

    Attributes:
        first_byte: as of ``Source``, where nothing is converted.
    """

    def __init__(self, source: Source, dtype: Any) -> None:
        super().__init__(source, dtype)
        self.first_byte: int | None = first_byte(source) if source.dtype == self.dtype else None

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``.

        Raises:
            DataError: also for the first that is NaN or infinite, or that is not to be had in this dtype.
        """
        self.read_parts([(range(start, stop), out)])

    def read_parts(self, parts: Iterable[tuple[range, np.ndarray]]) -> None:
        """Write the rows of ranges into an array each.

        Raises:
            DataError: as of ``read``.
        """
        parts = list(parts)
        stored = [(rows, self._room(out)) for rows, out in parts]
        read_parts(self.source, stored)
        self._convert_parts(stored, parts)

    def read_ranges(self, ranges: Sequence[range], out: np.ndarray) -> None:
        """Write the rows of several ranges, one after the other, into ``out``; they are looked at together.

        Raises:
            DataError: as of ``read``.
        """
        part = self._room(out)
        read_ranges(self.source, ranges, part)
        try:
            self._convert(part, out, ranges[0].start)
        except DataError:
            if len(ranges) == 1:
                raise
        else:
            return
        self._convert_parts(parts_in(ranges, part), parts_in(ranges, out))  # which names the first by its row

    def _room(self, out: np.ndarray) -> np.ndarray:
        """Where as many rows go as they are stored: ``out`` itself, where nothing is converted."""
        return out if self.source.dtype == self.dtype else np.empty((len(out), *self.shape[1:]), self.source.dtype)

    def _convert_parts(
        self, stored: Iterable[tuple[range, np.ndarray]], parts: Iterable[tuple[range, np.ndarray]]
    ) -> None:
        for (rows, part), (_, out) in zip(stored, parts, strict=True):
            self._convert(part, out, rows.start)

    def _convert(self, part: np.ndarray, out: np.ndarray, start: int) -> None:
        """Write rows as they are stored, the first of which is row ``start``, into ``out``, where that is another
        array, and look at them."""
        if part.dtype.kind == "f":
            check_finite(part, self.name, start)
        if part.dtype == self.dtype:
            return
        if self.dtype == np.uint8:
            self._check(part, (part >= 0) & (part <= 255) & (part == np.floor(part)), start, "no pixel from 0 to 255")
        elif self.dtype == np.float32 and part.dtype.kind in "iu" and part.dtype.itemsize > 2:
            fits = (part >= -EXACT_IN_FLOAT32) & (part <= EXACT_IN_FLOAT32)
            self._check(part, fits, start, "an integer that float32 does not hold")
        with np.errstate(over="ignore"):
            out[...] = part
        if part.dtype.kind == "f" and part.dtype.itemsize > out.dtype.itemsize:  # wider than float64
            check_finite(out, self.name, start)

    def _check(self, part: np.ndarray, fits: np.ndarray, start: int, what: str) -> None:
        if fits.all():
            return
        where = first_true(~fits)
        index = ", ".join(map(str, (where[0] + start, *where[1:])))
        remedy = "scale=1.0" if self.dtype == np.uint8 else "dtype='float64'"
        raise DataError(
            f"{self.name}[{index}] is {part[where]}, {what}, as the rows that were looked at first suggested; say "
            f"StreamedDataset(..., {remedy}), or correct it"
        )


class ClassLabels(Converted):
    """Class labels int64 (n,), made of whole numbers of any dtype (n,) or (n, 1), or of one-hot rows (n, k)."""

    def __init__(self, source: Source, n_classes: int, reason: str = "") -> None:
        super().__init__(source, np.int64)
        self.shape = source.shape[:1]
        self.n_classes, self.reason = n_classes, reason or f"there are {n_classes} class names"

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``.

        Raises:
            DataError: also for the first label that is no class.
        """
        part = self._stored(start, stop)
        out[...] = check_labels(part, self.name, self.n_classes, self.reason, first=start)[0]


class LabelsByName(Converted):
    """Class labels int64 (n,), made of labels (n,) or (n, 1) by which classes are called: text or numbers.

    Args:
        values: sorted, without repetition: all that there are.
        numbers: of the classes that they name.
    """

    def __init__(self, source: Source, values: np.ndarray, numbers: np.ndarray) -> None:
        super().__init__(source, np.int64)
        self.shape = source.shape[:1]
        self.values, self.numbers = values, numbers

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``.

        Raises:
            DataError: also for the first label that is none of them.
        """
        part = self._stored(start, stop).reshape(-1)
        found = np.minimum(np.searchsorted(self.values, part), len(self.values) - 1)
        if (bad := self.values[found] != part).any():
            (row,) = first_true(bad)
            raise DataError(
                f"{self.name}[{start + row}] is {part[row]!s}, which was not there before; begin again, with the file "
                "as it is now"
            )
        out[...] = self.numbers[found]


class RenumberedLabels(Converted):
    """Class labels int64 (n,), made of others."""

    def __init__(self, source: Source, numbers: Sequence[int] | np.ndarray) -> None:
        super().__init__(source, np.int64)
        self.numbers = np.asarray(numbers, np.int64)

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        self.source.read(start, stop, out)
        out[...] = self.numbers[out]

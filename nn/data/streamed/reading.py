"""Which ranges of a source are read: for rows that are chosen from it, and for a look at what its numbers are like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..checks import DataError
from .source import Source

#: Rows between two that are wanted are read with them, up to so many bytes: looking for the next takes as long.
SKIPPED = 1 << 16
#: So many bytes are read at a time of rows that do not lie together, and in a pass over all of them.
PIECE = 1 << 22
#: So many rows are looked at, of so many bytes together at most, from so many regions, evenly spread; from fewer of a
#: source that is read in chunks.
ROWS_LOOKED_AT, BYTES_LOOKED_AT = 4096, 1 << 24
REGIONS, REGIONS_OF_CHUNKS = 256, 64


def row_bytes(source: Source) -> int:
    """How many bytes a row has, as it is read."""
    return max(math.prod(source.shape[1:]) * source.dtype.itemsize, 1)


def read_rows(source: Source, indices: np.ndarray, out: np.ndarray) -> None:
    """Write the rows at ``indices`` (m,) into ``out`` (m, ...). Ascending ones are read as they lie, in few pieces."""
    n = len(indices)
    if n == 0:
        return
    steps = np.diff(indices)
    if (steps == 1).all():
        source.read(int(indices[0]), int(indices[-1]) + 1, out)
        return
    if (steps <= 0).any():
        ascending, where = np.unique(indices, return_inverse=True)
        part = np.empty((len(ascending), *source.shape[1:]), source.dtype)
        read_rows(source, ascending, part)
        np.take(part, where, axis=0, out=out)
        return
    size = row_bytes(source)
    far, most = max(source.chunk, SKIPPED // size, 1), max(4 * source.chunk, PIECE // size, 1)
    gaps = np.flatnonzero(steps > far) + 1
    scratch: np.ndarray | None = None
    for first, last in zip([0, *gaps.tolist()], [*gaps.tolist(), n], strict=True):
        while first < last:
            start = int(indices[first])
            end = first + int(np.searchsorted(indices[first:last], start + most))
            stop = int(indices[end - 1]) + 1
            if stop - start == end - first:
                source.read(start, stop, out[first:end])
            else:
                if scratch is None:
                    scratch = np.empty((most, *source.shape[1:]), source.dtype)
                part = scratch[: stop - start]
                try:
                    source.read(start, stop, part)
                except DataError:  # perhaps of a row that is not wanted
                    read_parts(source, _runs(indices[first:end], out[first:end]))
                else:
                    np.take(part, indices[first:end] - start, axis=0, out=out[first:end], mode="clip")
            first = end


def _runs(indices: np.ndarray, out: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
    """Ascending rows as ranges of neighbours, each with its part of ``out``."""
    cuts = (np.flatnonzero(np.diff(indices) > 1) + 1).tolist()
    for first, last in zip([0, *cuts], [*cuts, len(indices)], strict=True):
        yield range(int(indices[first]), int(indices[last - 1]) + 1), out[first:last]


def read_ranges(source: Source, ranges: Sequence[range], out: np.ndarray) -> None:
    """Write the rows of several ranges, one after the other, into ``out``: at once, where a source can
    (``read_ranges``, which it may have beside ``read``)."""
    at_once = getattr(source, "read_ranges", None)
    if at_once is not None:
        at_once(ranges, out)
        return
    read_parts(source, parts_in(ranges, out))


def read_parts(source: Source, parts: Iterable[tuple[range, np.ndarray]]) -> None:
    """Write the rows of ranges into an array each: at once, where a source can (``read_parts``)."""
    at_once = getattr(source, "read_parts", None)
    if at_once is not None:
        at_once(parts)
        return
    for rows, out in parts:
        source.read(rows.start, rows.stop, out)


def parts_in(ranges: Sequence[range], array: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
    """Each range with its part of an array that has the rows of all, one after the other."""
    at = 0
    for rows in ranges:
        yield rows, array[at : at + len(rows)]
        at += len(rows)


def pieces(n: int, rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of ``rows`` rows, the last one shorter, that are ``n`` together."""
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def parts_of(source: Source) -> Iterator[tuple[int, np.ndarray]]:
    """All rows as they are stored, in pieces (m, ...), each with the number of its first row."""
    for start, stop in pieces(source.shape[0], max(PIECE // row_bytes(source), 1)):
        part = np.empty((stop - start, *source.shape[1:]), source.dtype)
        source.read(start, stop, part)
        yield start, part


def looked_at(n: int, size: int, chunk: int) -> list[tuple[int, int]]:
    """Ranges, evenly spread over ``n`` rows of ``size`` bytes, in ascending order: all of them, where these are few."""
    rows = min(n, ROWS_LOOKED_AT, max(BYTES_LOOKED_AT // size, 16))
    regions = min(REGIONS if chunk == 1 else REGIONS_OF_CHUNKS, rows)
    each = -(-rows // regions)
    if each * regions >= n:
        return [(0, n)]
    starts = [number * (n - each) // max(regions - 1, 1) for number in range(regions)]
    return [(start, start + each) for start in starts]

"""Rows that are chosen from a source, such as those that are not held out, read range by range of their indices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..checks import DataError
from .open_files import scratch
from .placement import Placement, rows_in_step
from .reading import parts_in, read_parts, read_ranges, read_rows
from .source import Source, first_byte


def read_chosen(source: Source, chosen: np.ndarray, ranges: Sequence[range], out: np.ndarray) -> None:
    """Write the rows at the indices ``chosen[start:stop]`` of several ranges, one after the other, into ``out``. Where
    indices ascend within each range, and most of the rows between two are wanted, the others are read with them."""
    ends = np.array([(rows.start, rows.stop) for rows in ranges])
    starts, lengths = chosen[ends[:, 0]], ends[:, 1] - ends[:, 0]
    spans = chosen[ends[:, 1] - 1] - starts + 1
    firsts = np.cumsum(lengths) - lengths
    indices = np.concatenate([chosen[rows.start : rows.stop] for rows in ranges])
    steps = np.diff(indices)
    steps[firsts[1:] - 1] = 1  # from one range to the next
    total = int(spans.sum())
    if (steps <= 0).any() or total > 2 * len(indices):
        for rows, part in parts_in(ranges, out):
            read_rows(source, chosen[rows.start : rows.stop], part)
        return
    read = [range(start, start + span) for start, span in zip(starts.tolist(), spans.tolist(), strict=True)]
    if total == len(indices):
        read_ranges(source, read, out)
        return
    begins, room = _room(source, read)
    try:
        read_parts(source, [(rows, room[begin : begin + len(rows)]) for rows, begin in zip(read, begins, strict=True)])
    except DataError:  # perhaps of a row that is not wanted
        for rows, part in parts_in(ranges, out):
            read_rows(source, chosen[rows.start : rows.stop], part)
        return
    np.take(room, indices - np.repeat(starts - begins, lengths), axis=0, out=out, mode="clip")


def _room(source: Source, ranges: Sequence[range]) -> tuple[list[int], np.ndarray]:
    """Memory for ranges, in which they lie as in their file, and where each of them begins in it."""
    first, begins, end = first_byte(source), list[int](), 0
    placement = Placement(first or 0, 1 if first is None else rows_in_step(source))
    for rows in ranges:
        begins.append(end + placement.skipped(rows.start, end))
        end = begins[-1] + len(rows)
    size = source.dtype.itemsize
    room = placement.empty(lambda shape: scratch(prod(shape) * size).view(source.dtype), (end, *source.shape[1:]))
    return begins, room

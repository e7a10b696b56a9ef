"""Input validation of data sets that are larger than memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.arguments import ArgumentTypeError, shown

from ..checks import DataError, DataTypeError, check_same_length
from ..dataset import indices_or_mask
from .source import Source


def checked_rows(source: Source) -> Source:
    """A source, if it has rows of numbers.

    Raises:
        DataError: it has another shape, or no rows.
        DataTypeError: it holds no numbers.
    """
    shape, kind = source.shape, source.dtype.kind
    if len(shape) not in (2, 3, 4):
        raise DataError(
            f"{source.name} has shape {tuple(shape)}, but rows are (n, features) or pictures (n, height, width[, "
            "channels])"
        )
    if 0 in shape:
        raise DataError(f"{source.name} is empty (shape {tuple(shape)}); at least one row and one feature are needed")
    if kind not in "biuf":
        raise DataTypeError(
            f"{source.name} holds no numbers (it has type {source.dtype}); store it as an array of numbers"
        )
    return source


def check_as_many(x: Source, y: Source) -> None:
    """Raise a DataError unless there is one target for each row."""
    check_same_length(np.broadcast_to(0, x.shape), np.broadcast_to(0, y.shape), x.name, y.name)


def checked_indices(chosen: Any, n: int) -> np.ndarray | None:
    """Which of ``n`` stored rows belong to a data set, (m,) int64 from 0 on; None for all.

    Raises:
        ArgumentTypeError, IndexError: it is neither indices of rows nor a mask of them.
    """
    if chosen is None:
        return None
    found = indices_or_mask(chosen, n, "StreamedDataset: chosen")
    if found.dtype.kind == "b":
        found = np.flatnonzero(found)
    if not found.size:
        raise ArgumentTypeError(f"StreamedDataset: chosen must be indices of rows, not {shown(chosen)}")
    found = found.astype(np.int64, copy=False)
    return found % n if (found < 0).any() else found

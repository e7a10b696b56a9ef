"""Rows that are given to ``fit``, ``evaluate`` and ``predict`` where they are stored, as a ``StreamedDataset``."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from ..checks import DataError
from ..units import Units
from .as_source import is_of, is_source, source_of, targets_of
from .dataset import StreamedDataset
from .joined import JoinedSource
from .learnt import learnt_targets
from .windows import WINDOW_BYTES


def joined(one: StreamedDataset, other: StreamedDataset) -> StreamedDataset:
    """All rows of two data sets of the same classes and units, neither of which is a part, one after the other."""
    targets = [part.targets for part in (one, other) if part.targets is not None]
    return StreamedDataset(
        JoinedSource([one.rows, other.rows]),
        JoinedSource(targets) if len(targets) == 2 else None,
        window=one.window,
        scale=one.scale,
        shift=one.shift,
        class_names=one.class_names,
        image_shape=one.image_shape,
        columns=one.columns,
    )


def lies_elsewhere(x: Any) -> bool:
    """Whether rows are not in memory: a path or a list of paths, an array of h5py or zarr, a ``Source``, or a memmap
    of more than a window."""
    if isinstance(x, str | os.PathLike):
        return True
    if isinstance(x, list | tuple):
        return bool(x) and all(isinstance(one, str | os.PathLike) for one in x)
    if isinstance(x, np.ndarray):
        return isinstance(x, np.memmap) and x.nbytes > WINDOW_BYTES
    return is_of("h5py", x) or is_of("zarr", x) or is_source(x)


def streamed_dataset(x: Any, y: Any, units: Units | None, n_classes: int | None) -> StreamedDataset:
    """What ``as_dataset`` makes of rows and targets in memory, of rows that are not.

    Args:
        y: the targets, which may be in memory; None for none.
        units, n_classes: as of ``as_dataset``.

    Raises:
        DataError: they cannot be used.

    Warns:
        UnitsWarning: the numbers of x cannot be in ``units``.
    """
    if units is not None and any(column.learnt for column in units.columns or ()):
        raise DataError(
            "the network takes a table with categories or missing values, which is encoded in memory; give such rows "
            "as a DataFrame"
        )
    rows, targets, names = source_of(x, "x"), None, None
    if y is not None:
        known = None if units is None else units.class_names
        targets, names = learnt_targets(targets_of(y, "y"), known, n_classes, trained=units is not None)
    if units is None:
        return StreamedDataset(rows, targets, class_names=names)
    picture = units.row_shape if len(units.row_shape or ()) > 1 and len(rows.shape) == 2 else None
    fits = picture is not None and math.prod(picture) == rows.shape[1]
    found = StreamedDataset(
        rows,
        targets,
        scale=units.scale,
        shift=units.shift,
        class_names=names,
        image_shape=picture if fits else None,
        columns=units.columns,
    )
    units.check(found.sample.x, rows.name)
    return found

"""What users give for the rows or the targets of a data set that is larger than memory, as a source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from backends.arguments import check_path, shown

from ..checks import DataError, DataTypeError
from .npy import NpySource
from .source import ArraySource, Source

WANTED = "the path of a .npy file, a NumPy array or memmap, or a Source"


def source_of(values: Any, name: str) -> Source:
    """The source that ``values`` are, or that gives them; ``name`` is what messages call an array that has none.

    Raises:
        DataError: a file cannot be read in this way.
        DataTypeError: it is nothing that has rows.
    """
    if isinstance(values, str | os.PathLike):
        return _of_path(check_path(name, values))
    if isinstance(values, np.ndarray):
        return ArraySource(values, name)
    if all(hasattr(values, of) for of in ("name", "shape", "dtype", "chunk", "read", "identity")):
        source: Source = values
        return source
    raise DataTypeError(f"{name} must be {WANTED}, not {shown(values)}")


def _of_path(path: Path) -> Source:
    if path.suffix.lower() != ".npy":
        raise DataError(f"{path}: rows are streamed from .npy files; name one")
    return NpySource(path)

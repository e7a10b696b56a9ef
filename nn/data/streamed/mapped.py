"""Rows of a file that the caller has mapped into memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from .open_files import FileState
from .raw import RawSource
from .source import ArraySource, sampled_identity


def mapped_source(array: np.memmap[Any, Any]) -> RawSource | None:
    """The file that is behind an array, which is then read by ranges as if its path had been given: of a map, what was
    read would count as memory of the process, and a file that becomes shorter would end it. None where the numbers may
    differ from those of the file (the array can be written to, the file was replaced), or do not lie in it row by row.
    """
    mapped: Any = array
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    is_read_only = isinstance(mapped, mmap.mmap) and array.filename is not None and array.mode == "r"
    if not (is_read_only and array.ndim and array.size and array.flags.c_contiguous):
        return None
    path, begin = Path(str(array.filename)), np.frombuffer(mapped, np.uint8).ctypes.data
    # A map begins at a multiple of the system's unit before what was asked for.
    offset = array.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY + array.ctypes.data - begin
    if not path.is_file():  # removed by now: the map has what was there
        return None
    state = FileState(path)
    if offset + array.nbytes > state.size:
        return None
    found = RawSource(state, str(path), offset, array.shape, array.dtype)
    return found if sampled_identity(found) == sampled_identity(ArraySource(array)) else None

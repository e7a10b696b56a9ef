"""Rows of a .npy file."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..checks import DataError
from ..npy import npy_header
from ..reading import open_file, reading
from .open_files import FileState
from .raw import RawSource


class NpySource(RawSource):
    """The array of a .npy file.

    Raises:
        DataError: it is no such file, is damaged, has other things than numbers in it, or lies column by column.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        with reading(path), open_file(path) as file:
            begins = file.read(6)
            if begins and begins != b"\x93NUMPY":
                kind = "an .npz file, of which ranges cannot be read" if begins[:2] == b"PK" else "no .npy file"
                raise DataError(f"{path} is {kind}; save each array by numpy.save")
            file.seek(0)
            shape, dtype, by_column = npy_header(file)
            offset = file.tell()
        if dtype.hasobject:
            raise DataError(f"{path} holds Python objects, which are never unpickled; save it as numbers")
        state, size = FileState(path), math.prod(shape) * dtype.itemsize
        if offset + size != state.size or dtype.itemsize == 0:
            raise DataError(f"{path} is damaged (its header claims {size:,} bytes); copy or download it again")
        if not shape:
            raise DataError(f"{path} holds a single number; save an array of rows")
        if by_column and len(shape) > 1:
            raise DataError(
                f"{path} lies column by column (Fortran order), so that its rows cannot be read; save it again as "
                "numpy.ascontiguousarray(x)"
            )
        super().__init__(state, str(path), offset, shape, dtype)

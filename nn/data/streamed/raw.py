"""Rows that lie one after the other in a file, read range by range.

A memory map would count whatever of the file was read as memory of the process, and a file that becomes shorter would
end it. So ranges are read into the arrays that ask for them. The file is opened for each range: none stays open, and
that it is still the same costs no more than a look.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from backends.typing import Shape

from ..checks import DataError
from ..reading import reading
from .source import sampled_identity


class FileState:
    """What tells a file from what it was before, or from another of its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            self._known = _known(os.stat(path))

    @property
    def size(self) -> int:
        """In bytes."""
        return self._known[0]

    def check(self, descriptor: int | None = None) -> None:
        """Raise a DataError unless the file, which may be open, is still the same."""
        with reading(self.path):
            now = _known(os.stat(self.path) if descriptor is None else os.fstat(descriptor))
        if now != self._known:
            raise DataError(f"{self.path} has changed since it was opened; begin again, with the file as it is now")


def _known(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


class RawSource:
    """An array whose numbers lie in a file as they are in memory.

    Args:
        state: of the file.
        name: of the array, for messages.
        offset: where it begins, in bytes.
        shape: (n, ...).
        dtype: in the byte order of the file.
    """

    chunk = 1

    def __init__(self, state: FileState, name: str, offset: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.state, self.name, self.shape = state, name, tuple(shape)
        self.dtype = dtype.newbyteorder("=")
        self._offset, self._stored = offset, dtype
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        if self._stored == self.dtype == out.dtype and out.flags.c_contiguous:
            self._fill(start, out)
            return
        part = np.empty((stop - start, *self.shape[1:]), self._stored)
        self._fill(start, part)
        out[...] = part

    def _fill(self, start: int, out: np.ndarray) -> None:
        """Read as many bytes as ``out`` has, from a row on."""
        into = out.reshape(-1).view(np.uint8).data
        with reading(self.state.path), open(self.state.path, "rb", buffering=0) as file:
            self.state.check(file.fileno())
            file.seek(self._offset + start * self._row_bytes)
            while len(into):
                got = file.readinto(into)
                if not got:
                    raise DataError(f"{self.state.path} has become shorter while it was read; begin again")
                into = into[got:]

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return {"bytes": self.state.size, **sampled_identity(self)}

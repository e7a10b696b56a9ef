"""Rows that lie one after the other in a file, read range by range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from backends.typing import Shape

from .open_files import FileState, Part, fill
from .source import sampled_identity


class RawSource:
    """An array whose numbers lie in a file as they are in memory.

    Args:
        state: of the file.
        name: of the array, for messages.
        first_byte: where it begins.
        shape: (n, ...).
        dtype: in the byte order of the file.

    Attributes:
        first_byte: as of ``Source``; None where the bytes of a number are in another order than here.
    """

    chunk = 1

    def __init__(self, state: FileState, name: str, first_byte: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.state, self.name, self.shape = state, name, tuple(shape)
        self.dtype = dtype.newbyteorder("=")
        self.first_byte = first_byte if dtype == self.dtype else None
        self._begin, self._stored = first_byte, dtype
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        self.read_parts([(range(start, stop), out)])

    def read_parts(self, parts: Iterable[tuple[range, np.ndarray]]) -> None:
        """Write the rows of ranges into an array each: with as little of Python for each as possible."""
        wanted, copied = list[Part](), list[tuple[np.ndarray, np.ndarray]]()
        for rows, out in parts:
            part = out
            if not (self._stored == self.dtype == out.dtype and out.flags.c_contiguous):
                part = np.empty((len(out), *self.shape[1:]), self._stored)
                copied.append((out, part))
            wanted.append(Part(part.reshape(-1).view(np.uint8), self._begin + rows.start * self._row_bytes))
        fill(self.state, wanted)
        for out, part in copied:
            out[...] = part

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return {"bytes": self.state.size, **sampled_identity(self)}

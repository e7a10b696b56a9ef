"""Where the rows of a data set that is larger than memory lie: something that gives any range of them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from backends.typing import Shape

#: Disks read so many bytes at a time, or a multiple.
SECTOR = 512


class Source(Protocol):
    """An array (n, ...) that is read by ranges of rows, by several threads at once.

    It may also have ``read_parts(parts)``, which writes the rows of each of several ranges into an array: where ranges
    are short, that saves the most of what each of them costs in Python; and ``read_ranges(ranges, out)`` where it is
    done in still less time for one array, in which they follow each other. And ``first_byte``, where in a file row 0
    begins, in whose sectors its rows lie as they are in memory (None where they do not): see ``Placement``.

    Attributes:
        name: of the file, or what else it is, for messages.
        shape: (n, ...).
        dtype: of the numbers as ``read`` gives them, in native byte order.
        chunk: how many rows are read, or unpacked, at a time, whichever of them are wanted; 1 where each row can be
            read by itself.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def chunk(self) -> int: ...

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """Write the rows from ``start`` up to ``stop`` into ``out`` (stop - start, ...) of ``dtype``.

        Raises:
            DataError: they cannot be read.
        """

    def identity(self) -> dict[str, Any]:
        """What tells these numbers from others, of strings and numbers, without reading them all."""


def first_byte(source: Source) -> int | None:
    """``first_byte`` of a source; None of one that has none."""
    found: int | None = getattr(source, "first_byte", None)
    return found


class ArraySource:
    """Rows of an array of NumPy: in memory, or mapped into it."""

    chunk = 1

    def __init__(self, array: np.ndarray, name: str = "x") -> None:
        self.array, self.name = array, name
        self.shape, self.dtype = tuple(array.shape), array.dtype.newbyteorder("=")

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        out[...] = self.array[start:stop]

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return sampled_identity(self)


#: So many rows, evenly spread, tell an array from others; fewer of one of which a whole chunk is read for each.
ROWS_HASHED, ROWS_HASHED_OF_CHUNKS = 512, 64


def sampled_identity(source: Source) -> dict[str, Any]:
    """The shape, the dtype, and the SHA-256 of rows that are evenly spread."""
    from hashlib import sha256

    n, digest = source.shape[0], sha256()
    row = np.empty((1, *source.shape[1:]), source.dtype)
    count = min(ROWS_HASHED if source.chunk == 1 else ROWS_HASHED_OF_CHUNKS, n)
    for index in (position * (n - 1) // max(count - 1, 1) for position in range(count)):
        source.read(index, index + 1, row)
        digest.update(row.tobytes())
    return {"shape": [*source.shape], "dtype": source.dtype.str, "sha256 of some rows": digest.hexdigest()}

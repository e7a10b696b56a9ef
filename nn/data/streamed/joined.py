"""Several sources, the rows of one after those of the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..checks import DataError
from .reading import read_parts, row_bytes
from .source import SECTOR, Source, first_byte


class JoinedSource:
    """The rows of several files of the same kind, which are one data set.

    Raises:
        DataError: there are none, or their rows or dtypes differ.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise DataError("there are no files to join; name at least one")
        first = sources[0]
        for other in sources[1:]:
            if (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
                raise DataError(
                    f"{other.name} has rows {other.shape[1:]} of {other.dtype} but {first.name} {first.shape[1:]} of "
                    f"{first.dtype}; store all alike"
                )
        self.sources = list(sources)
        last = sources[-1].name.replace("\\", "/").rpartition("/")[2]
        self.name = first.name if len(sources) == 1 else f"{first.name} ... {last}"
        self.dtype = first.dtype
        self._ends = np.cumsum([source.shape[0] for source in sources])
        self.shape = (int(self._ends[-1]), *first.shape[1:])
        self.chunk = max(source.chunk for source in sources)
        begins = {_first_byte(source, int(end)) for source, end in zip(sources, self._ends, strict=True)}
        self.first_byte = begins.pop() if len(begins) == 1 else None

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        self.read_parts([(range(start, stop), out)])

    def read_parts(self, parts: Iterable[tuple[range, np.ndarray]]) -> None:
        """Write the rows of ranges into an array each: those of each file together."""
        of_files: dict[int, list[tuple[range, np.ndarray]]] = {}
        for rows, part in parts:
            for index, own, begin in self._in_files(rows):
                of_files.setdefault(index, []).append((own, part[begin : begin + len(own)]))
        for index, own_parts in of_files.items():
            read_parts(self.sources[index], own_parts)

    def _in_files(self, rows: range) -> Iterator[tuple[int, range, int]]:
        """The file, the rows in it, and how many come before them, for each of the files that have some of a range."""
        index = int(np.searchsorted(self._ends, rows.start, side="right"))
        done = rows.start
        while done < rows.stop:
            begins = int(self._ends[index]) - self.sources[index].shape[0]
            end = min(rows.stop, int(self._ends[index]))
            if end > done:  # a file may have no rows
                yield index, range(done - begins, end - begins), done - rows.start
            done, index = max(done, end), index + 1

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return {"files": [source.identity() for source in self.sources]}


def _first_byte(source: Source, end: int) -> int | None:
    """Where row 0 of all would begin within a sector of the file of one, whose rows end before row ``end`` of all."""
    found = first_byte(source)
    return None if found is None else (found - (end - source.shape[0]) * row_bytes(source)) % SECTOR

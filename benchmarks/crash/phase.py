"""What a process is doing, for another that kills it: a page of memory that both have, and that outlives it."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

#: What it may be doing: starting (and reading its checkpoint), between epochs, in the middle of one, writing a
#: checkpoint, or what is left after training.
STARTING, BETWEEN, EPOCH, WRITING, ENDING = range(5)
#: What it is doing, the epoch, the step, and how many checkpoints it has written.
_FORMAT = struct.Struct("=QQQQ")


class Moment(NamedTuple):
    """What a process was doing when it was killed."""

    doing: int
    epoch: int
    step: int
    written: int


class Phase:
    """That page, in a file.

    Args:
        path: of the file, made where there is none.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_FORMAT.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FORMAT.size)

    @property
    def moment(self) -> Moment:
        return Moment(*_FORMAT.unpack(self._memory[:]))

    def set(self, **changed: int) -> None:
        """Note that something has changed."""
        self._memory[:] = _FORMAT.pack(*self.moment._replace(**changed))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which a checkpoint is written."""
        before = self.moment
        self.set(doing=WRITING)
        yield
        self.set(doing=before.doing, written=before.written + 1)

"""Rows that lie one after the other in a file, read range by range.

A memory map would count whatever of the file was read as memory of the process, and a file that becomes shorter would
end it. So ranges are read into the arrays that ask for them. The file is opened for each range: none stays open, and
that it is still the same costs no more than a look.

Threads that read ahead keep their files open (``keep_files_open``). Each call of the system gives Python's lock away
and takes it again, from the thread that trains, which then waits 50 to 100 us for it: with eight calls for each block
of a megabyte a step of a small network took a fifth longer than with one. Of files that are too large for the system to
keep in its cache they read past that, which takes half as much of a core.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from backends.devices import host_memory
from backends.typing import Shape

from ..checks import DataError
from ..reading import reading
from .placement import address
from .source import SECTOR, sampled_identity

#: A file is too large for the system to keep where it has more than one part in so many of the memory.
PART_OF_MEMORY = 2


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

    @cached_property
    def is_larger_than_cache(self) -> bool:
        """Whether it is too large for the system to keep, as far as the memory of this machine is known."""
        memory = host_memory()
        return memory is not None and self.size > memory[1] // PART_OF_MEMORY

    def check(self, descriptor: int | None = None) -> None:
        """Raise a DataError unless the file, which may be open, is still the same."""
        with reading(self.path):
            now = _known(os.stat(self.path) if descriptor is None else os.fstat(descriptor))
        if now != self._known:
            raise DataError(f"{self.path} has changed since it was opened; begin again, with the file as it is now")


#: A thread that keeps files open keeps so many, the last ones, and looks so often (seconds) whether they are the same.
MOST_OPEN, LOOKED_AT_EVERY = 4, 0.1


class _Open:
    """A file that is open for reading until nobody refers to it.

    Attributes:
        descriptor: of the system.
        looked_at: when it was last made sure that the file is the same.
    """

    descriptor = -1

    def __init__(self, path: Path, flags: int = 0) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | flags)
        self.looked_at = -math.inf

    def read(self, into: memoryview, at: int) -> int:
        """Read bytes into memory, from byte ``at`` on; how many."""
        return os.preadv(self.descriptor, [into], at)

    def __del__(self) -> None:
        if self.descriptor >= 0:  # it could be opened
            os.close(self.descriptor)


#: What every system is content with, of offsets, sizes and addresses past its cache, and the bytes that are read at a
#: time so.
ALIGNMENT, DIRECT = 4096, 1 << 21


class _OpenDirectly(_Open):
    """A file that is read past the cache of the system: straight to where the bytes belong, if that lies as the file
    does (``Placement``), else into memory of its own, from which they are copied.

    Raises:
        OSError: the file system has no such way.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_DIRECT)
        memory = mmap.mmap(-1, DIRECT)  # begins at a page
        self._view, self._numbers = memoryview(memory), np.frombuffer(memory, np.uint8)
        os.preadv(self.descriptor, [self._view[:ALIGNMENT]], 0)
        try:
            os.preadv(self.descriptor, [self._view[SECTOR : 2 * SECTOR]], SECTOR)
            self._takes_sectors = True
        except OSError:  # of a disk with larger ones
            self._takes_sectors = False

    def read(self, into: memoryview, at: int) -> int:
        if (
            self._takes_sectors
            and len(into) > 2 * SECTOR
            and (address(np.frombuffer(into, np.uint8)) - at) % SECTOR == 0
        ):
            return self._read_straight(into, at)
        skip = at % ALIGNMENT
        size = min(-(-(skip + len(into)) // ALIGNMENT) * ALIGNMENT, DIRECT)
        got = os.preadv(self.descriptor, [self._view[:size]], at - skip)
        count = max(min(got - skip, len(into)), 0)
        # By NumPy, which does so without Python's lock.
        np.copyto(np.frombuffer(into[:count], np.uint8), self._numbers[skip : skip + count])
        return count

    def _read_straight(self, into: memoryview, at: int) -> int:
        """Of the sectors at both ends, a part of which is wanted, that part is copied."""
        before, after = -at % SECTOR, (at + len(into)) % SECTOR
        skip, end = -before % SECTOR, len(into) - after
        first, last = self._view[:SECTOR], self._view[SECTOR : 2 * SECTOR]
        parts = [first, into[before:end], last]
        got = os.preadv(self.descriptor, parts[0 if before else 1 : 3 if after else 2], at - skip) - skip
        into[:before] = first[skip : skip + before]
        into[end:] = last[:after]
        return max(min(got, len(into)), 0)


def _open(state: FileState) -> _Open:
    """The file, in the way in which a thread that reads much of it reads it best."""
    if hasattr(os, "O_DIRECT") and state.is_larger_than_cache:
        with suppress(OSError):
            return _OpenDirectly(state.path)
    return _Open(state.path)


class _OfThread(threading.local):
    """The files that a thread keeps open, by path, the last ones used at the end; None where it keeps none."""

    files: dict[Path, _Open] | None = None


_of_thread = _OfThread()


def keep_files_open() -> None:
    """Have this thread keep the files open that it reads, until it ends."""
    if hasattr(os, "preadv"):
        _of_thread.files = {}


@contextmanager
def _opened(state: FileState) -> Iterator[Callable[[memoryview, int], int]]:
    """What reads from a file, which is still the same, into memory, from a byte on, and tells how many it has read."""
    files = _of_thread.files
    if files is None:
        with open(state.path, "rb", buffering=0) as file:
            state.check(file.fileno())

            def read(into: memoryview, at: int) -> int:
                file.seek(at)
                return file.readinto(into) or 0

            yield read
        return
    found = files.pop(state.path, None) or _open(state)
    if monotonic() - found.looked_at > LOOKED_AT_EVERY:
        state.check(found.descriptor)
        found.looked_at = monotonic()
    files[state.path] = found
    if len(files) > MOST_OPEN:
        del files[next(iter(files))]
    yield found.read


def _known(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


class RawSource:
    """An array whose numbers lie in a file as they are in memory.

    Args:
        state: of the file.
        name: of the array, for messages.
        first_byte: where it begins.
        shape: (n, ...).
        dtype: in the byte order of the file.
    """

    chunk = 1

    def __init__(self, state: FileState, name: str, first_byte: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.state, self.name, self.shape = state, name, tuple(shape)
        self.dtype = dtype.newbyteorder("=")
        self.first_byte, self._stored = first_byte, dtype
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        self.read_ranges([range(start, stop)], out)

    def read_ranges(self, ranges: Sequence[range], out: np.ndarray) -> None:
        """Write the rows of several ranges, one after the other, into ``out``."""
        if self._stored == self.dtype == out.dtype and out.flags.c_contiguous:
            self._fill(ranges, out)
            return
        part = np.empty((len(out), *self.shape[1:]), self._stored)
        self._fill(ranges, part)
        out[...] = part

    def _fill(self, ranges: Sequence[range], out: np.ndarray) -> None:
        """Read the bytes of the ranges, which may be short: with as little of Python for each as possible."""
        into, size, done = out.reshape(-1).view(np.uint8).data, self._row_bytes, 0
        with reading(self.state.path), _opened(self.state) as read:
            for rows in ranges:
                at, end = self.first_byte + rows.start * size, done + len(rows) * size
                while done < end:
                    got = read(into[done:end], at)
                    if not got:
                        raise DataError(f"{self.state.path} has become shorter while it was read; begin again")
                    done, at = done + got, at + got

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return {"bytes": self.state.size, **sampled_identity(self)}

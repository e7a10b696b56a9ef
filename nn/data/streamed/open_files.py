"""Files that are read range by range, by threads that keep them open.

A memory map would count whatever of the file was read as memory of the process, and a file that becomes shorter would
end it. So ranges are read into the arrays that ask for them. The file is opened for each time that some are read: none
stays open, and that it is still the same costs no more than a look.

Threads that read ahead keep their files open (``keep_files_open``), and have the system read many ranges by one call
(``ManyReads``). Each call of the system gives Python's lock away and takes it again, from the thread that trains, which
then waits 50 to 100 us for it: with eight calls for each block of a megabyte a step of a small network took a fifth
longer than with one, and with one for some dozens of them it takes hardly longer than with none. Of files that are too
large for the system to keep in its cache they read past that, which takes half as much of a core.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import NamedTuple, TypeVar

import numpy as np

from backends.devices import host_memory

from ..checks import DataError
from ..reading import reading
from .many_reads import MOST, ManyReads, Read
from .placement import address
from .source import SECTOR

T = TypeVar("T")

#: A file is too large for the system to keep where it has more than one part in so many of the memory.
PART_OF_MEMORY = 2
#: A thread that keeps files open keeps so many, the last ones, and looks so often (seconds) whether they are the same.
MOST_OPEN, LOOKED_AT_EVERY = 32, 0.1
#: What every system is content with, of offsets, sizes and addresses past its cache, and the bytes that are read at a
#: time so.
ALIGNMENT, DIRECT = 4096, 1 << 21


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


class Part(NamedTuple):
    """What is read of a file.

    Attributes:
        into: (m,) uint8, contiguous.
        at: the first byte.
    """

    into: np.ndarray
    at: int


def fill(state: FileState, parts: Sequence[Part]) -> None:
    """Read parts of a file, which is still the same.

    Raises:
        DataError: it cannot be read, or is another one now.
    """
    with reading(state.path), _opened(state) as file:
        counts = file.read_at_once(parts) if len(parts) > 1 else [0]
        for part, count in zip(parts, counts, strict=True):
            into, done = part.into.data, count
            while done < len(into):
                got = file.read(into[done:], part.at + done)
                if not got:
                    raise DataError(f"{state.path} has become shorter while it was read; begin again")
                done += got


class _File:
    """A file that is open, as Python has it."""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def read(self, into: memoryview, at: int) -> int:
        """Read bytes into memory, from byte ``at`` on; how many."""
        self._file.seek(at)
        return self._file.readinto(into) or 0

    def read_at_once(self, parts: Sequence[Part]) -> list[int]:
        """Read parts by one call of the system; how many bytes of each were."""
        return [0] * len(parts)


class _Open(_File):
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
        return os.preadv(self.descriptor, [into], at)

    def read_at_once(self, parts: Sequence[Part]) -> list[int]:
        many = _of_thread.many
        if many is None:
            return [0] * len(parts)
        return many(self.descriptor, [Read([(address(part.into), len(part.into))], part.at) for part in parts])

    def __del__(self) -> None:
        if self.descriptor >= 0:  # it could be opened
            os.close(self.descriptor)


class _Straight(NamedTuple):
    """A read past the cache to where the bytes belong, but for the sectors at its ends, only a part of which is wanted.

    Attributes:
        begin: the first byte that is read.
        skipped: how many bytes are read before the first that is wanted.
        before, after: how many of those that are wanted are in the sectors at the ends; 0 where all is.
    """

    begin: int
    skipped: int
    before: int
    after: int

    @classmethod
    def of(cls, size: int, at: int) -> _Straight:
        before, after = -at % SECTOR, (at + size) % SECTOR
        skipped = -before % SECTOR
        return cls(at - skipped, skipped, before, after)

    def used(self, first: T, middle: T, last: T) -> list[T]:
        """Those of the places to which it goes that it needs."""
        return [first, middle, last][0 if self.before else 1 : 3 if self.after else 2]

    def complete(self, into: memoryview, first: memoryview, last: memoryview, got: int) -> int:
        """Copy the parts of the sectors at the ends, of which ``got`` bytes were read; how many of those are wanted."""
        into[: self.before] = first[self.skipped : self.skipped + self.before]
        into[len(into) - self.after :] = last[: self.after]
        return max(min(got - self.skipped, len(into)), 0)


class _OpenDirectly(_Open):
    """A file that is read past the cache of the system: straight to where the bytes belong, if that lies as the file
    does (``Placement``), else into memory of the thread, from which they are copied.

    Raises:
        OSError: the file system has no such way.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_DIRECT)
        self._view, self._numbers = memoryview(_of_thread.pages), np.frombuffer(_of_thread.pages, np.uint8)
        os.preadv(self.descriptor, [self._view[:ALIGNMENT]], 0)
        try:
            os.preadv(self.descriptor, [self._view[SECTOR : 2 * SECTOR]], SECTOR)
            self._takes_sectors = True
        except OSError:  # of a disk with larger ones
            self._takes_sectors = False

    def read(self, into: memoryview, at: int) -> int:
        if self._lies_as_the_file(np.frombuffer(into, np.uint8), at):
            straight = _Straight.of(len(into), at)
            ends, middle = self._ends(0), into[straight.before : len(into) - straight.after]
            parts = straight.used(ends[0], middle, ends[1])
            if count := straight.complete(into, *ends, os.preadv(self.descriptor, parts, straight.begin)):
                return count
        skip = at % ALIGNMENT
        size = min(-(-(skip + len(into)) // ALIGNMENT) * ALIGNMENT, DIRECT)
        got = os.preadv(self.descriptor, [self._view[:size]], at - skip)
        count = max(min(got - skip, len(into)), 0)
        # By NumPy, which does so without Python's lock.
        np.copyto(np.frombuffer(into[:count], np.uint8), self._numbers[skip : skip + count])
        return count

    def read_at_once(self, parts: Sequence[Part]) -> list[int]:
        counts = [0] * len(parts)
        most = min(MOST, DIRECT // (2 * SECTOR))  # so many have sectors for their ends
        straight = [number for number, part in enumerate(parts) if self._lies_as_the_file(*part)]
        for first in range(0, len(straight), most):
            numbers = straight[first : first + most]
            for number, count in zip(numbers, self._read_straight([parts[i] for i in numbers]), strict=True):
                counts[number] = count
        return counts

    def _read_straight(self, parts: Sequence[Part]) -> list[int]:
        many = _of_thread.many
        if many is None:
            return [0] * len(parts)
        found, reads, own = [_Straight.of(len(into), at) for into, at in parts], list[Read](), address(self._numbers)
        for number, (straight, part) in enumerate(zip(found, parts, strict=True)):
            middle = address(part.into) + straight.before, len(part.into) - straight.before - straight.after
            first = own + 2 * number * SECTOR
            places = straight.used((first, SECTOR), middle, (first + SECTOR, SECTOR))
            reads.append(Read(places, straight.begin))
        counts = many(self.descriptor, reads)
        return [
            straight.complete(part.into.data, *self._ends(number), count)
            for number, (straight, part, count) in enumerate(zip(found, parts, counts, strict=True))
        ]

    def _lies_as_the_file(self, into: np.ndarray, at: int) -> bool:
        return self._takes_sectors and len(into) > 2 * SECTOR and (address(into) - at) % SECTOR == 0

    def _ends(self, number: int) -> tuple[memoryview, memoryview]:
        """Memory for the sectors at both ends of one of several reads."""
        begin = 2 * number * SECTOR
        return self._view[begin : begin + SECTOR], self._view[begin + SECTOR : begin + 2 * SECTOR]


def _open(state: FileState) -> _Open:
    """The file, in the way in which a thread that reads much of it reads it best."""
    if hasattr(os, "O_DIRECT") and state.is_larger_than_cache:
        with suppress(OSError):
            return _OpenDirectly(state.path)
    return _Open(state.path)


class _OfThread(threading.local):
    """What a thread keeps.

    Attributes:
        files: those that it keeps open, by path, the last ones used at the end; None where it keeps none.
        memory: what it had from ``scratch``.
    """

    files: dict[Path, _Open] | None = None
    memory: np.ndarray | None = None

    @cached_property
    def pages(self) -> mmap.mmap:
        """Memory that begins at a page, for what cannot be read to where it belongs."""
        return mmap.mmap(-1, DIRECT)

    @cached_property
    def many(self) -> ManyReads | None:
        """What makes many reads by one call, where the system lets it; given back when the thread ends."""
        with suppress(OSError):
            return ManyReads()
        return None


_of_thread = _OfThread()


def keep_files_open() -> None:
    """Have this thread keep the files open that it reads, until it ends."""
    if hasattr(os, "preadv"):
        _of_thread.files = {}


def scratch(size: int) -> np.ndarray:
    """Memory of so many bytes, (size,) uint8, until this thread asks for some again. It is kept where files are kept
    open: for the system to give memory that is new takes longer than to read a file into it."""
    if _of_thread.files is None:
        return np.empty(size, np.uint8)
    if _of_thread.memory is None or len(_of_thread.memory) < size:
        _of_thread.memory = None  # before there is more
        _of_thread.memory = np.empty(size, np.uint8)
    return _of_thread.memory[:size]


@contextmanager
def _opened(state: FileState) -> Iterator[_File]:
    """A file that is still the same."""
    files = _of_thread.files
    if files is None:
        with open(state.path, "rb", buffering=0) as file:
            state.check(file.fileno())
            yield _File(file)
        return
    found = files.pop(state.path, None) or _open(state)
    if monotonic() - found.looked_at > LOOKED_AT_EVERY:
        state.check(found.descriptor)
        found.looked_at = monotonic()
    files[state.path] = found
    if len(files) > MOST_OPEN:
        del files[next(iter(files))]
    yield found


def _known(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev

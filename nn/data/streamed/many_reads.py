"""Many reads of a file in one call of the system, where it has one: on Linux.

Each read by itself gives Python's lock away and takes it again, from the thread that trains, which finds it taken when
it wants to go on, sleeps, and is woken 50 to 100 us later. Linux takes a list of reads (io_submit(2)) and waits for all
of them (io_getevents(2)): two calls without Python's lock for as many reads as there are. Reads past the cache are made
at the same time, the others one after the other.

The library of C has no functions for these calls; they are made by their numbers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np


class Numbers(NamedTuple):
    """Of the calls of the system."""

    setup: int
    destroy: int
    submit: int
    getevents: int


#: By machine: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
_GENERIC = Numbers(setup=0, destroy=1, submit=2, getevents=4)
NUMBERS = {
    "x86_64": Numbers(setup=206, destroy=207, submit=209, getevents=208),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
}
#: ``struct iocb`` and ``struct io_event`` (include/uapi/linux/aio_abi.h), and ``struct iovec``.
REQUEST = np.dtype(
    [
        ("number", np.uint64),
        ("key", np.uint32),
        ("flags", np.uint32),
        ("operation", np.uint16),
        ("priority", np.int16),
        ("descriptor", np.uint32),
        ("memory", np.uint64),
        ("count", np.uint64),
        ("at", np.int64),
        ("reserved", np.uint64),
        ("more_flags", np.uint32),
        ("told", np.uint32),
    ]
)
EVENT = np.dtype([("number", np.uint64), ("request", np.uint64), ("result", np.int64), ("more", np.int64)])
MEMORY = np.dtype([("address", np.uint64), ("bytes", np.uint64)])
#: IOCB_CMD_PREADV.
READ_VECTOR = 7
#: A read goes to so many places at most.
PLACES = 3


class Read(NamedTuple):
    """One read.

    Attributes:
        places: where to, one after the other: address and number of bytes of each, which stays what it is meanwhile.
        at: the first byte of the file.
    """

    places: Sequence[tuple[int, int]]
    at: int


#: So many are made by one call; more in turn.
MOST = 128


class ManyReads:
    """Makes many reads by one call, for one thread at a time.

    What the system has for it goes from thread to thread, and is kept to the end: to give it back takes 30 ms.

    Raises:
        OSError: this system has no such call, or does not let this process make it.
    """

    idle: ClassVar[list[Context]] = []

    def __init__(self) -> None:
        try:
            self._context = self.idle.pop()
        except IndexError:
            self._context = Context()

    def __call__(self, descriptor: int, reads: Sequence[Read]) -> list[int]:
        """Make them: how many bytes each has read, which may be fewer than it was to. Those that fail have read none,
        and neither may others have after them, which the caller then reads one by one."""
        found = list[int]()
        while len(found) < len(reads):
            found += self._context.made(descriptor, reads[len(found) : len(found) + MOST])
        return found

    def __del__(self) -> None:
        context: Context | None = getattr(self, "_context", None)  # none where the system has refused
        if context is not None and context.is_open:
            self.idle.append(context)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ManyReads.idle.clear)  # which are of the other process


class Context:
    """What the system has for one who lets it make many reads.

    Raises:
        OSError: as of ``ManyReads``.
    """

    def __init__(self) -> None:
        self._number = ctypes.c_ulong(0)
        numbers = NUMBERS.get(platform.machine())
        if sys.platform != "linux" or sys.maxsize < 2**32 or numbers is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._numbers = numbers
        self._requests, self._events = np.zeros(MOST, REQUEST), np.zeros(MOST, EVENT)
        self._memory = np.zeros((MOST, PLACES), MEMORY)
        self._requests["number"], self._requests["operation"] = np.arange(MOST), READ_VECTOR
        self._requests["memory"] = self._memory.ctypes.data + self._memory.strides[0] * np.arange(MOST)
        self._pointers = (self._requests.ctypes.data + REQUEST.itemsize * np.arange(MOST)).astype(np.uint64)
        if system_call(numbers.setup, MOST, ctypes.byref(self._number)) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    @property
    def is_open(self) -> bool:
        return self._number.value != 0

    def made(self, descriptor: int, reads: Sequence[Read]) -> list[int]:
        """Make up to ``MOST`` reads: as ``ManyReads``."""
        requests, found = self._requests[: len(reads)], np.zeros(len(reads), np.int64)
        requests["descriptor"] = descriptor
        requests["count"] = [len(read.places) for read in reads]
        requests["at"] = [read.at for read in reads]
        for memory, read in zip(self._memory, reads, strict=False):
            memory[: len(read.places)] = read.places
        try:
            ended = self._events[: self._wait(self._begin(len(reads)))]
        except BaseException:
            self.close()
            raise
        found[ended["number"].astype(np.int64)] = np.maximum(ended["result"], 0)
        return found.tolist()

    def _begin(self, count: int) -> int:
        """Let the system begin with the requests; with how many it has."""
        begun = 0
        while begun < count:
            more = system_call(self._numbers.submit, self._number, count - begun, _pointer(self._pointers[begun:]))
            if more <= 0:  # this one cannot be made
                break
            begun += more
        return begun

    def _wait(self, count: int) -> int:
        """Until so many requests have ended; how many are known to have."""
        ended = 0
        while ended < count:
            left, rest = count - ended, _pointer(self._events[ended:])
            more = system_call(self._numbers.getevents, self._number, left, left, rest, ctypes.c_void_p())
            if more < 0 and ctypes.get_errno() != errno.EINTR:
                self.close()
                break
            ended += max(more, 0)
        return ended

    def close(self) -> None:
        """Wait for what may still be written to memory, and make no reads any more."""
        number, self._number = self._number, ctypes.c_ulong(0)
        if number.value:
            system_call(self._numbers.destroy, number)


def system_call(number: int, *args: Any) -> int:
    """A call of the system by its number, without Python's lock; -1, and errno, where it fails."""
    return int(_syscall()(*(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in (number, *args))))


@cache
def _syscall() -> Any:
    """syscall(2)."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)

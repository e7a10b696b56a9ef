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
from typing import Any, NamedTuple

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


class ManyReads:
    """Reads that are made by one call, for one thread.

    Args:
        most: so many at a time; more are made in turn.

    Raises:
        OSError: this system has no such call, or does not let this process make it.
    """

    def __init__(self, most: int) -> None:
        self._context = ctypes.c_ulong(0)
        numbers = NUMBERS.get(platform.machine())
        if sys.platform != "linux" or sys.maxsize < 2**32 or numbers is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self.most, self._numbers = most, numbers
        self._function: Any = ctypes.CDLL(None, use_errno=True).syscall
        self._function.restype = ctypes.c_long
        self._requests, self._events = np.zeros(most, REQUEST), np.zeros(most, EVENT)
        self._memory = np.zeros((most, PLACES), MEMORY)
        self._requests["number"], self._requests["operation"] = np.arange(most), READ_VECTOR
        self._requests["memory"] = self._memory.ctypes.data + self._memory.strides[0] * np.arange(most)
        self._pointers = (self._requests.ctypes.data + REQUEST.itemsize * np.arange(most)).astype(np.uint64)
        if self._call(numbers.setup, most, ctypes.byref(self._context)) < 0:
            raise _error()

    def __call__(self, descriptor: int, reads: Sequence[Read]) -> list[int]:
        """Make them: how many bytes each has read, which may be fewer than it was to; 0 where it failed."""
        found = list[int]()
        while len(found) < len(reads):
            found += self._made(descriptor, reads[len(found) : len(found) + self.most])
        return found

    def _made(self, descriptor: int, reads: Sequence[Read]) -> list[int]:
        requests = self._requests[: len(reads)]
        requests["descriptor"] = descriptor
        requests["count"] = [len(read.places) for read in reads]
        requests["at"] = [read.at for read in reads]
        for memory, read in zip(self._memory, reads, strict=False):
            memory[: len(read.places)] = read.places
        begun = 0
        while begun < len(reads):
            rest = self._pointers[begun:]
            more = self._call(self._numbers.submit, self._context, len(reads) - begun, _pointer(rest))
            if more <= 0:  # this one cannot be made
                break
            begun += more
        self._wait(begun)
        ended, found = self._events[:begun], np.zeros(len(reads), np.int64)
        found[ended["number"].astype(np.int64)] = np.maximum(ended["result"], 0)
        return found.tolist()

    def _wait(self, count: int) -> None:
        ended = 0
        while ended < count:
            rest = self._events[ended:]
            more = self._call(
                self._numbers.getevents, self._context, count - ended, count - ended, _pointer(rest), ctypes.c_void_p()
            )
            if more < 0 and ctypes.get_errno() != errno.EINTR:
                error = _error()
                self.close()  # which waits for what may still write to memory
                raise error
            ended += max(more, 0)

    def close(self) -> None:
        """Give back what the system has for it."""
        context, self._context = self._context, ctypes.c_ulong(0)
        if context.value:
            self._call(self._numbers.destroy, context)

    def __del__(self) -> None:
        self.close()

    def _call(self, number: int, *args: Any) -> int:
        numbers = (ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)
        return int(self._function(ctypes.c_long(number), *numbers))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))

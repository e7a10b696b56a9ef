"""Threads of Python that share the parts of an operation.

NumPy and the BLAS let go of Python's lock while they compute. So the parts of a batch can be computed side by side,
each from start to end in the cache of one core, where several threads of the BLAS would meet after each product.

Which thread computes a part makes no difference to its bits: what the parts are is decided by shapes alone. A thread
takes the next part whenever it has finished one; so one that other processes keep waiting holds up a part, not its
share of all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy

T = TypeVar("T")
#: Multiplications for each thread: 20 to 40 us of work in float32, which is what it takes to wake one.
PER_WORKER = 2**21
#: Of the pictures of a block, or of all that is computed of them: at most, and as long as there are fewer than
#: ``FEW_BLOCKS``. A thread alone is fastest where that fits into half of a second-level cache of 512 KiB, by a tenth.
#: But NumPy takes Python's lock again after each call, and a thread that has to wait for it sleeps: with calls of
#: 10 us, as they are then, two threads are slower than one.
BYTES_OF_BLOCK, LEAST_BYTES = 2**20, 2**18
FEW_BLOCKS = 4
#: So that threads which are not equally fast end at about the same time.
MOST_PARTS = 16


def number_of_workers(multiplications: float, most: int) -> int:
    """The threads of an operation of so many multiplications, where ``most`` are allowed."""
    return max(1, min(most, int(multiplications // PER_WORKER)))


def size_of_blocks(m: int, bytes_of_picture: int) -> int:
    """How many of ``m`` pictures make a block."""
    most = max(LEAST_BYTES, min(BYTES_OF_BLOCK, m * bytes_of_picture // FEW_BLOCKS))
    return max(1, most // bytes_of_picture)


def cut_into_parts(m: int, size: int, most: int = MOST_PARTS) -> list[list[slice]]:
    """``m`` pictures in blocks of ``size``, the last of which may have fewer, in at most ``most`` parts."""
    blocks = [slice(first, min(first + size, m)) for first in range(0, m, size)]
    parts = min(most, len(blocks))
    return [blocks[len(blocks) * j // parts : len(blocks) * (j + 1) // parts] for j in range(parts)]


#: ``work(worker, part)`` computes a part; ``worker`` is less than the number of threads, and no two run at a time with
#: the same one.
Work = Callable[[int, int], Any]


class Parts:
    """The parts of an operation that is called again and again.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._work: Work | None = None
        self._next = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._done: SimpleQueue[None] = SimpleQueue()

    def run(self, work: Work, workers: int) -> None:
        """Compute all parts, by the calling thread and ``workers - 1`` others, and wait for them.

        Raises:
            BaseException: what a part has raised; those that nobody had begun are left out.
        """
        self._work, self._next, self._error = work, 0, None
        helpers = min(workers, self.count) - 1
        for worker in range(1, helpers + 1):
            _helpers.ask(self, worker, helpers)
        try:
            self._share(work, 0)
        finally:
            self._next = self.count
            for _ in range(helpers):
                self._done.get()
            self._work = None  # it holds arrays
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def help(self, worker: int) -> None:
        """Compute parts for the thread that waits for them."""
        try:
            if self._work is not None:
                self._share(self._work, worker)
        except BaseException as error:  # it is raised where somebody waits for it
            self._error, self._next = error, self.count
        finally:
            self._done.put(None)

    def _share(self, work: Work, worker: int) -> None:
        while True:
            with self._lock:
                part = self._next
                self._next = part + 1
            if part >= self.count:
                return
            work(worker, part)


class InBlocks(Generic[T]):
    """``m`` pictures in blocks of ``size``, and what each thread has for a block.

    Args:
        make: makes that for a block of so many pictures.
        most: parts.

    Attributes:
        parts: the blocks of each part.
        job: to run the parts.
    """

    def __init__(self, m: int, size: int, make: Callable[[int], T], most: int = MOST_PARTS) -> None:
        self.parts = cut_into_parts(m, size, most)
        self.job = Parts(len(self.parts))
        self._make = make
        self._sizes = {block.stop - block.start for part in self.parts for block in part}
        self._made: list[dict[int, T]] = []

    def prepare(self, workers: int) -> None:
        """Make what so many threads need."""
        while len(self._made) < workers:
            self._made.append({number: self._make(number) for number in self._sizes})

    def of(self, worker: int, block: slice) -> T:
        """What a thread has for a block of that size."""
        return self._made[worker][block.stop - block.start]


class _Helpers:
    """The threads of this process, made when they are first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """A forked process has none of the threads."""
        self._asked: SimpleQueue[tuple[Parts, int]] = SimpleQueue()
        self._number = 0
        self._lock = threading.Lock()

    def ask(self, parts: Parts, worker: int, number: int) -> None:
        """Let one of ``number`` threads help."""
        if self._number < number:
            with self._lock:
                while self._number < number:
                    threading.Thread(target=_serve, args=(self._asked,), name="xpnet", daemon=True).start()
                    self._number += 1
        self._asked.put((parts, worker))


def _serve(asked: SimpleQueue[tuple[Parts, int]]) -> None:
    numpy.seterr(all="ignore")  # infinity and NaN are results, see NumpyDevice.use
    while True:
        parts, worker = asked.get()
        parts.help(worker)
        del parts  # it holds arrays


_helpers = _Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.forget)

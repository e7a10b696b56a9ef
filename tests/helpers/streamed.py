"""Data sets that count what is read of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from nn.data.streamed import ArraySource


class CountingSource(ArraySource):
    """Rows of an array, and how many were read of it, and by which threads; one that fails where it is told to.

    Attributes:
        rows: how many were read since ``forget``.
        ranges: which.
        threads: the names of the threads that read them.
        fails_at: a row at which reading ends with an error; None for none.
    """

    def __init__(self, array: np.ndarray, name: str = "x", chunk: int = 1) -> None:
        super().__init__(array, name)
        self.chunk = chunk
        self.fails_at: int | None = None
        self.error: Exception = OSError("the disk is gone")
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.rows, self.threads, self.ranges = 0, set[str](), list[range]()

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        with self.lock:
            self.rows += stop - start
            self.ranges.append(range(start, stop))
            self.threads.add(threading.current_thread().name)
        if self.fails_at is not None and start <= self.fails_at < stop:
            raise self.error
        super().read(start, stop, out)

    def identity(self) -> dict[str, Any]:
        return {"shape": [*self.shape]}


def reading_threads() -> list[str]:
    """The threads that read ahead now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rows that are read ahead")]

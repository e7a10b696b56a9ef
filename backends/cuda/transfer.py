"""Copies to a GPU that run while it computes: page-locked memory of the host, a stream of their own, events."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from ..devices.transfer import Fill, Transfer
from ..typing import Array

#: Buffers have no more bytes than these together, where more than two of them would.
MOST_BYTES = 1 << 26
#: Where each array begins in a buffer, in bytes: at a multiple of this.
ALIGNMENT = 256


class _Buffer(NamedTuple):
    """Page-locked memory, and the event after which it has been copied."""

    memory: np.ndarray
    copied: Any


class CudaTransfer(Transfer):
    """Writes into arrays of a GPU by a stream of its own.

    A copy waits, on the GPU, for the steps that still read the array (``mark``), and the steps that follow wait, on the
    GPU too, for the copies (``join``). The host waits only where a buffer is to be filled that is still being copied.
    It waits for that copy alone: who waits for the whole device ends every capture of a step in the process.

    Args:
        cupy: the module.
        handle: of the GPU.
        stream: on which it computes.
        sizes: bytes of the arrays that are written together, at most.
        threads: how many write. There are twice as many buffers, so that one is filled while another is copied.
    """

    def __init__(
        self, cupy: Any, handle: AbstractContextManager[Any], stream: Any, sizes: Sequence[int], threads: int
    ) -> None:
        cuda, size = cupy.cuda, sum(map(_aligned, sizes))
        count = max(min(2 * threads, MOST_BYTES // size), 2)
        self._cuda, self._handle, self._computing = cuda, handle, stream
        self._free: SimpleQueue[_Buffer] = SimpleQueue()
        with handle:
            # Not a blocking stream: the default stream, and whoever uses it, would wait for the copies.
            self._copying = cuda.Stream(non_blocking=True)
            for _ in range(count):
                memory = np.frombuffer(cuda.alloc_pinned_memory(size), np.uint8, size)
                self._free.put(_Buffer(memory, cuda.Event(block=True, disable_timing=True)))

    def mark(self) -> Any:
        return self._event_of(self._computing)

    def write(self, arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]], fill: Fill, after: Any = None) -> None:
        buffer = self._free.get()
        try:
            with self._handle:
                buffer.copied.synchronize()
                host = _carved(buffer.memory, arrays, dtypes)
                fill(host)
                try:
                    if after is not None:
                        self._copying.wait_event(after)
                    for array, numbers in zip(arrays, host, strict=True):
                        array.set(numbers, stream=self._copying)
                finally:
                    buffer.copied.record(self._copying)
        finally:
            self._free.put(buffer)

    def join(self) -> None:
        self._computing.wait_event(self._event_of(self._copying))

    def close(self) -> None:
        with self._handle:
            self._copying.synchronize()
        self._free = SimpleQueue()

    def _event_of(self, stream: Any) -> Any:
        with self._handle:
            event = self._cuda.Event(disable_timing=True)
            event.record(stream)
            return event


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _carved(memory: np.ndarray, arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]]) -> list[np.ndarray]:
    """Parts of a buffer with the shapes of the arrays."""
    found, begin = [], 0
    for array, dtype in zip(arrays, dtypes, strict=True):
        shape = tuple(array.shape)
        size = int(np.prod(shape)) * dtype.itemsize
        found.append(memory[begin : begin + size].view(dtype).reshape(shape))
        begin += _aligned(size)
    return found

"""What NumPy's operations are written upon: the memory of the calling thread, and calls that are noted."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy

from .. import random
from ..base import Backend
from ..devices import Device
from ..step import RecordedStep, Step
from ..typing import Array
from .blas import numpy_blas
from .recording import BUSY_SECONDS, Memory, Recording
from .threads import numpy_threads
from .workers import Parts, Work, number_of_workers

SCRATCH_LIMIT = 1000
_NUMBERS = (int, float)


def host_number(x: float | Array) -> Any:
    """A number that may come as an array of shape (1,), as a Python number."""
    return x if isinstance(x, _NUMBERS) else x.item()  # `int | float` takes three times as long, four times a step


def are_plain(*arrays: Array | None) -> bool:
    """Whether the BLAS or a compiled loop can take these arrays as they are: C-contiguous, aligned and writeable."""
    for a in arrays:  # noqa: SIM110 (all() takes three times as long, and this is asked a dozen times a step)
        if a is not None and not a.flags.carray:
            return False
    return True


def are_readable(*arrays: Array) -> bool:
    """Whether the BLAS can read these arrays as they are: C-contiguous and aligned."""
    return all(a.flags.c_contiguous and a.flags.aligned for a in arrays)


def are_alike(first: Array, *others: Array | None) -> bool:
    """Whether they are plain and all have one shape. Neither the BLAS nor a loop looks; of others NumPy says what is
    wrong."""
    for a in others:
        if a is not None and a.shape != first.shape:
            return False
    return are_plain(first, *others)


class NumpyCore(Backend):
    """``NumpyBackend`` without its operations."""

    fused = True

    def __init__(self, device: Device, dtype: str = "float32") -> None:
        super().__init__(device, dtype)
        self._memory = Memory()
        self._blas = numpy_blas(dtype)
        self._threads = numpy_threads()
        self.accumulates = self.multiplies = self._blas is not None

    def record(self, step: Step, *, only_operations: bool = True) -> RecordedStep:
        """``step`` as prepared calls for each count: its Python code runs at the first step of a count only."""
        return Recording(self._memory, step, self._threads) if only_operations else super().record(step)

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function and, while a step is recorded, note it. The functions that it calls itself are not noted, and
        numbers of the step are arrays, of which it takes ``host_number``."""
        memory = self._memory
        if memory.tape is None:
            return function(*args)
        tape = memory.tape
        with memory.noting(None):
            return tape.call(function, *args)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _call_shared(self, multiplications: int, function: Callable[..., Any], *args: Any) -> Any:
        """``_call`` of a function that computes by ``_share``, with so many multiplications."""
        if self._memory.tape is not None:
            self._memory.tape.in_parts += multiplications
        return self._call(function, *args)

    def _share(self, job: Parts, work: Work, multiplications: int, prepare: Callable[[int], None]) -> None:
        """Compute the parts of an operation on as many threads as the user allows the BLAS, each with a BLAS on one.

        Args:
            prepare: is called with the number of threads before.
        """
        if self._threads is None:
            prepare(1)
            job.run(work, 1)
            return
        with self._threads.held() as most:
            workers = number_of_workers(multiplications, min(most, job.count))
            prepare(workers)
            if most == 1:
                job.run(work, workers)
                return
            number = self._threads.number()
            self._threads.set(1)
            try:
                job.run(work, workers)
            finally:
                self._threads.set(number)
                if workers > 1:  # after a product by several threads of the BLAS one of them would be in the way
                    self._threads.busy_until = perf_counter() + BUSY_SECONDS

    def _scratch(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> numpy.ndarray:
        """Memory of that shape for the operation that is running; ``name`` keeps two uses in one operation apart."""
        dtype = self.dtype if dtype is None else dtype
        buffers = self._memory.buffers
        key = (name, shape, dtype)
        buffer: numpy.ndarray | None = buffers.get(key)
        if buffer is None:
            buffer = self._keep(key, numpy.empty(shape, dtype))
        return buffer

    def _keep(self, key: Any, made: Any) -> Any:
        if len(self._memory.buffers) >= SCRATCH_LIMIT:  # somebody predicts with ever new numbers of rows
            self._memory.buffers.clear()
        self._memory.buffers[key] = made
        return made

    def _constant(self, name: str, size: Any, make: Callable[[], Any]) -> Any:
        """Something that is made once for its name and size."""
        made = self._memory.buffers.get((name, size))
        return self._keep((name, size), make()) if made is None else made

    def _ones(self, size: int) -> Any:
        return self._constant("ones", size, lambda: numpy.ones(size, self.dtype))

    def _number(self, x: float) -> Any:
        return numpy.float32(x) if self.dtype_name == "float32" else x

    def _element_hash(self, size: int, key: tuple[int, int]) -> numpy.ndarray:
        """The part of ``random.mask_bits`` that does not change from step to step."""

        def make() -> numpy.ndarray:
            return self._hash32_in_place(numpy.arange(size, dtype=numpy.uint32) + numpy.uint32(key[0]))

        hashed: numpy.ndarray = self._constant(f"element hash {key[0]}", size, make)
        return hashed

    def _hash32_in_place(self, x: numpy.ndarray) -> numpy.ndarray:
        """``random.hash32`` of a uint32 array, whose products wrap by themselves."""
        shifted = self._scratch("shifted", x.shape, numpy.uint32)
        for shift, multiplier in ((random.SHIFT_1, random.MULTIPLIER_1), (random.SHIFT_2, random.MULTIPLIER_2)):
            numpy.bitwise_xor(x, numpy.right_shift(x, shift, out=shifted), out=x)
            numpy.multiply(x, numpy.uint32(multiplier), out=x)
        numpy.bitwise_xor(x, numpy.right_shift(x, random.SHIFT_3, out=shifted), out=x)
        return x

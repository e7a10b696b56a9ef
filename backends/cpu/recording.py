"""``Recording``: a training step on the CPU, recorded once and replayed as prepared calls.

In a small network most of a step is Python: layers that look up buffers, operations that look at shapes, keywords. All
of that gives the same for every batch of a size. So the first step of a size runs with a tape: what its operations call
in the end, functions of NumPy and of the BLAS with the arrays they work on, is called and noted. Further steps run down
the notes.

What was noted stays as it was: the arrays, and every number that was handed to a call. The numbers that change from
step to step are in arrays of their own, which are written before the notes are run; who needs one of them is noted as a
function that reads it then (``NumpyBackend._call``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import numpy

from ..step import Step, StepNumbers
from .threads import Paces, Threads, Ways, rule

#: What is called of NumPy beside its universal functions.
_NOTED = {"copyto", "dot"}
#: And what leads to a method of its first argument, which is called and noted at once.
_METHODS = {"clip"}
#: What makes arrays, which stay the same from step to step.
_NOT_NOTED = {"empty", "empty_like", "zeros", "ones", "arange"}


#: For how long other products are taken to be better off on one thread where a recorded step is.
BUSY_SECONDS = 1.0


class Tape:
    """Calls in their order, and NumPy's functions as attributes, each of which is called and noted.

    Args:
        threads: of the BLAS, whose number is changed for products that depend on it; None where it cannot be.
        most: how many of them the user allows.

    Attributes:
        calls: what has been noted; to be called without arguments.
        alone: the same for one thread of the BLAS, with the same bits; None where that cannot be.
        first: how many threads the first product that depends on it takes, and the step is to begin with; 0 where none
            does.
        number: of the threads that what is noted next has; 0 before a product depends on it.
        pace: which of the two is to be called; None where it makes no difference.
        in_parts: multiplications of what Python's threads share, as of convolutions.
        halved: the arrays of which two threads compute a half each.
    """

    def __init__(self, threads: Threads | None = None, most: int = 1) -> None:
        self.calls: list[Callable[[], Any]] = []
        self.alone: list[Callable[[], Any]] | None = []
        self.most = most
        self.first = 0
        self.pace: Paces | None = None
        self.in_parts = 0
        self.halved: list[Any] = []
        self._threads = threads
        self._by_several = 0  # multiplications of products on several threads
        self.number = 0
        self._made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(numpy, name)
        if isinstance(function, numpy.ufunc):
            made: Any = _NotedFunction(function, self)
        elif name in _NOTED:
            made = partial(self.call, function)
        elif name in _METHODS:
            made = partial(self._call_method, name)
        elif name in _NOT_NOTED or isinstance(function, type | numpy.dtype | float):
            made = function
        else:
            raise AttributeError(f"a recorded step cannot use numpy.{name}: it is not among the noted functions")
        setattr(self, name, made)
        self._made.append(name)
        return made

    def _call_method(self, name: str, array: Any, *args: Any, **keywords: Any) -> Any:
        return self.call(getattr(array, name), *args, **keywords)

    def call(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call a function and note it. An array that it has made is written again at each replay."""
        result = function(*args, **keywords)
        call = _prepared(function, args, keywords)
        is_new = isinstance(result, numpy.ndarray) and not any(result is a for a in (*args, *keywords.values()))
        self._note(partial(_write, result, call) if is_new else call)
        return result

    def product(self, multiplications: int, ways: Ways | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that computes a product which may depend on the number of threads, and note it."""
        if self._threads is None:
            return self.call(function, *args)
        number = rule(multiplications, self.most)
        self._take(self._threads, number)
        if ways is not None and (in_halves := ways.in_halves(number)) is not None:
            self._by_several += multiplications
            self.halved.append(ways.out)
            self.call(in_halves)
            return ways.out
        result = self.call(function, *args)
        if number > 1:
            self._by_several += multiplications
            if self.alone is not None:
                by_one = None if ways is None else ways.alone(self._threads, number)
                self._threads.set(number)
                if by_one is None:
                    self.alone = None
                else:
                    self.alone[-1] = by_one
        return result

    def finish(self) -> None:
        """Nothing more is noted, and the number of threads is as the step begins with."""
        if self._threads is not None and self.first > 0:
            self._take(self._threads, self.first)
            is_same = self.alone is None or (len(self.calls) == len(self.alone) and self.first == 1)
            self.pace = None if is_same else Paces()
            if self.alone is not None and self.in_parts > self._by_several:
                # A thread of OpenBLAS holds a core for 25 ms after a product, which Python's threads then lack.
                self.calls, self.first, self.pace = self.alone, 1, None

    def let_go(self) -> None:
        """Forget the functions that note here. They refer to the tape and it to them, so that only the collector of
        cycles would free it, and with it every array of the network."""
        for name in self._made:
            delattr(self, name)
        self._made.clear()

    def _take(self, threads: Threads, number: int) -> None:
        """Let what follows have so many threads."""
        if self.first == 0:
            self.first = number
        elif number != self.number:
            self.calls.append(threads.setter(number))
        self.number = number
        threads.set(number)

    def _note(self, call: Callable[[], Any]) -> None:
        self.calls.append(call)
        if self.alone is not None:
            self.alone.append(call)


class _NotedFunction:
    """A universal function of NumPy that is called and noted, and its ``reduce``."""

    def __init__(self, function: numpy.ufunc, tape: Tape) -> None:
        self._call = partial(tape.call, function)
        self.reduce = partial(tape.call, function.reduce)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._call(*args, **keywords)


def _prepared(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Callable[[], Any]:
    """The call, all arguments bound, in the form in which NumPy takes it soonest: a number as an array of the dtype
    that it would be converted to, ``out`` by its position (which is deprecated for two functions)."""
    out = keywords.get("out")
    if isinstance(function, numpy.ufunc) and len(args) == function.nin and keywords.keys() == {"out"}:
        dtypes = {x.dtype for x in (*args, out) if isinstance(x, numpy.ndarray)}
        if len(dtypes) == 1:
            args = tuple(numpy.asarray(x, *dtypes) if isinstance(x, float) else x for x in args)
        if function not in (numpy.maximum, numpy.minimum):
            return partial(function, *args, out)
    return partial(function, *args, **keywords)


def _write(result: Any, call: Callable[[], Any]) -> None:
    numpy.copyto(result, call())


class Memory(threading.local):
    """What a backend has for each thread (``__init__`` runs anew in every thread that looks).

    Attributes:
        buffers: scratch memory by name.
        tape: where calls are noted; None where nothing is recorded.
        numpy: where operations find NumPy's functions: the module, or the tape.
    """

    def __init__(self) -> None:
        self.buffers: dict[Any, Any] = {}
        self.tape: Tape | None = None
        self.numpy: Any = numpy

    @contextmanager
    def noting(self, tape: Tape | None) -> Iterator[None]:
        """A context in which this thread's calls are noted on that tape, or not noted."""
        before = self.tape, self.numpy
        self.tape, self.numpy = tape, numpy if tape is None else tape
        try:
            yield
        finally:
            self.tape, self.numpy = before


class _Tapes(threading.local):
    """The tapes of a step by its count, those of each thread, which work in that thread's buffers; and the arrays for
    the numbers of the step."""

    def __init__(self) -> None:
        self.known: dict[int, Tape] = {}
        # Float64 whatever the backend's dtype: eagerly the learning rate is a Python number.
        self.arrays = tuple(numpy.zeros(1, dtype) for dtype in ("i8", "i8", "i8", "f8"))


class Recording:
    """``step``, to be called as ``recording(numbers, count, times)``; what ``NumpyBackend.record`` returns.

    For each ``count`` the first step in a thread is run and noted; for further ones the notes are run. It may be called
    from any thread, but not from two at a time. Where products depend on the number of threads of the BLAS, which is
    one of the process, that number is this thread's own for the time of a call.

    Args:
        memory: of the backend.
        threads: of the BLAS, where their number can be changed.
    """

    def __init__(self, memory: Memory, step: Step, threads: Threads | None = None) -> None:
        self._memory = memory
        self._step = step
        self._threads = threads
        self._tapes = _Tapes()

    def __call__(self, numbers: StepNumbers, count: int, times: int = 1) -> None:
        tape = self._tapes.known.get(count)
        if self._threads is not None and (tape is None or tape.first > 0):
            with self._threads.held() as most:
                if tape is not None and tape.most != most:  # the user has changed it
                    tape = None
                self._run(tape, numbers, count, times, most)
        else:
            self._run(tape, numbers, count, times)

    def _run(self, tape: Tape | None, numbers: StepNumbers, count: int, times: int, most: int = 1) -> None:
        start, step, update, rate = self._tapes.arrays
        steps = numbers.steps(count, times)
        if tape is None:
            start[0], step[0], update[0], rate[0] = next(steps)
            tape = self._record(count, most)
        elif self._threads is not None and tape.first > 0:
            self._threads.set(tape.first)
        if self._threads is not None and tape.pace is not None and tape.alone is not None:
            self._run_paced(tape, tape.alone, tape.pace, self._threads, steps)
            return
        calls = tape.calls
        for start[0], step[0], update[0], rate[0] in steps:
            for call in calls:
                call()

    def _run_paced(
        self,
        tape: Tape,
        by_one: list[Callable[[], Any]],
        pace: Paces,
        threads: Threads,
        steps: Iterator[StepNumbers],
    ) -> None:
        """Run the notes of several threads, or of one, as they turn out faster."""
        start, step, update, rate = self._tapes.arrays
        alone = False
        began = perf_counter()
        for start[0], step[0], update[0], rate[0] in steps:
            if pace.alone is not alone:
                alone = pace.alone
                threads.set(1 if alone else tape.first)
            for call in by_one if alone else tape.calls:
                call()
            ended = perf_counter()
            pace.took(ended - began)
            began = ended
        if pace.waits:
            threads.busy_until = began + BUSY_SECONDS

    def _record(self, count: int, most: int) -> Tape:
        """Run the step and note it, with the numbers that are in the arrays."""
        tape = Tape(self._threads, most)
        try:
            with self._memory.noting(tape):
                self._step(StepNumbers(*self._tapes.arrays), count)
        finally:
            tape.let_go()
        tape.finish()
        self._tapes.known[count] = tape
        return tape

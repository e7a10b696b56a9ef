"""``Recording``: a training step on a GPU, recorded once and replayed as a CUDA graph.

A launch from Python takes longer than most kernels of a small network run. A stream that is capturing does not run what
is launched on it but notes it in a graph, and one call then runs the whole graph.

What a graph noted stays as it was: the arrays, by their addresses, and every number that was handed to a launch. So a
recording keeps the arrays alive, lets nothing be allocated while it notes (whatever a pool handed out it would hand out
again), and has the numbers that change from step to step in arrays of its own, which the graph itself moves on.

Those arrays have the numbers of ``STEPS`` steps, so that a graph may be of as many: each of its steps reads numbers of
its own, and one launch at the end moves them all on. To capture such a graph takes about as long as to launch its
steps one operation at a time, which is why only those are captured that have been asked for often.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from ..messages import OneSentence
from ..step import Step, StepNumbers
from ..typing import Array
from .keep import collector_off, keeping
from .launch import Kernels

#: How many steps a graph has, beside those of one step. Twice as many would take twice as long to capture and gain a
#: thirtieth: what they share is one launch of ``advance_numbers``, and what a launch of a graph takes.
STEPS = 16
#: How often so many steps must have been asked for before they are captured, for each launch of a step: when what they
#: have cost more than in a graph is about what capturing costs (est.: 3 us a step against 10 us a launch).
PATIENCE = 3
#: The most launches of a graph of several steps, each of which takes memory of the host and of the device.
MOST_LAUNCHES = 4096
#: How often a capture is begun for a count, where what ends it may be somebody else's doing.
TRIES = 4
#: cudaErrorStreamCaptureUnsupported, -Invalidated, and -Unjoined: a branch is always joined, unless the capture was
#: invalidated before.
INTERRUPTED = (900, 901, 904)


class RecordingError(OneSentence, RuntimeError):
    """A step does something that cannot be recorded."""


def _refuse(size: int) -> Any:
    raise RecordingError(f"the step allocates memory ({size:,} bytes)")


def is_interrupted(error: Exception) -> bool:
    """Whether CUDA says, through CuPy, that something was done that no capture survives."""
    return getattr(error, "status", None) in INTERRUPTED


class _Seen(threading.local):
    """The counts for which a thread has run the step: what it needs only there, its buffers for one, it has made."""

    def __init__(self) -> None:
        self.counts: set[int] = set()


class Recording:
    """``step``, to be called as ``recording(numbers, count, times)``; what ``CupyBackend.record`` returns.

    For each ``count`` the first step runs, which compiles kernels and makes buffers; the second one is noted in a graph
    and launched as that; further ones are only launched. As long as each step is the next one of the epoch, nothing is
    sent to the device but the launch. Where ``STEPS`` steps of a count have been asked for in one call often enough,
    they are noted in a graph as well.

    A step that cannot be recorded runs as it is from then on. A capture that was interrupted is tried again at the
    next call of that count, ``TRIES`` times in all: who waits for the device or frees its memory, in any thread,
    interrupts every capture in the process.

    It may be called from any thread, but not from two at a time. A thread notes only what it has run itself before; it
    launches the graphs of other threads, too.

    Args:
        cupy: the module.
        kernels: of the device.
        numbers: four arrays of shape (STEPS,) on the device, for the numbers of the steps.
        joined: runs work, with its launches joined.
        scratch: given a dictionary, returns the context in which operations find their scratch memory there.
        in_order: returns the context in which a graph must be launched that the calling thread has captured.
        refused: told why the step cannot be recorded; what it returns is the reason to give.
        plainer: told why there is no graph of what was noted, says whether launches will be plainer the next time, so
            that it is worth another try.
        gather: gives what each of the processes has given that train together: a step is captured by all or by none.

    Attributes:
        reason: why it could not be recorded; "" as long as nothing speaks against it.
        interruptions: what ended captures that were or may be done without, one line for each.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        numbers: Sequence[Array],
        step: Step,
        *,
        joined: Callable[[Callable[[], None]], None],
        scratch: Callable[[dict[str, Any]], AbstractContextManager[None]],
        in_order: Callable[[], AbstractContextManager[Any]],
        refused: Callable[[str], str],
        plainer: Callable[[str], bool] = lambda said: False,
        gather: Callable[[Any], list[Any]] = lambda value: [value],
    ) -> None:
        self._cupy, self._cuda = cupy, cupy.cuda
        self._kernels = kernels
        self._numbers = numbers
        self._dtype = numbers[-1].dtype
        self._numbers_of = [StepNumbers(*(array[i : i + 1] for array in numbers)) for i in range(STEPS)]
        self._step = step
        self._joined = joined
        self._scratch = scratch
        self._in_order = in_order
        self._refused = refused
        self._plainer = plainer
        self._gather = gather
        self._held: StepNumbers | None = None  # what those arrays hold of the next step; None: not known
        self._apart = 0  # the rows between the steps whose numbers they hold
        self._seen = _Seen()
        self._graphs: dict[tuple[int, int], Callable[[], None]] = {}  # by count and steps, as the tries
        self._buffers: dict[str, Any] = {}  # its own, or graphs would write into those of the thread that noted them
        self._kept: list[Any] = []
        self._tried: Counter[tuple[int, int]] = Counter()
        self._launches: dict[int, int] = {}  # of a step, by count
        self._asked: Counter[int] = Counter()  # for STEPS steps, by count
        self.reason = ""
        self.interruptions: list[str] = []

    def __call__(self, numbers: StepNumbers, count: int, times: int = 1) -> None:
        together = times >= STEPS and self._together(count, times // STEPS)
        while times > 0:
            made = STEPS if together and times >= STEPS else 1
            self._make(numbers.first(made), count, made)
            times -= made
            if times > 0:
                numbers = numbers.after(count, made)

    def _together(self, count: int, often: int) -> bool:
        """Whether there is a graph of several steps, now asked for so often; when that is due it is captured here."""
        several = count, STEPS
        if several in self._graphs:
            return True
        if (count, 1) not in self._graphs or count not in self._seen.counts:
            return False
        if self.reason or self._tried[several] >= TRIES:
            return False
        self._asked[count] += often
        launches = self._launches[count]
        if self._asked[count] <= PATIENCE * launches or STEPS * launches > MOST_LAUNCHES:
            return False
        self._record(count, STEPS)
        return several in self._graphs

    def _make(self, numbers: StepNumbers, count: int, times: int) -> None:
        """Make so many steps in one graph; or one, perhaps without."""
        key = count, times
        if count in self._seen.counts and key not in self._graphs and not self.reason:
            self._record(count, times)
        if key in self._graphs:
            self._launch(self._graphs[key], numbers, count, times)
        elif self.reason:
            self._joined(partial(self._step, numbers, count))
        else:
            self._launch(partial(self._work, count, times), numbers, count, times)
            self._seen.counts.add(count)

    def _launch(self, work: Callable[[], None], numbers: StepNumbers, count: int, times: int) -> None:
        if self._held != numbers or not (times == 1 or self._apart == count):
            self._set(numbers, count)
        self._held = None  # should launching fail
        work()
        self._held = numbers.after(
            count, times
        )  # without a learning rate, and so like no step's, where each had its own

    def _set(self, numbers: StepNumbers, count: int) -> None:
        """Write the numbers of the next steps, of which these are the first's."""
        start, step, update, rate = numbers
        rates: Array | None = None
        if isinstance(rate, tuple):
            rates, rate = self._cupy.asarray(np.array(rate, self._dtype)), 0.0
        self._apart = count
        self._kernels.elements("set_numbers", STEPS, *self._numbers, rates, start, step, update, rate, count)

    def _work(self, count: int, times: int) -> None:
        """What is recorded: the steps, and the numbers moved on to the next one."""
        with self._scratch(self._buffers):
            for numbers in self._numbers_of[:times]:
                self._joined(partial(self._step, numbers, count))
        self._kernels.elements("advance_numbers", STEPS, *self._numbers[:3], count * times, times)

    def _record(self, count: int, times: int) -> None:
        """Note the steps in a graph, or the reason why not; nothing is computed in either case."""
        key, kept = (count, times), list[Any]()
        graph, said, interrupted = self._captured(count, times, kept)
        of_all = self._gather((said, interrupted, len(kept)))
        if failures := [(said, interrupted) for said, interrupted, _ in of_all if said]:
            said, interrupted = failures[0][0], all(interrupted for _, interrupted in failures)
            if interrupted or times > 1:
                self.interruptions.append(said)
                self._tried[key] += 1 if interrupted else TRIES
            if times == 1 and not (interrupted and self._tried[key] < TRIES):
                self.reason = self._refused(said)
            return

        in_order = self._in_order()

        def launch() -> None:
            with in_order:
                graph.launch()

        self._graphs[key] = launch
        self._launches.setdefault(count, max(launches for *_, launches in of_all))
        self._kept += kept

    def _captured(self, count: int, times: int, kept: list[Any]) -> tuple[Any, str, bool]:
        """A graph of the steps, or why there is none, and whether the next try may have one: what ended this one was
        somebody else's doing, or launches will be plainer.

        Args:
            kept: gets what the graph uses.
        """
        cuda, interrupted, is_noted = self._cuda, False, False
        try:
            # Not on the device's own stream, which waits for the default stream: while such a one captures, nobody in
            # the whole process may use that. CuPy's capture mode, relaxed, lets other threads allocate.
            stream = cuda.Stream(non_blocking=True)
            with collector_off(), stream:
                stream.begin_capture()
                try:
                    with cuda.using_allocator(_refuse), keeping(kept):
                        self._work(count, times)
                except BaseException:
                    try:
                        stream.end_capture()
                    except Exception as error:
                        interrupted = is_interrupted(error)
                    raise
                is_noted = True
                graph = stream.end_capture()
            graph.upload()  # a device without memory for it says so here
        except Exception as error:
            said = str(error) if isinstance(error, RecordingError) else f"{type(error).__name__}: {error}"
            said, interrupted = said.partition("\n")[0], interrupted or is_interrupted(error)
            # Not at once: calls of NCCL have to be captured by all processes, and the others have no reason to do so.
            return None, said, interrupted or (is_noted and self._plainer(said))
        return graph, "", False

"""``Recording``: a training step on a GPU, recorded once and replayed as a CUDA graph.

A launch from Python takes longer than most kernels of a small network run. A stream that is capturing does not run what
is launched on it but notes it in a graph, and one call then runs the whole graph.

What a graph noted stays as it was: the arrays, by their addresses, and every number that was handed to a launch. So a
recording keeps the arrays alive, lets nothing be allocated while it notes (whatever a pool handed out it would hand out
again), and has the numbers that change from step to step in arrays of its own, which the graph itself moves on.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ..step import Step, StepNumbers
from .keep import collector_off, keeping
from .launch import Kernels

#: How often a capture is begun for a count, where what ends it may be somebody else's doing.
TRIES = 4
#: cudaErrorStreamCaptureUnsupported and cudaErrorStreamCaptureInvalidated.
_INTERRUPTED = (900, 901)


class RecordingError(RuntimeError):
    """A step does something that cannot be recorded."""


def _refuse(size: int) -> Any:
    raise RecordingError(f"the step allocates memory ({size:,} bytes)")


def _is_interrupted(error: Exception) -> bool:
    """Whether CUDA says, through CuPy, that something was done that no capture survives."""
    return getattr(error, "status", None) in _INTERRUPTED


class _Seen(threading.local):
    """The counts for which a thread has run the step: what it needs only there, its buffers for one, it has made."""

    def __init__(self) -> None:
        self.counts: set[int] = set()


class Recording:
    """``step``, to be called as ``recording(numbers, count)``; what ``CupyBackend.record`` returns.

    For each ``count`` the first call runs the step, which compiles kernels and makes buffers; the second one notes it
    in a graph and launches that; further ones only launch it. As long as each step is the next one of the epoch,
    nothing is sent to the device but the launch.

    A step that cannot be recorded runs as it is from then on. A capture that was interrupted is tried again at the
    next call of that count, ``TRIES`` times in all: who waits for the device or frees its memory, in any thread,
    interrupts every capture in the process.

    It may be called from any thread, but not from two at a time. A thread notes only what it has run itself before; it
    launches the graphs of other threads, too.

    Args:
        cupy: the module.
        kernels: of the device.
        numbers: four arrays of shape (1,) on the device, for the numbers of the step.
        scratch: given a dictionary, returns the context in which operations find their scratch memory there.
        in_order: returns the context in which a graph must be launched that the calling thread has captured.
        refused: told why the step cannot be recorded; what it returns is the reason to give.

    Attributes:
        reason: why it could not be recorded; "" as long as nothing speaks against it.
        interruptions: what interrupted its captures, one line for each.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        numbers: StepNumbers,
        step: Step,
        *,
        scratch: Callable[[dict[str, Any]], AbstractContextManager[None]],
        in_order: Callable[[], AbstractContextManager[Any]],
        refused: Callable[[str], str],
    ) -> None:
        self._cuda = cupy.cuda
        self._kernels = kernels
        self._numbers = numbers
        self._step = step
        self._scratch = scratch
        self._in_order = in_order
        self._refused = refused
        self._held: StepNumbers | None = None  # what those arrays hold; None: not known
        self._seen = _Seen()
        self._graphs: dict[int, Callable[[], None]] = {}
        self._buffers: dict[str, Any] = {}  # its own, or graphs would write into those of the thread that noted them
        self._kept: list[Any] = []
        self._tried: Counter[int] = Counter()
        self.reason = ""
        self.interruptions: list[str] = []

    def __call__(self, numbers: StepNumbers, count: int) -> None:
        if count in self._seen.counts and count not in self._graphs and not self.reason:
            self._record(count)
        if count in self._graphs:
            self._launch(self._graphs[count], numbers, count)
        elif self.reason:
            self._step(numbers, count)
        else:
            self._launch(partial(self._work, count), numbers, count)
            self._seen.counts.add(count)

    def _launch(self, work: Callable[[], None], numbers: StepNumbers, count: int) -> None:
        if self._held != numbers:
            self._kernels.one_thread("set_numbers", *self._numbers, *numbers)
        self._held = None  # should launching fail
        work()
        self._held = numbers.after(count)

    def _work(self, count: int) -> None:
        """What is recorded: the step, and its numbers moved on to the next one."""
        with self._scratch(self._buffers):
            self._step(self._numbers, count)
        self._kernels.one_thread("advance_numbers", *self._numbers[:3], count)

    def _record(self, count: int) -> None:
        """Note the step in a graph, or the reason why not; nothing is computed in either case."""
        cuda = self._cuda
        kept: list[Any] = []
        interrupted = False
        try:
            # Not on the device's own stream, which waits for the default stream: while such a one captures, nobody in
            # the whole process may use that. CuPy's capture mode, relaxed, lets other threads allocate.
            stream = cuda.Stream(non_blocking=True)
            with collector_off(), stream:
                stream.begin_capture()
                try:
                    with cuda.using_allocator(_refuse), keeping(kept):
                        self._work(count)
                except BaseException:
                    try:
                        stream.end_capture()
                    except Exception as error:
                        interrupted = _is_interrupted(error)
                    raise
                graph = stream.end_capture()
            graph.upload()  # a device without memory for it says so here
        except Exception as error:
            said = str(error) if isinstance(error, RecordingError) else f"{type(error).__name__}: {error}"
            said = said.partition("\n")[0]
            if interrupted or _is_interrupted(error):
                self.interruptions.append(said)
                self._tried[count] += 1
                if self._tried[count] < TRIES:
                    return
            self.reason = self._refused(said)
            return

        in_order = self._in_order()

        def launch() -> None:
            with in_order:
                graph.launch()

        self._graphs[count] = launch
        self._kept += kept

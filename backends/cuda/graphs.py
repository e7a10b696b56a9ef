"""``Recording``: a training step on a GPU, recorded once and replayed as a CUDA graph.

A launch from Python takes longer than most kernels of a small network run. A stream that is capturing does not run what
is launched on it but notes it in a graph, and one call then runs the whole graph.

What a graph noted stays as it was: the arrays, by their addresses, and every number that was handed to a launch. So a
recording keeps the arrays alive, lets nothing be allocated while it notes (whatever a pool handed out it would hand out
again), and has the numbers that change from step to step in arrays of its own, which the graph itself moves on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ..step import Step, StepNumbers
from .keep import keeping
from .launch import Kernels


class RecordingError(RuntimeError):
    """A step does something that cannot be recorded."""


def _refuse(size: int) -> Any:
    raise RecordingError(f"the step allocates memory ({size:,} bytes)")


class Recording:
    """``step``, to be called as ``recording(numbers, count)``; what ``CupyBackend.record`` returns.

    For each ``count`` the first call runs the step, which compiles kernels and makes buffers; the second one notes it
    in a graph and launches that; further ones only launch it. As long as each step is the next one of the epoch,
    nothing is sent to the device but the launch.

    A step that cannot be recorded runs as it is from then on.

    Args:
        cupy: the module.
        kernels: of the device.
        numbers: four arrays of shape (1,) on the device, for the numbers of the step.
        refused: told why the step cannot be recorded; what it returns is the reason to give.

    Attributes:
        reason: why it could not be recorded; "" as long as nothing speaks against it.
    """

    def __init__(
        self, cupy: Any, kernels: Kernels, numbers: StepNumbers, step: Step, refused: Callable[[str], str]
    ) -> None:
        self._cuda = cupy.cuda
        self._kernels = kernels
        self._numbers = numbers
        self._step = step
        self._refused = refused
        self._held: StepNumbers | None = None  # what those arrays hold; None: not known
        self._seen: set[int] = set()
        self._graphs: dict[int, Any] = {}
        self._kept: list[Any] = []
        self.reason = ""

    def __call__(self, numbers: StepNumbers, count: int) -> None:
        if count in self._seen and count not in self._graphs and not self.reason:
            self._record(count)
        if count in self._graphs:
            self._launch(self._graphs[count].launch, numbers, count)
        elif self.reason:
            self._step(numbers, count)
        else:
            self._launch(partial(self._work, count), numbers, count)
            self._seen.add(count)

    def _launch(self, work: Callable[[], None], numbers: StepNumbers, count: int) -> None:
        if self._held != numbers:
            self._kernels.one_thread("set_numbers", *self._numbers, *numbers)
        self._held = None  # should launching fail
        work()
        self._held = numbers.after(count)

    def _work(self, count: int) -> None:
        """What is recorded: the step, and its numbers moved on to the next one."""
        self._step(self._numbers, count)
        self._kernels.one_thread("advance_numbers", *self._numbers[:3], count)

    def _record(self, count: int) -> None:
        """Note the step in a graph, or the reason why not; nothing is computed in either case."""
        cuda = self._cuda
        kept: list[Any] = []
        try:
            # Not on the device's own stream, which waits for the default stream: while such a one captures, nobody in
            # the whole process may use that. CuPy's capture mode, relaxed, lets the garbage collector free things.
            stream = cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                try:
                    with cuda.using_allocator(_refuse), keeping(kept):
                        self._work(count)
                except BaseException:
                    with suppress(Exception):
                        stream.end_capture()
                    raise
                graph = stream.end_capture()
            graph.upload()  # a device without memory for it says so here
        except Exception as error:
            said = str(error) if isinstance(error, RecordingError) else f"{type(error).__name__}: {error}"
            self.reason = self._refused(said.partition("\n")[0])
            return
        self._graphs[count] = graph
        self._kept += kept

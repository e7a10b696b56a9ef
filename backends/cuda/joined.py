"""A step noted, its launches joined, and then made.

What is not launched through a tape, such as an operation of CuPy itself, would come before all that is noted. So
nothing may run on the device while a step is noted for the first time: the current stream captures what reaches it, and
a step that launched anything so is run again as it is, without a tape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .branches import Branch, brought_forward
from .dependent import Captured, DependentLaunches
from .graphs import TRIES, is_interrupted
from .keep import collector_off
from .launch import Kernels
from .rules import JoiningRule
from .tape import Call, noting


class _Interrupted(Exception):
    """Somebody else's doing ended the capture."""


class Joined:
    """Runs work with its launches joined: ``joined(work)``.

    The Python code of the work may run several times, the launches are made once. Work that cannot be noted, since it
    launches past the tape, runs as it is; ``why_not`` then says why, and nothing is noted any more. It does so without
    rules, too.

    Args:
        cupy: the module.
        kernels: of the device.
        rules: the rules, in the order in which they are applied.
        nodes_of: tells how many nodes a captured graph has.
        dependent: launches kernels of captured work as dependent on the one before; None: none are.

    Attributes:
        why_not: why launches are not joined; "" as long as they are.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        rules: Sequence[JoiningRule],
        nodes_of: Callable[[Any], int],
        dependent: DependentLaunches | None = None,
    ) -> None:
        self._cuda = cupy.cuda
        self._kernels = kernels
        self._rules = tuple(rules)
        self._nodes_of = nodes_of
        self._branch: Branch | None = None  # made when a step first needs one
        self._dependent = dependent
        self._in_graph = Captured(None)  # of the capture that was last
        self.why_not = "" if self._rules else "there are no rules"

    def __call__(self, work: Callable[[], None]) -> None:
        stream = self._cuda.get_current_stream()
        if self.why_not:
            work()
        elif stream.is_capturing():  # work that has been watched when it ran before
            with noting() as calls:
                work()
            calls = self._plan(calls)
            if self._branch is None:
                self._capture(calls, stream)
            else:
                self._branch.capture(calls)
        else:
            found = self._watched(work)
            if isinstance(found, str):
                work()  # which raises what was wrong with it, if it was not that it was noted
                self.why_not = found
            else:
                calls = self._plan(found)
                if self._branch is None and any(call.beside for call in calls):
                    self._branch = Branch(self._cuda)
                self._launch(calls)

    def _plan(self, calls: list[Call]) -> list[Call]:
        for rule in self._rules:
            calls = rule(calls, self._kernels)
        return brought_forward(calls)

    def _launch(self, calls: list[Call]) -> None:
        for call in calls:
            call.launch()

    def _capture(self, calls: list[Call], stream: Any) -> None:
        """Launch them on a stream that captures, where nothing but work of this object has been launched before."""
        if self._in_graph.stream is not stream:
            self._in_graph = Captured(stream)
        for call in calls:
            if self._dependent is None or not self._dependent.launch(self._kernels, call, self._in_graph):
                call.launch()
            self._in_graph.add(call)

    def _watched(self, work: Callable[[], None]) -> list[Call] | str:
        """What the work launches, or why that cannot be noted."""
        for _ in range(TRIES):
            try:
                calls, others = self._captured(work)
            except _Interrupted as error:
                why_not = f"noting the step was interrupted ({error})"
            except Exception as error:
                said = f"{type(error).__name__}: {error}".partition("\n")[0]
                return f"the step cannot be noted ({said})"
            else:
                return calls if others == 0 else "the step launches what is no operation of the backend"
        return why_not

    def _captured(self, work: Callable[[], None]) -> tuple[list[Call], int]:
        """What the work notes, and how much else it launches, which is captured and never runs."""
        stream = self._cuda.Stream(non_blocking=True)
        with noting() as calls, collector_off(), stream:
            try:
                stream.begin_capture()
                try:
                    work()
                except BaseException:
                    try:
                        stream.end_capture()
                    except Exception as error:
                        if is_interrupted(error):
                            raise _Interrupted(str(error)) from error
                    raise
                graph = stream.end_capture()
            except Exception as error:
                if is_interrupted(error):
                    raise _Interrupted(str(error)) from error
                raise
        return calls, self._nodes_of(graph)

"""Two branches in the graph of a step: what may run beside other launches is captured on a second stream.

The updates of large layers and the sums over processes wait for memory and for other GPUs, the products of the layers
before for multiplications: side by side they take less time than one after the other. Calls that are ``beside`` come
forward on the tape, to where all that they need has been launched. That is the order of the step, and launched one by
one it is made so, on one stream. Where it is captured, the ``beside`` ones go to a second stream, and become a branch
of the graph that runs beside the rest.

Which launch has to wait for which one of the other branch follows from the memory that the calls say they use, and from
nothing else. So a call may be ``beside`` only if it says all that it uses. Products are not: they share the workspace
of a handle of cuBLAS, which no call names, and the handle is set to one stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

from .launch import Kernels
from .tape import Call, earliest, span

#: The least numbers of parameters that are updated by a launch of their own, on the branch (est. for an H200: their
#: update moves 12 to 20 bytes for each, and so takes 2.6 to 4.4 us, twice what a launch in a graph costs).
SECTION = 1 << 20


# ---- which calls, and where -----------------------------------------------------------------------------------------


def updates_apart(calls: list[Call], kernels: Kernels) -> list[Call]:
    """The update of a large network in sections, each of which can be made as soon as its gradients are there and the
    products have read its parameters. The same bits."""
    result: list[Call] = []
    for index, call in enumerate(calls):
        result += _sections(calls, index, kernels) if _is_update(call) and not call.beside else [call]
    return result


def _is_update(call: Call) -> bool:
    """Whether it moves each number of a flat buffer by itself, as all rules of ``updates`` do."""
    given = call.arguments
    return {"params", "n_decayed", "size"} <= given.keys() and given["params"].shape == (given["size"],)


def _sections(calls: Sequence[Call], index: int, kernels: Kernels) -> list[Call]:
    """The update at that index, in as few parts as there are, those beside the others ``beside``."""
    update = calls[index]
    cuts = _cuts(calls[:index], update)
    parts: list[tuple[slice, int]] = []
    for begin, end in pairwise(cuts):
        at = earliest(calls, _section(update, slice(begin, end), kernels), index)
        if all(map(_is_update, calls[at:index])):  # nothing to run beside
            at = index
        if parts and (at == parts[-1][1] or (at < parts[-1][1] and end - begin < SECTION)):
            parts[-1] = slice(parts[-1][0].start, end), parts[-1][1]
        else:
            parts.append((slice(begin, end), at))
    if len(parts) < 2:
        return [update]
    return [replace(_section(update, part, kernels), beside=at < index) for part, at in parts]


def _cuts(calls: Sequence[Call], update: Call) -> list[int]:
    """Where sections begin and end: where what is large begins of what one call writes of the gradient. What is small
    goes with the large one before it, for its layer comes later and its gradient, therefore, earlier; but what comes
    after the last large one may have the biases of all layers."""
    size = update.arguments["size"]
    gradient = next(update.arguments[name] for name in ("gradient", "gradients") if name in update.arguments)
    low, high = span(gradient)
    written = [span(x) for call in calls for x in call.writes if x.size >= SECTION]
    inside = [(begin, end) for begin, end in written if low <= begin and end <= high]
    if not inside:
        return [0, size]
    ends = *(begin for begin, _ in inside), max(end for _, end in inside)
    return sorted({0, size, *((address - low) // int(gradient.dtype.itemsize) for address in ends)})


def _section(update: Call, part: slice, kernels: Kernels) -> Call:
    """The update of a part of the parameters."""
    given, n = update.arguments, part.stop - part.start
    flat = {name: x[part] for name, x in given.items() if getattr(x, "shape", ()) == (given["size"],)}
    n_decayed = min(max(given["n_decayed"] - part.start, 0), n)
    own = {name: x for name, x in given.items() if name != "size"} | flat | {"n_decayed": n_decayed}
    return kernels.call_on_elements(update.op, n, **own)


def brought_forward(calls: Sequence[Call]) -> list[Call]:
    """The calls in the order in which they are launched: those ``beside`` as early as the memory allows. Where the next
    one needs them, so that nothing could run beside them, they are not ``beside`` any more."""
    if not any(call.beside for call in calls):
        return [*calls]
    result: list[Call] = []
    for call in calls:
        at = earliest(result, call, len(result)) if call.beside else len(result)
        while at < len(result) and result[at].beside:
            at += 1
        result.insert(at, call)
    following: Call | None = None  # the next one that is not beside
    for i in range(len(result) - 1, -1, -1):
        if result[i].beside and (following is None or following.must_follow(result[i])):
            result[i] = replace(result[i], beside=False)
        if not result[i].beside:
            following = result[i]
    return result


# ---- capturing ------------------------------------------------------------------------------------------------------


class Branch:
    """A second stream, for what is captured ``beside`` the rest.

    Args:
        cuda: the module ``cupy.cuda``.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._stream = cuda.Stream(non_blocking=True)

    def capture(self, calls: Sequence[Call]) -> None:
        """Launch the calls on the current stream, which captures, and on this one, which leaves it and comes back."""
        main, side = self._cuda.get_current_stream(), self._stream
        # What each has launched that what the other launches need not come after, yet.
        of_main, of_side, is_open = list[Call](), list[Call](), False
        try:
            for call in calls:
                if call.beside:
                    if not is_open or any(call.must_follow(other) for other in of_main):
                        self._wait(side, main)
                        of_main, is_open = [], True
                    with side:
                        call.launch()
                    of_side.append(call)
                else:
                    if any(call.must_follow(other) for other in of_side):
                        self._wait(main, side)
                        of_side = []
                    call.launch()
                    of_main.append(call)
        except BaseException:
            if is_open:  # or the end of the capture would fail for that, and not say what has ended it
                with suppress(Exception):
                    self._wait(main, side)
            raise
        if of_side:
            self._wait(main, side)

    def _wait(self, stream: Any, other: Any) -> None:
        """What is launched on a stream from now on comes after all that has been launched on the other one."""
        event = self._cuda.Event(disable_timing=True)
        event.record(other)
        stream.wait_event(event)

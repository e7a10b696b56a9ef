"""Launches as data: what a step launches is noted, joined into fewer launches by rules, and only then launched.

While a thread notes, kernels and products put a ``Call`` on its tape instead of running. A rule (``rules``) replaces
neighbours by one call that does the work of all of them, and what no rule takes is launched as it stands, in its order.
No layer and no plan knows: they call operations, and these launch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..typing import Array


@dataclass(frozen=True, eq=False)
class Call:
    """A launch that can be made later.

    Attributes:
        op: the kernel's name, ``"gemm"`` or ``"copy"``.
        arguments: by the names of the kernel's parameters, or of the operation's.
        reads, writes: the arrays that it reads, and those that it writes; one that it may do both to is in both.
        launch: launches it on the current stream.
        grid: of a kernel, the blocks in each direction and the threads of a block.
        beside: whether it may run beside others, as soon as what it needs is there (``branches``).
        early: of a kernel that waits for the launch before it by itself, what it reads before that (``dependent``).
    """

    op: str
    arguments: Mapping[str, Any]
    reads: tuple[Array, ...]
    writes: tuple[Array, ...]
    launch: Callable[[], None]
    grid: tuple[tuple[int, ...], int] = ((), 0)
    beside: bool = False
    early: tuple[Array, ...] | None = None

    @property
    def is_kernel(self) -> bool:
        """Whether it is one launch of a kernel of xpnet."""
        return self.grid != ((), 0)

    def arrays(self, *, but: Sequence[str] = ()) -> list[Array]:
        """Its arrays, without those of the arguments of these names."""
        known = {id(x) for x in self.reads + self.writes}
        return [x for name, x in self.arguments.items() if name not in but and id(x) in known]

    @property
    def only_read(self) -> list[Array]:
        """The arrays that it reads through arguments that it does not write through."""
        left = [*self.reads]
        for written in self.writes:
            at = next((i for i, x in enumerate(left) if x is written), None)
            if at is not None:
                del left[at]
        return left

    def must_follow(self, earlier: Call) -> bool:
        """Whether the two may not change places: one of them writes what the other uses."""
        return overlap(self.reads, earlier.writes) or overlap(self.writes, (*earlier.reads, *earlier.writes))


# ---- memory ----------------------------------------------------------------------------------------------------------


def span(x: Array) -> tuple[int, int]:
    """The addresses from the first byte of an array to behind its last one."""
    low = high = int(x.data.ptr)
    if x.size == 0:
        return low, low
    for extent, stride in zip(x.shape, x.strides, strict=True):
        if stride < 0:
            low += stride * (extent - 1)
        else:
            high += stride * (extent - 1)
    return low, high + int(x.dtype.itemsize)


def overlap(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether an array of the first has memory in common with one of the others."""
    if not some or not others:
        return False
    spans = [span(x) for x in others]
    return any(low < end and begin < high for begin, end in map(span, some) for low, high in spans)


def is_same_memory(x: Array | None, y: Array | None) -> bool:
    """Whether two contiguous arrays, of perhaps different dtypes, are the same bytes."""
    return x is not None and y is not None and span(x) == span(y)


# ---- where calls may stand -------------------------------------------------------------------------------------------


def last_writer(calls: Sequence[Call], before: int, x: Array) -> int | None:
    """The index of the last call before index ``before`` that writes into ``x``; None where there is none."""
    return next((i for i in range(before - 1, -1, -1) if overlap(calls[i].writes, (x,))), None)


def can_wait(calls: Sequence[Call], index: int, until: int) -> bool:
    """Whether a call can be made right before the later one at index ``until`` instead of where it stands."""
    return not any(calls[i].must_follow(calls[index]) for i in range(index + 1, until))


def can_come_forward(calls: Sequence[Call], index: int, to: int) -> bool:
    """Whether a call can be made right after the earlier one at index ``to`` instead of where it stands."""
    return not any(calls[index].must_follow(calls[i]) for i in range(to + 1, index))


def earliest(calls: Sequence[Call], call: Call, until: int) -> int:
    """The first index, up to ``until``, at which a call can be made instead of at that one."""
    return next((i + 1 for i in range(until - 1, -1, -1) if call.must_follow(calls[i])), 0)


def replaced(calls: Sequence[Call], taken: set[int], at: int, joined: Call) -> list[Call]:
    """The calls with ``joined`` at index ``at`` and without those of the indices ``taken``."""
    return [joined if i == at else call for i, call in enumerate(calls) if i == at or i not in taken]


# ---- noting ----------------------------------------------------------------------------------------------------------


class _Noting(threading.local):
    tape: list[Call] | None = None


_noting = _Noting()


def tape() -> list[Call] | None:
    """Where the calling thread notes what it launches; None where it launches at once."""
    return _noting.tape


@contextmanager
def noting() -> Iterator[list[Call]]:
    """A context in which what this thread launches is noted, and not launched."""
    calls: list[Call] = []
    before, _noting.tape = _noting.tape, calls
    try:
        yield calls
    finally:
        _noting.tape = before


@contextmanager
def noting_beside() -> Iterator[None]:
    """A context in which what this thread notes, if it does, may run ``beside`` other launches."""
    calls = _noting.tape
    begin = 0 if calls is None else len(calls)
    yield
    if calls is not None:
        calls[begin:] = [replace(call, beside=True) for call in calls[begin:]]

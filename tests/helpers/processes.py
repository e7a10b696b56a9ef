"""Processes that train together, as threads of one process: what they do is what MPI's processes do, but for the
engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from backends.collectives import Collectives, Node, tree_sum
from backends.collectives.base import all_nodes
from backends.typing import HostArray

T = TypeVar("T")


class ThreadCollectives(Collectives):
    """One of several threads."""

    engine = "threads"

    def __init__(self, rank: int, given: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(given)
        self._given, self._barrier = given, barrier

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        found = self.gather([values.copy() for values in own])
        of_all = [node for one in all_nodes(self.size, blocks) for node in one]
        assert nodes == all_nodes(self.size, blocks)[self.rank]
        out[:] = tree_sum(of_all, [values for one in found for values in one], lambda left, right: left + right)
        return out

    def gather(self, value: Any) -> list[Any]:
        self._given[self.rank] = value
        self._barrier.wait(60)
        found = [*self._given]
        self._barrier.wait(60)
        return found

    def broadcast(self, value: Any) -> Any:
        return self.gather(value)[0]

    def any(self, asked: bool) -> bool:
        return any(self.gather(asked))

    def abort(self) -> None:
        self._barrier.abort()


def together(size: int, work: Callable[[Collectives], T]) -> list[T]:
    """What each of ``size`` processes gives that do ``work`` together; an error of one of them is raised."""
    given: list[Any] = [None] * size
    barrier = threading.Barrier(size)

    def run(rank: int) -> T:
        try:
            return work(ThreadCollectives(rank, given, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]

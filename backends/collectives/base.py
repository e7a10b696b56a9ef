"""What processes that train together do together, and the stand-in for a process that is alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import gethostname
from typing import Any, TypeVar, cast

import numpy as np

from ..messages import OneSentence
from ..typing import HostArray
from .tree import Node, blocks_of, nodes_of

T = TypeVar("T")
#: Seconds in which all processes have an error that is not that of one of them.
ALL_COME = 2.0


class ProcessError(OneSentence, ValueError):
    """The processes cannot train together; the message says why, and what to do."""


class Collectives:
    """A group of processes; of this class, one that is alone.

    Every process of the group makes the same calls in the same order.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        engine: what carries the messages; "" where there are none.
    """

    rank = 0
    size = 1
    engine = ""

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        """The sum over all blocks of all processes, in ``out``.

        Args:
            own: the sums (n,) of the ``nodes`` of this process.
            nodes: as ``nodes_of`` gives them for the blocks of this process.
            blocks: how many there are over all processes; a multiple of ``size``.
            out: (n,); may be one of ``own``.
        """
        raise NotImplementedError

    def gather(self, value: Any) -> list[Any]:
        """What each process has given, by rank; any objects that can be pickled."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """What process 0 has given; any object that can be pickled."""
        return value

    def any(self, asked: bool) -> bool:
        """Whether one of the processes asks."""
        return asked

    def by_first(self, function: Callable[[], T]) -> T:
        """What a function gives that process 0 calls; where it raises an error, all do."""
        if self.size == 1:
            return function()
        result: Any = None
        if self.rank == 0:
            try:
                result = function(), None
            except Exception as error:
                result = None, error
        value, failure = self.broadcast(result)
        if failure is not None:
            try:
                raise failure
            finally:
                del result, failure  # or the error would hold this call, and with it what it was about
        return cast(T, value)

    def all_come(self, text: str, seconds: float) -> list[str] | None:
        """The texts of all processes, by rank, where all of them call this within so many seconds; else None. In the
        meantime others may wait for something else."""
        return [text]

    def tell_where(self, at: Callable[[], str]) -> None:
        """Say how to find out how far the training is, for the message that a process hangs or is gone.

        Args:
            at: gives it, such as "in epoch 3, after step 128"; called from another thread.
        """

    def abort(self) -> None:
        """End all processes of the group, this one included."""
        raise SystemExit(1)

    def end(self, text: str, tell: Callable[[str], None]) -> None:
        """This process ends by an error. Where all do, each different text is told once, and they may end by
        themselves; else it is told with the rank and the host, and all processes are ended.

        Args:
            text: of the error.
            tell: writes it to where it is read.
        """
        texts = self.all_come(text, ALL_COME)
        if texts is None:
            tell(f"process {self.rank} of {self.size}, on {gethostname()}, has failed, and ends the others: {text}")
            self.abort()
        elif text not in texts[: self.rank]:
            tell(text)


def all_nodes(size: int, blocks: int) -> list[list[Node]]:
    """The nodes of each process."""
    return [nodes_of(blocks_of(rank, size, blocks)) for rank in range(size)]


def add_into_left(left: HostArray, right: HostArray) -> HostArray:
    """The sum of two, in the memory of the first one."""
    return np.add(left, right, out=left)

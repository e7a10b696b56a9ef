"""Processes that something else than MPI has started, torchrun or SLURM for instance: messages over TCP, by process 0.

Every other process has two connections to process 0. On one they do what all do together, in its order: who has
something for all gives it to process 0, which deals it out. That is right and slow: all gradients go through one host.
(Those of GPUs do not go this way, see ``nccl``.) On the other one a thread of each process listens to what may come at
any time (``watch``).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import cache
from time import sleep
from typing import Any, NoReturn

import numpy as np

from ..typing import HostArray
from .base import Collectives, ProcessError, add_into_left, all_nodes
from .meeting import Meeting, meet
from .tree import Node, tree_sum
from .watch import LAST_WORDS, Own, Watch


class TcpCollectives(Collectives):
    """The processes of a meeting.

    Raises:
        ProcessError: they have not met in time.
    """

    engine = "TCP"

    def __init__(self, meeting: Meeting) -> None:
        self.rank, self.size = meeting.rank, meeting.size
        met, self._own = meet(meeting, ("together", "watched")), Own()
        self._together = {rank: both["together"] for rank, both in met.connections.items()}
        self._watch = Watch(self.rank, self.size, met, self._own)
        self._buffers = cache(self._make_buffers)

    def tell_where(self, at: Callable[[], str]) -> None:
        self._own.at = at

    # ---- what all do together ---------------------------------------------------------------------------------------

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        of_all, rows = self._buffers(out.shape[0], out.dtype.str, blocks)
        if self.rank:
            for values in own:
                self._send(0, np.ascontiguousarray(values).data)
            self._receive_into(0, out)
            return out
        of_others = iter(rows)
        for rank in range(1, self.size):
            for _ in of_all[rank]:
                self._receive_into(rank, next(of_others))
        total = tree_sum([node for own_nodes in of_all for node in own_nodes], [*own, *rows], add_into_left)
        for rank in range(1, self.size):
            self._send(rank, total.data)
        np.copyto(out, total)
        return out

    def _make_buffers(self, n: int, dtype: str, blocks: int) -> tuple[list[list[Node]], HostArray]:
        """The nodes of each process; in process 0, memory for the sums of those of the others."""
        nodes = all_nodes(self.size, blocks)
        return nodes, np.empty((0 if self.rank else sum(map(len, nodes[1:])), n), dtype)

    def gather(self, value: Any) -> list[Any]:
        if self.rank:
            self._send(0, pickle.dumps(value))
            found: list[Any] = self._receive(0)
            return found
        found = [value, *(self._receive(rank) for rank in range(1, self.size))]
        text = pickle.dumps(found)
        for rank in range(1, self.size):
            self._send(rank, text)
        return found

    def broadcast(self, value: Any) -> Any:
        if self.rank:
            return self._receive(0)
        text = pickle.dumps(value)
        for rank in range(1, self.size):
            self._send(rank, text)
        return value

    def any(self, asked: bool) -> bool:
        return any(self.gather(asked))

    def _send(self, rank: int, data: Any) -> None:
        self._with(rank, self._together[rank].send_bytes, data)

    def _receive(self, rank: int) -> Any:
        return self._with(rank, self._together[rank].recv)

    def _receive_into(self, rank: int, array: HostArray) -> None:
        self._with(rank, self._together[rank].recv_bytes_into, array.data.cast("B"))

    def _with(self, rank: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """What a call gives that waits for another process."""
        own = self._own
        own.waits_for = rank
        try:
            result = call(*arguments)
        except (EOFError, OSError):
            self._lost(rank)
        own.waits_for = None
        own.messages += 1
        return result

    def _lost(self, rank: int) -> NoReturn:
        """Nobody is there any more. Who has died is told by the thread, which ends this process."""
        sleep(LAST_WORDS)
        raise ProcessError(
            f"process {rank} has ended while process {self.rank} waits for it; all processes must make the same calls"
        )

    # ---- what comes at any time -------------------------------------------------------------------------------------

    def all_come(self, text: str, seconds: float) -> list[str] | None:
        return self._watch.all_come(text, seconds)

    def abort(self) -> None:
        self._watch.abort()

"""Processes that MPI has started, through mpi4py: gradients on the host.

Where there are as many processes as a power of two, neighbours exchange halves of what they have and add, then those
that are two apart, and so on, which are the additions of the tree; and the way back gives the sum to all
(``exchanges``). These are the messages and the bytes of a sum in any order, straight from and into the caller's memory.
What is short is not halved: two processes exchange all of it, and both add.

For other numbers a sum is cut into as many slices as there are processes. Each process sends every other one its own
sums of that one's slice (Alltoallv), adds up what it gets in the order of the tree, and gives the sum of its slice to
all (Allgatherv). What is short goes to all processes at once, and each adds up all of it.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from time import monotonic, sleep
from typing import Any

import numpy as np

from ..typing import HostArray
from .base import Collectives, ProcessError, add_into_left, all_nodes
from .meeting import Meeting, Met, listening, meet
from .tree import Node, exchanges, halves_fit, tree_sum
from .watch import ANYONE, Own, Watch

#: For so many seconds processes of a machine wait for each other, to be able to tell that one of them hangs.
PATIENCE = 20.0
#: So many bytes of a process are not cut: what Open MPI sends at once in a machine, without asking first.
SHORT = 1 << 12


class MpiCollectives(Collectives):
    """The processes of an MPI communicator.

    MPI waits without an end for a process that hangs. Where all are of one machine, a thread in each notices that.

    Args:
        communicator: of mpi4py.
        timeout: for how many seconds a process may do nothing while others wait for it; 0: for any time.
    """

    engine = "MPI"

    def __init__(self, communicator: Any, timeout: float = 0.0) -> None:
        self._communicator = communicator
        self.rank, self.size = int(communicator.Get_rank()), int(communicator.Get_size())
        self._of_errors = communicator.Dup()  # whose messages others, that wait for something else, do not mix up
        self._flags, self._found = np.zeros(1, np.int32), np.zeros(1, np.int32)
        self._buffers = cache(self._make_buffers)
        self._own = Own()
        if (met := self._met_on_one_machine(timeout)) is not None:
            Watch(self.rank, self.size, met, self._own, others_tell=True)

    def _met_on_one_machine(self, timeout: float) -> Met | None:
        """Connections by TCP beside MPI; None where the processes are of several machines, or cannot have them."""
        hosts = self.gather((socket.gethostname(), timeout))
        timeout = hosts[0][1]
        if not timeout or len({host for host, _ in hosts}) > 1:
            return None
        meeting, met = Meeting(self.rank, self.size, "127.0.0.1", 0, b"", timeout, PATIENCE), None
        try:
            door = listening(meeting) if self.rank == 0 else None
        except ProcessError:
            door = None
        known = None if door is None else (door.getsockname()[1], secrets.token_bytes(16))
        if (known := self.broadcast(known)) is not None:
            try:
                met = meet(meeting._replace(port=known[0], key=known[1]), ("watched",), door)
            except ProcessError:
                met = None
        return met if all(self.gather(met is not None)) else None

    def tell_where(self, at: Callable[[], str]) -> None:
        self._own.at = at

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        self._waiting(self._buffers(out.shape[0], out.dtype.str, blocks), own, out)
        return out

    def _make_buffers(self, n: int, dtype: str, blocks: int) -> Callable[[Sequence[HostArray], HostArray], None]:
        bytes_each = n * np.dtype(dtype).itemsize
        if halves_fit(self.size, blocks):
            return _InPairs(self._communicator, n, dtype, whole=bytes_each <= SHORT).sum
        nodes = all_nodes(self.size, blocks)
        at_once = len(max(nodes, key=len)) * bytes_each <= SHORT
        return (_AtOnce if at_once else _BySlices)(self._communicator, nodes, n, dtype).sum

    def gather(self, value: Any) -> list[Any]:
        found: list[Any] = self._waiting(self._communicator.allgather, value)
        return found

    def broadcast(self, value: Any) -> Any:
        return self._waiting(self._communicator.bcast, value)

    def any(self, asked: bool) -> bool:
        self._flags[0] = asked
        self._waiting(self._communicator.Allreduce, self._flags, self._found)
        return bool(self._found[0])

    def _waiting(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What a call gives that waits for other processes."""
        doing = self._own
        doing.waits_for = ANYONE
        result = call(*arguments)
        doing.waits_for = None
        doing.messages += 1
        return result

    def all_come(self, text: str, seconds: float) -> list[str] | None:
        last, request = monotonic() + seconds, self._of_errors.Ibarrier()
        while not request.Test():
            if monotonic() > last:
                return None
            sleep(0.005)
        texts: list[str] = self._of_errors.allgather(text)
        return texts

    def abort(self) -> None:
        self._communicator.Abort(1)


class _InPairs:
    """Pairs exchange what they have, and add.

    The requests that MPI is handed stay, for as long as the arrays are the same: those of a training are.

    Args:
        whole: whether they exchange all of it and both add; else each adds a half, and the sums go back.
    """

    def __init__(self, communicator: Any, n: int, dtype: str, whole: bool) -> None:
        from mpi4py import MPI

        self._communicator, self._whole, self._all = communicator, whole, slice(0, n)
        self._start, self._wait = MPI.Prequest.Startall, MPI.Request.Waitall
        self._exchanges = exchanges(communicator.Get_rank(), communicator.Get_size(), n)
        longest = [n] if whole else [part.stop - part.start for _, _, *parts in self._exchanges for part in parts]
        self._received = np.empty(max(longest), dtype)
        self._rounds: list[tuple[list[Any], Callable[[], Any] | None]] = []
        self._arrays: tuple[HostArray, HostArray] | None = None

    def sum(self, own: Sequence[HostArray], out: HostArray) -> None:
        (values,) = own
        if self._arrays is None or self._arrays[0] is not values or self._arrays[1] is not out:
            self._prepare(values, out)
        start, wait = self._start, self._wait
        for requests, addition in self._rounds:
            start(requests)
            wait(requests)
            if addition is not None:
                addition()

    def _prepare(self, values: HostArray, out: HostArray) -> None:
        """Make the requests and the additions for these arrays."""
        for requests, _ in self._rounds:
            for request in requests:
                request.Free()
        self._rounds.clear()
        self._arrays = values, out
        for partner, is_left, keeps, gives in self._exchanges:
            if self._whole:
                keeps = gives = self._all
            kept = values[keeps]
            received = self._received[: kept.shape[0]]
            addends = (kept, received) if is_left else (received, kept)
            self._note(partner, values[gives], received, partial(np.add, *addends, out[keeps]))
            values = out
        for partner, _, keeps, gives in [] if self._whole else reversed(self._exchanges):
            self._note(partner, out[keeps], out[gives], None)

    def _note(self, partner: int, sent: HostArray, received: HostArray, addition: Callable[[], Any] | None) -> None:
        communicator = self._communicator
        requests = [communicator.Recv_init(received, partner), communicator.Send_init(sent, partner)]
        self._rounds.append((requests, addition))


class _AtOnce:
    """All sums of all processes to all of them."""

    def __init__(self, communicator: Any, nodes: list[list[Node]], n: int, dtype: str) -> None:
        self._communicator, self._nodes = communicator, [node for own in nodes for node in own]
        self._send = np.empty((len(nodes[communicator.Get_rank()]), n), dtype)
        self._received = np.empty((len(self._nodes), n), dtype)
        self._counts = [len(own) * n for own in nodes]

    def sum(self, own: Sequence[HostArray], out: HostArray) -> None:
        for values, buffer in zip(own, self._send, strict=True):
            np.copyto(buffer, values)
        self._communicator.Allgatherv(self._send, [self._received, self._counts])
        np.copyto(out, tree_sum(self._nodes, self._received, add_into_left))


class _BySlices:
    """Each process adds up a slice."""

    def __init__(self, communicator: Any, nodes: list[list[Node]], n: int, dtype: str) -> None:
        rank, size = communicator.Get_rank(), communicator.Get_size()
        bounds = [n * i // size for i in range(size + 1)]
        self._slices = [slice(begin, end) for begin, end in pairwise(bounds)]
        self._lengths = [end - begin for begin, end in pairwise(bounds)]
        self._communicator, self._nodes = communicator, [node for own in nodes for node in own]
        count, own_length = len(nodes[rank]), self._lengths[rank]
        self._received = np.empty(len(self._nodes) * own_length, dtype)
        self._sent = [count * length for length in self._lengths]
        self._got = [len(others) * own_length for others in nodes]
        self._rows = self._received.reshape(len(self._nodes), own_length)
        self._send = np.empty(count * n if count > 1 else 0, dtype)
        begins = np.concatenate([[0], np.cumsum(self._sent)]).tolist() if count > 1 else []
        self._parts = [self._send[begin:end].reshape(count, -1) for begin, end in pairwise(begins)]

    def sum(self, own: Sequence[HostArray], out: HostArray) -> None:
        for part, piece in zip(self._parts, self._slices, strict=False):  # none where it is sent from where it is
            for values, buffer in zip(own, part, strict=True):
                np.copyto(buffer, values[piece])
        send = self._send if self._parts else own[0]
        self._communicator.Alltoallv([send, self._sent], [self._received, self._got])
        total = tree_sum(self._nodes, self._rows, add_into_left)
        self._communicator.Allgatherv(total, [out, self._lengths])

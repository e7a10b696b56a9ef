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

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from time import monotonic, sleep
from typing import Any

import numpy as np

from ..typing import HostArray
from .base import Collectives, add_into_left, all_nodes
from .tree import Node, exchanges, halves_fit, tree_sum

#: So many bytes of a process are not cut: what Open MPI sends at once in a machine, without asking first.
SHORT = 1 << 12


class MpiCollectives(Collectives):
    """The processes of an MPI communicator.

    Args:
        communicator: of mpi4py.
    """

    engine = "MPI"

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator
        self.rank, self.size = int(communicator.Get_rank()), int(communicator.Get_size())
        self._of_errors = communicator.Dup()  # whose messages others, that wait for something else, do not mix up
        self._flags, self._found = np.zeros(1, np.int32), np.zeros(1, np.int32)
        self._buffers = cache(self._make_buffers)

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        self._buffers(out.shape[0], out.dtype.str, blocks)(own, out)
        return out

    def _make_buffers(self, n: int, dtype: str, blocks: int) -> Callable[[Sequence[HostArray], HostArray], None]:
        bytes_each = n * np.dtype(dtype).itemsize
        if halves_fit(self.size, blocks):
            return _InPairs(self._communicator, n, dtype, whole=bytes_each <= SHORT).sum
        nodes = all_nodes(self.size, blocks)
        at_once = len(max(nodes, key=len)) * bytes_each <= SHORT
        return (_AtOnce if at_once else _BySlices)(self._communicator, nodes, n, dtype).sum

    def gather(self, value: Any) -> list[Any]:
        found: list[Any] = self._communicator.allgather(value)
        return found

    def broadcast(self, value: Any) -> Any:
        return self._communicator.bcast(value)

    def any(self, asked: bool) -> bool:
        self._flags[0] = asked
        self._communicator.Allreduce(self._flags, self._found)
        return bool(self._found[0])

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

"""Processes that MPI has started, through mpi4py: gradients on the host.

A sum is cut into as many slices as there are processes. Each process sends every other one its own sums of that one's
slice (Alltoallv), adds up what it gets in the order of the tree, and gives the sum of its slice to all (Allgatherv):
the messages of a ring, in an order that does not depend on when they arrive. What is short goes to all processes at
once, and each adds up all of it, which is the same additions and one message less.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from time import monotonic, sleep
from typing import Any

import numpy as np

from ..typing import HostArray
from .base import Collectives, all_nodes
from .tree import Node, tree_sum

#: So many bytes of all processes together go to all of them at once.
SHORT = 1 << 16


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

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int) -> HostArray:
        return self._buffers(own[0].shape[0], own[0].dtype.str, blocks).sum(own)

    def _make_buffers(self, n: int, dtype: str, blocks: int) -> _AtOnce | _BySlices:
        nodes = all_nodes(self.size, blocks)
        each = len(max(nodes, key=len)) * n * np.dtype(dtype).itemsize * self.size
        kind = _AtOnce if each <= SHORT else _BySlices
        return kind(self._communicator, nodes, n, dtype)

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


class _AtOnce:
    """All sums of all processes to all of them."""

    def __init__(self, communicator: Any, nodes: list[list[Node]], n: int, dtype: str) -> None:
        self._communicator, self._nodes = communicator, [node for own in nodes for node in own]
        self._send = np.empty((len(nodes[communicator.Get_rank()]), n), dtype)
        self._received = np.empty((len(self._nodes), n), dtype)
        self._counts = [len(own) * n for own in nodes]

    def sum(self, own: Sequence[HostArray]) -> HostArray:
        for values, place in zip(own, self._send, strict=True):
            np.copyto(place, values)
        self._communicator.Allgatherv(self._send, [self._received, self._counts])
        return tree_sum(self._nodes, self._received, _add)


class _BySlices:
    """Each process adds up a slice."""

    def __init__(self, communicator: Any, nodes: list[list[Node]], n: int, dtype: str) -> None:
        rank, size = communicator.Get_rank(), communicator.Get_size()
        bounds = [n * i // size for i in range(size + 1)]
        self._slices = [slice(begin, end) for begin, end in pairwise(bounds)]
        self._lengths = [end - begin for begin, end in pairwise(bounds)]
        self._communicator, self._nodes = communicator, [node for own in nodes for node in own]
        count, own_length = len(nodes[rank]), self._lengths[rank]
        self._out = np.empty(n, dtype)
        self._send = np.empty(count * n, dtype)
        self._received = np.empty(len(self._nodes) * own_length, dtype)
        self._sent = [count * length for length in self._lengths]
        self._got = [len(others) * own_length for others in nodes]
        self._rows = self._received.reshape(len(self._nodes), own_length)
        begins = np.concatenate([[0], np.cumsum(self._sent)]).tolist()
        self._parts = [self._send[begin:end].reshape(count, -1) for begin, end in pairwise(begins)]

    def sum(self, own: Sequence[HostArray]) -> HostArray:
        for part, piece in zip(self._parts, self._slices, strict=True):
            for values, place in zip(own, part, strict=True):
                np.copyto(place, values[piece])
        self._communicator.Alltoallv([self._send, self._sent], [self._received, self._got])
        total = tree_sum(self._nodes, self._rows, _add)
        self._communicator.Allgatherv(total, [self._out, self._lengths])
        return self._out


def _add(left: HostArray, right: HostArray) -> HostArray:
    return np.add(left, right, out=left)

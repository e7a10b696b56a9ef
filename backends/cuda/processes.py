"""Sums over processes that train together, each on a GPU of its own: by NCCL, with the bits of any other engine.

As on the host (``collectives.mpi``), every process sends every other one its own sums of that one's slice, adds up what
it gets in the order of the tree, and gives the sum of its slice to all. What is short goes to all processes at once.
Many processes, as many as a power of two, exchange halves with one other each instead: so most bytes stay in a machine,
and messages are far fewer.
All of it is launched like any other operation, and is captured into recorded steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from ..collectives import Collectives, Node, tree_sum
from ..collectives.base import all_nodes
from ..collectives.nccl import Nccl, connected
from ..collectives.tree import UNIT, exchanges, halves_fit
from ..typing import Array
from .core import CupyCore
from .keep import keep
from .tape import Call, is_same_memory, noting_beside, tape

#: So many bytes of all processes together go to all of them at once (est.: what that takes beside a second call of
#: NCCL, about 10 us, at 100 GB/s).
SHORT = 1 << 20
#: More processes than that exchange halves where they can (est.: ``benchmarks.scaling``; slices need two calls of NCCL,
#: halves two for each doubling of the processes).
BY_SLICES = 8
#: Parts of at least so many numbers are summed by themselves (est.: 4 MiB between 8 GPUs of a machine take about as
#: long as the calls of NCCL for them).
SUMS_FROM = 1 << 20


class ProcessOperations(CupyCore):
    """The sum over blocks of rows."""

    sums_by = "NCCL"
    sums_from = SUMS_FROM
    _nccl: Nccl | None = None
    _turn: Array | None = None  # what all calls of NCCL say that they write, for they must keep their order

    def _connect(self, collectives: Collectives) -> None:
        with self.use():
            self._nccl = connected(self.cupy, self.index, collectives)
            self._turn = self.empty((1,), np.uint8)

    def sum_over_processes(self, own: Sequence[Array], nodes: Sequence[Node], blocks: int, out: Array) -> Array:
        """By one launch for the additions, and one or two calls of NCCL."""
        op, size = "sum_over_processes", self.collectives.size
        (n,) = out.shape
        own = [self._input(op, "own", x, (n,)) for x in own]
        if size == 1:
            return self._deliver(tree_sum(nodes, own, lambda left, right: self.axpby(1.0, right, 1.0, left)), out)
        if self._nccl is None:
            return super().sum_over_processes(own, nodes, blocks, out)
        target = self._target(op, out, (n,))
        most = _most_nodes(size, blocks)
        with noting_beside():
            if size * most * target.nbytes <= SHORT:
                self._sum_at_once(self._nccl, own, most, blocks, target)
            elif size > BY_SLICES and halves_fit(size, blocks) and n >= size * UNIT:  # where each has something to send
                self._sum_by_halves(self._nccl, own[0], target)
            else:
                self._sum_by_slices(self._nccl, own, most, blocks, target)
            return self._deliver(target, out)

    def _sum_at_once(self, nccl: Nccl, own: Sequence[Array], most: int, blocks: int, out: Array) -> None:
        n = out.size
        sent = own[0] if most == 1 else self._front("own sums", most * n)
        if most > 1:
            for number, values in enumerate(own):
                self._result(values, sent[number * n : (number + 1) * n])
        received = self._front("sums of processes", self.collectives.size * most * n)
        self._communicate("all_gather", partial(nccl.all_gather, sent, received), [sent], [received])
        self._add_nodes(received, most, blocks, n, out)

    def _sum_by_slices(self, nccl: Nccl, own: Sequence[Array], most: int, blocks: int, out: Array) -> None:
        n, rank, size = out.size, self.collectives.rank, self.collectives.size
        length = -(-n // size)
        slices = [slice(min(r * length, n), min((r + 1) * length, n)) for r in range(size)]
        width = slices[rank].stop - slices[rank].start
        received = self._front("sums of processes", size * most * length)
        rows = [received[row * length : row * length + width] for row in range(size * most)]
        sent = [[x[piece] for x in own] for piece in slices]
        got = [rows[r * most : r * most + len(of)] for r, of in enumerate(_all_nodes(size, blocks))]
        self._communicate("all_to_all", partial(nccl.all_to_all, sent, got), own, [received])
        total = self._front("sum of a slice", length)
        self._add_nodes(received, most, blocks, length, total[:width])
        gathered = out if size * length == n else self._front("sums of slices", size * length)
        self._communicate("all_gather", partial(nccl.all_gather, total, gathered), [total], [gathered])
        if gathered is not out:
            self._result(gathered[:n], out)

    def _sum_by_halves(self, nccl: Nccl, values: Array, out: Array) -> None:
        size, pairs = self.collectives.size, exchanges(self.collectives.rank, self.collectives.size, out.size)
        received = self._front("sums of processes", max(keeps.stop - keeps.start for _, _, keeps, _ in pairs))

        def exchange(partner: int, sent: Array, got: Array) -> None:
            to, of = ([[x] if rank == partner else [] for rank in range(size)] for x in (sent, got))
            self._communicate("exchange", partial(nccl.all_to_all, to, of), [sent], [got])

        if not is_same_memory(values, out):
            self._result(values, out)
        for partner, _, keeps, gives in pairs:
            kept = out[keeps]
            got = received[: kept.size]
            exchange(partner, out[gives], got)
            self.axpby(1.0, got, 1.0, kept)
        for partner, _, keeps, gives in reversed(pairs):
            exchange(partner, out[keeps], out[gives])

    def _add_nodes(self, rows: Array, most: int, blocks: int, stride: int, out: Array) -> None:
        """The sum of the nodes of all processes, each with ``most`` rows of ``stride`` numbers for its own."""
        size = self.collectives.size
        self._kernels.elements("sum_nodes", out.size, rows, out, size, blocks // size, most, stride)

    def _front(self, name: str, size: int) -> Array:
        return self._buffer(name, size, self._real)[:size]

    def _communicate(
        self, op: str, launch: Callable[[], None], reads: Sequence[Array], writes: Sequence[Array]
    ) -> None:
        """Call NCCL, or note that where this thread notes."""

        def call() -> None:
            keep(*reads, *writes)
            launch()

        calls = tape()
        if calls is None:
            call()
        else:
            assert self._turn is not None
            calls.append(Call(op, {}, tuple(reads), (*writes, self._turn), call))


@cache
def _all_nodes(size: int, blocks: int) -> list[list[Node]]:
    return all_nodes(size, blocks)


def _most_nodes(size: int, blocks: int) -> int:
    return max(map(len, _all_nodes(size, blocks)))

"""An alpha-beta model of training steps by many processes: a message of n bytes takes alpha + beta n seconds.

R. W. Hockney: The communication challenge for MPP, 1994. The sums are those of ``backends.collectives`` and, for what
they are compared with, R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in
MPICH, 2005, on CPUs, and the cost model by which NCCL chooses its algorithm on GPUs (``src/graph/tuning.cc``).

A step is computed first and added up then: nothing is computed while messages are on their way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import numpy as np

from backends.collectives.tree import exchanges

FLOAT = 4


class Link(NamedTuple):
    """What messages take from one process to another.

    Attributes:
        latency: seconds of each.
        per_byte: seconds.
    """

    latency: float
    per_byte: float

    def seconds(self, size: float) -> float:
        """Of a message of so many bytes."""
        return self.latency + self.per_byte * size


@dataclass(frozen=True)
class Compute:
    """A step on one process: a fixed part and one by rows.

    Attributes:
        fixed, per_row: seconds.
    """

    fixed: float
    per_row: float

    def seconds(self, rows: float) -> float:
        return self.fixed + self.per_row * rows


@dataclass(frozen=True)
class Machine:
    """Nodes of several processes.

    Attributes:
        name: what it is.
        per_node: processes of a node.
        inside: messages in a node, while all of its processes send some.
        between: messages between nodes, while all processes of a node send some.
        add: seconds for each byte of a sum of two.
        launch: seconds for each group of messages, whatever they are.
        at_once: how many messages of one process are under way at a time.
        is_gpu: whether a plain allreduce is NCCL's.
        source: where the figures are from.
    """

    name: str
    per_node: int
    inside: Link
    between: Link
    add: float
    source: str
    launch: float = 0.0
    at_once: int = 1
    is_gpu: bool = False

    def link(self, distance: int) -> Link:
        """To a process whose number differs by so much, a power of two."""
        return self.inside if distance < self.per_node else self.between

    # ---- the sums of backends.collectives ----------------------------------------------------------------------------

    def by_halves(self, processes: int, n: int) -> float:
        """Seconds of a sum of n floats, in which pairs exchange halves: the slowest of the processes."""
        seconds = 0.0
        for partner, _, keeps, gives in exchanges(0, processes, n):
            link = self.link(partner)
            kept, given = (FLOAT * (part.stop - part.start) for part in (keeps, gives))
            larger = max(kept, given)
            seconds += 2 * (self.launch + link.seconds(larger)) + self.add * kept
        return seconds

    def whole(self, processes: int, n: int) -> float:
        """Likewise, where pairs exchange all of it and both add."""
        rounds = [self.link(partner) for partner, *_ in exchanges(0, processes, n)]
        return sum(self.launch + link.seconds(FLOAT * n) + self.add * FLOAT * n for link in rounds)

    def by_slices(self, processes: int, n: int) -> float:
        """Likewise, where each process gets a slice from all others, adds, and sends them the sum."""
        if processes == 1:
            return 0.0
        near = min(self.per_node, processes) - 1
        far = processes - 1 - near
        latency = (near * self.inside.latency + far * self.between.latency) / min(self.at_once, processes - 1)
        part = FLOAT * n / processes
        bytes_take = part * (near * self.inside.per_byte + far * self.between.per_byte)
        return 2 * (self.launch + latency + bytes_take) + self.add * part * (processes - 1)

    def tree(self, processes: int, n: int) -> float:
        """The sum as it is made: the shorter of the two ways that pairs have."""
        if processes == 1:
            return 0.0
        return min(self.by_halves(processes, n), self.whole(processes, n))

    # ---- a sum in any order ------------------------------------------------------------------------------------------

    def plain(self, processes: int, n: int) -> float:
        """Seconds of an allreduce whose order is that of its library."""
        if processes == 1:
            return 0.0
        if self.is_gpu:
            return nccl_allreduce(processes, self.per_node, FLOAT * n, self.inside.per_byte, self.between.per_byte)
        return min(self.by_halves(processes, n), self.whole(processes, n), self.ring(processes, n))

    def ring(self, processes: int, n: int) -> float:
        """Of an allreduce along a ring, whose slowest link is one between nodes that only one process uses."""
        part = FLOAT * n / processes
        alone = self.between._replace(per_byte=self.between.per_byte / self.per_node)
        slowest = max(self.inside, alone if processes > self.per_node else self.inside, key=lambda x: x.seconds(part))
        return (processes - 1) * (2 * slowest.seconds(part) + self.add * part)


class NcclWay(NamedTuple):
    """An algorithm of NCCL with one of its protocols: microseconds."""

    base: float
    nvlink: float
    network: float
    bandwidth: float


#: Ring and tree with the protocols LL, LL128 and Simple, as in NCCL 2.19 (``baseLat``, ``hwLat`` and the factors of the
#: bandwidth in src/graph/tuning.cc); of LL no more than 20.4 GB/s, of the tree of more nodes 0.92 of the bandwidth.
RINGS = [NcclWay(6.6, 0.6, 2.7, 0.25), NcclWay(14.0, 1.9, 4.0, 0.92), NcclWay(8.4, 3.4, 14.0, 1.0)]
TREES = [NcclWay(6.8, 0.6, 5.0, 0.92 / 3.8), NcclWay(14.0, 1.25, 8.5, 0.92 * 0.9375), NcclWay(0.0, 28.0, 28.0, 0.92)]
#: GB/s that the protocol LL reaches at most.
MOST_OF_LL = 20.4


def nccl_allreduce(processes: int, per_node: int, size: float, inside: float, between: float) -> float:
    """Seconds of NCCL's allreduce of so many bytes, as its cost model has it: the shortest of its ways.

    Args:
        inside, between: seconds a byte of one process's links.
    """
    nodes = max(processes // per_node, 1)
    local = min(per_node, processes)
    bus = 1e-9 / (inside if nodes == 1 else max(inside, between / local))  # each process of a node has its own link
    found = []
    for number, (base, nvlink, network, factor) in enumerate(RINGS):
        bandwidth = min(bus * factor, MOST_OF_LL) if number == 0 else bus * factor
        steps, far = 2 * (processes - 1), 2 * nodes if nodes > 1 else 0
        latency = base + max(steps - far, 0) * nvlink + far * network
        found.append(latency + size * steps / processes / (1e3 * bandwidth))
    for number, (base, nvlink, network, factor) in enumerate(TREES):
        bandwidth = min(bus * factor, MOST_OF_LL) if number == 0 else bus * factor
        latency = base + 2 * ((local - 1) * nvlink + log2(nodes) * network)
        found.append(latency + size / (1e3 * bandwidth * 0.5))
    return 1e-6 * min(found)


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> Link:
    """The link whose relative errors, at these messages, have the least sum of squares; none of both is negative."""
    x, y = np.asarray(sizes, float), np.asarray(seconds, float)
    latency, per_byte = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
    if latency < 0.0:
        latency, per_byte = 0.0, float(np.sum(x / y) / np.sum((x / y) ** 2))
    if per_byte < 0.0:
        latency, per_byte = float(np.sum(1 / y) / np.sum(1 / y**2)), 0.0
    return Link(float(latency), float(per_byte))


def efficiencies(
    machine: Machine, compute: Compute, n: int, rows: int, processes: Sequence[int], sums: str = "tree"
) -> dict[str, list[float]]:
    """Parts of the ideal that are reached, by the number of processes.

    Args:
        rows: of one process with weak scaling, of all of them with strong scaling.
        sums: which of the machine's sums.
    """
    one = compute.seconds(rows)
    add_up = getattr(machine, sums)
    return {
        "weak": [one / (one + add_up(p, n)) for p in processes],
        "strong": [one / p / (compute.seconds(rows / p) + add_up(p, n)) for p in processes],
    }

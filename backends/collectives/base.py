"""What processes that train together do together, and the stand-in for a process that is alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..typing import Array, HostArray
from .tree import Node, TreeSum, nodes_of


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

    def sum_nodes(self, own: Sequence[Array], nodes: Sequence[Node], blocks: int, out: Array) -> Array:
        """The sum over all blocks of all processes, in ``out``; the same bits for any number of processes.

        Args:
            own: the sums (n,) of the ``nodes`` of this process; their contents are arbitrary afterwards.
            nodes: as ``nodes_of`` gives them for the blocks of this process.
            blocks: how many there are over all processes; a multiple of ``size``.
            out: (n,); may be one of ``own``.
        """
        tree = TreeSum[Array](_add)
        for node, values in zip(nodes, own, strict=True):
            tree.put(node, values)
        total = tree.total()
        if total is not out:
            out[...] = total
        return out

    def gather(self, values: HostArray) -> HostArray:
        """The arrays of all processes, one below the other: (size, ...)."""
        return values[None]

    def broadcast(self, value: Any) -> Any:
        """What process 0 has given; any object that can be pickled."""
        return value

    def barrier(self) -> None:
        """Wait for all processes."""

    def abort(self, reason: str) -> None:
        """End all processes of the group, and say why."""

    def all_equal(self, value: Any) -> list[Any]:
        """What each process has given, by rank; to find those that differ."""
        return [value]


def all_nodes(size: int, blocks: int) -> list[list[Node]]:
    """The nodes of each process."""
    each = blocks // size
    return [nodes_of(range(rank * each, (rank + 1) * each)) for rank in range(size)]


def _add(left: Array, right: Array) -> Array:
    return np.add(left, right, out=left)

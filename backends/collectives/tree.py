"""Sums over blocks in an order that is the same however many processes have them.

A sum over B blocks is taken along one binary tree: two neighbours whose sums cover as many blocks, the first of them
beginning at a multiple of twice as many, are added; and so on, as the digits of a binary counter are carried. What is
left at the end, where B is no power of two, is added from the right. Whoever adds, these are the additions that are
made: so the bits of the sum depend on the blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
#: Parts of an array begin at multiples of so many elements: 64 bytes of float32, a cache line.
UNIT = 16


class Node(NamedTuple):
    """The sum over so many ``blocks`` from ``first`` on."""

    first: int
    blocks: int

    def joins(self, following: Node) -> bool:
        """Whether this node and the one after it are the halves of a larger one."""
        return self.blocks == following.blocks and self.first % (2 * self.blocks) == 0


class TreeSum(Generic[T]):
    """The sum of nodes that come one after the other, each carried as far as it goes.

    Args:
        add: gives the sum of two, the left one first; it may use the memory of either.

    Attributes:
        nodes: those that are not the half of another one yet, with their sums.
    """

    def __init__(self, add: Callable[[T, T], T]) -> None:
        self._add = add
        self.nodes: list[tuple[Node, T]] = []

    def put(self, node: Node, values: T) -> None:
        """The next node: it begins where the last one ends."""
        while self.nodes and self.nodes[-1][0].joins(node):
            left, sum_of_left = self.nodes.pop()
            node, values = Node(left.first, 2 * node.blocks), self._add(sum_of_left, values)
        self.nodes.append((node, values))

    def total(self) -> T:
        """The sum of all nodes: of those that are left, from the right."""
        nodes = [values for _, values in self.nodes]
        total = nodes.pop()
        while nodes:
            total = self._add(nodes.pop(), total)
        return total


def nodes_of(blocks: range) -> list[Node]:
    """What is left of neighbouring blocks, each of them put by itself."""
    tree = TreeSum[None](lambda left, right: None)
    for block in blocks:
        tree.put(Node(block, 1), None)
    return [node for node, _ in tree.nodes]


def blocks_of(rank: int, size: int, blocks: int) -> range:
    """The blocks of a process, of ``blocks`` in all.

    Raises:
        ValueError: they cannot be dealt out evenly.
    """
    if blocks % size:
        raise ValueError(
            f"{blocks} blocks of rows cannot be dealt out evenly to {size} processes; let {size} divide them"
        )
    each = blocks // size
    return range(rank * each, (rank + 1) * each)


def tree_sum(nodes: Sequence[Node], values: Iterable[T], add: Callable[[T, T], T]) -> T:
    """The sum of the values of nodes that come one after the other."""
    tree = TreeSum(add)
    for node, value in zip(nodes, values, strict=True):
        tree.put(node, value)
    return tree.total()


class Exchange(NamedTuple):
    """What a process does with another one in a sum by halves: both cut a part of the array in two, and each keeps one.

    Attributes:
        partner: the other process.
        is_left: whether this one's sum is the left one of the two that are added.
        keeps, gives: the halves, as slices of the whole array; the partner keeps what this one gives.
    """

    partner: int
    is_left: bool
    keeps: slice
    gives: slice


def halves_fit(size: int, blocks: int) -> bool:
    """Whether a sum by halves makes the additions of the tree: as many processes as a power of two, each with one
    node."""
    each = blocks // size
    return size & (size - 1) == 0 and each & (each - 1) == 0


def exchanges(rank: int, size: int, n: int) -> list[Exchange]:
    """The exchanges of a sum by halves over ``size`` processes, a power of two, of arrays (n,).

    Processes that are neighbours exchange first, then those that are two apart, then four: so what is added are always
    the halves of a node of the tree. After them each process has its part of the sum, and the same exchanges the other
    way round, in the opposite order, give all of it to all. (Rabenseifner's algorithm, with the distances doubled:
    R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH, 2005.)
    """
    found: list[Exchange] = []
    begin, end, distance = 0, n, 1
    while distance < size:
        middle = min(begin + -(-(end - begin) // (2 * UNIT)) * UNIT, end)
        low, high, is_left = slice(begin, middle), slice(middle, end), not rank & distance
        found.append(Exchange(rank ^ distance, is_left, *((low, high) if is_left else (high, low))))
        begin, end = found[-1].keeps.start, found[-1].keeps.stop
        distance *= 2
    return found

"""A batch in blocks of rows, whose gradients are added up in an order that does not depend on who computes them.

With B blocks, block b of a batch of m rows has its rows from m b / B to m (b + 1) / B, rounded down. Each process
computes the gradients of its blocks, of the loss of their rows divided by m, and all are added along one binary tree
(``backends.collectives``): p processes give the same bits for every p that divides B. Masks of dropout are drawn for
each block by itself, and ``BatchNorm`` has the statistics of a block; its running ones move by their mean over the
blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends import Backend, Step, StepNumbers
from backends.collectives import Node, TreeSum, blocks_of, nodes_of, tree_sum
from backends.typing import Array, HostArray, Shape

from .around_update import Share
from .data.streamed.order import ALL_LANES, lanes_of
from .feed import Feed
from .memory import Store
from .plan import Plan


@dataclass(frozen=True)
class Blocks:
    """The blocks of a batch, and which of them are this process's.

    Attributes:
        count: how many there are, B.
        own: those of this process.
    """

    count: int
    own: range

    @classmethod
    def of(cls, backend: Backend, count: int) -> Blocks | None:
        """Those of this process; None where a process that is alone has one.

        Raises:
            ValueError: they cannot be dealt out evenly.
        """
        if max(count, backend.collectives.size) == 1:
            return None
        return cls(count, blocks_of(backend.collectives.rank, backend.collectives.size, count))

    def rows(self, block: int, rows: int) -> range:
        """The rows of a block in a batch of ``rows``."""
        return range(rows * block // self.count, rows * (block + 1) // self.count)


def own_lanes(blocks: Blocks | None, shuffled: bool) -> range:
    """The lanes (``nn.data.streamed.order``) that have the own blocks of each batch: all of them, where there are no
    blocks, or rows are not shuffled."""
    return ALL_LANES if blocks is None or not shuffled else lanes_of(blocks.own, blocks.count)


class Sums:
    """Adds up the gradients, or the state, of the blocks: those of this process one by one, then over all processes.

    What has nothing to be added to yet waits in a buffer, in which its sums with later blocks are made. The last block
    of the process is in ``array``, and whatever waits is added to it there.

    Args:
        array: (n,), where the sum goes.
        waiting: (n,) each, the buffers (``waiting_buffers``).
        parts: which sums over the processes are asked for one after the other; none: that of all at once.
    """

    def __init__(
        self, blocks: Blocks, backend: Backend, array: Array, waiting: Sequence[Array], parts: Sequence[slice] = ()
    ) -> None:
        self._blocks, self._backend, self._array, self._waiting = blocks, backend, array, waiting
        self._parts = parts
        self._is_last = False
        self._tree = TreeSum[Array](self._add)

    def put(self, block: int, values: Array) -> None:
        """That of the next block: in ``array``, which is then free for the one after it, or where it is to
        wait (``places_of_gradients``)."""
        tree, array = self._tree, self._array
        self._is_last = block + 1 == self._blocks.own.stop
        tree.put(Node(block, 1), values)
        node, values = tree.nodes[-1]
        if values is array and not self._is_last:
            tree.nodes[-1] = node, self._backend.copy(array, self._waiting[len(tree.nodes) - 1])

    def finish(self) -> None:
        """Leave the sum over all blocks of all processes in ``array``."""
        if self._backend.collectives.size == 1:
            self._tree.total()
            return
        nodes = [node for node, _ in self._tree.nodes]
        own = [values for _, values in self._tree.nodes]
        if not self._parts:
            self._backend.sum_over_processes(own, nodes, self._blocks.count, self._array)
        for part in self._parts:
            of_part = [values[part] for values in own]
            self._backend.sum_over_processes(of_part, nodes, self._blocks.count, self._array[part])

    def _add(self, left: Array, right: Array) -> Array:
        """Their sum, in place of the right one where that is the last; so ``array`` is either free or has the sum."""
        if self._is_last:
            left, right = right, left
        return self._backend.axpby(1.0, right, 1.0, left)


def waiting_buffers(blocks: Blocks, store: Store, name: str, shape: Shape) -> list[Array]:
    """As many as there are sums that wait at a time while the blocks of this process are added up."""
    first, last = blocks.own.start, blocks.own.stop - 1
    most = max((len(nodes_of(range(first, stop))) for stop in range(first + 1, last + 1)), default=0)
    return [store.workspace.buffer((name, number), shape) for number in range(most)]


def places_of_gradients(blocks: Blocks, store: Store) -> list[Array]:
    """Where each own block is to leave its gradients, so that ``Sums`` need not copy them: where they wait if there is
    nothing to add them to, else where those of a whole batch are."""
    array = store.flat_gradients
    waiting, found = waiting_buffers(blocks, store, "gradients of blocks", array.shape), []
    for buffer in waiting:
        buffer[...] = 0.0  # the gaps between parameters, which nobody writes
    for block in blocks.own:
        nodes = nodes_of(range(blocks.own.start, block + 1))
        waits = nodes[-1].blocks == 1 and block + 1 < blocks.own.stop
        found.append(waiting[len(nodes) - 1] if waits else array)
    return found


def make_step_on_blocks(
    blocks: Blocks,
    feed: Feed,
    plans: Sequence[Plan],
    places: Sequence[Array],
    totals: Array,
    share: Share | None = None,
) -> Step:
    """A training step on a batch of ``feed`` in blocks.

    Args:
        plans, places: for each own block, and where its gradients go (``places_of_gradients``).
        totals: (own blocks, 2), to which each block adds its loss sum and correct rows.
        share: which batch of an update this is, where several make one.
    """
    plan = plans[0]
    store, backend = plan.store, plan.store.backend
    zeros = backend.zeros(store.flat_gradients.shape)  # for a block without rows
    of_blocks = [totals[index, ...] for index in range(len(blocks.own))]
    parts = store.layout.in_turn(backend.sums_from) if backend.sums_from else []

    def step(numbers: StepNumbers, count: int) -> None:
        gradients = Sums(blocks, backend, store.flat_gradients, (), parts)
        moved = _MovedState(blocks, plans)
        for block, block_plan, place, sums in zip(blocks.own, plans, places, of_blocks, strict=True):
            rows = blocks.rows(block, count)
            moved.begin()
            if rows:
                x, y, weights = feed.batch(numbers.start, len(rows), numbers.step, offset=rows.start)
                block_plan.gradients(x, y, sums, numbers.step, weights, scale=1.0 / count)
            else:
                backend.copy(zeros, place)
            gradients.put(block, place)
            moved.put(block)
        gradients.finish()
        moved.finish()
        if share is not None:
            plan.accumulate(count, share)
        if share is None or share.is_last:
            plan.update(numbers.update, numbers.learning_rate)

    return step


class _MovedState:
    """What layers move in training beside parameters: each block begins with that before the step; their mean stays."""

    def __init__(self, blocks: Blocks, plans: Sequence[Plan]) -> None:
        self._store = plans[0].store
        names = [f"{ctx.name}.{name}" for layer, ctx in plans[0].stages if layer.moves_state for name in layer.state()]
        self._parts = [self._store.state_layout.span(name) for name in names]
        self._blocks, self._state = blocks, self._store.flat_state
        if self._parts:
            self._before = self._store.workspace.buffer("state before blocks", self._state.shape)
            waiting = waiting_buffers(blocks, self._store, "state of blocks", self._state.shape)
            self._sums = Sums(blocks, self._store.backend, self._state, waiting)
            self._store.backend.copy(self._state, self._before)

    def begin(self) -> None:
        if self._parts:
            self._store.backend.copy(self._before, self._state)

    def put(self, block: int) -> None:
        if self._parts:
            self._sums.put(block, self._state)

    def finish(self) -> None:
        if not self._parts:
            return
        backend, state, before = self._store.backend, self._state, self._before
        self._sums.finish()
        for part in self._parts:  # the rest of the state is as it was
            backend.axpby(1.0 / self._blocks.count, state[part], 0.0, before[part])
        backend.copy(before, state)


def gathered_totals(backend: Backend, totals: Array) -> list[HostArray]:
    """The totals (2,) of each block, or batch, from all processes, in the order of these. Waits for the device."""
    of_processes = backend.collectives.gather(backend.to_numpy(totals))
    return [row for rows in of_processes for row in rows]


def sum_of_totals(backend: Backend, totals: Array) -> HostArray:
    """(2,): their sum, along the tree."""
    found = gathered_totals(backend, totals)
    return tree_sum([Node(block, 1) for block in range(len(found))], found, lambda left, right: left + right)

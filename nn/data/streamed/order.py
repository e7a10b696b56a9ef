"""In which order an epoch visits rows that are larger than memory: blocks in random order, shuffled within windows.

A full shuffle reads rows from everywhere. Here whole blocks of neighbouring rows are read, in an order of each epoch,
and the rows of some hundred of them, a window, are shuffled together, as in CorgiPile (Xu et al., "Stochastic gradient
descent without full data shuffle", VLDB 2022) and the quasi-random order of FFCV (Leclerc et al., CVPR 2023). Where
one window has all rows, it is the full shuffle of rows in memory.

Processes that train together share each batch: each has some of its slots. So that none needs to read the rows of the
others, slots are divided into *lanes*, as many for any number of processes: in a batch of m rows lane g has the slots
from m g / 192 to m (g + 1) / 192, rounded down. Of the rows of a window, in the order in which they are read, the first
ones go to lane 0, as many as it has slots in the batches of the window, the next ones to lane 1, and so on; they are
shuffled among the slots of their lane. So the order depends on (seed, epoch) alone, each batch has rows from all over
its window, and a process reads one part of it: the rows of the lanes that have its slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from backends.random import generator, permutation

#: Into so many lanes slots of a batch are divided, which 2, 3, 4, 6, 8, ... and 64 processes can share evenly. Another
#: number is another order.
LANES = 192
LANE_BITS = 8
ALL_LANES = range(LANES)


def lanes_of(blocks: range, count: int) -> range:
    """The lanes that have the slots of neighbouring blocks, of ``count`` blocks in all, in a batch of any size."""
    return range(LANES * blocks.start // count, -(-LANES * blocks.stop // count))


@dataclass(frozen=True)
class Order:
    """The order of ``n`` rows: a function of these numbers and of the epoch.

    Attributes:
        n: how many rows there are.
        window: how many of them are shuffled together; the last window of an epoch may have fewer.
        block: how many neighbouring rows are read together.
        batch: how many rows a batch has.
        seed: of the shuffles.
        shuffled: whether the rows are in another order in each epoch; else one after the other as they are stored.
        lanes: whose rows are read. Rows that are not shuffled, or of one window only, are read whole in any case.
        first: the first of the rows, where they are not shuffled.
    """

    n: int
    window: int
    block: int
    batch: int
    seed: int = 0
    shuffled: bool = True
    lanes: range = ALL_LANES
    first: int = 0

    @classmethod
    def of(
        cls,
        n: int,
        window: int,
        block: int,
        batch: int,
        *,
        seed: int = 0,
        shuffled: bool = True,
        lanes: range = ALL_LANES,
        first: int = 0,
    ) -> Order:
        """That of rows in batches of ``batch``: windows of at most ``window`` rows, of whole batches, but at least one.
        Where one window can hold all rows, there is only one."""
        whole = max(window // batch * batch, batch)
        return cls(n, n if n <= max(window, whole) else whole, block, batch, seed, shuffled, lanes, first)

    @property
    def windows(self) -> int:
        """How many windows an epoch has."""
        return -(-self.n // self.window)

    def span(self, index: int) -> range:
        """The positions in the epoch of the rows of a window."""
        end = self.first + self.n
        return range(self.first + index * self.window, min(self.first + (index + 1) * self.window, end))

    def window_of(self, position: int) -> int:
        """The window that has a position of the epoch."""
        return (position - self.first) // self.window

    @property
    def has_lanes(self) -> bool:
        """Whether rows are shuffled within lanes."""
        return self.shuffled and self.windows > 1

    def part(self, index: int) -> range:
        """Which rows of a window are read, by their numbers in the order in which all of them would be."""
        span = self.span(index)
        if not self.has_lanes:
            return range(len(span))
        return range(self._before(len(span), self.lanes.start), self._before(len(span), self.lanes.stop))

    def _before(self, count: int, lane: int) -> int:
        """How many of ``count`` rows are of the lanes before that one."""
        batches, rest = divmod(count, self.batch)
        return batches * (self.batch * lane // LANES) + rest * lane // LANES

    @property
    def most_read(self) -> int:
        """How many rows of a window are read at most."""
        return max(len(self.part(index)) for index in {0, self.windows - 1})

    def ranges(self, epoch: int, index: int) -> list[range]:
        """The rows of a window that are read, in that order, as ranges of neighbours."""
        span, part = self.span(index), self.part(index)
        if not self.has_lanes:
            return [range(span.start, span.stop)]
        if not part:
            return []
        blocks, ends = _blocks(self.n, self.block, self.seed, epoch)
        start, stop, found = span.start + part.start, span.start + part.stop, []
        first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
        for position in range(first, last + 1):
            begin = int(blocks[position]) * self.block
            length = min(self.block, self.n - begin)
            before = int(ends[position]) - length
            found.append(range(begin + max(start - before, 0), begin + min(stop - before, length)))
        return found

    def inside(self, epoch: int, index: int) -> np.ndarray | None:
        """Which row of those of a window that are read is visited first, second, ...: int64, for all slots of the
        window; those of other lanes have any. None for as they come."""
        if not self.shuffled:
            return None
        if self.windows == 1:
            return permutation(self.n, self.seed, epoch)
        count, part = len(self.span(index)), self.part(index)
        found = _shuffled_in_lanes(count, self.batch, generator(self.seed, "window", f"{epoch}/{index}"))
        if len(part) < count:
            found -= part.start
            np.clip(found, 0, max(len(part) - 1, 0), out=found)
        return found

    def rows(self, epoch: int, index: int) -> np.ndarray:
        """The rows of a window as they are visited, those of all lanes: int64."""
        whole = replace(self, lanes=ALL_LANES)
        read, inside = rows_in(whole.ranges(epoch, index)), whole.inside(epoch, index)
        return read if inside is None else read[inside]

    def epoch(self, epoch: int) -> np.ndarray:
        """All rows as they are visited, (n,) int64."""
        return np.concatenate([self.rows(epoch, index) for index in range(self.windows)])


def rows_in(ranges: Sequence[range]) -> np.ndarray:
    """The rows of ranges, one after the other: int64."""
    return np.concatenate([np.arange(rows.start, rows.stop) for rows in ranges])


def _shuffled_in_lanes(count: int, batch: int, random: np.random.Generator) -> np.ndarray:
    """Which of ``count`` rows, which come lane by lane, is at which slot of batches of ``batch``: (count,) int64.

    Numbers are sorted that consist of the lane of a slot, random bits, and the slot: faster than a permutation, which
    would have to be sorted by lanes.
    """
    rows, whole, bits = np.arange(count, dtype=np.int64), count // batch * batch, count.bit_length()
    keys = random.integers(0, 1 << 64, count, np.uint64)
    keys >>= LANE_BITS + bits
    keys <<= bits
    keys |= rows.view(np.uint64)
    of_batches = keys[:whole].reshape(-1, batch)
    of_batches |= _lanes(batch)
    keys[whole:] |= _lanes(count - whole)
    keys.sort()
    keys &= (1 << bits) - 1
    found = np.empty_like(rows)
    found[keys.view(np.int64)] = rows
    return found


@lru_cache(maxsize=4)
def _lanes(rows: int) -> np.ndarray:
    """The lane of each slot of a batch of ``rows``, in the highest bits of uint64."""
    return ((LANES * np.arange(1, rows + 1) - 1) // max(rows, 1)).astype(np.uint64) << (64 - LANE_BITS)


@lru_cache(maxsize=2)
def _blocks(n: int, block: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The blocks in the order of an epoch, and how many rows there are up to the end of each."""
    count = -(-n // block)
    blocks = generator(seed, "blocks", epoch).permutation(count)
    lengths = np.full(count, block)
    lengths[blocks == count - 1] = n - (count - 1) * block
    return blocks, np.cumsum(lengths)

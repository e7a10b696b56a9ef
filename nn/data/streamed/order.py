"""In which order an epoch visits rows that are larger than memory: blocks in random order, shuffled within windows.

A full shuffle reads rows from everywhere. Here whole blocks of neighbouring rows are read, in an order of each epoch,
and the rows of some hundred of them, a window, are shuffled together, as in CorgiPile (Xu et al., "Stochastic gradient
descent without full data shuffle", VLDB 2022) and the quasi-random order of FFCV (Leclerc et al., CVPR 2023). Where
one window has all rows, it is the full shuffle of rows in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from backends.random import generator, permutation


@dataclass(frozen=True)
class Order:
    """The order of ``n`` rows: a function of these numbers and of the epoch.

    Attributes:
        n: how many rows there are.
        window: how many of them are shuffled together; the last window of an epoch may have fewer.
        block: how many neighbouring rows are read together.
        seed: of the shuffles.
        shuffled: whether the rows are in another order in each epoch; else one after the other as they are stored.
    """

    n: int
    window: int
    block: int
    seed: int = 0
    shuffled: bool = True

    @classmethod
    def of(cls, n: int, window: int, block: int, batch: int, *, seed: int = 0, shuffled: bool = True) -> Order:
        """That of rows in batches of ``batch``: windows of at most ``window`` rows, of whole batches, but at least one.
        Where one window can hold all rows, there is only one."""
        whole = max(window // batch * batch, batch)
        return cls(n, n if n <= max(window, whole) else whole, block, seed, shuffled)

    @property
    def windows(self) -> int:
        """How many windows an epoch has."""
        return -(-self.n // self.window)

    def span(self, index: int) -> range:
        """The positions in the epoch of the rows of a window."""
        return range(index * self.window, min((index + 1) * self.window, self.n))

    def ranges(self, epoch: int, index: int) -> list[range]:
        """The rows of a window in the order in which they are read, as ranges of neighbours."""
        span = self.span(index)
        if not self.shuffled or self.windows == 1:
            return [range(span.start, span.stop)]
        blocks, ends = _blocks(self.n, self.block, self.seed, epoch)
        found = []
        first, last = np.searchsorted(ends, [span.start, span.stop - 1], side="right").tolist()
        for position in range(first, last + 1):
            begin = int(blocks[position]) * self.block
            length = min(self.block, self.n - begin)
            before = int(ends[position]) - length
            found.append(range(begin + max(span.start - before, 0), begin + min(span.stop - before, length)))
        return found

    def inside(self, epoch: int, index: int) -> np.ndarray | None:
        """Which row of a window, as they are read, is visited first, second, ...: int64; None for as they come."""
        if not self.shuffled:
            return None
        if self.windows == 1:
            return permutation(self.n, self.seed, epoch)
        return generator(self.seed, "window", f"{epoch}/{index}").permutation(len(self.span(index)))

    def rows(self, epoch: int, index: int) -> np.ndarray:
        """The rows of a window as they are visited: int64."""
        read = np.concatenate([np.arange(rows.start, rows.stop) for rows in self.ranges(epoch, index)])
        inside = self.inside(epoch, index)
        found: np.ndarray = read if inside is None else read[inside]
        return found

    def epoch(self, epoch: int) -> np.ndarray:
        """All rows as they are visited, (n,) int64."""
        return np.concatenate([self.rows(epoch, index) for index in range(self.windows)])


@lru_cache(maxsize=2)
def _blocks(n: int, block: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The blocks in the order of an epoch, and how many rows there are up to the end of each."""
    count = -(-n // block)
    blocks = generator(seed, "blocks", epoch).permutation(count)
    lengths = np.full(count, block)
    lengths[blocks == count - 1] = n - (count - 1) * block
    return blocks, np.cumsum(lengths)

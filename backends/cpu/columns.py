"""Columns of many rows, several rows at a time.

Of few columns, as the channels of pictures are, several rows together are taken as one long row, with the mean and the
other numbers of the columns as often beside each other: NumPy goes through a row of 16 numbers hardly faster than
through one of 500. They are computed in blocks that stay in cache, on several threads. No bit depends on their number:
blocks and parts are cut by shapes alone, and the sums of the parts are added up in their order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy

from ..typing import Array
from .workers import InBlocks, size_of_blocks

#: Numbers from which on columns are normalized in blocks, and those of a long row.
LEAST, WIDTH = 2**14, 512
#: Arrays of a block that are used at a time.
AT_A_TIME = 3
#: What an element costs in a pass, in multiplications of a matrix product.
COST = 8


class Columns(InBlocks[Array]):
    """(m, n) arrays as long rows in blocks, for each of which a thread has a scratch array.

    Attributes:
        times: how many rows make a long one; fewer are left over at the end.
        cost: of a pass, in multiplications of a matrix product.
        ones: for each row of a block.
    """

    def __init__(self, m: int, n: int, dtype: str) -> None:
        self.times = min(max(1, WIDTH // n), m)
        self.shape, self._dtype = (m, n), dtype
        width, rows = self.times * n, m // self.times
        size = size_of_blocks(rows, AT_A_TIME * width * numpy.dtype(dtype).itemsize)
        super().__init__(rows, size, lambda count: numpy.empty((count, width), dtype))
        self.cost = COST * m * n
        self.ones = numpy.ones(min(size, rows), dtype)
        self._sums = numpy.empty((2, len(self.parts), width), dtype)
        self._tiles: dict[str, Array] = {}

    def tiled(self, name: str, values: Array) -> Array:
        """The numbers of the columns for a long row; ``name`` keeps two that are used together apart."""
        tile = self._tiles.get(name)
        if tile is None:
            tile = self._tiles[name] = numpy.empty(self._sums.shape[2], self._dtype)
        numpy.copyto(tile.reshape(self.times, -1), values)
        return tile

    def wide(self, x: Array) -> Array:
        """An (m, n) array as long rows, without the rows that are left over."""
        m, n = self.shape
        return x[: m - m % self.times].reshape(-1, self.times * n)

    def rest(self, x: Array) -> Array:
        """The rows that are left over."""
        m = self.shape[0]
        return x[m - m % self.times :]

    def blocks(self, worker: int, part: int) -> Iterator[tuple[slice, Array]]:
        """The blocks of a part, and the scratch array of each."""
        for block in self.parts[part]:
            yield block, self.of(worker, block)

    def clear(self, part: int) -> None:
        """Begin with the sums of a part."""
        self._sums[:, part] = 0

    def add(self, part: int, which: int, x: Array) -> None:
        """Add a block to one of the two sums of its part."""
        sums = self._sums[which, part]
        numpy.add(sums, numpy.dot(self.ones[: len(x)], x), out=sums)

    def total(self, which: int, rest: Array, out: Array) -> None:
        """The sum of all parts and of the rows that are left over, for each column."""
        numpy.add.reduce(self._sums[which].reshape(-1, out.shape[0]), 0, None, out)
        numpy.add(out, numpy.add.reduce(rest, 0), out=out)

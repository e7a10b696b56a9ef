"""The largest and the sums of the windows of a few pictures, and the way back: first along the columns of a picture,
then along its rows, or the other way around.

The largest value of a window is the largest of its rows' largest, and a sum is the sum of its rows' sums: kh + kw
operations instead of kh kw, and half of them on whole rows of a picture, which are long runs of numbers. Which value of
a window is the first of the largest, row by row, is found so too: the first row that has it, there the first column.

Along its rows a picture has runs of a few channels only, which NumPy takes one by one. So where windows do not overlap,
each of their positions is copied into a plane of its own, all channels of a pixel in one piece, and computed in planes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import numpy

from ..pictures import Windows
from ..typing import Array
from .workers import InBlocks, size_of_blocks

#: What an element costs, in multiplications of a matrix product.
COST = 16


class Pooling(NamedTuple):
    """What makes one pooling another: ``padding`` is the value around pictures."""

    windows: Windows
    channels: int
    padding: float
    dtype: str


class Block:
    """The memory of a thread for a few pictures.

    Attributes:
        is_padded: whether there is padding.
        padded, d_padded: (pictures, height, width, channels) with the padding; none without.
        columns: (pictures, rows of windows, width, channels).
        grid: in the shape of the result.
    """

    def __init__(self, it: Pooling, pictures: int) -> None:
        (height, width), (rows, columns), c = it.windows.padded, it.windows.grid, it.channels
        self.windows = it.windows
        self.is_padded = it.windows.padding != (0, 0)
        shape = (pictures if self.is_padded else 0, height, width, c)
        self.padded, self.d_padded = numpy.full(shape, it.padding, it.dtype), numpy.empty(shape, it.dtype)
        self.inside = self.padded[:, *it.windows.inside]
        self.columns = numpy.empty((pictures, rows, width, c), it.dtype)
        self.grid = numpy.empty((pictures, rows, columns, c), it.dtype)
        self.down, self.across = _Side(it.windows, 0), _Side(it.windows, 1)
        overlap = self.down.overlap or self.across.overlap
        kind = _Views if overlap else _Planes
        self.positions: _Views | _Planes = kind(it, pictures, self.down, self.across)

    def with_padding(self, x: Array) -> Array:
        """The pictures with the padding around them."""
        if not self.is_padded:
            return x
        numpy.copyto(self.inside, x)
        return self.padded

    def without_padding(self, dx: Array) -> Array:
        """Where a gradient goes that is to be in ``dx`` after ``finish``."""
        return self.d_padded if self.is_padded else dx

    def finish(self, dx: Array) -> None:
        if self.is_padded:
            numpy.copyto(dx, self.d_padded[:, *self.windows.inside])

    def fold(self, how: numpy.ufunc, x: Array, out: Array) -> None:
        """The largest or the sum of each window."""
        _fold(how, self.down.views(x), self.columns)
        self.positions.fold(how, self.columns, out)

    def choose(self, x: Array, dy: Array, y: Array, dx: Array) -> None:
        """dy at the first of the largest values of each window; all that is chosen from must be finite."""
        self.positions.choose(x, dy, y, self.grid, dx)

    def spread(self, part: Array, dx: Array) -> None:
        """The same number at each position of each window."""
        self.across.spread(part, self.columns)
        self.down.spread(self.columns, dx)


class _Views:
    """The positions of windows that overlap, as views of the pictures."""

    def __init__(self, it: Pooling, pictures: int, down: _Side, across: _Side) -> None:
        (rows, columns), height, c = it.windows.grid, it.windows.padded[0], it.channels
        self._left = numpy.empty((pictures, rows, columns, c), it.dtype)
        of_rows = (pictures, height, columns, c)
        self._rows, self._d_rows, self._found = (numpy.empty(of_rows, it.dtype) for _ in range(3))
        self._down, self._across = down, across

    def fold(self, how: numpy.ufunc, columns: Array, out: Array) -> None:
        """The largest or the sum along the rows of what is one already along the columns."""
        _fold(how, self._across.views(columns), out)

    def choose(self, x: Array, dy: Array, y: Array, found: Array, dx: Array) -> None:
        """dx <- dy where x is the first of a window that equals y, 0 elsewhere; ``found`` is memory in their shape."""
        _fold(numpy.maximum, self._across.views(x), self._rows)
        self._down.distribute(dy, y, self._rows, found, self._left, self._d_rows)
        self._across.distribute(self._d_rows, self._rows, x, self._found, self._d_rows, dx)


class _Planes:
    """The positions of windows that do not overlap, each in a copy: (kh kw, pictures, rows, columns, channels)."""

    def __init__(self, it: Pooling, pictures: int, down: _Side, across: _Side) -> None:
        (rows, columns), c = it.windows.grid, it.channels
        self._planes = numpy.empty((prod(it.windows.size), pictures, rows, columns, c), it.dtype)
        self._pieces = _pixels(self._planes)
        self._at = [(slice(None), down, right) for _, _, down, right in it.windows.positions()]
        self._across = across
        self._covers = down.covers and across.covers

    def fold(self, how: numpy.ufunc, columns: Array, out: Array) -> None:
        """As of ``_Views``."""
        views = self._across.views(columns)
        if len(views) > 1:
            for piece, view in zip(self._pieces, self._across.views(_pixels(columns)), strict=False):
                numpy.copyto(piece, view)
            views = [*self._planes[: len(views)]]
        _fold(how, views, out)

    def choose(self, x: Array, dy: Array, y: Array, found: Array, dx: Array) -> None:
        """As of ``_Views``."""
        pieces = self._planes
        x_pieces, dx_pieces = x, dx
        if x.strides[-1] == dx.strides[-1] == x.itemsize:
            pieces, x_pieces, dx_pieces = self._pieces, _pixels(x), _pixels(dx)
        for piece, at in zip(pieces[:-1], self._at, strict=False):
            numpy.copyto(piece, x_pieces[at])
        *planes, left = self._planes
        numpy.copyto(left, dy)
        for plane in planes:
            numpy.equal(plane, y, out=found, casting="unsafe")
            numpy.multiply(left, found, out=plane)
            numpy.subtract(left, plane, out=left)
        if not self._covers:
            dx.fill(0)
        for piece, at in zip(pieces, self._at, strict=True):
            numpy.copyto(dx_pieces[at], piece)


class _Side:
    """Windows along one side of a picture.

    Attributes:
        overlap: whether windows do.
        covers: whether each pixel is in a window, and in one only.
    """

    def __init__(self, windows: Windows, side: int) -> None:
        size, stride, count = windows.size[side], windows.stride[side], windows.grid[side]
        before = (slice(None),) * (1 + side)
        self._at = [(*before, slice(a, a + stride * (count - 1) + 1, stride)) for a in range(size)]
        self.overlap = stride < size
        self.covers = stride == size and count * size == windows.padded[side]

    def views(self, x: Array) -> list[Array]:
        """What the windows see at each of their positions along this side."""
        return [x[at] for at in self._at]

    def distribute(self, d: Array, largest: Array, x: Array, found: Array, left: Array, dx: Array) -> None:
        """Write d into dx where x is the first that equals ``largest``.

        Args:
            found, left: memory in the shape of d.
        """
        self._clear(dx)
        *before, last = self._at
        for number, at in enumerate(before, 1):
            numpy.equal(x[at], largest, out=found, casting="unsafe")
            there = found if self.overlap else dx[at]
            numpy.multiply(d, found, out=there)
            if self.overlap:
                numpy.add(dx[at], found, out=dx[at])
            elif number == len(before):
                numpy.subtract(d, there, out=dx[last])
                return
            d = numpy.subtract(d, there, out=left)
        self._write(d, dx[last])

    def spread(self, part: Array, dx: Array) -> None:
        """Add ``part`` at each position."""
        self._clear(dx)
        for at in self._at:
            self._write(part, dx[at])

    def _clear(self, dx: Array) -> None:
        if not self.covers:
            dx.fill(0)

    def _write(self, part: Array, dx: Array) -> None:
        if self.overlap:
            numpy.add(dx, part, out=dx)
        else:
            numpy.copyto(dx, part)


def _fold(how: numpy.ufunc, views: list[Array], out: Array) -> None:
    if len(views) == 1:
        numpy.copyto(out, views[0])
        return
    how(views[0], views[1], out=out)
    for view in views[2:]:
        how(out, view, out=out)


def _pixels(x: Array) -> Array:
    """(..., c) as (...): the numbers of a pixel in one piece, which is copied at once."""
    return x.view(f"V{x.shape[-1] * x.itemsize}")[..., 0]


class Blocks(InBlocks[Block]):
    """What the pooling of m pictures needs besides its arrays; see ``backends.cpu.convolution``."""

    def __init__(self, it: Pooling, m: int) -> None:
        one = prod(it.windows.padded) * it.channels
        super().__init__(m, size_of_blocks(m, one * numpy.dtype(it.dtype).itemsize), partial(Block, it))
        self.cost = COST * m * one

    def each(self, compute: Callable[[Block, slice], None], worker: int, part: int) -> None:
        """Compute the blocks of a part."""
        for block in self.parts[part]:
            compute(self.of(worker, block), block)

"""Convolution of a few pictures at a time, in memory that stays in the cache of a core.

Two ways, both by products of the BLAS, for filters that see all channels:

``Shifted`` writes no patches. Where windows move by one pixel, the rows of x that window (r, s) sees at (a, b) lie, for
all windows of a block, at a fixed distance from the rows of the result: pixel p of the pictures, counted row by row,
has the result z[p] = sum_{a, b} x[p + a width + b] W[a, b]. That is a product of matrices for each (a, b), without a
copy; and since the kw pixels side by side are one run of numbers, those of all b are one product, for each kw-th pixel:
kw products of depth kw c for each a. The results of windows that would reach into the next row or picture are computed
and left. The gradients are products of the same kind: that of x is the convolution of dz, with zeros where there is no
window, with the filters turned around.

``Patched`` is for everything else: a copy of what each window sees, then one product.

Groups of channels are convolutions of their own (``Grouped``), each in one of these ways; those of one channel, or of
few, are computed without products of matrices (``depthwise``).
"""

from __future__ import annotations

from math import isfinite, prod
from typing import NamedTuple, Protocol

import numpy
from numpy.lib.stride_tricks import as_strided

from ..pictures import Windows
from ..typing import Array
from .blas import Blas
from .depthwise import DepthwiseFilters

#: Fewer numbers than this side by side in a window, and patches are written position by position.
SHORT_RUN = 16
#: ``Shifted`` has at least so many numbers side by side, and computes at most so many windows for each that there is:
#: in the forward pass, and in the backward pass, where patches cost three times as much.
LEAST_RUN = 8
MOST_WASTE = 1.5, 3.0
#: Up to so many channels in a group, where ``Shifted`` is not possible, are computed without products of matrices.
FEW_CHANNELS = 4


class Convolution(NamedTuple):
    """What makes one convolution another."""

    windows: Windows
    channels: int
    filters: int
    groups: int
    dtype: str
    backward: bool

    @property
    def depth(self) -> int:
        """How many numbers of the filters of a group each window is multiplied by."""
        return prod(self.windows.size) * self.channels // self.groups

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the filters."""
        return (*self.windows.size, self.channels // self.groups, self.filters)

    @property
    def of_group(self) -> Convolution:
        """That of one group of channels."""
        return self._replace(channels=self.channels // self.groups, filters=self.filters // self.groups, groups=1)

    @property
    def is_shifted(self) -> bool:
        """Whether ``Shifted`` is the way, where there is a BLAS and one group."""
        padded, grid = prod(self.windows.padded), prod(self.windows.grid)
        has_runs = self.windows.size[1] * self.channels >= LEAST_RUN
        return self.windows.stride == (1, 1) and has_runs and padded <= MOST_WASTE[self.backward] * grid


class Filters(Protocol):
    """The filters of a call, as its blocks take them.

    Attributes:
        cost: how much longer a multiplication takes than in a product of large matrices.
    """

    cost: int

    @property
    def bytes_of_picture(self) -> int:
        """How much memory one picture takes in a block."""

    def set(self, weight: Array, alpha: float) -> None:
        """Take these filters, times ``alpha``."""

    def turn(self, weight: Array) -> None:
        """Take these filters, turned around, for the gradient of the pictures."""

    def make_block(self, pictures: int) -> Block:
        """A block of so many pictures."""

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        """Whether no product with a 0 where there is no window can have come to anything, when the gradient of the
        filters is ``dw``, (groups, depth, filters of a group): it is NaN for a pixel or a filter that is not finite."""


def make_filters(it: Convolution, blas: Blas | None) -> Filters:
    """The filters of a convolution, for the way that is fastest of those that can be gone."""
    if it.groups == 1:
        return OfAllChannels(it, blas)
    of_group = it.of_group
    if of_group.channels == 1 or (of_group.channels <= FEW_CHANNELS and not of_group.is_shifted):
        shape = it.groups, of_group.channels, of_group.filters
        return DepthwiseFilters(it.windows, shape, it.dtype, it.backward)
    return OfGroups(it, blas)


class OfAllChannels:
    """The filters of one group.

    Attributes:
        matrix: (depth, filters), times the factor.
        turned: (kh, kw filters, channels): turned around, for ``Shifted``; made by ``turn``.
    """

    cost = 1

    def __init__(self, it: Convolution, blas: Blas | None) -> None:
        kh, kw = it.windows.size
        self._it, self._blas = it, blas if it.is_shifted else None
        self.matrix = numpy.empty((it.depth, it.filters), it.dtype)
        self.turned = numpy.empty((kh, kw * it.filters, it.channels) if self._blas else 0, it.dtype)

    @property
    def bytes_of_picture(self) -> int:
        it, pixels = self._it, prod(self._it.windows.padded)
        numbers = pixels * (it.channels + it.filters)
        if self._blas is None:
            numbers = pixels * it.channels + prod(it.windows.grid) * (it.depth + it.filters)
        return numbers * numpy.dtype(it.dtype).itemsize

    def set(self, weight: Array, alpha: float) -> None:
        matrix = self.matrix.reshape(self._it.shape)
        numpy.multiply(weight, alpha, out=matrix) if alpha != 1.0 else numpy.copyto(matrix, weight)

    def turn(self, weight: Array) -> None:
        kh, kw, c, o = self._it.shape
        if self._blas is not None:
            numpy.copyto(self.turned.reshape(kh, kw, o, c), weight[::-1, ::-1].transpose(0, 1, 3, 2))

    def make_block(self, pictures: int) -> Block:
        if self._blas is None:
            return Patched(self._it, pictures, self)
        return Shifted(self._it, pictures, self._blas, self)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        return self._blas is None or (isfinite(dw.sum()) and (not needs_dx or isfinite(self.turned.sum())))


class OfGroups:
    """The filters of several groups, of several channels each.

    Attributes:
        groups: the filters of each.
    """

    cost = 2

    def __init__(self, it: Convolution, blas: Blas | None) -> None:
        self._it = it
        self.groups = [OfAllChannels(it.of_group, blas) for _ in range(it.groups)]

    @property
    def bytes_of_picture(self) -> int:
        it = self._it
        own = prod(it.windows.grid) * it.filters * numpy.dtype(it.dtype).itemsize
        return own + it.groups * self.groups[0].bytes_of_picture

    def set(self, weight: Array, alpha: float) -> None:
        for group, own in zip(self.groups, self._each(weight), strict=True):
            group.set(own, alpha)

    def turn(self, weight: Array) -> None:
        for group, own in zip(self.groups, self._each(weight), strict=True):
            group.turn(own)

    def make_block(self, pictures: int) -> Block:
        return Grouped(self._it, [group.make_block(pictures) for group in self.groups], pictures)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        return all(group.is_exact(own, needs_dx) for group, own in zip(self.groups, dw, strict=True))

    def _each(self, weight: Array) -> list[Array]:
        return numpy.split(weight, self._it.groups, axis=3)


class Block(Protocol):
    """A few pictures, computed one step after the other by one thread.

    Attributes:
        dw: (groups, depth, filters of a group), to which ``add_dw`` adds.
        rows: (any, filters), with zeros or nothing beside the rows of dz that was taken last.
    """

    dw: Array
    rows: Array

    def forward(self, x: Array) -> Array:
        """Take pictures; z, as (pictures, rows, columns times filters)."""

    def take(self, x: Array, dz: Array) -> None:
        """Take pictures and the gradient of z."""

    def add_dw(self) -> None:
        """Add the gradient of the filters to ``dw``."""

    def backward(self, dx: Array) -> None:
        """Write the gradient of the pictures."""


class Shifted:
    """See the head of this file."""

    def __init__(self, it: Convolution, pictures: int, blas: Blas, filters: OfAllChannels) -> None:
        (height, width), (kh, kw), (rows, columns) = it.windows.padded, it.windows.size, it.windows.grid
        c, o, pixels = it.channels, it.filters, pictures * height * width
        span = (kh - 1) * width + kw - 1  # from the first to the last pixel of a window
        at_corner = slice(0, rows), slice(0, columns)
        self._x = numpy.zeros((pictures, height, width, c), it.dtype)
        self._inside = self._x[:, *it.windows.inside]
        # For each row of a window and each pixel that a run may begin with: how many runs, and the first of them.
        runs = [
            (a, first, (pixels - span - first + kw - 1) // kw, (a * width + first) * c)
            for a in range(kh)
            for first in range(min(kw, pixels - span))
        ]
        self.rows = numpy.empty((0, o), it.dtype)
        self.dw = numpy.empty((1, it.depth, o), it.dtype)
        if not it.backward:
            z = numpy.empty((pictures, height, width, o), it.dtype)
            self._z = z.reshape(pictures, height, width * o)[:, :rows, : columns * o]
            self._forward = [
                blas.strided_gemm(
                    (number, o, kw * c), (self._x, start, kw * c), False, (filters.matrix, a * kw * c * o, o),
                    0.0 if a == 0 else 1.0, (z, first * o, kw * o),
                )
                for a, first, number, start in runs
            ]  # fmt: skip
            return
        # Zeros before dz for the windows that would have begun above the first picture.
        framed = numpy.zeros((span + pixels, o), it.dtype)
        self.rows = framed[span:]
        self._dz = self.rows.reshape(pictures, height, width, o)[:, *at_corner]
        self._dx = numpy.empty_like(self._x)
        self._dx_inside = self._dx[:, *it.windows.inside]
        self._dw = [
            blas.strided_gemm(
                (kw * c, o, number), (self._x, start, kw * c), True, (framed, (span + first) * o, kw * o),
                1.0, (self.dw, a * kw * c * o, o),
            )
            for a, first, number, start in runs
        ]  # fmt: skip
        above, left = it.windows.padding
        begin = above * width + left  # from the first pixel of the first picture to the last of the last one
        end = pixels - begin
        self._backward = [
            blas.strided_gemm(
                ((end - first + kw - 1) // kw, c, kw * o), (framed, (a * width + first) * o, kw * o), False,
                (filters.turned, a * kw * o * c, c), 0.0 if a == 0 else 1.0, (self._dx, first * c, kw * c),
            )
            for a in range(kh)
            for first in range(begin, min(begin + kw, end))
        ]  # fmt: skip

    def forward(self, x: Array) -> Array:
        numpy.copyto(self._inside, x)
        for call in self._forward:
            call()
        return self._z

    def take(self, x: Array, dz: Array) -> None:
        numpy.copyto(self._inside, x)
        numpy.copyto(self._dz, dz)

    def add_dw(self) -> None:
        for call in self._dw:
            call()

    def backward(self, dx: Array) -> None:
        for call in self._backward:
            call()
        numpy.copyto(dx, self._dx_inside)


class Patched:
    """See the head of this file. Patches are (windows, positions and channels), or the other way around where a window
    sees only a few numbers side by side: then the copy of a position is that of a row of the picture."""

    def __init__(self, it: Convolution, pictures: int, filters: OfAllChannels) -> None:
        (rows, columns), (kh, kw), (down, right) = it.windows.grid, it.windows.size, it.windows.stride
        self._filters = filters
        c, number = it.channels, pictures * rows * columns
        self._x = numpy.zeros((pictures, *it.windows.padded, c), it.dtype)
        self._inside = self._x[:, *it.windows.inside]
        by_picture, by_row, by_column, by_channel = self._x.strides
        step = (by_picture, by_row * down, by_column * right)
        is_short = kw * c < SHORT_RUN
        if is_short:
            extents, strides = (kh, kw, c, pictures, rows, columns), (by_row, by_column, by_channel, *step)
            patches = numpy.empty((it.depth, number), it.dtype)
            self._matrix = patches.T
        else:
            extents, strides = (pictures, rows, columns, kh, kw, c), (*step, by_row, by_column, by_channel)
            self._matrix = patches = numpy.empty((number, it.depth), it.dtype)
        self._patches = patches.reshape(extents)
        self._seen = as_strided(self._x, extents, strides)
        self._z = numpy.empty((pictures, rows, columns * it.filters), it.dtype)
        self.rows = self._z.reshape(number, it.filters)
        self.dw = numpy.empty((1, it.depth, it.filters), it.dtype)
        if not it.backward:
            return
        self._product = numpy.empty((it.depth, it.filters), it.dtype)
        dx = numpy.empty_like(self._x)
        self._dx, self._dx_inside = dx, dx[:, *it.windows.inside]
        by_window = numpy.moveaxis(self._patches, (3, 4, 5), (0, 1, 2)) if is_short else self._patches
        self._scattered = [
            (dx[:, down_by, right_by], by_window[:, :, :, a, b]) for a, b, down_by, right_by in it.windows.positions()
        ]

    def forward(self, x: Array) -> Array:
        numpy.copyto(self._inside, x)
        numpy.copyto(self._patches, self._seen)
        numpy.dot(self._matrix, self._filters.matrix, out=self.rows)
        return self._z

    def take(self, x: Array, dz: Array) -> None:
        numpy.copyto(self._inside, x)
        numpy.copyto(self.rows.reshape(dz.shape), dz)

    def add_dw(self) -> None:
        numpy.copyto(self._patches, self._seen)
        numpy.dot(self._matrix.T, self.rows, out=self._product)
        numpy.add(self.dw[0], self._product, out=self.dw[0])

    def backward(self, dx: Array) -> None:
        self._dx.fill(0)
        filters = self._filters.matrix
        if self._matrix.flags.c_contiguous:
            numpy.dot(self.rows, filters.T, out=self._matrix)
        else:
            numpy.dot(filters, self.rows.T, out=self._matrix.T)
        for pixels, patches in self._scattered:
            numpy.add(pixels, patches, out=pixels)
        numpy.copyto(dx, self._dx_inside)


class Grouped:
    """Groups of channels and of filters, each a block of its own."""

    def __init__(self, it: Convolution, blocks: list[Block], pictures: int) -> None:
        c, o = it.channels // it.groups, it.filters // it.groups
        self._groups = [(block, slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g, block in enumerate(blocks)]
        self._by_pixel = numpy.empty((pictures, *it.windows.grid, it.filters), it.dtype)
        self._z = self._by_pixel.reshape(pictures, it.windows.grid[0], -1)
        self.rows = self._by_pixel.reshape(-1, it.filters)
        self.dw = numpy.empty((it.groups, it.depth, o), it.dtype)

    def forward(self, x: Array) -> Array:
        for block, channels, filters in self._groups:
            to = self._by_pixel[..., filters]
            numpy.copyto(to, block.forward(x[..., channels]).reshape(to.shape))
        return self._z

    def take(self, x: Array, dz: Array) -> None:
        numpy.copyto(self._by_pixel, dz)
        for block, channels, filters in self._groups:
            block.take(x[..., channels], dz[..., filters])

    def add_dw(self) -> None:
        for (block, _, _), dw in zip(self._groups, self.dw, strict=True):
            block.dw.fill(0)
            block.add_dw()
            numpy.add(dw, block.dw[0], out=dw)

    def backward(self, dx: Array) -> None:
        for block, channels, _ in self._groups:
            block.backward(dx[..., channels])

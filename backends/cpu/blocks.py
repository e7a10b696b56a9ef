"""Convolution of a few pictures at a time, in memory that stays in the cache of a core.

Two ways, both by products of the BLAS:

``Shifted`` writes no patches. Where windows move by one pixel, the rows of x that window (r, s) sees at (a, b) lie, for
all windows of a block, at a fixed distance from the rows of the result: pixel p of the pictures, counted row by row,
has the result z[p] = sum_{a, b} x[p + a width + b] W[a, b]. That is a product of matrices for each (a, b), without a
copy; and since the kw pixels side by side are one run of numbers, those of all b are one product, for each kw-th pixel:
kw products of depth kw c for each a. The results of windows that would reach into the next row or picture are computed
and left. The gradients are products of the same kind: that of x is the convolution of dz, with zeros where there is no
window, with the filters turned around.

``Patched`` is for everything else: a copy of what each window sees, then one product for each group of channels.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple, Protocol

import numpy
from numpy.lib.stride_tricks import as_strided

from ..pictures import Windows
from ..typing import Array
from .blas import Blas

#: Fewer numbers than this side by side in a window, and patches are written position by position.
SHORT_RUN = 16
#: ``Shifted`` has at least so many numbers side by side, and computes at most so many windows for each that there is:
#: in the forward pass, and in the backward pass, where patches cost three times as much.
LEAST_RUN = 8
MOST_WASTE = 1.5, 3.0


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
    def is_shifted(self) -> bool:
        """Whether ``Shifted`` is the way, where there is a BLAS."""
        padded, grid = prod(self.windows.padded), prod(self.windows.grid)
        moves_by_one = self.windows.stride == (1, 1) and self.groups == 1
        has_runs = self.windows.size[1] * self.channels >= LEAST_RUN
        return moves_by_one and has_runs and padded <= MOST_WASTE[self.backward] * grid

    @property
    def bytes_of_picture(self) -> int:
        """How much memory one picture takes in a block."""
        pixels = prod(self.windows.padded)
        numbers = pixels * (self.channels + self.filters)
        if not self.is_shifted:
            numbers = pixels * self.channels + prod(self.windows.grid) * (self.depth + self.filters)
        return numbers * numpy.dtype(self.dtype).itemsize


class Filters:
    """The filters of a call, as its blocks take them.

    Attributes:
        matrices: (groups, depth, filters of a group), times the factor.
        turned: (kh, kw filters, channels): turned around, for ``Shifted``; made by ``turn``.
    """

    def __init__(self, it: Convolution) -> None:
        kh, kw = it.windows.size
        self._it = it
        self.matrices = numpy.empty((it.groups, it.depth, it.filters // it.groups), it.dtype)
        self.turned = numpy.empty((kh, kw * it.filters, it.channels) if it.is_shifted else 0, it.dtype)

    def set(self, weight: Array, alpha: float) -> None:
        """Take these filters, times ``alpha``."""
        it = self._it
        parts = self.matrices.reshape(it.groups, *it.shape[:3], it.filters // it.groups)
        given = numpy.moveaxis(weight.reshape(*it.shape[:3], it.groups, -1), 3, 0)
        numpy.multiply(given, alpha, out=parts) if alpha != 1.0 else numpy.copyto(parts, given)

    def turn(self, weight: Array) -> None:
        """Take these filters, turned around."""
        it = self._it
        if not it.is_shifted:
            return
        kh, kw, c, o = it.shape
        numpy.copyto(self.turned.reshape(kh, kw, o, c), weight[::-1, ::-1].transpose(0, 1, 3, 2))


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

    def __init__(self, it: Convolution, pictures: int, blas: Blas, filters: Filters) -> None:
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
                    (number, o, kw * c), (self._x, start, kw * c), False, (filters.matrices, a * kw * c * o, o),
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

    def __init__(self, it: Convolution, pictures: int, filters: Filters) -> None:
        (rows, columns), (kh, kw), (down, right) = it.windows.grid, it.windows.size, it.windows.stride
        self._it, self._filters = it, filters
        c, o, number = it.channels // it.groups, it.filters // it.groups, pictures * rows * columns
        self._x = numpy.zeros((pictures, *it.windows.padded, it.channels), it.dtype)
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
        self._seen = [as_strided(self._x[..., g * c :], extents, strides) for g in range(it.groups)]
        self._z = numpy.empty((pictures, rows, columns * it.filters), it.dtype)
        self._of_group = self._z.reshape(number, it.filters) if it.groups == 1 else numpy.empty((number, o), it.dtype)
        self.rows = self._z.reshape(number, it.filters)
        self._columns = [slice(g * o, (g + 1) * o) for g in range(it.groups)]
        self.dw = numpy.empty((it.groups, it.depth, o), it.dtype)
        if not it.backward:
            return
        self._product = numpy.empty((it.depth, o), it.dtype)
        dx = numpy.empty_like(self._x)
        self._dx, self._dx_inside = dx, dx[:, *it.windows.inside]
        by_window = numpy.moveaxis(self._patches, (3, 4, 5), (0, 1, 2)) if is_short else self._patches
        self._scattered = [
            [
                (dx[:, down_by, right_by, g * c : (g + 1) * c], by_window[:, :, :, a, b])
                for a, b, down_by, right_by in it.windows.positions()
            ]
            for g in range(it.groups)
        ]

    def forward(self, x: Array) -> Array:
        numpy.copyto(self._inside, x)
        for g, columns in enumerate(self._columns):
            numpy.copyto(self._patches, self._seen[g])
            numpy.dot(self._matrix, self._filters.matrices[g], out=self._of_group)
            if len(self._columns) > 1:
                numpy.copyto(self.rows[:, columns], self._of_group)
        return self._z

    def take(self, x: Array, dz: Array) -> None:
        numpy.copyto(self._inside, x)
        numpy.copyto(self.rows.reshape(dz.shape), dz)

    def add_dw(self) -> None:
        for g in range(len(self._columns)):
            numpy.copyto(self._patches, self._seen[g])
            numpy.dot(self._matrix.T, self._dz_of(g), out=self._product)
            numpy.add(self.dw[g], self._product, out=self.dw[g])

    def backward(self, dx: Array) -> None:
        self._dx.fill(0)
        for g, places in enumerate(self._scattered):
            dz, filters = self._dz_of(g), self._filters.matrices[g]
            if self._matrix.flags.c_contiguous:
                numpy.dot(dz, filters.T, out=self._matrix)
            else:
                numpy.dot(filters, dz.T, out=self._matrix.T)
            for pixels, patches in places:
                numpy.add(pixels, patches, out=pixels)
        numpy.copyto(dx, self._dx_inside)

    def _dz_of(self, group: int) -> Array:
        if len(self._columns) == 1:
            return self.rows
        numpy.copyto(self._of_group, self.rows[:, self._columns[group]])
        return self._of_group


def make_block(it: Convolution, pictures: int, blas: Blas | None, filters: Filters) -> Block:
    """The faster of the two ways that can be gone."""
    return (
        Shifted(it, pictures, blas, filters) if it.is_shifted and blas is not None else Patched(it, pictures, filters)
    )

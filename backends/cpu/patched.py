"""Convolution by a copy of what each window sees, and one product."""

from __future__ import annotations

from math import prod

import numpy
from numpy.lib.stride_tricks import as_strided

from ..typing import Array
from .blocks import Convolution

#: Fewer numbers than this side by side in a window, and patches are written position by position.
SHORT_RUN = 16


class PatchedFilters:
    """The filters of one group.

    Attributes:
        matrix: (depth, filters), times the factor.
    """

    cost = 1

    def __init__(self, it: Convolution) -> None:
        self._it = it
        self.matrix = numpy.empty((it.depth, it.filters), it.dtype)

    @property
    def bytes_of_picture(self) -> int:
        it = self._it
        numbers = prod(it.windows.padded) * it.channels + prod(it.windows.grid) * (it.depth + it.filters)
        return numbers * numpy.dtype(it.dtype).itemsize

    def set(self, weight: Array, alpha: float) -> None:
        numpy.multiply(weight, alpha, out=self.matrix.reshape(weight.shape))

    def turn(self, weight: Array) -> None:
        """They are taken as they are."""

    def make_block(self, pictures: int) -> Patched:
        return Patched(self._it, pictures, self)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        return True


class Patched:
    """A block. Patches are (windows, positions and channels), or the other way around where a window
    sees only a few numbers side by side: then the copy of a position is that of a row of the picture."""

    def __init__(self, it: Convolution, pictures: int, filters: PatchedFilters) -> None:
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

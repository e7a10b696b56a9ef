"""Convolution whose filters see one channel each, or very few, number by number.

A product of matrices would have one column, or few. Instead, with a row of windows as one run of numbers, the result is

    z[r, :] = sum_{a, b} x[r + a, b:] W[a, b],

for each position (a, b) in a window a product of two runs, added to the run of z while that is in the first cache; the
filters are laid out as often beside each other as there are windows in a row. ``numpy.einsum`` does it without a
temporary. The gradients are sums of the same kind: that of the filters over all rows of windows, and that of x over dz
with zeros around it, with the filters turned around. For the former the rows of all pictures are counted through, also
those that no window begins in, where dz is 0: with one axis for them ``einsum`` takes half as long as with two.

Where windows move by more than one pixel, pictures are first taken apart into ``phases``. A channel with several
filters is repeated, and the first channels of all groups, the second ones and so on are pictures of their own.
"""

from __future__ import annotations

from itertools import product
from math import isfinite, prod

import numpy
from numpy.lib.stride_tricks import as_strided

from ..pictures import Windows
from ..typing import Array
from .phases import Phase, extent_of_phases, phases_of


class DepthwiseFilters:
    """The filters of a call, as its blocks take them.

    Args:
        windows: over the pictures.
        shape: how many groups there are, and the channels and filters of each.
        dtype: of all numbers.
        backward: whether gradients are computed.

    Attributes:
        all: how many filters there are.
        phases: of the pictures that windows see.
        extent: rows and columns of a phase.
        rows: for each phase, (channels of a group, taps, taps, columns of windows times filters), times the factor.
        turned: for each phase, (channels of a group, taps, taps, its columns times filters), turned around; made by
            ``turn``.
    """

    cost = 8

    def __init__(self, windows: Windows, shape: tuple[int, int, int], dtype: str, backward: bool) -> None:
        self.windows, self.shape, self.dtype, self.backward = windows, shape, dtype, backward
        groups, channels, filters = shape
        self.all = groups * filters
        self.phases = phases_of(windows)
        _, width = self.extent = extent_of_phases(windows)
        columns, wide = windows.grid[1] * self.all, width * self.all if backward else 0
        self.rows = [numpy.empty((channels, *phase.taps, columns), dtype) for phase in self.phases]
        self.turned = [numpy.empty((channels, *phase.taps, wide), dtype) for phase in self.phases]

    @property
    def bytes_of_picture(self) -> int:
        """How much memory one picture takes in a block, at a time."""
        # Of x, dz and dx two are used at a time.
        each = len(self.phases) * prod(self.extent) * self.shape[1]
        numbers = 2 * each if self.backward else each + prod(self.windows.grid)
        return numbers * self.all * numpy.dtype(self.dtype).itemsize

    def set(self, weight: Array, alpha: float) -> None:
        """Take these filters, times ``alpha``."""
        for phase, rows in zip(self.phases, self.rows, strict=True):
            numpy.multiply(self._of(phase, weight), alpha, out=self._by_column(rows))

    def turn(self, weight: Array) -> None:
        """Take these filters, turned around."""
        for phase, turned in zip(self.phases, self.turned, strict=True):
            numpy.copyto(self._by_column(turned), self._of(phase, weight)[:, ::-1, ::-1])

    def make_block(self, pictures: int) -> Depthwise:
        """A block of so many pictures."""
        return Depthwise(self, pictures)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        """Whether no product with a 0 where there is no window can have come to anything."""
        return isfinite(dw.sum()) and (not needs_dx or all(isfinite(turned.sum()) for turned in self.turned))

    def _of(self, phase: Phase, weight: Array) -> Array:
        """Those that see a phase: (channels of a group, taps, taps, 1, filters)."""
        return numpy.moveaxis(weight[*phase.of_window], 2, 0)[:, :, :, None]

    def _by_column(self, rows: Array) -> Array:
        return rows.reshape(*rows.shape[:3], -1, self.all)


class Depthwise:
    """A ``backends.cpu.blocks.Block``."""

    def __init__(self, filters: DepthwiseFilters, pictures: int) -> None:
        windows, dtype, phases, f = filters.windows, filters.dtype, filters.phases, filters.all
        (kh, kw), (rows, columns), (height, width) = windows.size, windows.grid, filters.extent
        groups, channels, of_group = filters.shape
        self._filters = filters
        above, left = (max(phase.taps[side] for phase in phases) - 1 for side in (0, 1)) if filters.backward else (0, 0)
        self._x = numpy.zeros((len(phases), channels, pictures, above + height, width * f), dtype)
        by_channel = len(phases), channels, pictures, above + height, width, groups, of_group
        self._inside = [x[:, :, *phase.there] for x, phase in zip(self._x.reshape(by_channel), phases, strict=True)]
        self._seen = [_sliding(x, phase.taps, (rows, columns), f) for x, phase in zip(self._x, phases, strict=True)]
        self.rows = numpy.empty((0, f), dtype)
        self.dw = numpy.empty((groups, kh * kw * channels, of_group), dtype)
        if not filters.backward:
            self._z = numpy.empty((pictures, rows, columns * f), dtype)
            self._part = numpy.empty_like(self._z)
            return
        framed = numpy.zeros((1, pictures, above + height, left + width, f), dtype)
        self.rows = framed.reshape(-1, f)
        self._given = framed[0, :, above : above + rows, left : left + columns]
        in_rows: Array = framed.reshape(1, pictures, above + height, -1)
        # All rows, from the first one of a window to the last.
        of_all = pictures * (above + height)
        count = of_all - above - height + rows
        self._dz = in_rows.reshape(of_all, -1)[above:, left * f : (left + columns) * f][:count]
        in_one = self._x.reshape(len(phases), channels, 1, of_all, -1)
        self._rows_of_x = [
            _sliding(x, phase.taps, (count, columns), f)[:, :, :, 0] for x, phase in zip(in_one, phases, strict=True)
        ]
        self._around: list[Array] = []
        for down, across in (phase.taps for phase in phases):
            # Position (a, b) of a window that began a rows above, b columns before.
            begin = in_rows[:, :, above + 1 - down :, (left + 1 - across) * f :]
            self._around.append(_sliding(begin, (down, across), (height, width), f)[0])
        self._dx = numpy.empty((len(phases), channels, pictures, height, width * f), dtype)
        of_dx = *self._dx.shape[:-1], width, groups, of_group
        self._dx_inside = [dx[:, :, *phase.there] for dx, phase in zip(self._dx.reshape(of_dx), phases, strict=True)]
        self._sums = [numpy.empty_like(of_phase) for of_phase in filters.rows]
        # (channels, rows, columns, groups, filters), those positions in a window that see the phase
        by_position = self.dw.reshape(groups, kh, kw, channels, of_group).transpose(3, 1, 2, 0, 4)
        self._dw = [by_position[:, *phase.of_window] for phase in phases]

    def forward(self, x: Array) -> Array:
        self._read(x)
        for number, (seen, rows) in enumerate(zip(self._seen, self._filters.rows, strict=True)):
            numpy.einsum("iabmrk,iabk->mrk", seen, rows, out=self._part if number else self._z)
            if number:
                numpy.add(self._z, self._part, out=self._z)
        return self._z

    def take(self, x: Array, dz: Array) -> None:
        self._read(x)
        numpy.copyto(self._given, dz)

    def add_dw(self) -> None:
        for seen, sums, dw in zip(self._rows_of_x, self._sums, self._dw, strict=True):
            for channel, row in product(*map(range, sums.shape[:2])):
                numpy.einsum("bqk,qk->bk", seen[channel, row], self._dz, out=sums[channel, row])
            numpy.add(dw, sums.reshape(*dw.shape[:3], -1, *dw.shape[3:]).sum(axis=3), out=dw)

    def backward(self, dx: Array) -> None:
        filters, channels = self._filters, self._filters.shape[1]
        if len(filters.phases) < prod(filters.windows.stride):  # pixels that no window sees
            dx.fill(0)
        for phase, around, turned, of_phase, inside in zip(
            filters.phases, self._around, filters.turned, self._dx, self._dx_inside, strict=True
        ):
            for channel in range(channels):
                numpy.einsum("abmrk,abk->mrk", around, turned[channel], out=of_phase[channel])
                to, parts = dx[:, *phase.pixels, channel::channels], inside[channel]
                numpy.copyto(to, parts[..., 0]) if parts.shape[-1] == 1 else numpy.add.reduce(parts, -1, None, to)

    def _read(self, x: Array) -> None:
        channels = self._filters.shape[1]
        for phase, inside in zip(self._filters.phases, self._inside, strict=True):
            for channel, to in enumerate(inside):
                numpy.copyto(to, x[:, *phase.pixels, channel::channels, None])


def _sliding(x: Array, taps: tuple[int, int], grid: tuple[int, int], filters: int) -> Array:
    """What windows that move by one see at each position: (channels, taps, taps, pictures, rows, columns times
    filters), of pictures (channels, pictures, rows, columns times filters)."""
    by_channel, by_picture, by_row, by_number = x.strides
    shape = (x.shape[0], *taps, x.shape[1], grid[0], grid[1] * filters)
    return as_strided(x, shape, (by_channel, by_row, filters * by_number, by_picture, by_row, by_number))

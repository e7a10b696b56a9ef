"""Convolution of a few pictures at a time, in memory that stays in the cache of a core.

Two ways, both by products of the BLAS, for filters that see all channels:

``Shifted`` writes no patches. Where windows move by one pixel, the rows of x that window (r, s) sees at (a, b) lie, for
all windows of a block, at a fixed distance from the rows of the result: pixel p of the pictures, counted row by row,
has the result z[p] = sum_{a, b} x[p + a width + b] W[a, b]. That is a product of matrices for each (a, b), without a
copy; and since the kw pixels side by side are one run of numbers, those of all b are one product, for each kw-th pixel:
kw products of depth kw c for each a. The results of windows that would reach into the next row or picture are computed
and left. The gradients are products of the same kind: that of x is the convolution of dz, with zeros where there is no
window, with the filters turned around. Where windows move by more, all this is done in each of the ``phases``.

``Patched`` is for everything else: a copy of what each window sees, then one product.

Groups of channels are convolutions of their own (``Grouped``), each in one of these ways; those of one channel, or of
few, are computed without products of matrices (``depthwise``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite, prod
from typing import Any, NamedTuple, Protocol

import numpy
from numpy.lib.stride_tricks import as_strided

from ..pictures import Windows
from ..typing import Array
from .blas import Blas
from .depthwise import DepthwiseFilters
from .phases import Phase, extent_of_phases, phases_of

#: Fewer numbers than this side by side in a window, and patches are written position by position.
SHORT_RUN = 16
#: ``Shifted`` has at least so many numbers side by side, in the forward pass of fewer filters twice as many.
LEAST_RUN, LEAST_FILTERS = 8, 8
#: It computes at most so many windows for each that there is: in the forward pass, and in the backward pass, where
#: patches cost three times as much.
MOST_WASTE = 1.5, 3.0
#: Up to so many channels in a group, where ``Shifted`` is not possible, are computed without products of matrices.
FEW_CHANNELS = 2


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
        if not self.backward and self.windows.stride != (1, 1):  # patches are as fast
            return False
        least = min(phase.taps[1] for phase in phases_of(self.windows)) * self.channels
        pixels, grid = prod(extent_of_phases(self.windows)), prod(self.windows.grid)
        least_run = LEAST_RUN if self.backward or self.filters >= LEAST_FILTERS else 2 * LEAST_RUN
        return least >= least_run and pixels <= MOST_WASTE[self.backward] * grid


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
        phases: of the pictures, for ``Shifted``; none for ``Patched``.
        matrix: (depth, filters), times the factor; for ``Shifted`` the positions that see the first phase, then those
            of the next one.
        turned: for each phase, (rows, columns times filters, channels): turned around; made by ``turn``.
    """

    cost = 1

    def __init__(self, it: Convolution, blas: Blas | None) -> None:
        self._it, self._blas = it, blas if it.is_shifted else None
        self.phases = [] if self._blas is None else phases_of(it.windows)
        self.matrix = numpy.empty((it.depth, it.filters), it.dtype)
        self._of_phases = [part.reshape(*phase.taps, *it.shape[2:]) for phase, part in self.by_phase(self.matrix)]
        taps = [phase.taps for phase in self.phases if it.backward]
        self.turned = [numpy.empty((down, across * it.filters, it.channels), it.dtype) for down, across in taps]

    def by_phase(self, x: Array) -> Iterator[tuple[Phase, Array]]:
        """The parts of an array in the order of ``matrix``."""
        end = 0
        for phase in self.phases:
            begin, end = end, end + prod(phase.taps) * self._it.channels
            yield phase, x[begin:end]

    @property
    def bytes_of_picture(self) -> int:
        it, pixels = self._it, prod(extent_of_phases(self._it.windows))
        numbers = pixels * (len(self.phases) * it.channels + it.filters)
        if not self.phases:
            numbers = prod(it.windows.padded) * it.channels + prod(it.windows.grid) * (it.depth + it.filters)
        return numbers * numpy.dtype(it.dtype).itemsize

    def set(self, weight: Array, alpha: float) -> None:
        if not self.phases:
            numpy.multiply(weight, alpha, out=self.matrix.reshape(weight.shape))
        for phase, part in zip(self.phases, self._of_phases, strict=True):
            numpy.multiply(weight[*phase.of_window], alpha, out=part)

    def turn(self, weight: Array) -> None:
        for phase, turned in zip(self.phases, self.turned, strict=True):
            own = weight[*phase.of_window][::-1, ::-1].transpose(0, 1, 3, 2)
            numpy.copyto(turned.reshape(own.shape), own)

    def make_block(self, pictures: int) -> Block:
        if self._blas is None:
            return Patched(self._it, pictures, self)
        return Shifted(self._it, pictures, self._blas, self)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        if not self.phases:
            return True
        return isfinite(dw.sum()) and (not needs_dx or all(isfinite(turned.sum()) for turned in self.turned))


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
        (height, width), (rows, columns) = extent_of_phases(it.windows), it.windows.grid
        c, o, pixels = it.channels, it.filters, pictures * height * width
        self._filters = filters
        self._x = numpy.zeros((len(filters.phases), pictures, height, width, c), it.dtype)
        self._inside = [x[:, *phase.there] for x, phase in zip(self._x, filters.phases, strict=True)]
        # From the first to the last pixel of a window.
        spans = [(phase.taps[0] - 1) * width + phase.taps[1] - 1 for phase in filters.phases]
        longest = max(spans)
        # For each row of a window in a phase and each pixel that a run may begin with: which pixel, how many pixels are
        # in a run and how many runs there are, the first of them in x, and the first row of their filters.
        runs: list[tuple[int, int, int, int, int]] = []
        depth = 0
        for number, phase in enumerate(filters.phases):
            down, across = phase.taps
            for a in range(down):
                for first in range(min(across, pixels - longest)):
                    count = (pixels - longest - first + across - 1) // across
                    runs.append((first, across, count, (number * pixels + a * width + first) * c, depth))
                depth += across * c
        self.rows = numpy.empty((0, o), it.dtype)
        self.dw = numpy.empty((1, it.depth, o), it.dtype)
        if not it.backward:
            z = numpy.empty((pictures, height, width, o), it.dtype)
            self._z = z.reshape(pictures, height, width * o)[:, :rows, : columns * o]
            self._forward = [
                blas.strided_gemm(
                    (count, o, across * c), (self._x, start, across * c), False, (filters.matrix, at * o, o),
                    0.0 if at == 0 else 1.0, (z, first * o, across * o),
                )
                for first, across, count, start, at in runs
            ]  # fmt: skip
            return
        # Zeros before dz for the windows that would have begun above the first picture.
        framed = numpy.zeros((longest + pixels, o), it.dtype)
        self.rows = framed[longest:]
        self._dz = self.rows.reshape(pictures, height, width, o)[:, :rows, :columns]
        self._leaves_out = len(filters.phases) < prod(it.windows.stride)  # pixels that no window sees
        self._dx = numpy.empty_like(self._x)
        self._dx_inside = [x[:, *phase.there] for x, phase in zip(self._dx, filters.phases, strict=True)]
        # As the filters are; and the parts of it with what each of them is in the gradient.
        in_phases = self.dw if len(filters.phases) == 1 else numpy.empty_like(self.dw)
        by_position = self.dw.reshape(it.shape)
        self._parts = [
            (by_position[*phase.of_window], part.reshape(*phase.taps, c, o))
            for phase, part in filters.by_phase(in_phases[0])
            if in_phases is not self.dw
        ]
        self._in_phases = in_phases
        self._dw = [
            blas.strided_gemm(
                (across * c, o, count), (self._x, start, across * c), True, (framed, (longest + first) * o, across * o),
                1.0, (in_phases, at * o, o),
            )
            for first, across, count, start, at in runs
        ]  # fmt: skip
        self._backward: list[Callable[[], Any]] = []
        for number, (phase, span, turned) in enumerate(zip(filters.phases, spans, filters.turned, strict=True)):
            (down, across), (of_rows, of_columns) = phase.taps, phase.there
            if 0 in self._inside[number].shape:
                continue
            begin = of_rows.start * width + of_columns.start  # from the first pixel of the first picture
            end = pixels - (height - of_rows.stop) * width - (width - of_columns.stop)  # to behind the last one
            for a in range(down):
                for first in range(begin, min(begin + across, end)):
                    self._backward.append(
                        blas.strided_gemm(
                            ((end - first + across - 1) // across, c, across * o),
                            (framed, (longest - span + a * width + first) * o, across * o), False,
                            (turned, a * across * o * c, c), 0.0 if a == 0 else 1.0,
                            (self._dx, (number * pixels + first) * c, across * c),
                        )
                    )  # fmt: skip

    def forward(self, x: Array) -> Array:
        self._read(x)
        for call in self._forward:
            call()
        return self._z

    def take(self, x: Array, dz: Array) -> None:
        self._read(x)
        numpy.copyto(self._dz, dz)

    def add_dw(self) -> None:
        if self._parts:
            self._in_phases.fill(0)
        for call in self._dw:
            call()
        for to, part in self._parts:
            numpy.add(to, part, out=to)

    def backward(self, dx: Array) -> None:
        for call in self._backward:
            call()
        if self._leaves_out:
            dx.fill(0)
        for phase, inside in zip(self._filters.phases, self._dx_inside, strict=True):
            numpy.copyto(dx[:, *phase.pixels], inside)

    def _read(self, x: Array) -> None:
        for phase, inside in zip(self._filters.phases, self._inside, strict=True):
            numpy.copyto(inside, x[:, *phase.pixels])


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

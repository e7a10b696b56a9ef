"""Convolution by products of the BLAS without patches.

Where windows move by one pixel, the rows of x that window (r, s) sees at (a, b) lie, for all windows of a block, at a
fixed distance from the rows of the result: pixel p of the pictures, counted row by row, has the result z[p] =
sum_{a, b} x[p + a width + b] W[a, b]. That is a product of matrices for each (a, b), without a copy; and since the kw
pixels side by side are one run of numbers, those of all b are one product, for each kw-th pixel: kw products of depth
kw c for each a. The results of windows that would reach into the next row or picture are computed and left. The
gradients are products of the same kind: that of x is the convolution of dz, with zeros where there is no window, with
the filters turned around. Where windows move by more, all this is done in each of the ``phases``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite, prod
from typing import Any

import numpy

from ..typing import Array
from .blas import Blas
from .blocks import Convolution
from .phases import Phase, extent_of_phases, phases_of


class ShiftedFilters:
    """The filters of one group.

    Attributes:
        phases: of the pictures.
        matrix: (depth, filters), times the factor: the positions that see the first phase, then those of the next one.
        turned: for each phase, (rows, columns times filters, channels): turned around; made by ``turn``.
    """

    cost = 1

    def __init__(self, it: Convolution, blas: Blas) -> None:
        self._it, self._blas = it, blas
        self.phases = phases_of(it.windows)
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
        return pixels * (len(self.phases) * it.channels + it.filters) * numpy.dtype(it.dtype).itemsize

    def set(self, weight: Array, alpha: float) -> None:
        for phase, part in zip(self.phases, self._of_phases, strict=True):
            numpy.multiply(weight[*phase.of_window], alpha, out=part)

    def turn(self, weight: Array) -> None:
        for phase, turned in zip(self.phases, self.turned, strict=True):
            own = weight[*phase.of_window][::-1, ::-1].transpose(0, 1, 3, 2)
            numpy.copyto(turned.reshape(own.shape), own)

    def make_block(self, pictures: int) -> Shifted:
        return Shifted(self._it, pictures, self._blas, self)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        return isfinite(dw.sum()) and (not needs_dx or all(isfinite(turned.sum()) for turned in self.turned))


class Shifted:
    """A block: see the head of this file."""

    def __init__(self, it: Convolution, pictures: int, blas: Blas, filters: ShiftedFilters) -> None:
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

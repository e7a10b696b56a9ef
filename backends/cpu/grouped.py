"""Convolution of several groups of channels: each is one of its own."""

from __future__ import annotations

from math import prod

import numpy

from ..typing import Array
from .blocks import Block, Convolution, Filters


class GroupedFilters:
    """The filters of several groups, of several channels each.

    Attributes:
        groups: the filters of each.
    """

    cost = 2

    def __init__(self, it: Convolution, groups: list[Filters]) -> None:
        self._it, self.groups = it, groups

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

    def make_block(self, pictures: int) -> Grouped:
        return Grouped(self._it, [group.make_block(pictures) for group in self.groups], pictures)

    def is_exact(self, dw: Array, needs_dx: bool) -> bool:
        return all(group.is_exact(own, needs_dx) for group, own in zip(self.groups, dw, strict=True))

    def _each(self, weight: Array) -> list[Array]:
        return numpy.split(weight, self._it.groups, axis=3)


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

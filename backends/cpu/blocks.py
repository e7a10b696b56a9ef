"""Convolution of a few pictures at a time, in memory that stays in the cache of a core: what every way of it has.

By products of the BLAS, for filters that see all channels: without patches (``shifted``), or with them (``patched``).
Groups of channels are convolutions of their own (``grouped``), each in one of these ways; those of one channel, or of
few, are computed without products of matrices (``depthwise``). ``filters`` chooses.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple, Protocol

from ..pictures import Windows
from ..typing import Array


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

"""Pictures taken apart, so that windows which move by several pixels move by one: every ``stride``-th row and column,
from each of the first ones on, is a phase. A window sees some of its positions in each."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from ..pictures import Windows


class _Side(NamedTuple):
    """A phase along one side of a picture.

    Attributes:
        taps: how many of a window's positions see it.
        pixels: its pixels, of those of a picture.
        there: where these lie in it; the others are padding.
    """

    taps: int
    pixels: slice
    there: slice

    @classmethod
    def of(cls, windows: Windows, side: int, phase: int) -> _Side:
        """Every ``stride``-th pixel from pixel ``phase`` of the padded picture on."""
        picture, size, stride, padding = (pair[side] for pair in windows)
        first = (phase - padding) % stride
        begin, count = (first + padding - phase) // stride, len(range(first, picture, stride))
        return cls(len(range(phase, size, stride)), slice(first, picture, stride), slice(begin, begin + count))


class Phase:
    """A phase of pictures that windows slide over.

    Attributes:
        taps: how many positions of a window see it: rows and columns.
        of_window: which ones, as an index.
        pixels: which pixels of a picture it has, as an index.
        there: where they lie in it.
    """

    def __init__(self, windows: Windows, at: tuple[int, int]) -> None:
        down, across = (_Side.of(windows, side, first) for side, first in enumerate(at))
        self.taps = down.taps, across.taps
        self.of_window = slice(at[0], None, windows.stride[0]), slice(at[1], None, windows.stride[1])
        self.pixels = down.pixels, across.pixels
        self.there = down.there, across.there


def phases_of(windows: Windows) -> list[Phase]:
    """The phases that windows see."""
    phases = (Phase(windows, (p, q)) for p, q in product(*map(range, windows.stride)))
    return [phase for phase in phases if 0 not in phase.taps]


def extent_of_phases(windows: Windows) -> tuple[int, int]:
    """Rows and columns of the largest phase, the padding included."""
    height, width = (-(-pixels // stride) for pixels, stride in zip(windows.padded, windows.stride, strict=True))
    return height, width

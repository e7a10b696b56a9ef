"""Where rows lie in memory so that a file can be read there without a copy.

Past its cache the system reads whole sectors, to addresses that are as many bytes from the beginning of a sector as the
bytes of the file are. Rows seldom begin with a sector. But where the place of a row within a sector is the same in
memory as in the file, all sectors but those at the ends of what is read can go straight to where they belong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np

from backends.typing import Array, Shape

from .reading import row_bytes
from .source import SECTOR, Source, first_byte


def rows_in_step(rows: Source) -> int:
    """After so many rows one begins at the same place of a sector again."""
    return SECTOR // gcd(SECTOR, row_bytes(rows))


@dataclass(frozen=True)
class Placement:
    """Where rows of a file lie in an array.

    Attributes:
        first_byte: where in the file row 0 begins, or as many whole sectors from there.
        period: after so many rows one begins at the same place of a sector again.
    """

    first_byte: int
    period: int

    @classmethod
    def of(cls, rows: Source, block: int) -> Placement | None:
        """That of rows that are read in blocks of ``block``; None where blocks would lie in no common way."""
        first, period = first_byte(rows), rows_in_step(rows)
        return None if first is None or block % period else cls(first, period)

    def skipped(self, row: int, position: int) -> int:
        """How many positions are left free from ``position`` on, so that this row comes to lie as in the file."""
        return (row - position) % self.period

    def empty(self, empty: Callable[[Shape], Array], shape: Shape) -> Array:
        """An array of that shape, made by ``empty``, of NumPy, whose row 0 lies as in the file."""
        flat = empty((prod(shape) + SECTOR,))
        begin = (self.first_byte - address(flat)) % SECTOR // flat.itemsize
        return flat[begin : begin + prod(shape)].reshape(shape)


def is_numpy(array: Array) -> bool:
    """Whether rows can be read straight into such arrays."""
    return isinstance(array, np.ndarray)


def address(array: np.ndarray) -> int:
    """Of the first byte."""
    found: dict[str, Any] = array.__array_interface__
    return int(found["data"][0])

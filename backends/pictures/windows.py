"""Windows that slide over pictures: where they lie, and views of what they see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..arguments import shown
from ..typing import Array

Pair = tuple[int, int]


class Windows(NamedTuple):
    """Windows over pictures of one shape.

    Window (r, c) has its upper left corner at row ``r stride[0] - padding[0]`` and column ``c stride[1] - padding[1]``
    of the picture. Around the picture there are ``padding`` rows and columns of a value that the operation names.

    Attributes:
        picture: height and width of a picture.
        size: height and width of a window.
        stride: from one window to the next.
        padding: rows above and below, and columns left and right.
    """

    picture: Pair
    size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @classmethod
    def over(cls, picture: Pair, size: Pair, stride: Pair, padding: Pair) -> Windows:
        """Windows over pictures of height and width ``picture``.

        Raises:
            ValueError: not one fits, or a number is out of range.
        """
        if min(*size, *stride) < 1 or min(padding) < 0:
            raise ValueError(
                f"windows need a size and a stride of at least 1 and a padding of at least 0, not {shown(size)}, "
                f"{shown(stride)} and {shown(padding)}"
            )
        made = cls(picture, size, stride, padding)
        if min(made.grid) < 1:
            padded = f" with a padding of {shown(padding)}" if any(padding) else ""
            raise ValueError(f"windows of {size[0]} x {size[1]} do not fit pictures of {shown(picture)}{padded}")
        return made

    @property
    def padded(self) -> Pair:
        """Height and width of a picture with its padding."""
        (h, w), (above, left) = self.picture, self.padding
        return h + 2 * above, w + 2 * left

    @property
    def grid(self) -> Pair:
        """How many windows there are below and beside each other: height and width of the result."""
        (h, w), (kh, kw), (down, right) = self.padded, self.size, self.stride
        return (h - kh) // down + 1, (w - kw) // right + 1

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where the picture lies in the padded one."""
        (h, w), (above, left) = self.picture, self.padding
        return slice(above, above + h), slice(left, left + w)

    def positions(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Each position of a window, row by row, and the rows and columns of the padded picture that the windows have
        there."""
        (rows, columns), (down, right) = self.grid, self.stride
        for a in range(self.size[0]):
            for b in range(self.size[1]):
                yield a, b, slice(a, a + down * (rows - 1) + 1, down), slice(b, b + right * (columns - 1) + 1, right)

    def counts(self) -> list[list[int]]:
        """How many positions of each window are on the picture and not on its padding."""
        extents = []
        for side in (0, 1):
            picture, size, stride, padding = (pair[side] for pair in self)
            begins = [window * stride - padding for window in range(self.grid[side])]
            extents.append([max(min(begin + size, picture) - max(begin, 0), 0) for begin in begins])
        return [[height * width for width in extents[1]] for height in extents[0]]

    def views(self, padded: Array) -> list[Array]:
        """What the windows see at each of their positions, of padded pictures (m, height, width, channels): views
        (m, rows, columns, channels)."""
        return [padded[:, rows, columns, :] for _, _, rows, columns in self.positions()]

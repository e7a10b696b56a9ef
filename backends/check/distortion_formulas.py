"""Random distortions of pictures as formulas, in numbers that carry an error bound; what is drawn has none.

A picture between its pixels is continuous: so a pixel is off by the error of its position times the slope there, and a
position that is off across a whole number makes no jump.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import random
from ..pictures.distortion import (
    ANGLE,
    CUT_COLUMN,
    CUT_ROW,
    FLIP_X,
    FLIP_Y,
    N_DRAWS,
    SCALE_X,
    SCALE_Y,
    SHEAR,
    SHIFT_X,
    SHIFT_Y,
)
from ..pictures.windows import Pair
from ..typing import Array
from .bounds import Bounded
from .core import FormulaCore, Given, Results


class DistortionFormulas(FormulaCore):
    """The formulas of distortions."""

    def random_rows(self, rows: Array, width: int, *, key: tuple[int, int], epoch: Any) -> Results:
        number = int(np.ravel(epoch)[0])
        words = [random.row_words(row, key, number) for row in rows.tolist()]
        bits = [[random.row_bits(index, word, key) >> 8 for index in range(width)] for word in words]
        steps = np.array(bits, np.float64).reshape(len(rows), width)
        return ((steps / 2**23 - 1).astype(self.real.dtype),)

    def affine_maps(
        self,
        draws: Array,
        shape: Pair,
        *,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        flip_horizontal: bool = False,
        flip_vertical: bool = False,
    ) -> Results:
        d, number = self.real.exact(draws), self.real.number
        turn, slant = d[:, ANGLE] * number(rotation), d[:, SHEAR] * number(shear)
        cos, sin = turn.cos(), turn.sin()
        tangent = slant.sin() / slant.cos()
        over_x, over_y = number(1.0) + d[:, SCALE_X] * number(scale), number(1.0) + d[:, SCALE_Y] * number(scale)
        if flip_horizontal:
            over_x = (-over_x).where(draws[:, FLIP_X] < 0, over_x)
        if flip_vertical:
            over_y = (-over_y).where(draws[:, FLIP_Y] < 0, over_y)
        xx, xy = (cos + tangent * sin) / over_x, (sin - tangent * cos) / over_x
        yx, yy = -sin / over_y, cos / over_y
        centre_x, centre_y = (number((extent - 1) / 2) for extent in shape[::-1])
        to_x, to_y = d[:, SHIFT_X] * number(shift) + centre_x, d[:, SHIFT_Y] * number(shift) + centre_y
        at_x, at_y = centre_x - (xx * to_x + xy * to_y), centre_y - (yx * to_x + yy * to_y)
        cut = [self._whole(draws[:, column], n) for column, n in zip((CUT_ROW, CUT_COLUMN), shape, strict=True)]
        return (_stacked([xx, xy, at_x, yx, yy, at_y, *cut]),)

    def elastic_fields(self, draws: Array, down: Array, across: Array, *, radius: int | None = None) -> Results:
        """Two products, one after the other; elements that are 0 may be left out."""
        m, h, w = len(draws), len(down), len(across)
        noise = self.real.exact(draws[:, N_DRAWS : N_DRAWS + 2 * h * w].reshape(m * 2 * h, w))
        smooth = noise.matmul(self.real.exact(across.T))
        columns = _moved(smooth, (m * 2, h, w), (1, 0, 2))
        product = self.real.exact(down).matmul(_moved(columns, (h, m * 2 * w), (0, 1)))
        return (_moved(_moved(product, (h, m, 2, w), (1, 2, 0, 3)), (m, 2, h, w), (0, 1, 2, 3)),)

    def warp(
        self, x: Given, maps: Given, fields: Given | None = None, *, fill: float = 0.0, cutout: int = 0
    ) -> Results:
        pictures, given = self.given(x), self.given(maps)
        (_, h, w, _), around = pictures.value.shape, self.real.number(fill)
        rows, columns = self.real.exact(np.arange(h)[:, None]), self.real.exact(np.arange(w))
        positions = []
        for axis, end in ((0, w), (1, h)):
            xs, ys, at = (given[:, 3 * axis + k, None, None] for k in range(3))
            along = xs * columns + (ys * rows + at)
            if fields is not None:
                along = along + self.given(fields)[:, axis]
            positions.append(_clipped(along, end))
        y = _interpolated(pictures, positions[0], positions[1], around)
        if cutout > 0:
            top, left = (given.value[:, column, None, None] - cutout // 2 for column in (6, 7))
            down, right = rows.value - top, columns.value - left
            is_cut = (down >= 0) & (down < cutout) & (right >= 0) & (right < cutout)
            y = around.where(is_cut[..., None], y)
        return (y,)

    def _whole(self, draws: Array, count: int) -> Bounded:
        """Exactly: 2^24 equal steps times the count, divided by 2^24 and rounded down."""
        steps = [int((draw + 1) * 2**23) * count >> 24 for draw in draws.astype(np.float64).tolist()]
        return self.real.exact(np.array(steps, np.float64))


def _stacked(columns: list[Bounded]) -> Bounded:
    value, error = (np.stack([getattr(x, name) for x in columns], axis=1) for name in ("value", "error"))
    return Bounded(columns[0].arithmetic, value, error, lambda: np.stack([x.size for x in columns], axis=1))


def _moved(x: Bounded, shape: tuple[int, ...], axes: tuple[int, ...]) -> Bounded:
    """The same numbers in that shape, its axes then in that order."""

    def moved(a: Array) -> Array:
        return a.reshape(shape).transpose(axes)

    return Bounded(x.arithmetic, moved(x.value), moved(x.error), lambda: moved(x.size))


def _clipped(along: Bounded, end: int) -> Bounded:
    """Positions in [-1, end]: -1 where they are NaN."""
    value = np.clip(np.where(np.isnan(along.value), -1, along.value), -1, end)
    error = np.where(np.isfinite(along.value), along.error, 0)
    return Bounded(along.arithmetic, value, error)


def _interpolated(pictures: Bounded, x: Bounded, y: Bounded, around: Bounded) -> Bounded:
    """Pictures (m, h, w, c) at positions (m, h, w), with what lies around them."""
    m, rule, side = len(pictures.value), pictures.arithmetic, ((0, 0), (3, 3), (3, 3), (0, 0))
    value = np.pad(pictures.value, side, constant_values=around.value)
    error = np.pad(pictures.error, side, constant_values=float(np.max(around.error)))
    left, top = (np.floor(position.value).astype(int) for position in (x, y))
    picture = np.arange(m)[:, None, None]

    def pixel(down: int, right: int) -> Bounded:
        at = picture, top + 3 + down, left + 3 + right
        return Bounded(rule, value[at], error[at])

    def share(position: Bounded, whole: Array) -> Bounded:
        """How far it is to the next pixel: one rounding, of a number of at most 1."""
        part = (position.value - whole)[..., None]
        return Bounded(rule, part, np.where((part == 0) | (part == 1), 0, rule.roundoff * np.ones_like(part)))

    to_right, to_below = share(x, left), share(y, top)
    above = pixel(0, 0) + to_right * (pixel(0, 1) - pixel(0, 0))
    below = pixel(1, 0) + to_right * (pixel(1, 1) - pixel(1, 0))
    result = above + to_below * (below - above)
    off_x, off_y = x.error[..., None], y.error[..., None]
    error_of_position = np.zeros_like(result.value)
    if np.any(off_x) or np.any(off_y):
        # By less than 1, a position stays in this square of pixels or those about it.
        over = [value[picture, top + 3 + a, left + 3 + b] for a in range(-1, 3) for b in range(-1, 3)]
        grid = np.stack(over).reshape(4, 4, *result.value.shape)
        slope_x = np.max(np.abs(grid[:, 1:] - grid[:, :-1]), axis=(0, 1))
        slope_y = np.max(np.abs(grid[1:] - grid[:-1]), axis=(0, 1))
        spread = np.max(value, axis=(1, 2)) - np.min(value, axis=(1, 2)) if m else np.zeros((0, value.shape[3]))
        is_near = (off_x < 1) & (off_y < 1)
        with np.errstate(invalid="ignore"):
            near = off_x * slope_x + off_y * slope_y
        error_of_position = np.where(is_near, near, spread[:, None, None, :])
    size = np.max(np.abs(value), initial=0)
    return Bounded(rule, result.value, result.error + error_of_position, lambda: np.full(result.value.shape, size))

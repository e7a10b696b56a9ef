"""Random distortions of pictures in NumPy: in place, a few pictures at a time, so that they stay in cache."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy

from .. import random
from ..pictures.distortion import (
    ANGLE,
    CUT_COLUMN,
    CUT_ROW,
    FLIP_X,
    FLIP_Y,
    N_DRAWS,
    N_MAP,
    SCALE_X,
    SCALE_Y,
    SHEAR,
    SHIFT_X,
    SHIFT_Y,
)
from ..pictures.windows import Pair
from ..typing import Array
from .core import NumpyCore

#: Numbers of an array that are in hand at a time.
BLOCK = 1 << 14
#: The largest whole number up to which float32 has all of them: positions are computed in floats.
MOST_PIXELS = 1 << 24


class NumpyDistortions(NumpyCore):
    """Draws for rows, maps and fields of displacements, and pictures seen through them: one noted call each."""

    def random_rows(
        self,
        rows: Array,
        width: int,
        *,
        key: tuple[int, int],
        epoch: int | Array,
        out: Array | None = None,
    ) -> Array:
        out = self.empty((len(rows), width)) if out is None else out
        self._call(self._random_rows, rows, width, key, epoch, out)
        return out

    def _random_rows(self, rows: Array, width: int, key: tuple[int, int], epoch: int | Array, out: Array) -> None:
        number = epoch if isinstance(epoch, int) else int(epoch.item())
        words = self._scratch("words", rows.shape, "u4")
        numpy.copyto(words, rows, casting="unsafe")  # the lower 32 bits
        numpy.add(words, numpy.uint32(key[1]), out=words)
        self._hash32_in_place(words)
        numpy.bitwise_xor(words, numpy.uint32(random.hash32((number + key[0]) & random.UINT32)), out=words)
        self._hash32_in_place(words)
        self._draw(words, self._element_hash(width, key), out)

    def _draw(self, words: Array, index: Array, out: Array) -> None:
        """The numbers of rows that have these words, by the hashes of their indices."""
        for part in _parts(len(words), len(index)):
            bits = self._scratch("bits", (part.stop - part.start, len(index)), "u4")
            numpy.bitwise_xor(words[part, None], index, out=bits)
            self._hash32_in_place(bits)
            numpy.right_shift(bits, 8, out=bits)
            # To float by way of int32, which takes a fraction of the time.
            numpy.copyto(out[part], bits.view("i4"))
            numpy.multiply(out[part], 2.0**-23, out=out[part])
            numpy.subtract(out[part], 1.0, out=out[part])

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
        out: Array | None = None,
    ) -> Array:
        out = self.empty((len(draws), N_MAP)) if out is None else out
        angles = rotation, shear
        self._call(self._affine_maps, draws, shape, angles, scale, shift, (flip_horizontal, flip_vertical), out)
        return out

    def _affine_maps(
        self,
        draws: Array,
        shape: Pair,
        angles: tuple[float, float],
        scale: float,
        shift: float,
        flips: tuple[bool, bool],
        out: Array,
    ) -> None:
        drawn, maps, (height, width) = draws.T, out.T, shape
        cos, sin, tangent, over_x, over_y, other, to_x, to_y = self._scratch("affine", (8, len(draws)))
        is_below = self._scratch("flips", (len(draws),), numpy.bool_)
        numpy.multiply(drawn[SHEAR], angles[1], out=other)
        numpy.sin(other, out=tangent)
        numpy.divide(tangent, numpy.cos(other, out=other), out=tangent)
        numpy.multiply(drawn[ANGLE], angles[0], out=other)
        numpy.cos(other, out=cos)
        numpy.sin(other, out=sin)
        for over, of_scale, of_flip, flip in ((over_x, SCALE_X, FLIP_X, flips[0]), (over_y, SCALE_Y, FLIP_Y, flips[1])):
            numpy.multiply(drawn[of_scale], scale, out=over)
            numpy.add(over, 1.0, out=over)
            if flip:
                numpy.less(drawn[of_flip], 0.0, out=is_below)
                numpy.negative(over, out=over, where=is_below)
        xx, xy, at_x, yx, yy, at_y = maps[:6]
        numpy.divide(numpy.add(cos, numpy.multiply(tangent, sin, out=other), out=other), over_x, out=xx)
        numpy.divide(numpy.subtract(sin, numpy.multiply(tangent, cos, out=other), out=other), over_x, out=xy)
        numpy.divide(numpy.negative(sin, out=other), over_y, out=yx)
        numpy.divide(cos, over_y, out=yy)
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        for to, of_shift, centre in ((to_x, SHIFT_X, centre_x), (to_y, SHIFT_Y, centre_y)):
            numpy.multiply(drawn[of_shift], shift, out=to)
            numpy.add(to, centre, out=to)
        for first, second, at, centre in ((xx, xy, at_x, centre_x), (yx, yy, at_y, centre_y)):
            numpy.multiply(first, to_x, out=other)
            numpy.add(other, numpy.multiply(second, to_y, out=cos), out=other)
            numpy.subtract(centre, other, out=at)
        steps = self._scratch("steps", (len(draws),), "i8")
        for column, draw, count in ((6, CUT_ROW, height), (7, CUT_COLUMN, width)):
            numpy.add(drawn[draw], 1.0, out=other)
            numpy.multiply(other, 2.0**23, out=other)
            numpy.copyto(steps, other, casting="unsafe")
            numpy.multiply(steps, count, out=steps)
            numpy.right_shift(steps, 24, out=steps)
            numpy.copyto(maps[column], steps)

    def elastic_fields(
        self,
        draws: Array,
        down: Array,
        across: Array,
        *,
        radius: int | None = None,
        out: Array | None = None,
    ) -> Array:
        shape = (len(draws), 2, len(down), len(across))
        out = self.empty(shape) if out is None else out
        self._call(self._elastic_fields, draws, down, across, out)
        return out

    def _elastic_fields(self, draws: Array, down: Array, across: Array, out: Array) -> None:
        _, _, h, w = out.shape
        for part in _parts(len(draws), 2 * h * w):
            noise = draws[part, N_DRAWS : N_DRAWS + 2 * h * w].reshape(out[part].shape)
            smooth = self._scratch("smooth", noise.shape)
            numpy.matmul(noise, across.T, out=smooth)
            numpy.matmul(down, smooth, out=out[part])

    def warp(
        self,
        x: Array,
        maps: Array,
        fields: Array | None = None,
        *,
        fill: float = 0.0,
        cutout: int = 0,
        out: Array | None = None,
    ) -> Array:
        out = self._own(x, out)
        self._call(self._warp, x, maps, fields, fill, cutout, out)
        return out

    def _warp(self, x: Array, maps: Array, fields: Array | None, fill: float, cutout: int, out: Array) -> None:
        if (x.shape[1] + 3) * (x.shape[2] + 3) > MOST_PIXELS:
            super().warp(x, maps, fields, fill=fill, cutout=cutout, out=out)
            return
        self._interpolate(x, maps, fields, fill, out)
        if cutout > 0:
            _cut_out(out, maps, cutout, fill)

    def _interpolate(self, x: Array, maps: Array, fields: Array | None, fill: float, out: Array) -> None:
        """Pictures seen through maps and fields, a few at a time."""
        m, h, w, c = x.shape
        size = _rows_of_part(m, h * w)
        around = self._scratch("around", (size, h + 3, w + 3, c))
        around[...] = fill
        begins = self._constant(
            f"begins of {(h, w)} {self.dtype_name}",
            size,
            lambda: numpy.arange(size, dtype=self.dtype_name).reshape(size, 1, 1) * ((h + 3) * (w + 3)) + (w + 4),
        )
        steps = self._constant(
            f"steps {self.dtype_name}", max(h, w), partial(numpy.arange, max(h, w), dtype=self.dtype_name)
        )
        for part in _parts(m, h * w):
            n = part.stop - part.start
            around[:n, 1 : h + 1, 1 : w + 1] = x[part]
            left, to_right = self._between_in(0, maps[part], fields, part, (w, h), steps, w)
            top, to_below = self._between_in(1, maps[part], fields, part, (w, h), steps, h)
            numpy.multiply(top, w + 3, out=top)
            numpy.add(top, left, out=top)
            numpy.add(top, begins[:n], out=top)
            first = self._scratch("first", top.shape, "i8")
            numpy.copyto(first, top, casting="unsafe")
            _between(around, first, to_right, to_below, self._scratch("corners", (3, n, h, w, c)), w + 3, out[part])

    def _between_in(
        self,
        axis: int,
        maps: Array,
        fields: Array | None,
        part: slice,
        shape: Pair,
        steps: Array,
        end: int,
    ) -> tuple[Array, Array]:
        """Whole positions along x or y, and how far it is from them to where pixels come from, both (n, h, w)."""
        n, (w, h) = len(maps), shape
        of_columns, of_rows = self._scratch("of columns", (n, w)), self._scratch("of rows", (n, h))
        along, before = self._scratch(f"along {axis}", (n, h, w)), self._scratch(f"before {axis}", (n, h, w))
        of = maps[:, 3 * axis : 3 * axis + 3, None]
        numpy.multiply(of[:, 0], steps[:w], out=of_columns)
        numpy.multiply(of[:, 1], steps[:h], out=of_rows)
        numpy.add(of_rows, of[:, 2], out=of_rows)
        numpy.add(of_columns[:, None, :], of_rows[:, :, None], out=along)
        if fields is not None:
            numpy.add(along, fields[part, axis], out=along)
        numpy.fmax(along, -1.0, out=along)  # which takes -1 where there is NaN
        numpy.minimum(along, float(end), out=along)
        numpy.floor(along, out=before)
        numpy.subtract(along, before, out=along)
        return before, along


def _rows_of_part(m: int, numbers: int) -> int:
    """How many of ``m`` rows of so many numbers each fit the cache."""
    return min(max(BLOCK // max(numbers, 1), 1), m)


def _parts(m: int, numbers: int) -> Iterator[slice]:
    """``m`` rows of so many numbers each, split into parts that fit the cache."""
    size = _rows_of_part(m, numbers)
    for begin in range(0, m, max(size, 1)):
        yield slice(begin, min(begin + size, m))


def _between(
    around: Array, first: Array, to_right: Array, to_below: Array, corners: Array, line: int, out: Array
) -> None:
    """The pixels between those at ``first`` and the next ones to the right, a ``line`` further, and both.

    Args:
        around: (k, h + 3, w + 3, c), the pictures with what lies around them.
        first: (n, h, w), flat positions in it.
        to_right, to_below: (n, h, w), shares of the next pixels.
        corners: (3, n, h, w, c), memory.
        out: (n, h, w, c).
    """
    c = around.shape[3]
    pixels = around.reshape(-1) if c == 1 else around.reshape(-1, c)
    above, below, other = corners[..., 0] if c == 1 else corners
    result = out[..., 0] if c == 1 else out
    right, down = (to_right, to_below) if c == 1 else (to_right[..., None], to_below[..., None])
    for at, near in ((0, above), (line, below)):
        # mode="clip" lets NumPy write straight into `out`; positions are in the pictures, there is nothing to clip.
        pixels[at:].take(first, 0, near, "clip")
        pixels[at + 1 :].take(first, 0, other, "clip")
        numpy.subtract(other, near, out=other)
        numpy.multiply(other, right, out=other)
        numpy.add(near, other, out=near)
    numpy.subtract(below, above, out=below)
    numpy.multiply(below, down, out=below)
    numpy.add(above, below, out=result)


def _cut_out(x: Array, maps: Array, side: int, fill: float) -> None:
    """Fill a square of each picture, about the centre that its map has."""
    for i in range(len(x)):
        top, left = int(maps[i, 6]) - side // 2, int(maps[i, 7]) - side // 2
        x[i, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill

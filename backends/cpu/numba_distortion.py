"""Random distortions of pictures by loops that Numba compiles; what ``numba_kernels`` says of its loops holds for
these."""

from __future__ import annotations

import numpy as np

from ..pictures.distortion import N_MAP
from ..random import MULTIPLIER_1, MULTIPLIER_2, SHIFT_1, SHIFT_2, SHIFT_3
from ..typing import Array
from .core import are_plain
from .distortion import NumpyDistortions
from .numba_kernels import compiled


@compiled
def draw(words: Array, element_hash: Array, out: Array) -> None:
    """out <- numbers in [-1, 1), from the upper 24 bits of the hash of each row's word and each element"""
    real = out.dtype.type
    step, one = real(2.0**-23), real(1)
    for i in range(out.shape[0]):
        word = words[i]
        for j in range(out.shape[1]):
            x = np.uint32(element_hash[j] ^ word)
            x = np.uint32(x ^ (x >> np.uint32(SHIFT_1)))
            x = np.uint32(x * np.uint32(MULTIPLIER_1))
            x = np.uint32(x ^ (x >> np.uint32(SHIFT_2)))
            x = np.uint32(x * np.uint32(MULTIPLIER_2))
            x = np.uint32(x ^ (x >> np.uint32(SHIFT_3)))
            out[i, j] = real(np.int32(x >> np.uint32(8))) * step - one


@compiled
def warp(x: Array, maps: Array, fields: Array, fill: float, out: Array) -> None:
    """out <- the pictures seen through maps and, where there are any, fields"""
    real = x.dtype.type
    m, h, w, c = x.shape
    around, before, end_x, end_y = real(fill), real(-1), real(w), real(h)
    displaced = fields.shape[0] > 0
    for i in range(m):
        xx, xy, at_x, yx, yy, at_y = maps[i, 0], maps[i, 1], maps[i, 2], maps[i, 3], maps[i, 4], maps[i, 5]
        for r in range(h):
            of_row_x = xy * real(r) + at_x
            of_row_y = yy * real(r) + at_y
            for q in range(w):
                to_right = xx * real(q) + of_row_x
                to_below = yx * real(q) + of_row_y
                if displaced:
                    to_right += fields[i, 0, r, q]
                    to_below += fields[i, 1, r, q]
                if not (before < to_right < end_x and before < to_below < end_y):  # or it is NaN
                    for k in range(c):
                        out[i, r, q, k] = around
                    continue
                left, top = np.int64(np.floor(to_right)), np.int64(np.floor(to_below))
                to_right -= real(left)
                to_below -= real(top)
                if left >= 0 and top >= 0 and left < w - 1 and top < h - 1:
                    # Unsigned: Numba need not ask whether an index counts from the end.
                    a, b = np.uint64(top), np.uint64(left)
                    below_a, next_b = a + np.uint64(1), b + np.uint64(1)
                    for k in range(c):
                        above = x[i, a, b, k] + to_right * (x[i, a, next_b, k] - x[i, a, b, k])
                        below = x[i, below_a, b, k] + to_right * (x[i, below_a, next_b, k] - x[i, below_a, b, k])
                        out[i, r, q, k] = above + to_below * (below - above)
                    continue
                for k in range(c):
                    first = x[i, top, left, k] if top >= 0 and left >= 0 else around
                    second = x[i, top, left + 1, k] if top >= 0 and left < w - 1 else around
                    third = x[i, top + 1, left, k] if top < h - 1 and left >= 0 else around
                    fourth = x[i, top + 1, left + 1, k] if top < h - 1 and left < w - 1 else around
                    above = first + to_right * (second - first)
                    below = third + to_right * (fourth - third)
                    out[i, r, q, k] = above + to_below * (below - above)


class NumbaDistortions(NumpyDistortions):
    """The draws and the interpolation, each in one loop. With other arrays than a loop takes, ``NumpyDistortions`` does
    the work or says what is wrong."""

    def _draw(self, words: Array, index: Array, out: Array) -> None:
        if are_plain(out) and out.shape == (len(words), len(index)) and out.dtype == self.dtype:
            draw(words, index, out)
        else:
            super()._draw(words, index, out)

    def _interpolate(self, x: Array, maps: Array, fields: Array | None, fill: float, out: Array) -> None:
        m, h, w, _ = x.shape
        shown = self._scratch("no fields", (0, 0, 0, 0)) if fields is None else fields
        shapes = maps.shape == (m, N_MAP) and out.shape == x.shape and shown.shape in ((0, 0, 0, 0), (m, 2, h, w))
        alike = all(array.flags.c_contiguous and array.dtype == self.dtype for array in (x, maps, shown, out))
        if shapes and alike and are_plain(out):
            warp(x, maps, shown, fill, out)
        else:
            super()._interpolate(x, maps, fields, fill, out)

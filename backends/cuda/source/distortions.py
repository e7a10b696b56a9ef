"""The CUDA kernels of random distortions of pictures, as text: a module of their own, which networks without them never
compile. What ``source`` says of its kernels holds for these.

A thread has an element: a draw, the map of a picture, a displacement, a pixel.
"""

from __future__ import annotations

from ...pictures.distortion import (
    ANGLE,
    CUT_COLUMN,
    CUT_ROW,
    FLIP_X,
    FLIP_Y,
    N_MAP,
    SCALE_X,
    SCALE_Y,
    SHEAR,
    SHIFT_X,
    SHIFT_Y,
)
from .text import DIVIDE, HASH, fill, head

#: What the text has as @NAME@.
_WORDS = {
    "ANGLE": ANGLE,
    "SCALE_X": SCALE_X,
    "SCALE_Y": SCALE_Y,
    "SHEAR": SHEAR,
    "SHIFT_X": SHIFT_X,
    "SHIFT_Y": SHIFT_Y,
    "FLIP_X": FLIP_X,
    "FLIP_Y": FLIP_Y,
    "CUT_ROW": CUT_ROW,
    "CUT_COLUMN": CUT_COLUMN,
    "N_MAP": N_MAP,
}

_DISTORTION = r"""
// Numbers in [-1, 1) of each row: `width` of them, from the upper 24 bits of a hash of key, epoch, row and index.
KERNEL random_rows(
    REAL* out, const long long* rows, unsigned int key_0, unsigned int key_1, const long long* epoch_at,
    long long epoch, long long width, long long size)
{
    const Word now = hash32((Word)(epoch_at ? *epoch_at : epoch) + key_0);
    FOR_GRID(i, size) {
        const Index row = divide(i, width);
        const Word word = hash32(hash32((Word)rows[row] + key_1) ^ now);
        const Word bits = hash32(hash32((Word)(i - row * width) + key_0) ^ word);
        out[i] = (REAL)(bits >> 8) * REAL(1.0 / 8388608) - REAL(1);
    }
}

// One of `count` whole numbers, by a draw in [-1, 1) in steps of 2^-23.
__device__ REAL whole(REAL draw, long long count)
{
    return (REAL)(((Index)((draw + REAL(1)) * REAL(8388608)) * count) >> 24);
}

// The map of each of `size` pictures, from its draws, of which there are `stride` for each.
KERNEL affine_maps(
    const REAL* draws, REAL* out, REAL rotation, REAL scale, REAL shear, REAL shift, int flip_x, int flip_y,
    long long stride, long long height, long long width, long long size)
{
    FOR_GRID(i, size) {
        const REAL* d = draws + i * stride;
        REAL* map = out + i * @N_MAP@;
        const REAL turn = d[@ANGLE@] * rotation, slant = d[@SHEAR@] * shear;
        const REAL c = cos(turn), s = sin(turn), tangent = sin(slant) / cos(slant);
        REAL over_x = REAL(1) + d[@SCALE_X@] * scale, over_y = REAL(1) + d[@SCALE_Y@] * scale;
        if (flip_x && d[@FLIP_X@] < REAL(0)) over_x = -over_x;
        if (flip_y && d[@FLIP_Y@] < REAL(0)) over_y = -over_y;
        const REAL xx = (c + tangent * s) / over_x, xy = (s - tangent * c) / over_x;
        const REAL yx = -s / over_y, yy = c / over_y;
        const REAL centre_x = (REAL)(width - 1) / 2, centre_y = (REAL)(height - 1) / 2;
        const REAL to_x = d[@SHIFT_X@] * shift + centre_x, to_y = d[@SHIFT_Y@] * shift + centre_y;
        map[0] = xx;
        map[1] = xy;
        map[2] = centre_x - (xx * to_x + xy * to_y);
        map[3] = yx;
        map[4] = yy;
        map[5] = centre_y - (yx * to_x + yy * to_y);
        map[6] = whole(d[@CUT_ROW@], height);
        map[7] = whole(d[@CUT_COLUMN@], width);
    }
}

// Noise N as N across^T: `lines` lines of `w` for each picture, which begin at draw `first` of its `stride` draws.
KERNEL smooth_across(
    const REAL* draws, const REAL* across, REAL* out, long long stride, long long first, long long lines,
    long long w, long long radius, long long size)
{
    FOR_GRID(i, size) {
        const Index line = divide(i, w), j = i - line * w;
        const Index picture = divide(line, lines);
        const REAL* noise = draws + picture * stride + first + (line - picture * lines) * w;
        const Index begin = j > radius ? j - radius : 0, end = j < w - 1 - radius ? j + radius + 1 : w;
        REAL sum = 0;
        for (Index k = begin; k < end; ++k) sum += noise[k] * across[j * w + k];
        out[i] = sum;
    }
}

// Fields x of `h` lines of `w` each as down x.
KERNEL smooth_down(
    const REAL* x, const REAL* down, REAL* out, long long h, long long w, long long radius, long long size)
{
    FOR_GRID(i, size) {
        const Index line = divide(i, w), column = i - line * w;
        const Index field = divide(line, h), j = line - field * h;
        const REAL* from = x + field * h * w + column;
        const Index begin = j > radius ? j - radius : 0, end = j < h - 1 - radius ? j + radius + 1 : h;
        REAL sum = 0;
        for (Index k = begin; k < end; ++k) sum += down[j * h + k] * from[k * w];
        out[i] = sum;
    }
}

// The whole position before one that is moved into [-1, end] (NaN to -1), which becomes what is left.
__device__ Index whole_before(REAL& position, Index end)
{
    position = position > REAL(-1) ? position : REAL(-1);
    position = position < (REAL)end ? position : (REAL)end;
    const REAL before = floor(position);
    position -= before;
    return (Index)before;
}

// A pixel of a picture of h x w, or what lies around it.
__device__ REAL pixel(const REAL* x, Index row, Index column, Index h, Index w, Index channels, REAL fill)
{
    return row >= 0 && row < h && column >= 0 && column < w ? x[(row * w + column) * channels] : fill;
}

// Pictures (m, h, w, channels) seen through maps and, where there are any, fields.
KERNEL warp(
    const REAL* x, const REAL* maps, const REAL* fields, REAL* out, REAL fill, long long cutout,
    long long h, long long w, long long channels, long long size)
{
    FOR_GRID(i, size) {
        const Index place = divide(i, channels), channel = i - place * channels;
        const Index line = divide(place, w), column = place - line * w;
        const Index picture = divide(line, h), row = line - picture * h;
        const REAL* map = maps + picture * @N_MAP@;
        if (cutout > 0) {
            const Index down = row - ((Index)map[6] - cutout / 2), right = column - ((Index)map[7] - cutout / 2);
            if (down >= 0 && down < cutout && right >= 0 && right < cutout) {
                out[i] = fill;
                continue;
            }
        }
        REAL to_right = map[0] * (REAL)column + (map[1] * (REAL)row + map[2]);
        REAL to_below = map[3] * (REAL)column + (map[4] * (REAL)row + map[5]);
        if (fields) {
            const REAL* field = fields + 2 * picture * h * w + row * w + column;
            to_right += field[0];
            to_below += field[h * w];
        }
        const Index left = whole_before(to_right, w), top = whole_before(to_below, h);
        const REAL* from = x + picture * h * w * channels + channel;
        REAL above = pixel(from, top, left, h, w, channels, fill);
        above += to_right * (pixel(from, top, left + 1, h, w, channels, fill) - above);
        REAL below = pixel(from, top + 1, left, h, w, channels, fill);
        below += to_right * (pixel(from, top + 1, left + 1, h, w, channels, fill) - below);
        out[i] = above + to_below * (below - above);
    }
}
"""


def distortion_source(real: str) -> str:
    """The CUDA text with ``REAL`` as ``"float"`` or ``"double"``."""
    words = {word: str(number) for word, number in _WORDS.items()}
    return "\n".join([head(real), DIVIDE, HASH, fill(_DISTORTION, **words)])

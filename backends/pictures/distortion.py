"""Random distortions of pictures: the specification. Draws for each row, an affine map and a smooth field of
displacements from them, and the picture seen through both.

What is drawn for a row depends on (key, epoch, number of the row in the data set, index of the draw) alone: not on the
batch that the row is in, nor on the device.
"""

from __future__ import annotations

from .. import random
from ..core import Core
from ..typing import Array
from .windows import Pair

#: What the first draws of a row are for, by their index; those after them are the noise of ``elastic_fields``.
ANGLE, SCALE_X, SCALE_Y, SHEAR, SHIFT_X, SHIFT_Y, FLIP_X, FLIP_Y, CUT_ROW, CUT_COLUMN = range(10)
N_DRAWS = 10
#: Columns of ``affine_maps``.
N_MAP = 8


class DistortionOperations(Core):
    """Draws for rows, maps and fields of displacements, and pictures seen through them."""

    def random_rows(
        self,
        rows: Array,
        width: int,
        *,
        key: tuple[int, int],
        epoch: int | Array,
        out: Array | None = None,
    ) -> Array:
        """``width`` random numbers for each row: uniform in [-1, 1), in steps of 2^-23, exact in float32.

        A number depends on (key, epoch, number of the row, index) alone and is equal on every backend: see
        ``backends.random``.

        Args:
            rows: (m,) int64, the numbers of the rows in the data set.
            key: from ``random.row_key``.
            epoch: a Python int, or an int64 array of shape (1,), which a recorded step reads again at every replay.
            out: (m, width).
        """
        xp = self.xp
        index = xp.arange(width, dtype=xp.int64, device=self.device.handle)
        bits = random.row_bits(index[None, :], random.row_words(rows, key, epoch)[:, None], key)
        return self._result(xp.astype(bits >> 8, self.dtype) * 2.0**-23 - 1.0, out)

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
        """The map from positions in a distorted picture to positions in the picture itself, and the centre of a cutout.

        A picture is mirrored, stretched, sheared, turned about its centre and shifted, in this order, each by a
        parameter that is one product of a draw d in [-1, 1). With x to the right and y downwards from the centre,

        - mirrored: x to -x where the draw ``FLIP_X`` is below 0, y to -y where ``FLIP_Y`` is;
        - stretched: x to (1 + scale d) x, and y likewise with a draw of its own;
        - sheared: x to x + tan(shear d) y;
        - turned: by the angle rotation d, x towards y;
        - shifted: x to x + shift d, and y likewise.

        What is returned is the inverse of all that.

        Args:
            draws: (m, ``N_DRAWS`` or more), from ``random_rows``.
            shape: height and width of the pictures.
            rotation, shear: the largest angles, in radians.
            scale: at most this part larger or smaller; below 1.
            shift: in pixels.
            out: (m, 8).

        Returns:
            (m, 8): column 0 x + column 1 y + column 2 is the x (the column of the picture) from which the pixel (x, y)
            of the distorted picture comes, columns 3 to 5 give its y (its row) likewise; columns 6 and 7 are the row
            and the column of the centre of a cutout, whole numbers, each as likely as any other.
        """
        xp, (height, width) = self.xp, shape
        turn, slant = draws[:, ANGLE] * rotation, draws[:, SHEAR] * shear
        cos, sin = xp.cos(turn), xp.sin(turn)
        tangent = xp.sin(slant) / xp.cos(slant)
        over_x, over_y = 1.0 + draws[:, SCALE_X] * scale, 1.0 + draws[:, SCALE_Y] * scale
        ones = xp.ones_like(cos)
        if flip_horizontal:
            over_x = over_x * xp.where(draws[:, FLIP_X] < 0.0, -ones, ones)
        if flip_vertical:
            over_y = over_y * xp.where(draws[:, FLIP_Y] < 0.0, -ones, ones)
        xx, xy = (cos + tangent * sin) / over_x, (sin - tangent * cos) / over_x
        yx, yy = -sin / over_y, cos / over_y
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        to_x, to_y = draws[:, SHIFT_X] * shift + centre_x, draws[:, SHIFT_Y] * shift + centre_y
        at_x, at_y = centre_x - (xx * to_x + xy * to_y), centre_y - (yx * to_x + yy * to_y)
        cut = [self._whole(draws[:, CUT_ROW], height), self._whole(draws[:, CUT_COLUMN], width)]
        return self._result(xp.stack([xx, xy, at_x, yx, yy, at_y, *cut], axis=1), out)

    def elastic_fields(
        self,
        draws: Array,
        down: Array,
        across: Array,
        *,
        radius: int | None = None,
        out: Array | None = None,
    ) -> Array:
        """Smooth fields of displacements: down N across^T of two fields of noise N for each row.

        The noise is that of the draws from index ``N_DRAWS`` on: first the displacements along x, row by row of the
        picture, then those along y.

        Args:
            draws: (m, ``N_DRAWS`` + 2 h w or more), from ``random_rows``.
            down, across: (h, h) and (w, w); element (i, j) says how much of the noise at j comes to i.
            radius: elements of both that are further from the diagonal are 0, and may not be read; None: all count.
            out: (m, 2, h, w).
        """
        xp, (h, w) = self.xp, (down.shape[0], across.shape[0])
        noise = xp.reshape(draws[:, N_DRAWS : N_DRAWS + 2 * h * w], (draws.shape[0], 2, h, w))
        return self._result(xp.matmul(down, xp.matmul(noise, across.T)), out)

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
        """Pictures seen through maps and fields: each pixel comes from a position between the pixels of x.

        The pixel in row r and column c of picture i comes from the position (x, y) that ``maps`` gives for (c, r), plus
        (fields[i, 0, r, c], fields[i, 1, r, c]), and is interpolated between the four pixels around that, first along
        x, then along y. Around a picture everything has the value ``fill``, and so has what comes from a position that
        is NaN. At a whole position it is the pixel itself.

        Args:
            x: (m, h, w, c), finite.
            maps: (m, 8), as of ``affine_maps``.
            fields: (m, 2, h, w), as of ``elastic_fields``; None for no displacements.
            cutout: the side of the square about the centre in ``maps`` that is filled, too: from the centre minus
                cutout // 2 on, as far as it lies in the picture.
            out: in the shape of x; must not overlap it.
        """
        xp, (m, h, w, c) = self.xp, x.shape
        columns = xp.arange(w, dtype=self.dtype, device=self.device.handle)
        rows = xp.arange(h, dtype=self.dtype, device=self.device.handle)
        positions = []
        for axis, end in ((0, w), (1, h)):
            of = maps[:, 3 * axis : 3 * axis + 3]
            along = (of[:, 0:1] * columns)[:, None, :] + (of[:, 1:2] * rows + of[:, 2:3])[:, :, None]
            if fields is not None:
                along = along + fields[:, axis, :, :]
            positions.append(self._between(along, end))
        (left, to_right), (top, to_below) = positions
        # One row and column of ``fill`` before the picture, and two after it: the second is seen with a share of 0.
        around = xp.full((m, h + 3, w + 3, c), fill, dtype=x.dtype, device=self.device.handle)
        around[:, 1 : h + 1, 1 : w + 1, :] = x
        pixels = xp.reshape(around, (m * (h + 3) * (w + 3), c))
        first = xp.arange(m, dtype=xp.int64, device=self.device.handle)[:, None, None] * ((h + 3) * (w + 3))
        first = first + (top + 1) * (w + 3) + (left + 1)

        def at(step: int) -> Array:
            return xp.reshape(xp.take(pixels, xp.reshape(first + step, (-1,)), axis=0), (m, h, w, c))

        share = to_right[:, :, :, None]
        above = at(0) + share * (at(1) - at(0))
        below = at(w + 3) + share * (at(w + 4) - at(w + 3))
        y = above + to_below[:, :, :, None] * (below - above)
        if cutout > 0:
            down, right = rows - (maps[:, 6:7] - cutout // 2), columns - (maps[:, 7:8] - cutout // 2)
            is_cut = ((down >= 0) & (down < cutout))[:, :, None] & ((right >= 0) & (right < cutout))[:, None, :]
            y = xp.where(is_cut[:, :, :, None], xp.full_like(y, fill), y)
        return self._result(y, out)

    def _whole(self, draws: Array, count: int) -> Array:
        """Whole numbers from 0 to count - 1, in the float dtype: the draws, which are 2^24 equal steps, times count."""
        steps = self.xp.astype((draws + 1.0) * 2.0**23, self.xp.int64)
        return self.xp.astype((steps * count) >> 24, self.dtype)

    def _between(self, along: Array, end: int) -> tuple[Array, Array]:
        """The whole position at or before each position, int64, and how far it is from there to the next: of positions
        moved into [-1, end], where there is nothing but what lies around."""
        xp = self.xp
        along = xp.where(along > -1.0, along, xp.full_like(along, -1.0))
        along = xp.where(along < end, along, xp.full_like(along, float(end)))
        before = xp.floor(along)
        return xp.astype(before, xp.int64), along - before

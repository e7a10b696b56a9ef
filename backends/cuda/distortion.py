"""Random distortions of pictures on a CUDA GPU: five launches for a batch; what each does is said in
``backends.pictures.distortion``."""

from __future__ import annotations

import math

import numpy as np

from ..pictures.distortion import N_DRAWS, N_MAP
from ..pictures.windows import Pair
from ..typing import Array
from .core import CupyCore


class DistortionOperations(CupyCore):
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
        """Draws for rows in one launch, bit for bit those of every other backend."""
        op = "random_rows"
        rows = self._input(op, "rows", rows, dtype=np.int64)
        target = self._target(op, out, (rows.size, width))
        at = self._number(op, "epoch", epoch, np.int64)
        self._kernels.elements(op, target.size, target, rows, *key, *at, width)
        return self._deliver(target, out)

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
        """The map of each picture in one launch."""
        op = "affine_maps"
        draws = self._draws(op, draws, N_DRAWS)
        m, stride = draws.shape
        target = self._target(op, out, (m, N_MAP))
        flips = int(flip_horizontal), int(flip_vertical)
        self._kernels.elements(op, m, draws, target, rotation, scale, shear, shift, *flips, stride, *shape)
        return self._deliver(target, out)

    def elastic_fields(
        self,
        draws: Array,
        down: Array,
        across: Array,
        *,
        radius: int | None = None,
        out: Array | None = None,
    ) -> Array:
        """Both sums in a launch each, of the elements that are not 0."""
        op, (h, w) = "elastic_fields", (down.shape[0], across.shape[0])
        down, across = self._input(op, "down", down, (h, h)), self._input(op, "across", across, (w, w))
        draws = self._draws(op, draws, N_DRAWS + 2 * h * w)
        m, stride = draws.shape
        target = self._target(op, out, (m, 2, h, w))
        between = self._buffer("smooth", target.size, self.dtype)
        reach = max(h, w) if radius is None else radius
        kernels, size = self._kernels, target.size
        kernels.elements("smooth_across", size, draws, across, between, stride, N_DRAWS, 2 * h, w, reach)
        kernels.elements("smooth_down", size, between, down, target, h, w, reach)
        return self._deliver(target, out)

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
        """Every pixel in one launch."""
        op = "warp"
        x = self._input(op, "x", x)
        if x.ndim != 4:
            raise ValueError(f"{op}: x must be (m, h, w, c), not of shape {x.shape}")
        m, h, w, c = x.shape
        maps = self._input(op, "maps", maps, (m, N_MAP))
        if fields is not None:
            fields = self._input(op, "fields", fields, (m, 2, h, w))
        target = self._target(op, out, x.shape)
        self._kernels.elements(op, math.prod(x.shape), x, maps, fields, target, fill, cutout, h, w, c)
        return self._deliver(target, out)

    def _draws(self, op: str, draws: Array, least: int) -> Array:
        draws = self._input(op, "draws", draws)
        if draws.ndim != 2 or draws.shape[1] < least:
            raise ValueError(f"{op}: draws must be (m, {least} or more), not of shape {draws.shape}")
        return draws

"""The inputs that ``backends.check`` tries of random distortions of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..pictures.distortion import N_DRAWS
from ..typing import Array
from .inputs import INF, NAN, Inputs, Made

#: Of pictures: none, one pixel, a row, a column, several channels, many.
PICTURES = (
    (0, 3, 4, 1),
    (1, 1, 1, 1),
    (2, 1, 7, 2),
    (3, 6, 1, 1),
    (5, 9, 8, 3),
    (37, 5, 6, 1),
    (2, 28, 28, 1),
    (1, 40, 90, 1),
)
#: Settings of maps: angles in radians, shifts in pixels.
MAPS: tuple[dict[str, Any], ...] = (
    {},
    {"rotation": 0.26, "scale": 0.15, "shear": 0.1, "shift": 2.0},
    {"rotation": 3.1415926535, "flip_horizontal": True},
    {"scale": 0.9, "flip_vertical": True},
    {"shear": 1.5, "shift": 1000.0},
    {"rotation": 0.1, "scale": 0.5, "shear": 0.7, "shift": 0.3, "flip_horizontal": True, "flip_vertical": True},
)


def _draws(make: Inputs, m: int, width: int) -> Array:
    """Numbers as ``random_rows`` gives them, in whatever dtype; both ends, and 0, in the first row."""
    draws = make.rng.integers(-(2**23), 2**23, (m, width)) / 2**23
    if m and width > 2:
        draws[0, make.rng.permutation(width)[:3]] = -1.0, 1 - 2.0**-23, 0.0
    return make.array(draws)


def _random_rows(make: Inputs) -> Made:
    key = tuple(make.rng.integers(0, 2**32, 2).tolist())
    for rows in ([0], [], [5, 3, 59_999], [0, 1, 2**31, 2**32 - 1, 2**33 + 1], [*range(130)]):
        for width in (1, 10, 61):
            for epoch in (1, 2**31 + 7, np.array([5])):
                yield "", (np.array(rows, np.int64), width), {"key": key, "epoch": epoch}
    for key in ((0, 0), (2**32 - 1, 2**32 - 1)):
        yield "", (np.arange(9), 4), {"key": key, "epoch": 2**40}


def _affine_maps(make: Inputs) -> Made:
    for settings in MAPS:
        for m, shape in ((0, (3, 3)), (1, (1, 1)), (50, (28, 28)), (131, (7, 1000))):
            yield "", (_draws(make, m, N_DRAWS), shape), dict(settings)
        yield "with noise", (_draws(make, 7, N_DRAWS + 33), (5, 8)), dict(settings)
    ends = make.array([np.full(N_DRAWS, -1.0), np.full(N_DRAWS, 1 - 2.0**-23), np.zeros(N_DRAWS)])
    for settings in MAPS:
        yield "ends", (ends, (11, 4)), dict(settings)


def _banded(make: Inputs, n: int, radius: int) -> Array:
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= radius
    return make.array(make.rng.normal(size=(n, n)) * near)


def _elastic_fields(make: Inputs) -> Made:
    for m, h, w in ((0, 2, 3), (1, 1, 1), (3, 1, 6), (2, 5, 1), (5, 7, 9), (41, 6, 4), (2, 28, 28), (1, 61, 40)):
        for radius in (0, 2, 100):
            draws = _draws(make, m, N_DRAWS + 2 * h * w)
            yield "", (draws, _banded(make, h, radius), _banded(make, w, radius)), {"radius": radius}
        yield "more draws", (_draws(make, m, N_DRAWS + 2 * h * w + 5), make.normal(h, h), make.normal(w, w)), {}


def _maps(make: Inputs, m: int, h: int, w: int) -> Iterator[tuple[str, Array]]:
    cut = np.stack([make.rng.integers(0, h, m), make.rng.integers(0, w, m)], axis=1)

    def with_cut(maps: Any) -> Array:
        return make.array(np.concatenate([np.broadcast_to(maps, (m, 6)), cut], axis=1))

    yield "identity", with_cut([1, 0, 0, 0, 1, 0])
    yield "whole pixels", with_cut([1, 0, 2, 0, 1, -1])
    yield "a quarter turn", with_cut([0, 1, 0, -1, 0, h - 1])
    yield "half pixels", with_cut([1, 0, 0.5, 0, 1, -0.5])
    yield "far away", with_cut([1, 0, 1e6, 0, 1, -1e6])
    yield "random", with_cut(make.rng.normal(size=(m, 6)))
    near = np.array([1, 0, 0, 0, 1, 0]) + 0.2 * make.rng.normal(size=(m, 6)) * [1, 1, h, 1, 1, w]
    yield "near the identity", with_cut(near)


def _warp(make: Inputs) -> Made:
    for m, h, w, c in PICTURES:
        for number, (name, maps) in enumerate(_maps(make, m, h, w)):
            x = make.uniform(m, h, w, c) if number % 2 else make.normal(m, h, w, c)
            yield name, (x, maps), {"fill": 0.5 * number}
            yield name, (x, maps), {"cutout": (1, 2, 5)[number % 3], "fill": 0.1}
            yield f"{name}, displaced", (x, maps, make.array(2 * make.rng.normal(size=(m, 2, h, w)))), {}
    x, fields = make.wide_range(3, 6, 5, 2), make.normal(3, 2, 6, 5)
    for name, maps in _maps(make, 3, 6, 5):
        yield f"{name}, wide range", (x, maps, fields), {"fill": -3.0, "cutout": 3}
        for bad in (NAN, INF, -INF, 1e30):
            spoilt = fields.copy()
            spoilt[:, :, ::2, 1::3] = bad
            yield f"{name}, displaced by {bad}", (x, maps, spoilt), {"fill": 7.0}


DISTORTION_MAKERS: dict[str, Callable[[Inputs], Made]] = {
    "random_rows": _random_rows,
    "affine_maps": _affine_maps,
    "elastic_fields": _elastic_fields,
    "warp": _warp,
}

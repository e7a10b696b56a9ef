"""Draws for rows, affine maps, elastic fields and pictures seen through them, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from backends import Backend, get_backend, random
from backends.pictures.distortion import (
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
from nn.data.augment import gaussian
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED, made

KEY = random.row_key(0, "augment")
RNG = np.random.default_rng(0)
ROWS = np.array([0, 1, 5, 59_999, 2**31, 2**33 + 7])
ON_CPU = [("cpu", True), ("cpu", False), ("numba", True)]


@pytest.fixture(params=WITH_EMULATED)
def which(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


def drawn(**values: float) -> Any:
    """The draws of one row, 0 but for these."""
    names = {"angle": ANGLE, "scale_x": SCALE_X, "scale_y": SCALE_Y, "shear": SHEAR, "shift_x": SHIFT_X}
    names |= {"shift_y": SHIFT_Y, "flip_x": FLIP_X, "flip_y": FLIP_Y, "cut_row": CUT_ROW, "cut_column": CUT_COLUMN}
    draws = np.zeros((1, N_DRAWS))
    for name, value in values.items():
        draws[0, names[name]] = value
    return draws


def seen(backend: Backend, x: Any, draws: Any, fill: float = 0.0, cutout: int = 0, **options: Any) -> Any:
    """Pictures as the maps of those draws show them."""
    with backend.use():
        maps = backend.affine_maps(backend.asarray(draws), x.shape[1:3], **options)
        return backend.to_numpy(backend.warp(backend.asarray(x), maps, fill=fill, cutout=cutout))


# ---- draws -----------------------------------------------------------------------------------------------------------


def test_keys_words_and_bits_are_pinned() -> None:
    """A change of these numbers changes what every seed means."""
    assert random.row_key(0, "augment") == KEY == (1880764849, 771000525)
    words = [random.row_words(row, KEY, epoch) for row in (0, 1) for epoch in (1, 2)]
    assert words == [3165771430, 2751050895, 1657591593, 810932429]
    assert [random.row_bits(index, words[0], KEY) for index in range(4)] == [
        2231236651,
        2317376767,
        983551077,
        2060272879,
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_are_equal_bit_for_bit_on_every_backend(which: tuple[str, bool], dtype: str) -> None:
    backend = made(which, dtype)
    bits = [[random.row_bits(i, random.row_words(row, KEY, 3), KEY) for i in range(37)] for row in ROWS.tolist()]
    expected = np.array([[(word >> 8) / 2**23 - 1 for word in of_row] for of_row in bits])
    with backend.use():
        rows = backend.asarray(ROWS)
        for epoch in (3, backend.asarray(np.array([3]))):
            found = backend.to_numpy(backend.random_rows(rows, 37, key=KEY, epoch=epoch))
            assert str(found.dtype) == dtype
            np.testing.assert_array_equal(found, expected)


@given(st.integers(0, 2**31), st.integers(0, 2**40), st.integers(1, 40), st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_a_row_has_its_draws_in_any_batch(seed: int, row: int, width: int, epoch: int) -> None:
    backend, key = get_backend("cpu"), random.row_key(seed, "augment")
    alone = backend.random_rows(np.array([row]), width, key=key, epoch=epoch)
    others = np.array([row + 1, row, row + 2])
    np.testing.assert_array_equal(backend.random_rows(others, width + 3, key=key, epoch=epoch)[1:2, :width], alone)
    reference = get_backend("cpu", fused=False)
    np.testing.assert_array_equal(reference.random_rows(np.array([row]), width, key=key, epoch=epoch), alone)


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    backend = get_backend("cpu", "float64")
    epochs = [backend.random_rows(np.arange(2000), 50, key=KEY, epoch=epoch) for epoch in (1, 2)]
    other_key = backend.random_rows(np.arange(2000), 50, key=random.row_key(1, "augment"), epoch=1)
    x = epochs[0]
    assert -1.0 <= x.min() < -0.9999
    assert 0.9999 < x.max() < 1.0
    counts, _ = np.histogram(x, 64, (-1.0, 1.0))
    expected = x.size / 64
    assert np.sum((counts - expected) ** 2 / expected) < 63 + 5 * math.sqrt(2 * 63)  # chi squared
    for other in (epochs[1], other_key, np.roll(x, 1, axis=0), np.roll(x, 1, axis=1)):
        assert abs(np.mean(x * other) * 3) < 5 / math.sqrt(x.size)
    assert abs(np.corrcoef(x.T) - np.eye(50)).max() < 5 / math.sqrt(2000)
    assert len(np.unique(x[:, 0])) > 1990  # 2,000 of 2^24 numbers


# ---- maps ------------------------------------------------------------------------------------------------------------


def test_without_settings_pictures_are_seen_as_they_are(which: tuple[str, bool]) -> None:
    for dtype, shape in (("float32", (3, 5, 7, 1)), ("float64", (2, 28, 28, 3)), ("float32", (1, 1, 1, 2))):
        backend, x = made(which, dtype), RNG.normal(size=shape).astype(dtype)
        draws = RNG.uniform(-1, 1, (len(x), N_DRAWS)).astype(dtype)
        np.testing.assert_array_equal(seen(backend, x, draws, fill=7.0), x)


def test_a_shift_by_whole_pixels_moves_pixels(backend: Backend) -> None:
    x = RNG.normal(size=(1, 6, 9, 2))
    for right, down in ((2, 0), (-3, 1), (0, -2), (1, 4)):
        found = seen(backend, x, drawn(shift_x=right / 4, shift_y=down / 4), shift=4.0, fill=5.0)
        expected = np.full_like(x, 5.0)
        rows, columns = (slice(max(n, 0), extent + min(n, 0)) for n, extent in ((down, 6), (right, 9)))
        from_rows, from_columns = (slice(max(-n, 0), extent - max(n, 0)) for n, extent in ((down, 6), (right, 9)))
        expected[:, rows, columns] = x[:, from_rows, from_columns]
        np.testing.assert_array_equal(found, expected)


def test_a_shift_by_half_a_pixel_is_the_mean_of_two(backend: Backend) -> None:
    x = RNG.normal(size=(1, 1, 4, 1))
    a, b, c, d = x.ravel()
    found = seen(backend, x, drawn(shift_x=0.5), shift=1.0, fill=2.0).ravel()
    np.testing.assert_allclose(found, [(2 + a) / 2, (a + b) / 2, (b + c) / 2, (c + d) / 2], rtol=0, atol=1e-15)


@pytest.mark.parametrize("side", [5, 6])
def test_a_quarter_turn_is_that_of_numpy(backend: Backend, side: int) -> None:
    x = RNG.normal(size=(1, side, side, 2))
    for turns in (1, -1):
        found = seen(backend, x, drawn(angle=turns / 2), rotation=math.pi)
        np.testing.assert_allclose(found, np.rot90(x, -turns, (1, 2)), atol=1e-13)


def test_flips_mirror_about_the_middle(backend: Backend) -> None:
    x = RNG.normal(size=(1, 5, 6, 2))
    both = {"flip_horizontal": True, "flip_vertical": True}
    np.testing.assert_array_equal(seen(backend, x, drawn(flip_x=-0.1, flip_y=0.5), **both), x[:, :, ::-1])
    np.testing.assert_array_equal(seen(backend, x, drawn(flip_x=0.0, flip_y=-1.0), **both), x[:, ::-1])
    np.testing.assert_array_equal(seen(backend, x, drawn(flip_x=-1.0, flip_y=-0.1), **both), x[:, ::-1, ::-1])
    np.testing.assert_array_equal(seen(backend, x, drawn(flip_x=-1.0, flip_y=-1.0)), x)  # nobody asked for it


def map_of(draws: Any, shape: tuple[int, int], rotation: float, scale: float, shear: float, shift: float) -> Any:
    """The inverse of the four matrices, one after the other; (2, 3)."""
    d, (h, w) = draws, shape
    mirrored = np.diag([-1.0 if d[FLIP_X] < 0 else 1.0, -1.0 if d[FLIP_Y] < 0 else 1.0, 1.0])
    stretched = np.diag([1 + scale * d[SCALE_X], 1 + scale * d[SCALE_Y], 1.0])
    sheared = np.array([[1.0, math.tan(shear * d[SHEAR]), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    c, s = math.cos(rotation * d[ANGLE]), math.sin(rotation * d[ANGLE])
    turned = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    centre = np.array([[1.0, 0.0, (w - 1) / 2], [0.0, 1.0, (h - 1) / 2], [0.0, 0.0, 1.0]])
    shifted = np.array([[1.0, 0.0, shift * d[SHIFT_X]], [0.0, 1.0, shift * d[SHIFT_Y]], [0.0, 0.0, 1.0]])
    forward = shifted @ centre @ turned @ sheared @ stretched @ mirrored @ np.linalg.inv(centre)
    return np.linalg.inv(forward)[:2]


def test_a_map_is_the_inverse_of_its_parts(backend: Backend) -> None:
    draws = RNG.uniform(-1, 1, (20, N_DRAWS))
    options: dict[str, Any] = {"rotation": 0.8, "scale": 0.4, "shear": 0.5, "shift": 3.0}
    with backend.use():
        flips = {"flip_horizontal": True, "flip_vertical": True}
        maps = backend.to_numpy(backend.affine_maps(backend.asarray(draws), (9, 14), **options, **flips))
    expected = np.array([map_of(d, (9, 14), **options).ravel() for d in draws])
    np.testing.assert_allclose(maps[:, :6], expected, rtol=1e-12, atol=1e-12)


def test_the_centre_of_a_cutout_is_any_pixel_each_as_likely(backend: Backend) -> None:
    ends = np.array([-1.0, 1 - 2.0**-23, 0.0, -0.5])
    draws = np.zeros((4, N_DRAWS))
    draws[:, CUT_ROW] = draws[:, CUT_COLUMN] = ends
    with backend.use():
        maps = backend.to_numpy(backend.affine_maps(backend.asarray(draws), (28, 7)))
        np.testing.assert_array_equal(maps[:, 6:], [[0, 0], [27, 6], [14, 3], [7, 1]])
        rows = backend.asarray(np.arange(3000))
        maps = backend.affine_maps(backend.random_rows(rows, N_DRAWS, key=KEY, epoch=1), (5, 3))
        rows_and_columns = backend.to_numpy(maps)[:, 6:]
    for column, count in ((0, 5), (1, 3)):
        found = np.bincount(rows_and_columns[:, column].astype(int), minlength=count)
        assert len(found) == count
        assert abs(found - 3000 / count).max() < 5 * math.sqrt(3000 / count)


# ---- elastic fields, and what is seen through them -------------------------------------------------------------------


def test_the_weights_of_smoothing_are_those_of_scipy() -> None:
    for count, sigma in ((28, 4.0), (5, 0.3), (40, 1.7)):
        matrix, radius = gaussian(count, sigma)
        expected = ndimage.gaussian_filter1d(np.eye(count), sigma, axis=0, mode="constant")
        np.testing.assert_allclose(matrix, expected, atol=1e-15)
        far = abs(np.subtract.outer(np.arange(count), np.arange(count))) > radius
        assert not matrix[far].any()


def test_displacements_are_as_large_as_the_page_on_training_says() -> None:
    """Of alpha = 34 and sigma = 4 on 28 x 28 pixels: 34 / (2 sqrt(3 pi) 4) = 1.4 in the middle, less at the edges."""
    backend, (smooth, radius) = get_backend("cpu", "float64"), gaussian(28, 4.0)
    draws = backend.random_rows(np.arange(2000), N_DRAWS + 2 * 28 * 28, key=KEY, epoch=1)
    squares = backend.elastic_fields(draws, 34 * smooth, smooth, radius=radius) ** 2
    expected = 34 / (2 * math.sqrt(3 * math.pi) * 4)
    assert math.sqrt(squares[:, :, 12:16, 12:16].mean()) == pytest.approx(expected, rel=0.05)
    assert math.sqrt(squares[:, :, 0, 0].mean()) < 0.7 * expected


def test_elastic_distortion_is_that_of_scipy(backend: Backend) -> None:
    """Gaussian filters of the noise, times alpha, and interpolation of first order, with a constant around."""
    h, w, alpha, sigma, fill = 12, 15, 30.0, 2.0, 0.25
    x = RNG.uniform(size=(4, h, w, 2))
    rotated: dict[str, Any] = {"rotation": 0.3, "scale": 0.2}
    (down, radius), (across, _) = gaussian(h, sigma), gaussian(w, sigma)
    with backend.use():
        draws = backend.random_rows(backend.asarray(np.arange(4)), N_DRAWS + 2 * h * w, key=KEY, epoch=1)
        maps = backend.affine_maps(draws, (h, w), **rotated)
        matrices = backend.asarray(alpha * down), backend.asarray(across)
        fields = backend.elastic_fields(draws, *matrices, radius=radius)
        np.testing.assert_allclose(
            backend.to_numpy(fields), backend.to_numpy(backend.elastic_fields(draws, *matrices)), atol=1e-13
        )
        found = backend.to_numpy(backend.warp(backend.asarray(x), maps, fields, fill=fill))
        draws, maps, fields = (backend.to_numpy(array) for array in (draws, maps, fields))
    noise = draws[:, N_DRAWS:].reshape(4, 2, h, w)
    smooth = alpha * ndimage.gaussian_filter(noise, (0, 0, sigma, sigma), mode="constant")
    np.testing.assert_allclose(fields, smooth, atol=1e-12)
    rows, columns = np.mgrid[:h, :w]
    for i in range(4):
        xs, ys = (maps[i, k] * columns + maps[i, k + 1] * rows + maps[i, k + 2] + smooth[i, k // 3] for k in (0, 3))
        around = np.pad(x[i], ((40, 40), (40, 40), (0, 0)), constant_values=fill)
        for channel in (0, 1):
            # SciPy's own edge is cut off where the next pixel would be outside.
            expected = ndimage.map_coordinates(around[:, :, channel], [ys + 40, xs + 40], order=1)
            np.testing.assert_allclose(found[i, :, :, channel], expected, atol=1e-12)


def test_what_comes_from_far_away_or_from_nowhere_is_fill(backend: Backend) -> None:
    x = RNG.normal(size=(1, 4, 5, 1))
    identity = np.array([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    fields = np.zeros((1, 2, 4, 5))
    fields[0, 0, 0] = [math.nan, 1e30, -1e30, math.inf, -math.inf]
    fields[0, 1, 1] = [math.nan, 1e30, -1e30, math.inf, -math.inf]
    with backend.use():
        given = [backend.asarray(array) for array in (x, identity, fields)]
        found = backend.to_numpy(backend.warp(*given, fill=9.0))
    assert (found[0, :2] == 9.0).all()
    np.testing.assert_array_equal(found[0, 2:], x[0, 2:])


@pytest.mark.parametrize("side", [1, 2, 3, 50])
def test_a_cutout_is_a_square_about_its_centre(backend: Backend, side: int) -> None:
    x = RNG.normal(size=(1, 6, 8, 2))
    draws = drawn(cut_row=(2 * 4 + 1) / 6 - 1, cut_column=(2 * 7 + 1) / 8 - 1)
    draws[0] = np.round(draws[0] * 2**23) / 2**23
    found = seen(backend, x, draws, fill=3.0, cutout=side)
    rows, columns = np.mgrid[:6, :8]
    inside = (rows - 4 + side // 2 >= 0) & (rows - 4 + side // 2 < side)
    inside &= (columns - 7 + side // 2 >= 0) & (columns - 7 + side // 2 < side)
    np.testing.assert_array_equal(found, np.where(inside[None, :, :, None], 3.0, x))


@given(
    st.integers(0, 4), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(0, 5), st.booleans(),
    st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_overrides_do_as_the_specification(
    m: int, h: int, w: int, c: int, cutout: int, elastic: bool, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(m, h, w, c)).astype(dtype)
    results = []
    for which in ON_CPU:
        backend = made(which, dtype)
        draws = backend.random_rows(backend.asarray(np.arange(m)), N_DRAWS + 2 * h * w, key=KEY, epoch=seed % 7)
        maps = backend.affine_maps(draws, (h, w), rotation=1.0, scale=0.5, shear=0.4, shift=3.0, flip_vertical=True)
        (down, radius), (across, _) = gaussian(h, 2.0), gaussian(w, 2.0)
        smoothing = backend.asarray(20 * down), backend.asarray(across)
        fields = backend.elastic_fields(draws, *smoothing, radius=radius) if elastic else None
        results.append((draws, maps, backend.warp(backend.asarray(x), maps, fields, fill=0.5, cutout=cutout)))
    for draws, maps, y in results[1:]:
        np.testing.assert_array_equal(draws, results[0][0])
        np.testing.assert_allclose(maps, results[0][1], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(y, results[0][2], atol=1e-3 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("which", [*ON_CPU, EMULATED])
def test_arrays_that_do_not_fit_are_refused(which: tuple[str, bool]) -> None:
    backend, x = made(which, "float32"), np.zeros((3, 4, 5, 1), "f4")
    with backend.use():
        maps = backend.zeros((2, 8))
        with pytest.raises((ValueError, IndexError)):
            backend.warp(backend.asarray(x), maps, out=backend.zeros(x.shape))
        fields = backend.zeros((3, 2, 4, 4))
        with pytest.raises((ValueError, IndexError)):
            backend.warp(backend.asarray(x), backend.zeros((3, 8)), fields, out=backend.zeros(x.shape))
        with pytest.raises((ValueError, IndexError)):
            backend.random_rows(backend.asarray(np.arange(3)), 4, key=KEY, epoch=1, out=backend.zeros((2, 4)))

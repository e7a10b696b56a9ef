"""Random streams: pinned numbers, equal on every backend, different where they should be, and random enough."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import Backend, get_backend, random

Array = Any
KEY = random.mask_key(0, "dropout")


# ---- pinned: a change of these numbers changes what every seed means -------------------------------------------------


def test_keys_are_pinned() -> None:
    assert random.stream_key(0, "start values", "dense1.W") == 0x34D27B3EB3C0CBD586500F8BEF153A4
    assert random.stream_key(7, "shuffle", 3) == 0xFAA7908CFC592D3F29D3AFE9E21B1B5B
    assert random.stream_key(0, "split") == 0xEB1F4245131B3A3012D2ECB4C1A45679
    assert random.mask_key(0, "dropout") == (236703316, 2308206949)


def test_host_streams_are_pinned() -> None:
    """NumPy promises equal streams of Philox, and of ``Generator`` in all but exceptional releases."""
    stream = random.generator(0, "start values", "dense1.W")
    np.testing.assert_allclose(
        stream.uniform(-1, 1, 3), [-0.12816283401763418, 0.5985729415442524, -0.2695856541363708], rtol=1e-15
    )
    np.testing.assert_allclose(
        stream.standard_normal(3), [0.28511252922900887, 0.10066539603881243, 0.15432086967708714], rtol=1e-15
    )
    assert stream.integers(0, 1000, 5).tolist() == [888, 175, 432, 445, 461]
    assert random.permutation(10, 0, 0).tolist() == [4, 1, 5, 6, 3, 0, 7, 8, 9, 2]
    assert random.permutation(10, 0, 1).tolist() == [8, 4, 9, 1, 6, 3, 5, 7, 2, 0]


def test_mask_bits_are_pinned() -> None:
    bits = [[random.mask_bits(element, KEY, step) for element in range(4)] for step in (0, 1)]
    assert bits == [[2696384747, 2487974662, 1738786623, 3416972780], [4132208810, 83870038, 2708966878, 732280641]]


# ---- the hash --------------------------------------------------------------------------------------------------------


def lowbias32(x: int) -> int:
    """As published, for unsigned 32-bit integers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    x ^= x >> 16
    return x


WORDS = [0, 1, 2, 3, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 0xDEADBEEF]
WORDS += np.random.default_rng(1).integers(0, 2**32, 500).tolist()


def test_hash_of_python_ints_is_lowbias32() -> None:
    assert [random.hash32(x) for x in WORDS] == [lowbias32(x) for x in WORDS]
    assert [random.hash32(x) for x in (0, 1, 2, 2**32 - 1)] == [0, 0x688990C0, 0xD1132181, 0x6768824A]


def test_hash_of_arrays_is_lowbias32(backend: Backend) -> None:
    hashed = random.hash32(backend.asarray(np.array(WORDS, np.int64)))
    assert backend.to_numpy(hashed).tolist() == [lowbias32(x) for x in WORDS]


def test_mask_bits_are_two_hashes() -> None:
    for element, step in itertools.product((0, 1, 2**31, 2**32 - 1), (0, 5, 2**32 + 5)):
        first, second = lowbias32((element + KEY[0]) % 2**32), lowbias32((step + KEY[1]) % 2**32)
        assert random.mask_bits(element, KEY, step) == lowbias32(first ^ second)


def test_hash_maps_no_two_words_to_one() -> None:
    words = np.arange(2**18, dtype=np.int64) * 2**14
    assert len(np.unique(random.hash32(words))) == len(words)


# ---- masks -----------------------------------------------------------------------------------------------------------


def mask(
    backend: Backend, shape: tuple[int, ...], rate: float = 0.3, key: tuple[int, int] = KEY, step: Any = 0
) -> np.ndarray:
    host: np.ndarray = backend.to_numpy(backend.dropout_mask(shape, rate=rate, key=key, step=step))
    return host


@pytest.mark.parametrize("shape", [(64, 50), (3, 5), (7,), (0, 3)])
def test_masks_are_equal_on_every_backend(backend: Backend, shape: tuple[int, ...]) -> None:
    """Bit for bit, for steps from the host and from the device."""
    reference = get_backend("cpu", backend.dtype_name, fused=False)
    for rate, step in itertools.product((0.0, 0.1, 0.5, 0.99), (0, 1, 2**31, 2**40 + 3)):
        expected = mask(reference, shape, rate, step=step)
        for given_step in (step, backend.asarray(np.array([step]))):
            result = mask(backend, shape, rate, step=given_step)
            assert result.dtype == backend.dtype_name
            assert result.tobytes() == expected.tobytes()
    assert set(np.unique(expected)) <= {0.0, np.dtype(backend.dtype_name).type(1 / (1 - 0.99))}


@pytest.mark.parametrize("fused", [True, False])
def test_a_mask_is_the_bits_held_against_the_threshold(fused: bool) -> None:
    """Thresholds in many places tell wrong low bits too."""
    backend = get_backend("cpu", fused=fused)
    for rate in np.random.default_rng(2).uniform(size=40):
        for key, step in ((KEY, 3), ((2**32 - 1, 2**31), 2**32 + 5)):
            kept = random.mask_bits(np.arange(2000), key, step) >= random.mask_threshold(rate)
            np.testing.assert_array_equal(mask(backend, (40, 50), rate, key, step).ravel() > 0, kept)


def test_masks_differ_by_step_seed_and_layer(backend: Backend) -> None:
    keys = [random.mask_key(seed, name) for seed in (0, 1) for name in ("dropout", "dropout_1", "dropout_2")]
    masks = {mask(backend, (40, 50), key=key, step=step).tobytes() for key in keys for step in range(5)}
    assert len(masks) == len(keys) * 5


def test_threshold() -> None:
    assert [random.mask_threshold(rate) for rate in (0.0, 0.25, 0.5)] == [0, 2**30, 2**31]
    assert random.mask_threshold(1 - 1e-12) == 2**32 - 1


SIZE = 2**16
#: Five standard deviations of the correlation of so many independent pairs; with fixed seeds it never flickers.
CORRELATION = 5 / SIZE**0.5


def centred_masks(rate: float = 0.3) -> Array:
    """Whether each element is kept, less the mean, for 2 seeds by 2 layers and 8 steps: (4, 8, SIZE)."""
    backend = get_backend("cpu")
    keys = [random.mask_key(seed, name) for seed in (0, 1) for name in ("dropout_1", "dropout_2")]
    masks = [[mask(backend, (SIZE,), rate, key, step) > 0 for step in range(8)] for key in keys]
    return np.array(masks) - (1 - rate)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_fraction_kept_is_one_minus_rate(rate: float) -> None:
    deviations = centred_masks(rate).mean(axis=-1) / (rate * (1 - rate) / SIZE) ** 0.5
    assert np.abs(deviations).max() < 4
    assert 0.5 < deviations.std() < 1.5  # not suspiciously even either


def test_masks_of_steps_layers_and_seeds_are_uncorrelated() -> None:
    masks = centred_masks().reshape(32, SIZE)
    between = np.corrcoef(masks) - np.eye(32)
    assert np.abs(between).max() < CORRELATION


@pytest.mark.parametrize("lag", [1, 2, 3, 8, 10, 64, 128, 512, 784, 1024])
def test_neighbours_are_uncorrelated(lag: int) -> None:
    """Next to each other, and below each other in layers of so many units; in one step, and from one to the next."""
    masks = centred_masks()
    variance = 0.3 * 0.7
    for earlier, later in ((masks, masks), (masks[:, :-1], masks[:, 1:])):
        products = earlier[..., :-lag] * later[..., lag:]
        assert np.abs(products.mean(axis=-1)).max() < CORRELATION * variance


def test_every_bit_is_fair() -> None:
    bits = random.mask_bits(np.arange(SIZE, dtype=np.int64), KEY, 1)
    ones = [(bits >> place & 1).mean() for place in range(32)]
    assert np.abs(np.array(ones) - 0.5).max() < 4 * 0.5 / SIZE**0.5


# ---- streams of the host ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50, derandomize=True, database=None)
@given(n=st.integers(0, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_permutation_is_one(n: int, seed: int, epoch: int) -> None:
    order = random.permutation(n, seed, epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == random.permutation(n, seed, epoch).tolist()


def test_permutations_differ_by_seed_and_epoch() -> None:
    orders = {tuple(random.permutation(50, seed, epoch)) for seed in range(5) for epoch in range(20)}
    assert len(orders) == 100


def test_permutation_is_the_same_on_every_device(backend: Backend) -> None:
    order = backend.asarray(random.permutation(100, 3, 2))
    assert order.dtype == backend.xp.int64
    assert backend.to_numpy(order).tolist() == random.permutation(100, 3, 2).tolist()


def test_streams_have_no_state_and_do_not_touch_that_of_numpy() -> None:
    first, second = random.generator(5, "start values", "W"), random.generator(5, "start values", "W")
    assert first.random(4).tolist() == second.random(4).tolist()
    np.random.seed(1)  # noqa: NPY002
    undisturbed = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    random.generator(0, "shuffle").random()
    assert np.random.rand() == undisturbed  # noqa: NPY002


def test_no_two_streams_share_a_key() -> None:
    """Names may hold anything, a slash too: purposes hold none."""
    seeds = (0, 1, 10, 11, -1, 2**64)
    purposes = ("start values", "shuffle", "dropout", "split")
    names: tuple[str | int, ...] = ("", 0, 1, 10, "1/0", "a", "b/c", "a/b", "/", "dropout/0", "é")
    streams = list(itertools.product(seeds, purposes, names))
    keys = {random.stream_key(*stream) for stream in streams}
    assert len(keys) == len(streams)
    assert all(0 <= key < 2**128 for key in keys)
    assert len({random.mask_key(seed, str(name)) for seed in seeds for name in names}) == len(seeds) * len(names)

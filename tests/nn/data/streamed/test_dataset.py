"""Data sets that stay where they are stored: the same rows, targets, units and parts as in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn.data import DataError, Units, as_dataset, load_data
from nn.data.streamed import ArraySource, NpySource, StreamedDataset, StreamWarning
from nn.data.streamed.ranges import read_positions
from tests.helpers.stored import assert_same

DTYPES = [
    "uint8", "int8", "bool", "int16", "uint16", "int32", "int64", "uint32", "float16", "float32", "float64", ">f4",
    ">i2",
]  # fmt: skip


def array_of(dtype: str, shape: tuple[int, ...], seed: int, high: int = 200) -> np.ndarray:
    """Numbers of a dtype, from 0 to ``high`` at most."""
    numbers = np.random.default_rng(seed).integers(0, min(high, 100 if dtype == "int8" else high), shape)
    return (numbers % 2 if dtype == "bool" else numbers).astype(dtype)


# ---- the same as in memory -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    n=st.integers(1, 50),
    row=st.sampled_from([(3,), (64,), (192,), (5, 4), (3, 4, 3)]),
    seed=st.integers(0, 5),
    high=st.sampled_from([2, 120, 200]),
)
def test_rows_are_those_of_memory(dtype: str, n: int, row: tuple[int, ...], seed: int, high: int) -> None:
    x = array_of(dtype, (n, *row), seed, high)
    y = np.arange(n) % 3
    streamed, expected = StreamedDataset(x, y), as_dataset((x, y))
    assert (len(streamed), streamed.n_features, streamed.row_shape) == (n, expected.n_features, expected.x.shape[1:])
    assert_same(streamed[:], expected)
    assert Units.of(streamed) == Units.of(expected)


TARGETS: list[Callable[[int], np.ndarray]] = [
    lambda n: np.arange(n) % 3,
    lambda n: (np.arange(n) % 3).astype(np.uint8)[:, None],
    lambda n: np.arange(n) % 2 == 1,
    lambda n: np.array(["ape", "bee", "cat"])[np.arange(n) % 3],
    lambda n: np.linspace(-1, 1, n),
    lambda n: np.linspace(-1, 1, n, dtype=np.float16),
    lambda n: np.linspace(-1, 1, 2 * n, dtype=np.float32).reshape(n, 2),
    lambda n: np.arange(2 * n).reshape(n, 2),
    lambda n: np.arange(2 * n).reshape(n, 2) + 2**25,
]


@pytest.mark.parametrize("kind", range(len(TARGETS)))
@pytest.mark.parametrize("n", [7, 40])
def test_targets_are_those_of_memory(kind: int, n: int, tmp_path: Path) -> None:
    x, y = array_of("float32", (n, 3), 0), TARGETS[kind](n)
    np.save(tmp_path / "y.npy", y)
    for given_y in (y, tmp_path / "y.npy"):
        streamed, expected = StreamedDataset(x, given_y), as_dataset((x, y))
        assert_same(streamed[:], expected)
        np.testing.assert_array_equal(streamed.y, expected.y, strict=True)
        assert (streamed.has_classes, streamed.n_classes) == (expected.has_classes, expected.n_classes)
        assert streamed.has_targets
        assert streamed.target_shape == expected.y.shape[1:]


def test_rows_may_have_no_targets() -> None:
    x = array_of("float32", (5, 3), 0)
    streamed = StreamedDataset(x)
    assert_same(streamed[:], as_dataset((x,)))
    assert not streamed.has_targets
    assert streamed.y.shape == (5, 0)
    assert streamed.target_shape == (0,)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 60),
    chunk=st.integers(1, 9),
    start=st.integers(0, 60),
    stop=st.integers(0, 60),
    step=st.integers(-3, 3).filter(bool),
    seed=st.integers(0, 3),
    part=st.floats(0.2, 1.0),
)
def test_any_rows_are_those_of_the_array(
    n: int, chunk: int, start: int, stop: int, step: int, seed: int, part: float
) -> None:
    x, y = array_of("int16", (n, 4), seed), np.arange(n) % 4
    random = np.random.default_rng(seed)
    chosen = np.flatnonzero(random.random(n) < part)
    chosen = chosen if chosen.size else np.array([0])
    source = ArraySource(x)
    source.chunk = chunk
    kept = StreamedDataset(source, y, chosen=chosen, scale=1.0)
    memory = as_dataset((x, y))[chosen]
    memory = replace(memory, scale=1.0)
    assert_same(kept[start:stop:step], memory[start:stop:step])
    mask = random.random(len(chosen)) < 0.5
    assert_same(kept[mask], memory[mask])
    indices = random.integers(-len(chosen), len(chosen), 7)
    assert_same(kept[indices], memory[indices])
    first, last = sorted((start % len(chosen), stop % len(chosen)))
    x_out, y_out = np.empty((last - first, 4), np.float32), np.empty(last - first, np.int64)
    kept.read(first, last, x_out, y_out)
    np.testing.assert_array_equal(x_out, memory.x[first:last])
    np.testing.assert_array_equal(y_out, memory.y[first:last])
    parts = [*kept.parts(7)]
    np.testing.assert_array_equal(np.concatenate([one for one, _ in parts]), memory.x)
    np.testing.assert_array_equal(np.concatenate([one for _, one in parts]), memory.y)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), in_file=st.booleans(), dtype=st.sampled_from(["float32", ">f8", "int16"]))
def test_several_ranges_are_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, in_file: bool, dtype: str
) -> None:
    n = data.draw(st.integers(1, 60))
    x = (np.arange(n * 3).reshape(n, 3) % 251).astype(dtype)
    source: Any = ArraySource(x)
    if in_file:
        source = tmp_path_factory.mktemp("ranges") / "x.npy"
        np.save(source, x)
    chosen = data.draw(st.none() | st.lists(st.integers(0, n - 1), min_size=1).map(np.array))
    if chosen is not None and data.draw(st.booleans()):
        chosen = np.unique(chosen)
    rows = StreamedDataset(source, np.arange(n), scale=1.0, chosen=chosen)
    ends = st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows))).map(sorted)
    ranges = [range(*pair) for pair in data.draw(st.lists(ends, max_size=8))]
    positions = np.concatenate([np.empty(0, np.int64), *(np.arange(part.start, part.stop) for part in ranges)])
    stored = positions if chosen is None else chosen[positions]
    x_out, y_out = np.empty((len(stored), 3), rows.rows.dtype), np.empty(len(stored), np.int64)
    read_positions(rows, ranges, x_out, y_out)
    np.testing.assert_array_equal(x_out, x[stored])
    np.testing.assert_array_equal(y_out, stored)


@pytest.mark.parametrize("chosen", [None, np.arange(0, 60, 2), np.arange(0, 60, 7)])
@pytest.mark.parametrize("in_file", [False, True])
def test_what_cannot_be_used_is_named_in_whichever_range_it_is(
    tmp_path: Path, chosen: np.ndarray | None, in_file: bool
) -> None:
    x = np.zeros((60, 3))
    x[42, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    data = StreamedDataset(tmp_path / "x.npy" if in_file else x, chosen=chosen, scale=1.0)
    first = 42 if chosen is None else int(np.flatnonzero(chosen == 42)[0])
    ranges = [range(2, 4), range(0, 2), range(first, first + 1)]
    with pytest.raises(DataError, match=r"\[42, 1\] is nan; remove the row"):
        read_positions(data, ranges, np.empty((5, 3)))


def test_rows_far_apart_are_read_without_those_between() -> None:
    class Counting(ArraySource):
        rows = 0

        def read(self, start: int, stop: int, out: np.ndarray) -> None:
            Counting.rows += stop - start
            super().read(start, stop, out)

    x = np.arange(3000 * 10_000, dtype=np.float32).reshape(3000, 10_000)  # two rows are farther apart than is skipped
    data = StreamedDataset(Counting(x), chosen=np.arange(0, 3000, 300))
    Counting.rows = 0
    np.testing.assert_array_equal(data[:].x, x[::300])
    assert Counting.rows == 10


def test_threads_read_at_once(tmp_path: Path) -> None:
    x = array_of("float32", (5000, 64), 1) + 0.5
    np.save(tmp_path / "x.npy", x)
    data = StreamedDataset(tmp_path / "x.npy", np.arange(5000) % 7)

    def part(start: int) -> bool:
        x_out, y_out = np.empty((100, 64), np.float32), np.empty(100, np.int64)
        data.read(start, start + 100, x_out, y_out)
        return bool((x_out == x[start : start + 100]).all() and (y_out == np.arange(start, start + 100) % 7).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(part, [*range(0, 5000, 100)] * 5))


# ---- parts of it -----------------------------------------------------------------------------------------------------


def test_a_split_is_that_of_memory_where_one_window_holds_all() -> None:
    x, y, weights = array_of("float32", (90, 3), 0), np.arange(90) % 3, np.linspace(1, 2, 90)
    found = StreamedDataset(x, y, weights=weights).split(0.2, seed=3)
    expected = replace(as_dataset((x, y)), weights=weights).split(0.2, seed=3)
    for one, other in zip(found, expected, strict=True):
        assert_same(one[:], other)
        assert Units.of(one) == Units.of(other)


def test_a_split_of_rows_in_windows_holds_out_those_of_memory() -> None:
    x, y = array_of("float32", (90, 3), 0), np.arange(90) % 3
    for targets in (y, y / 7):
        found = StreamedDataset(x, targets, window=10).split(0.2)
        for one, other in zip(found, as_dataset((x, targets)).split(0.2), strict=True):
            np.testing.assert_array_equal(np.sort(one[:].x, axis=0), np.sort(other.x, axis=0))


MANY_ROWS = pytest.mark.parametrize("as_in_memory", [0, 10**6])


@MANY_ROWS
@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(4, 40), min_size=2, max_size=5), seed=st.integers(0, 9))
def test_the_parts_of_a_split_are_disjoint_and_stratified(as_in_memory: int, counts: list[int], seed: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    n = len(y)
    x = np.arange(n, dtype=np.float32)[:, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nn.data.streamed.dataset.DIVIDED_AS_IN_MEMORY", as_in_memory)
        rest, held_out = StreamedDataset(x, y, window=5).split(0.25, seed)
    assert rest.chosen is not None
    assert held_out.chosen is not None
    assert sorted([*rest.chosen, *held_out.chosen]) == [*range(n)]
    assert len(held_out) == math.ceil(0.25 * n)
    for part in (rest, held_out):
        assert part.chosen is not None
        assert (np.diff(part.chosen) > 0).all()
        np.testing.assert_array_equal(part[:].x[:, 0], part.chosen)
        np.testing.assert_array_equal(part.y, y[part.chosen])
    for label, count in enumerate(counts):
        assert abs((held_out.y == label).sum() - 0.25 * count) <= 1


@MANY_ROWS
def test_values_are_divided_too_and_the_seed_says_how(as_in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.data.streamed.dataset.DIVIDED_AS_IN_MEMORY", as_in_memory)
    x = np.arange(101, dtype=np.float32)[:, None]
    data = StreamedDataset(x, x[:, 0] / 7, window=5)
    one, again, other = (data.split(fraction, seed)[1].chosen for fraction, seed in ((0.3, 1), (31, 1), (0.3, 2)))
    assert one is not None
    assert again is not None
    assert other is not None
    assert (len(one), len(other)) == (31, 31)
    np.testing.assert_array_equal(one, again)
    assert one.tolist() != other.tolist()


def test_a_part_of_a_part() -> None:
    x, y = np.arange(200, dtype=np.float32)[:, None], np.arange(200) % 2
    rest, _ = StreamedDataset(x, y, window=10).split(0.5)
    again, held_out = rest.split(0.5)
    assert rest.chosen is not None
    assert {*again[:].x[:, 0]} | {*held_out[:].x[:, 0]} == {*map(float, rest.chosen)}
    assert (len(again), len(held_out)) == (50, 50)


def test_what_cannot_be_divided_is_refused_as_in_memory() -> None:
    data = StreamedDataset(np.zeros((3, 2), np.float32), np.array([0, 0, 1]))
    with pytest.raises(DataError, match="class 1 has only one row"):
        data.split(0.5)
    with pytest.raises(DataError, match="between 0 and 1"):
        data.split(1.5)


def test_rows_take_the_shape_of_a_network() -> None:
    data = StreamedDataset(array_of("uint8", (4, 8, 6), 0), np.array([0, 1, 0, 1]))
    assert (data.row_shape, data.image_shape) == ((48,), (8, 6))
    pictures = data.as_pictures()
    assert pictures.row_shape == (8, 6)
    assert pictures[:].x.shape == (4, 8, 6)
    assert pictures.shaped_for((8, 6, 1)).row_shape == (8, 6, 1)
    assert data.shaped_for(None) is data
    with pytest.raises(DataError, match="do not fit"):
        data.shaped_for((6, 8))
    with pytest.raises(DataError, match="not known to be pictures"):
        StreamedDataset(np.zeros((2, 5), np.float32)).as_pictures()


def test_classes_are_numbered_as_a_model_knows_them() -> None:
    x, y = np.zeros((4, 2), np.float32), np.array(["cat", "ape", "cat", "bee"])
    data = StreamedDataset(x, y).with_classes(("bee", "cat", "ape", "dog"))
    assert data.class_names == ("bee", "cat", "ape", "dog")
    assert data.y.tolist() == [1, 2, 1, 0]
    with pytest.raises(DataError, match=r"y\[3\] is 'bee', a class that is not among"):
        StreamedDataset(x, y).with_classes(("cat", "ape"))
    named = StreamedDataset(x, np.array([0, 1, 1, 0])).with_classes(("no", "yes"))
    assert named.class_names == ("no", "yes")


def test_chosen_classes_are_those_of_memory() -> None:
    x, y = array_of("float32", (60, 3), 0), np.arange(60) % 4
    data, expected = StreamedDataset(x, y, window=10), as_dataset((x, y))
    assert_same(data.only([3, 1])[:], expected.only([3, 1]))
    assert_same(data.one_against_rest(2)[:], expected.one_against_rest(2))
    assert_same(data.first(7)[:], expected[:7])
    assert_same(data.only([3, 1]).first(7)[:], expected.only([3, 1])[:7])
    assert data.first(100) is data
    for classes, message in [([0, 9], "class 9 has no rows"), ([1, 1], "two different classes")]:
        with pytest.raises(DataError, match=message):
            data.only(classes)
    with pytest.raises(DataError, match="the targets are values"):
        StreamedDataset(x, y + 0.5).only([0, 1])


# ---- what is learnt of rows ------------------------------------------------------------------------------------------


def test_a_window_has_256_mib_and_a_block_a_256th_of_it() -> None:
    x = np.broadcast_to(np.uint8(1), (10**9, 784))
    data = StreamedDataset(ArraySource(x), scale=1.0)
    assert data.window == 2**28 // 784
    assert data.block == data.window // 256 // 32 * 32  # 32 rows are 49 sectors
    assert StreamedDataset(ArraySource(x), scale=1.0, window=1000).block == 15  # as many as leave 64 blocks
    assert StreamedDataset(ArraySource(x), scale=1.0, window=1000, block=7).block == 7


@pytest.mark.parametrize(("chunk", "block"), [(10, 390), (100, 300), (312, 312)])
def test_blocks_are_whole_chunks(chunk: int, block: int) -> None:
    source = ArraySource(np.broadcast_to(np.uint8(1), (10**6, 784)))
    source.chunk = chunk
    data = StreamedDataset(source, scale=1.0, window=100_000)
    assert data.block == block


def test_chunks_that_are_too_long_are_warned_of() -> None:
    source = ArraySource(np.broadcast_to(np.uint8(1), (10**6, 784)), "big.h5: x")
    source.chunk = 4000
    message = r"big.h5: x is stored in chunks of 4,000 rows, .* chunks of 3,125 rows at most, or say window=128000"
    with pytest.warns(StreamWarning, match=message):
        data = StreamedDataset(source, scale=1.0, window=100_000)
    assert data.block == 4000
    assert StreamedDataset(source, scale=1.0, window=2_000_000).window == 2_000_000  # all of it is read once
    with pytest.warns(StreamWarning, match=r"a window of 3,000 rows is smaller than one, .* or say window=128000"):
        StreamedDataset(source, scale=1.0, window=3000)
    source.chunk = 500_000
    with pytest.warns(StreamWarning, match=r"or say window=1000000"):  # which has all rows
        StreamedDataset(source, scale=1.0, window=3000)


def test_parts_of_data_in_long_chunks_do_not_warn_again() -> None:
    source = ArraySource(np.broadcast_to(np.uint8(1), (10_000, 4)), "big.h5: x")
    source.chunk = 400
    with pytest.warns(StreamWarning) as warned:
        StreamedDataset(source, np.zeros(10_000, int), scale=1.0, window=1000).split(0.2)
    assert len(warned) == 1


def test_pixels_are_known_by_a_sample_and_kept_as_bytes() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20_000, 64)).astype(np.float32)
    data = StreamedDataset(x, window=100)
    assert (data.rows.dtype.name, data.scale, data.image_shape) == ("uint8", 1 / 255, (8, 8))
    np.testing.assert_array_equal(data[19_990:].x, x[19_990:])
    assert data.units.high == 255


def test_later_rows_that_are_no_pixels_are_named() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20_000, 64)).astype(np.float32)
    x[40, 5] = 0.5  # between the rows that are looked at
    data = StreamedDataset(ArraySource(x, "x.npy"), window=100)
    with pytest.raises(DataError, match=r"x.npy\[40, 5\] is 0.5, no pixel from 0 to 255, .* scale=1.0"):
        data[30:50]
    assert StreamedDataset(x, window=100, scale=1.0)[:50].x[40, 5] == 0.5


def test_later_integers_that_float32_does_not_hold_are_named() -> None:
    x = np.zeros((20_000, 3), np.int64)
    x[40, 2] = 2**24 + 1
    data = StreamedDataset(ArraySource(x, "x.npy"), window=100)
    with pytest.raises(DataError, match=r"x.npy\[40, 2\] is 16777217, .* dtype='float64'"):
        data[:50]
    assert StreamedDataset(x, window=100, dtype="float64")[:50].x[40, 2] == 2**24 + 1
    assert StreamedDataset(x)[:50].x[40, 2] == 2**24 + 1  # all rows are looked at


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_infinity_are_named_by_their_row(value: float, dtype: str) -> None:
    x = np.zeros((100, 3), dtype)
    x[77, 1] = value
    data = StreamedDataset(ArraySource(x, "big.npy"), window=10)
    data[:77]
    with pytest.raises(DataError, match=rf"big.npy\[77, 1\] is {value}"):
        data[70:90]
    kept = StreamedDataset(ArraySource(x, "big.npy"), window=10, chosen=np.arange(1, 100, 2))
    with pytest.raises(DataError, match=r"big.npy\[77, 1\]"):
        kept[:]


def test_the_sample_is_spread_evenly() -> None:
    x = np.arange(1_000_000, dtype=np.float64)[:, None]
    sample = StreamedDataset(x, window=10).sample
    assert len(sample) == 4096
    assert sample.x[0, 0] == 0.0
    assert sample.x[-1, 0] == 999_999.0
    counts = np.histogram(sample.x, 16)[0]
    assert counts.min() > 200
    small = StreamedDataset(x[:3000], window=10)
    assert len(small.sample) == 3000


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(3), None, "x has shape"),
        (np.zeros((0, 3)), None, "is empty"),
        (np.zeros((3, 2)), np.zeros(4), "x has 3 rows but y has 4"),
        (np.array([["a"]]), None, "holds no numbers"),
        (np.zeros((3, 2)), np.array([0, -1, 1]), r"y\[1\] is -1"),
        (np.zeros((3, 2)), np.array([0, 1, 10**6]), r"y\[2\] is 1000000"),
        (np.zeros((3, 2)), np.zeros((3, 0)), "y has shape"),
        (np.zeros((3, 2)), np.array([["a", "b"]] * 3), "text in several columns"),
        (5, None, "x must be a path"),
        ("table.csv", None, "table.csv"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(x: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        StreamedDataset(x, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chosen": np.arange(30)}, r"StreamedDataset: chosen\[20\] is 20, but the data set has 20 rows, 0 to 19$"),
        ({"chosen": [3, -21]}, r"chosen\[1\] is -21, but"),
        ({"chosen": [0.5, 1.0]}, "chosen are taken by whole numbers or a mask"),
        ({"weights": "w.npy"}, r"weights is 'w.npy', where numbers in memory are wanted; .* numpy.load\('w.npy'\)"),
        ({"weights": Path("w.npy")}, "weights is 'w.npy', where numbers in memory are wanted"),
    ],
)
def test_what_is_said_of_rows_is_refused_by_its_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((IndexError, TypeError), match=message):
        StreamedDataset(np.zeros((20, 2)), **settings)


def test_rows_may_be_chosen_from_the_end() -> None:
    x = np.arange(20.0, dtype=np.float32).reshape(10, 2)
    assert_same(StreamedDataset(x, chosen=np.array([-1, 2, -10]))[:], StreamedDataset(x, chosen=np.array([9, 2, 0]))[:])


def test_labels_beyond_their_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"y\[2\] is 2, outside the classes 0 to 1"):
        StreamedDataset(np.zeros((3, 2)), np.array([0, 1, 2]), class_names=("no", "yes"))


# ---- .npy files ------------------------------------------------------------------------------------------------------


def saved(folder: Path, array: np.ndarray) -> Path:
    path = folder / "x.npy"
    np.save(path, array)
    return path


@settings(max_examples=30, deadline=None)
@given(dtype=st.sampled_from(DTYPES), n=st.integers(1, 30), start=st.integers(0, 29), count=st.integers(1, 30))
def test_ranges_of_a_file_are_those_of_its_array(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, n: int, start: int, count: int
) -> None:
    x = array_of(dtype, (n, 3, 2), n)
    source = NpySource(saved(tmp_path_factory.mktemp("npy"), x))
    start %= n
    stop = min(start + count, n)
    out = np.empty((stop - start, 3, 2), source.dtype)
    source.read(start, stop, out)
    np.testing.assert_array_equal(out, x[start:stop])
    across = np.empty((2, 3, stop - start), source.dtype).T
    source.read(start, stop, across)
    np.testing.assert_array_equal(across, x[start:stop])
    assert (source.shape, source.dtype) == (x.shape, x.dtype.newbyteorder("="))


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path, np.zeros((10, 2), np.float32))
    data = StreamedDataset(path)
    np.save(path, np.ones((10, 3), np.float32))
    with pytest.raises(DataError, match="has changed since it was opened"):
        data[:3]
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        data[:3]


def test_files_that_are_no_array_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    damaged = b"\x93NUMPY\x01\x00"
    for content, message in [
        (b"", r"x\.npy is empty; copy or download it again$"),
        (b"text", "no .npy file"),
        (b"PK\x03\x04....", "is an .npz file"),
        (damaged, "damaged"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            NpySource(path)
    with pytest.raises(DataError, match="never unpickled"):
        NpySource(saved(tmp_path, np.array([{}])))
    with pytest.raises(DataError, match="column by column"):
        NpySource(saved(tmp_path, np.asfortranarray(np.zeros((3, 2)))))
    with pytest.raises(DataError, match="single number"):
        NpySource(saved(tmp_path, np.array(3.0)))
    whole = saved(tmp_path, np.zeros((30, 2))).read_bytes()
    for length in (len(whole) - 1, len(whole) + 1, 130):
        path.write_bytes((whole + b"0")[:length])
        with pytest.raises(DataError, match="damaged"):
            NpySource(path)
    with pytest.raises(DataError, match="is a folder"):
        NpySource(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        NpySource(tmp_path / "none.npy")


def test_what_tells_a_file_from_others(tmp_path: Path) -> None:
    x = array_of("float32", (100, 3), 0)
    path = saved(tmp_path, x)
    known = NpySource(path).identity()
    assert NpySource(path).identity() == known
    x[50] += 1.0
    assert NpySource(saved(tmp_path, x)).identity() != known
    assert known["bytes"] == path.stat().st_size


# ---- some of the rows ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 5000), count=st.integers(1, 5000), window=st.integers(1, 5000))
def test_rows_may_be_spread_over_all(n: int, count: int, window: int) -> None:
    data = StreamedDataset(np.zeros((n, 1), np.float32), np.arange(n) % 7, window=window)
    part = data.spread(count)
    assert len(part) == min(n, count)
    if count >= n:
        assert part is data
        return
    assert part.chosen is not None
    assert (np.diff(part.chosen) > 0).all()
    assert part.chosen[0] == 0
    assert part.chosen[-1] < n
    gaps = np.diff(part.chosen, append=n)
    assert gaps.max() <= max(2, 2 * n / min(count, 64))  # evenly: no part of the rows is left out


def test_a_limit_takes_rows_of_each_class_though_they_are_sorted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.repeat(np.arange(5.0, dtype=np.float32), 400)[:, None])
    np.save(tmp_path / "y.npy", np.repeat(np.arange(5), 400))
    found = load_data(tmp_path, window=300, limit=100)
    assert found.test is not None
    for part in (found.train, found.test):
        assert np.bincount(part.y).tolist() == [20] * 5
    whole = load_data(tmp_path, window=300, limit=100, test_fraction=0)
    assert whole.train.y.tolist() == [0] * 100


@pytest.mark.parametrize("step", [2, 3, 50])
@pytest.mark.parametrize("in_file", [True, False])
def test_rows_that_are_left_out_may_be_anything(tmp_path: Path, in_file: bool, step: int) -> None:
    """Though they are read with their neighbours."""
    x = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    x[1::step] = np.nan
    np.save(tmp_path / "x.npy", x)
    kept = np.flatnonzero(np.isfinite(x).all(axis=1))
    data = StreamedDataset(tmp_path / "x.npy" if in_file else x, chosen=kept, window=100)
    np.testing.assert_array_equal(data[:].x, x[kept])
    np.testing.assert_array_equal(data[np.arange(0, len(kept), 2)].x, x[kept[::2]])
    found, expected = np.empty((90, 4), np.float32), x[np.concatenate([kept[20:60], kept[100:150]])]
    read_positions(data, [range(20, 60), range(100, 150)], found)
    np.testing.assert_array_equal(found, expected)
    rows = ArraySource(x.copy())
    data = StreamedDataset(rows, chosen=kept, window=100)
    rows.array[kept[30], 2] = np.inf
    with pytest.raises(DataError, match=rf"x\[{kept[30]}, 2\] is inf"):
        read_positions(data, [range(20, 60), range(100, 150)], found)

"""Rows that lie in memory as in their file, and are read there without a copy."""

from __future__ import annotations

import errno
import math
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import SGD, Linear, Sequential, Softmax, Trainer
from nn.data.streamed import ArraySource, NpySource, StreamedDataset
from nn.data.streamed.joined import JoinedSource
from nn.data.streamed.many_reads import ManyReads, Read
from nn.data.streamed.order import Order
from nn.data.streamed.placement import Placement, address
from nn.data.streamed.reading import read_ranges
from nn.data.streamed.source import SECTOR
from tests.helpers.reads import many_reads_or_skip, reading_ahead

RNG = np.random.default_rng(3)
WIDTH, PERIOD, BATCH = 96, 16, 16  # 16 rows are 3 sectors
past_the_cache = pytest.mark.skipif(
    not hasattr(os, "O_DIRECT"), reason="files are read past the system's cache on Linux alone"
)
preadv_of_system: Any = getattr(os, "preadv", None)  # not on every system


class Reads:
    """In place of ``os.preadv`` and ``ManyReads``: counts the bytes that are read past the cache, to where they belong
    and elsewhere.

    Args:
        at_once: whether the system makes many reads by one call.
        most: bytes that one read gives, as many by default as are asked for.
        sector: what offsets and addresses have to be multiples of.

    Attributes:
        together: how many of the reads past the cache were made by one call with others.
    """

    def __init__(self, at_once: bool, most: int | None = None, sector: int = 1) -> None:
        self.at_once, self.most, self.sector = at_once, most, sector
        self.straight = self.elsewhere = self.together = 0

    def many(self) -> Callable[[int, Sequence[Read]], list[int]]:
        if not self.at_once:
            raise OSError(errno.ENOSYS, "Function not implemented")
        made = ManyReads()

        def make(descriptor: int, reads: Sequence[Read]) -> list[int]:
            counts = made(descriptor, reads)
            self.together += len(reads)
            for _, size in (place for read in reads for place in read.places):
                if size == SECTOR:
                    self.elsewhere += size
                else:
                    self.straight += size
            return counts if self.most is None else [min(count, self.most) for count in counts]

        return make

    def __call__(self, descriptor: int, buffers: list[memoryview], at: int) -> int:
        import fcntl

        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            return int(preadv_of_system(descriptor, buffers, at))
        if at % self.sector or any(len(each) % self.sector for each in buffers):
            raise OSError(errno.EINVAL, "Invalid argument")
        got = int(preadv_of_system(descriptor, buffers, at))
        for buffer in buffers:
            if isinstance(buffer.obj, mmap.mmap):
                self.elsewhere += len(buffer)
            else:
                self.straight += len(buffer)
        return got if self.most is None else min(got, self.most)


@pytest.fixture(params=[True, False], ids=["at once", "one by one"])
def reads(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Reads]:
    """Has files read past the cache, whatever their size, and counts."""
    monkeypatch.setattr("nn.data.streamed.open_files.host_memory", lambda: (10, 20))
    if request.param:
        many_reads_or_skip()

    def count(**options: Any) -> Reads:
        counted = Reads(request.param, **options)
        monkeypatch.setattr(os, "preadv", counted)
        monkeypatch.setattr("nn.data.streamed.open_files.ManyReads", counted.many)
        return counted

    return count


def saved(path: Path, rows: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).integers(0, 256, (rows, WIDTH), dtype=np.uint8)
    np.save(path, x)
    return x


@given(
    row=st.integers(1, 3000),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    first=st.integers(0, 5000),
    position=st.integers(0, 500),
    at=st.integers(0, 10**7),
)
def test_a_row_lies_in_a_sector_as_in_its_file(row: int, dtype: str, first: int, position: int, at: int) -> None:
    size = np.dtype(dtype).itemsize
    source: Any = ArraySource(np.broadcast_to(np.zeros((), dtype), (10**8, row)))
    source.first_byte = first * size
    placement = Placement.of(source, SECTOR * 1000)
    assert placement is not None
    free = placement.skipped(at, position)
    assert 0 <= free < placement.period <= SECTOR
    x = placement.empty(lambda shape: np.empty(shape, dtype), (position + free + 1, row))
    assert x.shape == (position + free + 1, row)
    assert x.flags.c_contiguous
    assert x.flags.aligned
    assert (address(x[-1]) - (source.first_byte + at * row * size)) % SECTOR == 0


def test_rows_lie_anyhow_where_blocks_would_not_agree_or_there_is_no_file() -> None:
    source: Any = ArraySource(np.zeros((100, WIDTH), np.uint8))
    assert Placement.of(source, PERIOD) is None
    source.first_byte = 128
    assert Placement.of(source, PERIOD - 1) is None
    assert Placement.of(source, 3 * PERIOD) == Placement(128, PERIOD)


@given(row=st.integers(1, 10**5), window=st.integers(1, 10**6))
def test_blocks_are_whole_sectors_where_they_are_longer(row: int, window: int) -> None:
    rows = ArraySource(np.broadcast_to(np.uint8(1), (10**9, row)))
    block, period = StreamedDataset(rows, scale=1.0, window=window).block, SECTOR // math.gcd(SECTOR, row)
    assert 1 <= block <= window
    assert block % period == 0 or block < period


@past_the_cache
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rows", [13 * PERIOD, 13 * PERIOD + 7])
def test_rows_are_trained_on_without_a_copy(
    rows: int, shuffle: bool, tmp_path: Path, reads: Callable[..., Reads]
) -> None:
    x, y = saved(tmp_path / "x.npy", rows), RNG.integers(0, 3, rows)
    counted = reads()

    def trainer() -> Trainer:
        return Trainer(Sequential(Linear(WIDTH, 3), Softmax(), seed=2), optimizer=SGD(0.1, momentum=0.9))

    data = StreamedDataset(tmp_path / "x.npy", y, scale=1 / 255, window=5 * PERIOD, block=2 * PERIOD)
    streamed, expected = trainer(), trainer()
    streamed.fit(data, 3, BATCH, shuffle=shuffle)
    # Of each range the sectors at its ends go elsewhere first; so do blocks after one that is shorter, in its window.
    assert counted.straight > (2 / 3 if rows % PERIOD == 0 else 1 / 2) * 3 * x.nbytes
    assert (counted.together > 0) == (counted.at_once and shuffle)
    order = Order.of(rows, data.window, data.block, BATCH, seed=2, shuffled=shuffle)
    for epoch in range(1, 4):
        expected.fit(data[:][order.epoch(epoch)], 1, BATCH, shuffle=False)
    for name, found in streamed.model.parameters.items():
        np.testing.assert_array_equal(found, expected.model.parameters[name])


@past_the_cache
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_rows_that_are_not_held_out_are_read_past_the_cache_with_their_neighbours(
    dtype: str, tmp_path: Path, reads: Callable[..., Reads]
) -> None:
    rows = 40 * PERIOD + 5
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (rows, WIDTH)).astype(dtype))
    counted, y = reads(), RNG.integers(0, 3, rows)
    data = StreamedDataset(tmp_path / "x.npy", y, scale=1 / 255, window=10 * PERIOD, block=2 * PERIOD)
    kept, _ = data.split(0.1)
    assert kept.chosen is not None

    def trainer() -> Trainer:
        return Trainer(Sequential(Linear(WIDTH, 3), Softmax(), seed=2), optimizer=SGD(0.1, momentum=0.9))

    streamed, expected = trainer(), trainer()
    counted.straight = 0
    streamed.fit(kept, 2, BATCH)
    assert counted.straight > 1.5 * kept[:].x.nbytes
    assert (counted.together > 0) == counted.at_once
    order = Order.of(len(kept), kept.window, kept.block, BATCH, seed=2)
    for epoch in (1, 2):
        expected.fit(kept[:][order.epoch(epoch)], 1, BATCH, shuffle=False)
    for name, found in streamed.model.parameters.items():
        np.testing.assert_array_equal(found, expected.model.parameters[name])


@past_the_cache
@pytest.mark.parametrize("most", [None, 4608])
@pytest.mark.parametrize("sector", [SECTOR, 4096])
def test_any_rows_are_read_to_where_they_belong_and_nowhere_else(
    most: int | None, sector: int, tmp_path: Path, reads: Callable[..., Reads]
) -> None:
    x, source = saved(tmp_path / "x.npy", 500), NpySource(tmp_path / "x.npy")
    counted, placement = reads(most=most, sector=sector), Placement.of(source, PERIOD)
    assert placement is not None

    rooms = list[tuple[np.ndarray, int, range]]()

    def read() -> None:
        ranges = [
            range(*ends) for ends in ((0, 500), (0, PERIOD), (3, 17), (490, 500), (499, 500), (16, 432), (1, 500))
        ]
        together = list[tuple[range, np.ndarray]]()
        for rows in ranges:
            free = placement.skipped(rows.start, 0)
            for parts in (list[tuple[range, np.ndarray]](), together):
                room = placement.empty(lambda shape: np.full(shape, 7, np.uint8), (free + len(rows) + 40, WIDTH))
                parts.append((rows, room[free : free + len(rows)]))
                rooms.append((room, free, rows))
                if parts is not together:
                    source.read_parts(parts)
        source.read_parts(together)
        for room, free, rows in rooms:
            np.testing.assert_array_equal(room[free : free + len(rows)], x[rows.start : rows.stop])
            assert (room[:free] == 7).all()
            assert (room[free + len(rows) :] == 7).all()

    reading_ahead(read)
    assert (counted.straight > x.nbytes) == (sector == SECTOR)
    assert counted.elsewhere > 0
    assert (counted.together == 5) == (counted.at_once and sector == SECTOR)  # those of more than two sectors


@past_the_cache
@pytest.mark.parametrize(("lengths", "straight"), [((32, 48, 21), True), ((33, 48, 21), False), ((40,), True)])
def test_files_that_follow_each_other_in_whole_sectors_are_read_without_a_copy(
    lengths: tuple[int, ...], straight: bool, tmp_path: Path, reads: Callable[..., Reads]
) -> None:
    whole = np.concatenate([saved(tmp_path / f"{i}.npy", length, i) for i, length in enumerate(lengths)])
    joined = JoinedSource([NpySource(tmp_path / f"{i}.npy") for i in range(len(lengths))])
    placement, counted = Placement.of(joined, PERIOD), reads()
    assert (placement is not None) == straight
    if placement is None:
        return
    x = placement.empty(lambda shape: np.empty(shape, np.uint8), whole.shape)

    def read() -> None:
        ranges = [range(start, min(start + PERIOD, len(whole))) for start in range(0, len(whole), PERIOD)]
        read_ranges(joined, ranges, x)

    reading_ahead(read)
    np.testing.assert_array_equal(x, whole)
    assert counted.straight > whole.nbytes / 2
    assert (counted.together > len(lengths)) == counted.at_once

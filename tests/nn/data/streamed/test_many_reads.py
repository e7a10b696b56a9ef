"""Many reads of a file by one call of the system."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nn import DataError
from nn.data.streamed import ArraySource, NpySource
from nn.data.streamed.joined import JoinedSource
from nn.data.streamed.many_reads import MOST, NUMBERS, Context, ManyReads, Read, system_call
from nn.data.streamed.open_files import keep_files_open
from nn.data.streamed.placement import Placement, address
from nn.data.streamed.reading import read_ranges
from tests.helpers.reads import many_reads_or_skip, reading_ahead

X = np.random.default_rng(5).integers(0, 256, 30_000, dtype=np.uint8)


def into(*rooms: np.ndarray) -> list[tuple[int, int]]:
    return [(address(room), room.nbytes) for room in rooms]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file that has ``X``."""
    (tmp_path / "x").write_bytes(X.tobytes())
    descriptor = os.open(tmp_path / "x", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@given(
    wanted=st.lists(
        st.tuples(st.integers(0, 30_100), st.lists(st.integers(1, 3000), min_size=1, max_size=3)), max_size=11
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_read_finds_its_bytes(stored: int, wanted: list[tuple[int, list[int]]]) -> None:
    """Also beyond the end of the file."""
    many = many_reads_or_skip()
    rooms = [[np.full(size + 1, 7, np.uint8) for size in sizes] for _, sizes in wanted]
    reads = [Read(into(*(room[:-1] for room in each)), at) for (at, _), each in zip(wanted, rooms, strict=True)]
    counts = many(stored, reads)
    assert len(counts) == len(wanted)
    for (at, sizes), each, count in zip(wanted, rooms, counts, strict=True):
        assert count == len(X[at : at + sum(sizes)])
        found = np.concatenate([room[:-1] for room in each])
        np.testing.assert_array_equal(found[:count], X[at : at + count])
        assert (found[count:] == 7).all()
        assert all(room[-1] == 7 for room in each)


def test_more_reads_than_one_call_makes(stored: int) -> None:
    many, rooms = many_reads_or_skip(), np.zeros((2 * MOST + 5, 7), np.uint8)
    assert many(stored, [Read(into(room), 70 * i) for i, room in enumerate(rooms)]) == [7] * len(rooms)
    np.testing.assert_array_equal(rooms, X[: 70 * len(rooms)].reshape(-1, 70)[:, :7])


def test_what_cannot_be_read_is_not(stored: int, tmp_path: Path) -> None:
    many, rooms = many_reads_or_skip(), [np.zeros(100, np.uint8) for _ in range(6)]
    reads = [Read(into(room), at) for room, at in zip(rooms, (0, 100, -1, 300, 400, 500), strict=True)]
    assert many(stored, reads)[:3] == [100, 100, 0]
    folder = os.open(tmp_path, os.O_RDONLY)
    assert many(folder, reads[:2]) == [0, 0]
    os.close(folder)
    assert many(10**6, reads[:2]) == [0, 0]
    assert many(stored, [Read([(0, 100)], 0), *reads[:2]])[0] == 0  # no memory of this process
    assert many(stored, []) == []
    assert many(stored, reads[:2]) == [100, 100]
    np.testing.assert_array_equal(rooms[1], X[100:200])


class Getevents:
    """In place of ``system_call``: the next calls that wait for reads fail for these reasons."""

    def __init__(self) -> None:
        self.errors = list[int | BaseException]()

    def __call__(self, number: int, *args: Any) -> int:
        if number == NUMBERS[platform.machine()].getevents and self.errors:
            error = self.errors.pop()
            if isinstance(error, BaseException):
                raise error
            ctypes.set_errno(error)
            return -1
        return system_call(number, *args)


@pytest.fixture
def getevents(monkeypatch: pytest.MonkeyPatch) -> Getevents:
    found = Getevents()
    monkeypatch.setattr("nn.data.streamed.many_reads.system_call", found)
    return found


def test_a_signal_does_not_end_the_wait(stored: int, getevents: Getevents) -> None:
    many, room = many_reads_or_skip(), np.zeros(50, np.uint8)
    getevents.errors += [errno.EINTR, errno.EINTR]
    assert many(stored, [Read(into(room), 7)]) == [50]
    np.testing.assert_array_equal(room, X[7:57])
    assert not getevents.errors


@pytest.mark.parametrize("error", [errno.EINVAL, MemoryError()])
def test_nothing_is_in_flight_after_a_failure(stored: int, getevents: Getevents, error: int | MemoryError) -> None:
    """Reads are made one by one then, and no later one is taken for them."""
    many, rooms = many_reads_or_skip(), np.zeros((2, 50), np.uint8)
    getevents.errors.append(error)
    with suppress(MemoryError):
        assert many(stored, [Read(into(rooms[0]), 7)]) == [0]
    assert many(stored, [Read(into(rooms[1]), 7)]) == [0]
    assert not rooms[1].any()
    before = len(ManyReads.idle)
    del many
    gc.collect()
    assert len(ManyReads.idle) == before  # nobody else gets it


def test_the_next_thread_has_what_one_has_left(tmp_path: Path) -> None:
    many_reads_or_skip()
    np.save(tmp_path / "x.npy", X)
    source, out, made = NpySource(tmp_path / "x.npy"), np.zeros(20, np.uint8), list[int]()

    def read() -> None:
        before = len(ManyReads.idle)
        read_ranges(source, [range(0, 10), range(20, 30)], out)
        made.append(before - len(ManyReads.idle))

    for _ in range(3):
        reading_ahead(read)
    assert made == [1, 1, 1]
    np.testing.assert_array_equal(out, np.concatenate([X[:10], X[20:30]]))


@pytest.mark.parametrize(
    "setting", [("platform.machine", lambda: "abacus"), ("sys.platform", "else"), ("sys.maxsize", 2**31)]
)
def test_a_system_that_has_no_such_call(setting: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*setting)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        Context()


def test_a_system_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    many_reads_or_skip()

    def no_such_right(number: int, *args: Any) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr("nn.data.streamed.many_reads.system_call", no_such_right)
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        Context()


def refused() -> ManyReads:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("allowed", [True, False])
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    cuts=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), min_size=1, max_size=20),
    others=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_ranges_of_several_files(
    lengths: list[int],
    cuts: list[tuple[int, int]],
    others: bool,
    allowed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is read of its files, and written where it belongs, whether these can be read by ranges or not."""
    if not allowed:
        monkeypatch.setattr("nn.data.streamed.open_files.ManyReads", refused)
    arrays = [np.random.default_rng(i).integers(0, 99, (length, 5)).astype("f4") for i, length in enumerate(lengths)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    whole = np.concatenate(arrays)
    sources: list[Any] = [
        ArraySource(array) if others and number % 2 else NpySource(tmp_path / f"{number}.npy")
        for number, array in enumerate(arrays)
    ]
    ranges = [range(min(start, len(whole)), min(start + length, len(whole))) for start, length in cuts]
    out = np.zeros((sum(map(len, ranges)), 5), "f4")
    reading_ahead(lambda: read_ranges(JoinedSource(sources), ranges, out))
    np.testing.assert_array_equal(out, np.concatenate([whole[rows.start : rows.stop] for rows in ranges]))


@pytest.mark.parametrize("direct", [True, False], ids=["past the cache", "through the cache"])
@given(
    size=st.one_of(st.integers(0, 3007 * 96 + 128), st.integers(0, 563).map(lambda sectors: 512 * sectors)),
    cuts=st.sets(st.integers(1, 3006), max_size=40),
    order=st.randoms(use_true_random=False),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_file_that_has_become_shorter_is_told(
    size: int, cuts: set[int], order: Any, direct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what is wanted of it is still there. Nothing else is written to."""
    monkeypatch.setattr("nn.data.streamed.open_files.host_memory", lambda: (10, 20 if direct else 2**60))
    monkeypatch.setattr("nn.data.streamed.open_files.FileState.check", lambda *_: None)  # it happens after that
    x = np.random.default_rng(1).integers(1, 256, (3007, 96), np.uint8)
    np.save(tmp_path / "x.npy", x)
    source = NpySource(tmp_path / "x.npy")
    placement = Placement.of(source, 16)
    assert placement is not None
    os.truncate(tmp_path / "x.npy", size)
    ranges = [range(*ends) for ends in pairwise([0, *sorted(cuts), 3007])]
    order.shuffle(ranges)
    ranges = ranges[: order.randint(1, len(ranges))]
    out = placement.empty(lambda shape: np.zeros(shape, np.uint8), x.shape)
    parts = [(rows, out[rows.start : rows.stop]) for rows in ranges]
    if all(128 + rows.stop * 96 <= size for rows in ranges):
        reading_ahead(lambda: source.read_parts(parts))
        for rows, part in parts:
            np.testing.assert_array_equal(part, x[rows.start : rows.stop])
    else:
        with pytest.raises(DataError, match="has become shorter while it was read"):
            reading_ahead(lambda: source.read_parts(parts))
    others = np.ones(len(x), bool)
    for rows in ranges:
        others[rows.start : rows.stop] = False
    assert not out[others].any()


def test_threads_that_read_neighbours_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts share sectors, in memory as in the file."""
    monkeypatch.setattr("nn.data.streamed.open_files.host_memory", lambda: (10, 20))
    x = np.random.default_rng(1).integers(0, 256, (20_007, 96), np.uint8)
    np.save(tmp_path / "x.npy", x)
    source, dice = NpySource(tmp_path / "x.npy"), np.random.default_rng(2)
    placement = Placement.of(source, 16)
    assert placement is not None
    for count in (10, 300, 1500):
        out = placement.empty(lambda shape: np.full(shape, 7, np.uint8), x.shape)
        cuts = np.sort(dice.choice(np.arange(1, len(x)), count, replace=False)).tolist()
        ranges = [range(*ends) for ends in pairwise([0, *cuts, len(x)])]
        dice.shuffle(ranges)

        def read(first: int, ranges: list[range] = ranges, out: np.ndarray = out) -> None:
            keep_files_open()
            source.read_parts([(rows, out[rows.start : rows.stop]) for rows in ranges[first::4]])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, range(4)))
        np.testing.assert_array_equal(out, x)


def test_a_failing_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.arange(5000.0))
    source, out = NpySource(tmp_path / "x.npy"), np.empty(20)

    def fails(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fails, raising=False)
    monkeypatch.setattr("nn.data.streamed.open_files.ManyReads", lambda: lambda descriptor, reads: [0] * len(reads))
    with pytest.raises(DataError, match=f"x.npy cannot be read \\({os.strerror(errno.EIO)}"):
        reading_ahead(lambda: source.read_parts([(range(0, 10), out[:10]), (range(20, 30), out[10:])]))


def test_numbers_of_another_byte_order_are_no_bytes_to_be_read_as_they_are(tmp_path: Path) -> None:
    x = np.arange(5000.0).reshape(-1, 5)
    for name, dtype in (("same", "=f8"), ("other", np.dtype("=f8").newbyteorder())):
        np.save(tmp_path / f"{name}.npy", x.astype(dtype))
        source, out = NpySource(tmp_path / f"{name}.npy"), np.empty((20, 5))
        assert (source.first_byte is None) == (name == "other")
        read_ranges(source, [range(500, 510), range(7, 17)], out)
        np.testing.assert_array_equal(out, np.concatenate([x[500:510], x[7:17]]))

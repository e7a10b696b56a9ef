"""Many reads of a file by one call of the system."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nn import DataError
from nn.data.streamed import ArraySource, NpySource
from nn.data.streamed.joined import JoinedSource
from nn.data.streamed.many_reads import ManyReads, Read
from nn.data.streamed.open_files import keep_files_open
from nn.data.streamed.placement import address
from nn.data.streamed.reading import read_ranges

X = np.random.default_rng(5).integers(0, 256, 30_000, dtype=np.uint8)


def many_reads_or_skip(most: int = 4) -> ManyReads:
    try:
        return ManyReads(most)
    except OSError as error:
        pytest.skip(f"this system makes no reads together ({error.strerror})")


def into(*rooms: np.ndarray) -> list[tuple[int, int]]:
    return [(address(room), room.nbytes) for room in rooms]


@pytest.fixture
def stored(tmp_path: Path) -> int:
    """A descriptor of a file that has ``X``."""
    (tmp_path / "x").write_bytes(X.tobytes())
    return os.open(tmp_path / "x", os.O_RDONLY)


@given(
    wanted=st.lists(
        st.tuples(st.integers(0, 30_100), st.lists(st.integers(1, 3000), min_size=1, max_size=3)), max_size=11
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_read_finds_its_bytes(stored: int, wanted: list[tuple[int, list[int]]]) -> None:
    """Of any number, also more than are made at a time, and beyond the end of the file."""
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


def test_what_cannot_be_read_is_not(stored: int, tmp_path: Path) -> None:
    many, rooms = many_reads_or_skip(), [np.zeros(100, np.uint8) for _ in range(6)]
    reads = [Read(into(room), at) for room, at in zip(rooms, (0, 100, -1, 300, 400, 500), strict=True)]
    counts = many(stored, reads)
    assert counts[:3] == [100, 100, 0]
    assert counts[4:] == [100, 100]  # of the next call
    folder = os.open(tmp_path, os.O_RDONLY)
    assert many(folder, reads[:2]) == [0, 0]
    assert many(10**6, reads[:2]) == [0, 0]
    assert many(stored, [Read([(0, 100)], 0), *reads[:2]])[0] == 0
    assert many(stored, []) == []
    assert many(stored, reads[:2]) == [100, 100]
    np.testing.assert_array_equal(rooms[1], X[100:200])


def test_a_signal_does_not_end_the_wait(stored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    many, call, left = many_reads_or_skip(), ManyReads._call, [errno.EINTR, errno.EINTR]

    def interrupted(self: ManyReads, number: int, *args: Any) -> int:
        if number == self._numbers.getevents and left:
            ctypes.set_errno(left.pop())
            return -1
        return call(self, number, *args)

    monkeypatch.setattr(ManyReads, "_call", interrupted)
    room = np.zeros(50, np.uint8)
    assert many(stored, [Read(into(room), 7)]) == [50]
    np.testing.assert_array_equal(room, X[7:57])
    left.append(errno.EINVAL)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        many(stored, [Read(into(room), 7)])
    assert many._context.value == 0


@pytest.mark.parametrize(
    "setting", [("platform.machine", lambda: "abacus"), ("sys.platform", "else"), ("sys.maxsize", 2**31)]
)
def test_a_system_that_has_no_such_call(setting: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*setting)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        ManyReads(4)


def test_a_system_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    many_reads_or_skip()

    def no_such_right(self: ManyReads, number: int, *args: Any) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr(ManyReads, "_call", no_such_right)
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        ManyReads(4)


def refused(most: int) -> ManyReads:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def in_a_thread_that_reads_ahead(source: Any, ranges: Sequence[range], out: np.ndarray) -> None:
    def read() -> None:
        keep_files_open()
        read_ranges(source, ranges, out)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(read).result()


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
    in_a_thread_that_reads_ahead(JoinedSource(sources), ranges, out)
    np.testing.assert_array_equal(out, np.concatenate([whole[rows.start : rows.stop] for rows in ranges]))


def test_a_file_that_has_become_shorter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.arange(5000.0))
    source = NpySource(tmp_path / "x.npy")
    monkeypatch.setattr("nn.data.streamed.open_files.FileState.check", lambda *_: None)  # it happens after that
    os.truncate(tmp_path / "x.npy", 20_000)
    with pytest.raises(DataError, match="has become shorter while it was read"):
        in_a_thread_that_reads_ahead(source, [range(0, 10), range(4000, 4100), range(10, 20)], np.empty(120))


def test_a_failing_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.arange(5000.0))
    source = NpySource(tmp_path / "x.npy")

    def fails(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fails, raising=False)
    monkeypatch.setattr(
        "nn.data.streamed.open_files.ManyReads", lambda most: lambda descriptor, reads: [0] * len(reads)
    )
    with pytest.raises(DataError, match=f"x.npy cannot be read \\({os.strerror(errno.EIO)}"):
        in_a_thread_that_reads_ahead(source, [range(0, 10), range(20, 30)], np.empty(20))

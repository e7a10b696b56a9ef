"""What is no file, and files that grow: tables and IDX files that would take all memory, or never end."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import load_model
from nn.data import DataError, load_data, read_csv
from nn.data.archives import read_hdf5, read_npz
from nn.data.idx import read_idx
from nn.data.mnist import MNIST_SHA256
from nn.data.reading import LONGEST_LINE
from recipes import load
from tests.helpers.memory import at_most

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="it is about pipes and devices")

# ---- what is no file -------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[Path], Any]] = {
    "a.csv": read_csv,
    "a.tsv.gz": load_data,
    "a.parquet": read_csv,
    "a.npz": read_npz,
    "a.h5": read_hdf5,
    "train-images-idx3-ubyte": read_idx,
    "a.safetensors": load_model,
    "a.toml": lambda path: load(str(path)),
}


def make(kind: str, path: Path) -> None:
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    else:
        path.symlink_to(kind)


@POSIX
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a socket", "/dev/zero", "/dev/urandom", "/dev/null"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, monkeypatch: Any, name: str, kind: str) -> None:
    if name == "a.parquet":
        pytest.importorskip("pandas", reason="pandas is not installed")
    if name == "a.h5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 100 letters
    path = Path(name)
    make(kind, path)
    began = time.perf_counter()
    with pytest.raises(
        (ValueError, FileNotFoundError),
        match=rf"{name} is {'a device' if 'dev' in kind else kind}, not a file|is a folder",
    ):
        READERS[name](path)
    assert time.perf_counter() - began < 5


@POSIX
def test_a_pipe_among_the_files_of_mnist_is_none_of_them(tmp_path: Path) -> None:
    for name in MNIST_SHA256:
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte"):
        load_data("mnist", tmp_path)


# ---- files that grow -------------------------------------------------------------------------------------------------


@pytest.fixture
def little_memory() -> Iterator[None]:
    with at_most(3 << 30):
        yield


def packed(path: Path, begins: bytes, again: bytes, times: int, members: int = 1) -> Path:
    """A file compressed by gzip that has ``again`` so many times in each member; those after the first are all alike,
    and compressed once."""

    def member(begins: bytes) -> bytes:
        content = io.BytesIO()
        with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=9, mtime=0) as file:
            file.write(begins)
            for _ in range(times):
                file.write(again)
        return content.getvalue()

    path.write_bytes(member(begins) + (member(b"") * (members - 1) if members > 1 else b""))
    return path


ROWS = b"1,0\n1,1\n" * 60_000
BOMBS = {
    "rows": (b"a,label\n", ROWS, 145, 1),
    "members": (b"a,label\n", ROWS, 5, 29),
    "blank lines": (b"a,label\n1,0\n", b"\n" * 500_000, 140, 1),
    "a line": (b"a,label\n", b"1" * 1_000_000, 70, 1),
    "cells": (b"", b"1," * 500_000, 70, 1),
    "a cell in quotes": (b'a,label\n"', b"1\n" * 500_000, 70, 1),
}


@pytest.mark.parametrize("options", [{}, {"impute": "mean"}])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_table_does_not_grow_to_gigabytes(
    tmp_path: Path, little_memory: None, bomb: str, options: dict[str, Any]
) -> None:
    path = packed(tmp_path / "t.csv.gz", *BOMBS[bomb])
    assert path.stat().st_size < 200_000
    words = "has a line of more than 32 MB" if bomb in ("a line", "cells") else "unpacks to more than 67 MB from 0"
    with pytest.raises(DataError, match=rf"t\.csv\.gz ({words})") as caught:
        read_csv(path, **options)
    assert len(str(caught.value)) < 300
    if "unpacks" in str(caught.value):
        assert "gunzip" in str(caught.value)


def test_a_plain_line_is_not_read_to_its_end(tmp_path: Path, little_memory: None) -> None:
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.truncate(8 << 30)  # zeros that are on no disk
    with pytest.raises(DataError, match="has a line of more than 32 MB, which is no row of a table"):
        read_csv(path)


def test_a_regular_table_is_believed(tmp_path: Path) -> None:
    packed(tmp_path / "t.csv.gz", b"a,label\n", ROWS, 3, 2)
    assert len(read_csv(tmp_path / "t.csv.gz")) == 2 * 3 * 120_000


def test_forty_thousand_columns(tmp_path: Path) -> None:
    width = 40_000
    lines = [",".join([*(f"column {i}" for i in range(width)), "label"])]
    lines += [",".join([*(["1.5"] * width), str(row % 2)]) for row in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert sum(map(len, lines)) < LONGEST_LINE
    began = time.perf_counter()
    every: list[dict[str, Any]] = [{}, {"categorical": ()}]
    for options in every:
        assert read_csv(tmp_path / "t.csv", **options).x.shape == (3, width)
    assert time.perf_counter() - began < 60  # the square of the columns would take many minutes


@pytest.mark.parametrize(
    ("shape", "content", "message"),
    [
        ((400, 1024, 1024), 400, r"claims 0\.4 GB but has .* MB in the file, .*gunzip"),
        ((0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), 1, "is cut short"),
        ((10, 1024, 1024), 300, "goes on after"),
    ],
)
def test_a_small_idx_file_does_not_grow_to_gigabytes(
    tmp_path: Path, little_memory: None, shape: tuple[int, ...], content: int, message: str
) -> None:
    header = b"\0\0\x08" + struct.pack(f">B{len(shape)}I", len(shape), *shape)
    members = 20 if content > 20 else 1
    path = packed(tmp_path / "x.gz", header, bytes(1 << 20), content // members, members)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_an_archive_inside_is_no_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", ROWS)
    packed(tmp_path / "t.csv.gz", b"", (tmp_path / "t.zip").read_bytes(), 1)
    packed(tmp_path / "u.csv.gz", b"", packed(tmp_path / "inner.gz", b"", ROWS, 10).read_bytes(), 1)
    for name in ("t.csv.gz", "u.csv.gz"):
        with pytest.raises(DataError, match=rf"{name} is not (UTF-8 text|a CSV file)"):
            read_csv(tmp_path / name)


def test_lines_are_counted_as_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many lines that is larger than the longest line, by each of the three ends of lines."""
    longest = 1 << 20
    monkeypatch.setattr("nn.data.reading.LONGEST_LINE", longest)
    row = "1.5," * 2000 + "0"
    for end in ("\n", "\r\n", "\r"):
        lines = [row, row[:-1] + "1"] * (longest // len(row) // 2 + 2)
        (tmp_path / "t.csv").write_text(end.join(lines), newline="")
        assert (tmp_path / "t.csv").stat().st_size > longest
        data = load_data(tmp_path / "t.csv", limit=10, label=-1)
        assert np.array_equal(data.train.x, np.full((10, 2000), 1.5))

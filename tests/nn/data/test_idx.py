"""IDX files, good and bad."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from nn.data import DataError
from nn.data.idx import read_idx
from tests.helpers.idx_files import idx_bytes


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (2, 1100, 1000)])
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_is_read_back(tmp_path: Path, shape: tuple[int, ...], compressed: bool) -> None:
    array = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    content = idx_bytes(array)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    np.testing.assert_array_equal(read_idx(path), array)


GOOD_IDX = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
RANDOM_IDX = idx_bytes(np.random.default_rng(0).integers(0, 256, (10, 1000), dtype=np.uint8))
ZIPPED_IDX = gzip.compress(RANDOM_IDX, mtime=0)
BAD_IDX = {
    "empty": (b"", r"is not an IDX file \(it begins with b''\)"),
    "html": (b"<html>Sign in</html>", "is not an IDX file .*<htm"),
    "zipped html": (gzip.compress(b"<html>Sign in</html>", mtime=0), "is not an IDX file .*<htm"),
    "no dimensions": (b"\0\0\x08\0" + b"\0" * 8, "is not an IDX file"),
    "floats": (b"\0\0\x0d\x01" + GOOD_IDX[4:], r"type code 0x0d, but only unsigned bytes \(0x08\) are read"),
    "short header": (GOOD_IDX[:10], "ends within its header"),
    "cut": (GOOD_IDX[:-1], "cut short"),
    "zipped cut": (gzip.compress(RANDOM_IDX[:-7], mtime=0), "cut short: 9993 of 10000 values"),
    "too long": (GOOD_IDX + b"x", "goes on after the 60 values"),
    "zipped too long": (gzip.compress(GOOD_IDX + b"x", mtime=0), "goes on after the 60 values"),
    "no values": (idx_bytes(np.zeros((0, 4), np.uint8)), r"has no values \(its shape is \(0, 4\)\)"),
    "huge": (b"\0\0\x08\x03" + b"\xff" * 12, "cut short: its header says"),
    "zipped huge": (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12, mtime=0), "cut short: its header says"),
    "gzip cut": (ZIPPED_IDX[:-2000], "is damaged"),
    "gzip cut in its head": (ZIPPED_IDX[:5], "is damaged"),
    "gzip without its checksum": (ZIPPED_IDX[:-4], "is damaged"),
    "gzip with another checksum": (ZIPPED_IDX[:-8] + b"\1\2\3\4" + ZIPPED_IDX[-4:], "is damaged .*CRC"),
    "gzip with a bad block": (ZIPPED_IDX[:10] + b"\xff" * 50 + ZIPPED_IDX[60:], "is damaged"),
    "gzip with a tail": (ZIPPED_IDX + b"tail", "is damaged"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_a_bad_idx_file_is_named(tmp_path: Path, case: str) -> None:
    content, message = BAD_IDX[case]
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"some-idx3-ubyte .*{message}.*; ") as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing cannot be read \(No such file"):
        read_idx(tmp_path / "nothing")

"""Archives that somebody damaged, or made to harm whoever reads them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz.bombs import zeros
from nn.data.archives import read_hdf5, read_npz
from nn.data.checks import DataError
from tests.helpers.memory import at_most

#: More than any of these files may take; the bombs are of some gigabytes.
ENOUGH = 3 << 30
RANDOM = np.random.default_rng(3)
ROWS = RANDOM.integers(0, 256, (40, 9), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Whoever takes gigabytes gets a MemoryError."""
    with at_most(ENOUGH):
        yield


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def header(claim: str) -> bytes:
    """The header of an array of which it says so much."""
    text = claim.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def save_zip(path: Path, x: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x_train.npy", x)
        file.writestr("y_train.npy", npy(LABELS))
    return path


def test_what_is_made_here_is_read_where_nothing_is_wrong(tmp_path: Path) -> None:
    train, _ = read_npz(save_zip(tmp_path / "a.npz", npy(ROWS)))
    assert np.array_equal(train.x, ROWS)
    regular = np.zeros((4000, 784), np.uint8)  # shrinks by a thousand, and is small enough to be believed
    regular[0, 0] = 255
    np.savez_compressed(tmp_path / "b.npz", x_train=regular, y_train=np.arange(4000) % 2)
    assert read_npz(tmp_path / "b.npz")[0].x.shape == (4000, 784)


CLAIMS = {
    "another size": (header("{'descr': '|u1', 'fortran_order': False, 'shape': (40, 9000000000), }"), "is damaged"),
    "overflow": (header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62}), }}"), "is damaged"),
    "negative": (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-40, 9), }"), "is damaged"),
    "no size": (header("{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000, ), }"), "is damaged"),
    "objects": (header("{'descr': '|O', 'fortran_order': False, 'shape': (40, 9), }"), "never unpickled"),
    "not closed": (header("{'descr': '|u1', 'fortran_order': (((((((("), "is damaged"),
    "deep": (header("(" * 3000 + ")" * 3000), "is damaged"),
    "long": (header("{'descr': '|u1'," + " " * 60000 + "}"), "is damaged"),
    "no header": (b"\x93NUMPY", "is damaged"),
    "nothing": (b"", "is damaged"),
    "version 9": (b"\x93NUMPY\x09\x00" + npy(ROWS)[8:], "is damaged"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_headers_that_lie_are_refused(tmp_path: Path, claim: str) -> None:
    content, message = CLAIMS[claim]
    with pytest.raises(DataError, match=rf"a\.npz: x_train .*{message}") as caught:
        read_npz(save_zip(tmp_path / "a.npz", content + ROWS.tobytes()))
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


def test_a_small_file_does_not_grow_to_gigabytes(tmp_path: Path) -> None:
    path, chunk = tmp_path / "bomb.npz", bytes(1_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("x_train.npy", "w", force_zip64=True) as member:
            member.write(header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': (300, {len(chunk)}), }}"))
            for _ in range(300):
                member.write(chunk)
        file.writestr("y_train.npy", npy(np.arange(300) % 2))
    with pytest.raises(DataError, match=r"x_train claims 0\.3 GB but has .* store it uncompressed"):
        read_npz(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_never_uses_is_refused(tmp_path: Path, compression: int) -> None:
    with pytest.raises(DataError, match="compressed as NumPy never does"):
        read_npz(save_zip(tmp_path / "a.npz", npy(ROWS), compression))


def test_any_damaged_byte_of_an_npz_file_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_train=ROWS, y_train=LABELS)
    content, refused = path.read_bytes(), 0
    for trial in range(300):
        damaged = bytearray(content)
        for _ in range(1 + trial % 3):
            damaged[RANDOM.integers(len(damaged))] = RANDOM.integers(256)
        path.write_bytes(damaged)
        try:
            train, _ = read_npz(path)
        except DataError:
            refused += 1
        else:
            assert np.array_equal(train.x, ROWS)
            assert np.array_equal(train.y, LABELS)
    assert refused > 100


# ---- HDF5 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py", reason="h5py is not installed")


def save_hdf5(h5py: Any, path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x_train"], file["y_train"] = ROWS, LABELS
    return path


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual", "never written"])
def test_an_hdf5_file_reads_no_other_file_and_claims_no_memory(h5py: Any, tmp_path: Path, kind: str) -> None:
    other = save_hdf5(h5py, tmp_path / "other.h5")
    (tmp_path / "secret").write_bytes(ROWS.tobytes())
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["y_train"] = LABELS
        if kind == "external link":
            file["x_train"] = h5py.ExternalLink(str(other), "/x_train")
        elif kind == "soft link":
            file["elsewhere"] = h5py.ExternalLink(str(other), "/")
            file["x_train"] = h5py.SoftLink("/elsewhere/x_train")
        elif kind == "external storage":
            name = str(tmp_path / "secret").encode()
            file.create_dataset("x_train", ROWS.shape, "u1", external=[(name, 0, ROWS.size)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(ROWS.shape, "u1")
            layout[:] = h5py.VirtualSource(str(other), "x_train", ROWS.shape)
            file.create_virtual_dataset("x_train", layout)
        else:
            file.create_dataset("x_train", (40, 1_000_000_000), "f4", chunks=(1, 1000))
    words = {"external link": "is a link", "soft link": "is a link", "never written": "claims 160.0 GB"}
    with pytest.raises(DataError, match=rf"x_train {words.get(kind, 'lies in other files')}"):
        read_hdf5(path)


@pytest.mark.parametrize(
    ("chunks", "megabytes", "message"),
    [
        ((40, 9), 270, "x_train is damaged .a chunk is larger or smaller than it should be"),
        ((20_000, 100_000), 300, r"x_train claims 2\.0 GB but has 0\.3"),
    ],
)
def test_a_chunk_does_not_unpack_to_gigabytes(
    h5py: Any, tmp_path: Path, chunks: tuple[int, int], megabytes: int, message: str
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["y_train"] = LABELS
        options = {"maxshape": (None, None), "chunks": chunks, "compression": "gzip"}
        x = file.create_dataset("x_train", ROWS.shape, "u1", **options)
        x.id.write_direct_chunk((0, 0), zeros(megabytes))
    with pytest.raises(DataError, match=message):
        read_hdf5(path)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True}])
def test_a_chunk_that_is_too_short_is_not_filled_with_what_lies_in_memory(
    h5py: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["y_train"] = LABELS
        x = file.create_dataset("x_train", ROWS.shape, "u1", chunks=ROWS.shape, **options)
        half = ROWS[:20].tobytes()
        x.id.write_direct_chunk((0, 0), zlib.compress(half) if "compression" in options else half)
    with pytest.raises(DataError, match=r"x_train is damaged \(a chunk is larger or smaller than it should be"):
        read_hdf5(path)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("fletcher32", [False, True])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_chunks_of_every_kind_are_read(
    h5py: Any, tmp_path: Path, compression: str | None, fletcher32: bool, shuffle: bool
) -> None:
    options = {"compression": compression, "fletcher32": fletcher32, "shuffle": shuffle, "chunks": (7, 4)}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y_train"] = LABELS
        file.create_dataset("x_train", data=ROWS.astype("<f4"), **options)
    np.testing.assert_array_equal(read_hdf5(tmp_path / "a.h5")[0].x, ROWS)


def test_large_chunks_that_are_what_they_say_are_read(h5py: Any, tmp_path: Path) -> None:
    rows = RANDOM.integers(0, 256, (400, 2000), dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y_train"] = np.arange(400) % 4
        file.create_dataset("x_train", data=rows, chunks=rows.shape, compression="gzip", shuffle=True, fletcher32=True)
    assert np.array_equal(read_hdf5(tmp_path / "a.h5")[0].x, rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "f4"}, r"x_train was never written, though it has a shape, \(40, 9\)"),
        ({"dtype": "f4", "chunks": (4, 9), "fillvalue": 1.0}, "x_train was never written"),
        ({"data": "empty"}, "x_train holds nothing"),
        ({"dtype": "S3"}, "x_train was never written"),
    ],
)
def test_an_hdf5_array_without_numbers_is_refused(
    h5py: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    options = {"data": h5py.Empty("f4")} if "data" in options else {"shape": (40, 9)} | options
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y_train"] = LABELS
        file.create_dataset("x_train", **options)
    with pytest.raises(DataError, match=message):
        read_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize(("filters", "message"), [((32004,), "compressed by"), ((1, 1), "compressed several times")])
def test_compression_that_cannot_be_undone_here_is_refused(
    h5py: Any, tmp_path: Path, filters: tuple[int, ...], message: str
) -> None:
    low = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    low.set_chunk(ROWS.shape)
    for code in filters:
        low.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (9,) if code == 1 else ())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y_train"] = LABELS
        space = h5py.h5s.create_simple(ROWS.shape)
        x = h5py.h5d.create(file.id, b"x_train", h5py.h5t.NATIVE_UINT8, space, low)
        x.write_direct_chunk((0, 0), ROWS.tobytes())
    with pytest.raises(DataError, match=rf"x_train is {message}.*; store it with gzip"):
        read_hdf5(tmp_path / "a.h5")


def test_names_are_printable_in_messages(h5py: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x\x1b[31m\n\u202e"] = ROWS
    with pytest.raises(DataError, match=r"it has x.x1b\[31m.n.u202e") as caught:
        read_hdf5(tmp_path / "a.h5")
    assert str(caught.value).isprintable()


def test_any_damaged_byte_of_an_hdf5_file_is_refused_or_read(h5py: Any, tmp_path: Path) -> None:
    path = save_hdf5(h5py, tmp_path / "a.h5")
    content, refused = path.read_bytes(), 0
    for trial in range(300):
        damaged = bytearray(content)
        for _ in range(1 + trial % 5):
            damaged[RANDOM.integers(len(damaged))] = RANDOM.integers(256)
        path.write_bytes(damaged)
        try:
            read_hdf5(path)
        except DataError:
            refused += 1
    assert refused > 20

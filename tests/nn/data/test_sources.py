"""Where rows come from: files made here, good and bad; no test downloads anything."""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
import pickle
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest

from nn.data import DataError, UnitsWarning, idx, mnist, sources
from nn.data.archives import read_hdf5, read_npz
from nn.data.idx import read_idx
from nn.data.sources import load_data, load_digits
from nn.data.tables import read_csv


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, no folder of data, and no way to the network."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a test tried to download")

    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)


def idx_bytes(array: np.ndarray) -> bytes:
    dimensions = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + dimensions + array.tobytes()


# ---- digits ----------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    digits = load_digits()
    assert digits.x.shape == (1797, 64)
    assert digits.x.dtype == np.uint8
    assert (digits.x.min(), digits.x.max()) == (0, 16)
    assert (digits.scale, digits.image_shape, digits.n_classes) == (1 / 16, (8, 8), 10)
    assert digits.y[:5].tolist() == [0, 1, 2, 3, 4]


def test_digits_are_divided_by_class_and_shuffled() -> None:
    data = load_data()
    assert data.name == "digits"
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (1437, 360)
    share = np.bincount(data.test.y) / np.bincount(load_digits().y)
    assert np.all(np.abs(share - 0.2) < 0.01)
    assert set(data.train.y[:60]) == set(range(10))
    again, other = load_data("digits", seed=0), load_data("digits", seed=1)
    np.testing.assert_array_equal(data.train.x, again.train.x)
    assert not np.array_equal(data.train.x, other.train.x)


def test_limit_and_test_fraction() -> None:
    data = load_data("digits", limit=50, test_fraction=0.5)
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (50, 50)
    np.testing.assert_array_equal(data.train.x, load_data("digits", test_fraction=0.5).train.x[:50])
    whole = load_data("digits", test_fraction=0)
    assert whole.test is None
    assert len(whole.train) == 1797
    huge = load_data("digits", limit=10**6)
    assert len(huge.train) == 1437
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit must be a whole number of at least 1, not {limit}"):
            load_data("digits", limit=limit)
    with pytest.raises(DataError, match=r"digits has no test rows, .*between 0 and 1, not be 1\.5"):
        load_data("digits", test_fraction=1.5)


def test_it_is_known_whether_test_rows_were_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\n" + "1,a\n2,b\n" * 20)
    arrays: dict[str, Any] = {"x": np.eye(20, dtype=np.float32), "y": np.arange(20) % 2}
    np.savez(
        tmp_path / "apart.npz", **{f"{name}{part}": a for name, a in arrays.items() for part in ("_train", "_test")}
    )
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    for source in ("digits", tmp_path / "a.csv", tmp_path / "x.npy"):
        assert load_data(source).divided
        assert not load_data(source, test_fraction=0).divided
    assert load_data(tmp_path / "x.npy", window=4).divided
    assert not load_data(tmp_path / "apart.npz").divided


def test_unknown_sources_are_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'diggits' is neither .* known are 'digits', 'mnist', a file \.npz, .* or \.zarr$"
    ):
        load_data("diggits")
    with pytest.raises(DataError, match=r"missing\.npz' is neither a file"):
        load_data(tmp_path / "missing.npz")
    with pytest.raises(DataError, match=r"is a folder; .*'mnist'.*data_dir"):
        load_data(tmp_path)
    (tmp_path / "data.txt").write_text("1,2\n")
    with pytest.raises(DataError, match=r"data\.txt has an ending"):
        load_data(tmp_path / "data.txt")


# ---- IDX -------------------------------------------------------------------------------------------------------------


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


# ---- MNIST, with small files instead of its own ----------------------------------------------------------------------


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The content of four small files that pass for MNIST's."""
    rng = np.random.default_rng(0)
    files = {}
    for half, n in (("train", 30), ("t10k", 20)):
        files[f"{half}-images-idx3-ubyte"] = idx_bytes(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{half}-labels-idx1-ubyte"] = idx_bytes((np.arange(n) % 10).astype(np.uint8))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert hashes.keys() == mnist.MNIST_SHA256.keys()
    monkeypatch.setattr(mnist, "MNIST_SHA256", hashes)
    return files


def write(folder: Path, files: dict[str, bytes], ending: str = "", dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / ((name.replace("-idx", ".idx") if dotted else name) + ending)
        path.write_bytes(gzip.compress(content, mtime=0) if ending else content)
    return folder


def check_small_mnist(data: sources.Data, files: dict[str, bytes]) -> None:
    assert data.test is not None
    for half, rows in (("train", data.train), ("t10k", data.test)):
        assert rows.x.tobytes() == files[f"{half}-images-idx3-ubyte"][16:]
        assert rows.y.tolist() == list(files[f"{half}-labels-idx1-ubyte"][8:])
        assert rows.x.shape == (len(rows), 784)
        assert (rows.scale, rows.image_shape, rows.n_classes) == (1 / 255, (28, 28), 10)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_from_a_folder(tmp_path: Path, small_mnist: dict[str, bytes], ending: str, dotted: bool) -> None:
    folder = write(tmp_path / "data", small_mnist, ending, dotted)
    check_small_mnist(load_data("mnist", folder), small_mnist)
    assert load_data("mnist", folder).name == "mnist"
    limited = load_data("MNIST", folder, limit=25)
    assert limited.test is not None
    assert (len(limited.train), len(limited.test), limited.train.n_classes) == (25, 20, 10)


def test_the_hash_of_a_file_that_is_read_in_pieces(
    tmp_path: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "CHUNK", 100)  # several pieces to a file, and a rest
    check_small_mnist(load_data("mnist", write(tmp_path / "data", small_mnist)), small_mnist)


def test_mnist_from_the_environment_unless_a_folder_is_given(
    tmp_path: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data", small_mnist)
    monkeypatch.setenv("XPNET_DATA", str(folder))
    check_small_mnist(load_data("mnist"), small_mnist)
    with pytest.raises(DataError, match=r"other has no train-images-idx3-ubyte, .*--data-dir.*XPNET_DATA"):
        load_data("mnist", tmp_path / "other")


def test_mnist_from_the_cache(tmp_path: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNET_DATA", "")
    write(tmp_path / "cache" / "xpnet" / "mnist", small_mnist, ".gz")
    check_small_mnist(load_data("mnist"), small_mnist)


def test_the_classes_of_mnist_are_ten_whichever_are_there(
    tmp_path: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for half, n in (("train", 30), ("t10k", 20)):
        name = f"{half}-labels-idx1-ubyte"
        small_mnist[name] = idx_bytes((np.arange(n) % 3).astype(np.uint8))
        monkeypatch.setitem(mnist.MNIST_SHA256, name, hashlib.sha256(small_mnist[name]).hexdigest())
    data = load_data("mnist", write(tmp_path / "data", small_mnist))
    assert data.train.class_names == tuple("0123456789")


@pytest.mark.parametrize("name", mnist.MNIST_SHA256)
def test_a_file_that_is_not_mnists_is_named(tmp_path: Path, small_mnist: dict[str, bytes], name: str) -> None:
    changed = bytes([small_mnist[name][-1] ^ 1])
    folder = write(tmp_path / "data", small_mnist | {name: small_mnist[name][:-1] + changed}, ".gz")
    with pytest.raises(DataError, match=rf"{name}\.gz is not the MNIST file .*SHA-256.*\.npz"):
        load_data("mnist", folder)


def test_images_and_labels_that_differ_in_number_are_both_named(tmp_path: Path, small_mnist: dict[str, bytes]) -> None:
    labels = {"t10k-labels-idx1-ubyte": idx_bytes(np.zeros(19, np.uint8))}
    folder = write(tmp_path / "data", small_mnist | labels)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte has 20 rows but .*t10k-labels-idx1-ubyte has 19"):
        load_data("mnist", folder)


class Mirrors:
    """Stands in for pooch's HTTP downloader, to write what each mirror sends, or raise it."""

    def __init__(self, sends: dict[str, dict[str, bytes] | Exception]) -> None:
        self.sends = sends
        self.asked: list[str] = []

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        self.asked.append(url)
        mirror, name = url.rsplit("/", 1)
        sent = self.sends[mirror + "/"]
        if isinstance(sent, Exception):
            raise sent
        Path(output_file).write_bytes(sent[name])


def use(monkeypatch: pytest.MonkeyPatch, *sends: dict[str, bytes] | Exception) -> Mirrors:
    mirrors = Mirrors(dict(zip(mnist.MNIST_MIRRORS, sends, strict=True)))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", lambda self, *args: mirrors(*args))
    return mirrors


def zipped(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "xpnet" / "mnist"


def test_mnist_is_downloaded_once(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[logging.LogRecord] = []
    level = pooch.get_logger().level
    monkeypatch.setattr(pooch.get_logger(), "handle", said.append)
    mirrors = use(monkeypatch, zipped(small_mnist), AssertionError("the second mirror was not needed"))
    check_small_mnist(load_data("mnist", progress=False), small_mnist)
    first = mnist.MNIST_MIRRORS[0]
    assert mirrors.asked == [f"{first}{name}.gz" for name in mnist.MNIST_SHA256]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == small_mnist  # quicker to read than zipped
    check_small_mnist(load_data("mnist"), small_mnist)
    assert len(mirrors.asked) == 4
    assert capfd.readouterr() == ("", "")
    assert said == []
    assert pooch.get_logger().level == level


def test_the_second_mirror_is_asked_when_the_first_fails(
    small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mirrors = use(monkeypatch, ConnectionError("no route to host"), zipped(small_mnist))
    check_small_mnist(load_data("mnist"), small_mnist)
    assert [url.startswith(mnist.MNIST_MIRRORS[1]) for url in mirrors.asked] == [False, True] * 4
    assert "train-images-idx3-ubyte" in capfd.readouterr().err  # the bar


def test_a_mirror_that_sends_something_else_is_passed_over(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = dict.fromkeys(zipped(small_mnist), b"<html>Sign in to this network</html>")
    use(monkeypatch, page, zipped(small_mnist))
    check_small_mnist(load_data("mnist", progress=False), small_mnist)
    assert len(list(cache.iterdir())) == 4


def test_only_missing_and_damaged_files_are_downloaded(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache, small_mnist, ".gz")
    (cache / "train-labels-idx1-ubyte.gz").unlink()
    damaged = cache / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    mirrors = use(monkeypatch, zipped(small_mnist), AssertionError("not needed"))
    check_small_mnist(load_data("mnist", progress=False), small_mnist)
    names = [url.rsplit("/", 1)[1] for url in mirrors.asked]
    assert names == ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"]
    plain = cache / "t10k-images-idx3-ubyte"
    plain.write_bytes(plain.read_bytes()[:-100])
    check_small_mnist(load_data("mnist", progress=False), small_mnist)
    assert mirrors.asked[2:] == [f"{mnist.MNIST_MIRRORS[0]}{plain.name}.gz"]


def test_when_every_mirror_fails_the_reasons_and_remedies_are_named(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {name: gzip.compress(GOOD_IDX, mtime=0) for name in zipped(small_mnist)}
    use(monkeypatch, ConnectionError("no route to host\nand more"), other)
    with pytest.raises(DataError) as caught:
        load_data("mnist", progress=False)
    message = str(caught.value)
    for part in (str(cache), "no route to host", "is not the MNIST file", "--data-dir", "XPNET_DATA", "--data digits"):
        assert part in message
    assert "\n" not in message
    assert len(message.replace(str(cache), "")) < 300
    assert list(cache.iterdir()) == []  # nothing that could be taken for a file the next time


def test_a_download_that_fails_leaves_a_damaged_file_where_it_is(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache, small_mnist, ".gz")
    damaged = cache / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    use(monkeypatch, ConnectionError("no route to host"), {f"{damaged.stem}.gz": b"half of it"})
    with pytest.raises(DataError, match="MNIST could not be downloaded"):
        load_data("mnist", progress=False)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_a_file_that_cannot_be_read_for_a_moment_is_neither_deleted_nor_downloaded(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache, small_mnist, "")
    mirrors = use(monkeypatch, zipped(small_mnist), zipped(small_mnist))
    real, moment = Path.open, [True]

    def open_later(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path.name == "t10k-images-idx3-ubyte" and moment[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", open_later)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte cannot be read \(Input/output error\)"):
        load_data("mnist", progress=False)
    moment[0] = False
    check_small_mnist(load_data("mnist", progress=False), small_mnist)
    assert mirrors.asked == []


def test_what_a_killed_download_left_goes_with_the_next_one(
    cache: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / f"{mnist.DOWNLOADING}killed").mkdir(parents=True)
    (cache / f"{mnist.DOWNLOADING}killed" / "draft.gz").write_bytes(b"half")
    (cache / f".{'0' * 32}.xpnet-draft").write_bytes(b"half")
    use(monkeypatch, zipped(small_mnist), AssertionError("not needed"))
    check_small_mnist(load_data("mnist", progress=False), small_mnist)
    assert sorted(path.name for path in cache.iterdir()) == sorted(small_mnist)


def test_parallel_first_downloads_share_one(small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = use(monkeypatch, zipped(small_mnist), AssertionError("not needed"))
    with ThreadPoolExecutor(4) as pool:
        for loaded in pool.map(lambda _: load_data("mnist", progress=False), range(4)):
            check_small_mnist(loaded, small_mnist)
    assert len(mirrors.asked) == 4


def test_a_cache_that_cannot_be_made_is_named(
    tmp_path: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"the cache for MNIST, .*, cannot be made .* --data-dir or XPNET_DATA"):
        load_data("mnist", progress=False)


def test_the_real_mnist_files(mnist_dir: Path) -> None:
    data = load_data("mnist", mnist_dir)
    assert data.test is not None
    assert data.train.x.shape == (60_000, 784)
    assert data.test.x.shape == (10_000, 784)
    assert data.train.x.dtype == np.uint8
    assert data.train.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(data.train.y)[0] == 5923
    assert abs(float(data.train.x.mean()) / 255 - 0.1307) < 1e-4


# ---- npz and HDF5 ----------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
ARRAYS: dict[str, np.ndarray] = {
    "x_train": RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8),
    "y_train": np.arange(12, dtype=np.uint8) % 3,
    "x_test": RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8),
    "y_test": np.arange(6, dtype=np.uint8) % 3,
}


def save_npz(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def save_hdf5(path: Path, arrays: dict[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


SAVE = {"data.npz": save_npz, "data.h5": save_hdf5, "data.HDF5": save_hdf5}


@pytest.fixture(params=SAVE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_four_arrays(tmp_path: Path, name: str) -> None:
    data = load_data(SAVE[name](tmp_path / name, ARRAYS))
    assert data.name == name
    assert data.test is not None
    for half, rows in (("train", data.train), ("test", data.test)):
        np.testing.assert_array_equal(rows.x, ARRAYS[f"x_{half}"].reshape(-1, 16))
        np.testing.assert_array_equal(rows.y, ARRAYS[f"y_{half}"])
        assert rows.x.dtype == np.uint8
        assert (rows.scale, rows.image_shape, rows.n_classes) == (1 / 255, (4, 4), 3)


def test_two_arrays_are_divided(tmp_path: Path, name: str) -> None:
    path = SAVE[name](tmp_path / name, {key: ARRAYS[key] for key in ("x_train", "y_train")})
    data = load_data(path, test_fraction=0.25)
    assert data.test is not None
    assert np.bincount(data.train.y).tolist() == [3, 3, 3]
    assert np.bincount(data.test.y).tolist() == [1, 1, 1]


def test_floats_are_taken_as_scaled_already(tmp_path: Path, name: str) -> None:
    scaled = {key: array / np.float32(255) if key[0] == "x" else array for key, array in ARRAYS.items()}
    train = load_data(SAVE[name](tmp_path / name, scaled)).train
    assert train.x.dtype == np.float32
    assert train.scale == 1.0
    np.testing.assert_array_equal(train.x, scaled["x_train"].reshape(12, 16))


@pytest.mark.parametrize(
    ("n_features", "high", "dtype", "scale", "image_shape"),
    [
        (64, 255, "uint8", 1 / 255, (8, 8)),
        (64, 255, "int64", 1 / 255, (8, 8)),
        (64, 255, "float32", 1 / 255, (8, 8)),
        (64, 16, "uint8", 1.0, None),
        (65, 255, "uint8", 1.0, None),
        (192, 255, "uint8", 1 / 255, None),
        (16, 255, "uint8", 1.0, None),
    ],
)
def test_flat_rows_are_pixels_by_their_numbers(
    tmp_path: Path, n_features: int, high: int, dtype: str, scale: float, image_shape: tuple[int, int] | None
) -> None:
    x = np.zeros((12, n_features), dtype)
    x[3, 5] = high
    train, test = read_npz(save_npz(tmp_path / "a.npz", {"x_train": x, "y_train": ARRAYS["y_train"]}))
    assert (train.scale, train.image_shape) == (scale, image_shape)
    np.testing.assert_array_equal(train.x, x)
    assert test is None


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
@pytest.mark.parametrize("high", [16, 255])
def test_test_rows_are_in_the_units_of_the_training_rows(tmp_path: Path, name: str, high: int, dtype: str) -> None:
    """Also where they are all dark, or of another dtype."""
    x_train = np.minimum(ARRAYS["x_train"], high)
    data = load_data(SAVE[name](tmp_path / name, ARRAYS | {"x_train": x_train, "x_test": np.full((6, 4, 4), 9, dtype)}))
    assert data.test is not None
    assert data.train.scale == data.test.scale == (1 / 255 if high == 255 else 1.0)
    np.testing.assert_array_equal(data.test.features("float64"), 9 * data.train.scale)


def test_test_rows_in_other_units_get_a_warning(tmp_path: Path, name: str) -> None:
    path = SAVE[name](tmp_path / name, ARRAYS | {"x_test": ARRAYS["x_test"] / 255})
    with pytest.warns(UnitsWarning, match=rf"{name}: x_test goes from 0 to 1: multiply by 255"):
        load_data(path)


@pytest.mark.parametrize("y", [ARRAYS["y_train"].astype(float), np.eye(3)[ARRAYS["y_train"]]])
def test_whole_floats_and_one_hot_rows_are_labels_in_a_file(tmp_path: Path, name: str, y: np.ndarray) -> None:
    train = load_data(SAVE[name](tmp_path / name, ARRAYS | {"y_train": y})).train
    np.testing.assert_array_equal(train.y, ARRAYS["y_train"])
    assert train.y.dtype == np.int64


def without(*names: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in ARRAYS.items() if key not in names}


NAN_ROWS = np.zeros((12, 16))
NAN_ROWS[5, 3] = np.nan
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": (without("y_train"), r" lacks y_train \(it has x_test, x_train, y_test\)"),
    "nothing": ({}, r" lacks x_train and y_train \(it has nothing\)"),
    "half a test": (without("y_test"), r" lacks y_test \(it has "),
    "the other half": (without("x_test"), r" lacks x_test \(it has "),
    "lengths": (ARRAYS | {"y_train": np.zeros(11, int)}, ": x_train has 12 rows but .*: y_train has 11"),
    "NaN": (ARRAYS | {"x_train": NAN_ROWS}, r": x_train\[5, 3\] is nan"),
    "fraction": (ARRAYS | {"y_train": np.full(12, 0.5)}, r": y_train\[0\] is 0\.5, which is no class"),
    "fraction among numbers": (
        ARRAYS | {"y_train": np.arange(12) - 0.5},
        r": y_train\[0\] is -0\.5, which is no class",
    ),
    "value": (ARRAYS | {"y_train": np.arange(12) * 10_001}, r": y_train\[10\] is 100010, which looks like a value"),
    "new class": (
        ARRAYS | {"y_test": np.array([0, 1, 2, 3, 1, 2])},
        r": y_test\[3\] is 3, outside the classes 0 to 2 \(the labels of y_train\)",
    ),
    "one-hot": (ARRAYS | {"y_train": np.zeros((12, 3))}, r": y_train\[0\] is not one-hot"),
    "shapes": (ARRAYS | {"x_test": np.zeros((6, 4, 5), np.uint8)}, r": x_train has rows \(4, 4\) .* x_test \(4, 5\)"),
    "flat and not": (ARRAYS | {"x_test": np.zeros((6, 8, 2))}, r": x_train has rows \(4, 4\) but x_test \(8, 2\); "),
    "empty": (ARRAYS | {"x_train": np.zeros((0, 4)), "y_train": np.zeros(0)}, ": x_train is empty"),
    "complex": (ARRAYS | {"x_train": np.zeros((12, 4), complex)}, ": x_train has complex numbers"),
    "text": (ARRAYS | {"y_train": np.array([b"cat"] * 12)}, ": y_train has text in it"),
}


def test_arrays_may_be_called_x_and_y(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    short = {"x": ARRAYS["x_train"], "y": ARRAYS["y_train"]}
    for arrays in (short, short | {half: ARRAYS[half] for half in ("x_test", "y_test")}):
        expected = load_data(SAVE[name](path, ARRAYS), test_fraction=0)
        found = load_data(SAVE[name](path, arrays), test_fraction=0)
        np.testing.assert_array_equal(found.train.x, expected.train.x)
        np.testing.assert_array_equal(found.train.y, expected.train.y)
        assert (found.test is None) == (arrays is short)
    for window in (5, None) if path.suffix != ".npz" else ():
        streamed = load_data(path, window=window)
        np.testing.assert_array_equal(streamed.train.y, ARRAYS["y_train"])
    with pytest.raises(DataError, match=r" lacks y \(it has x\); store the arrays x and y, or x_train and y_train"):
        load_data(SAVE[name](path, {"x": ARRAYS["x_train"]}))


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_named(tmp_path: Path, name: str, case: str) -> None:
    arrays, message = BAD_ARRAYS[case]
    path = SAVE[name](tmp_path / name, arrays)
    with pytest.raises(DataError, match=f"{name}{message}"):
        load_data(path)


def test_a_training_set_may_skip_a_class(tmp_path: Path) -> None:
    gap = ARRAYS | {"y_train": np.where(ARRAYS["y_train"] == 1, 4, ARRAYS["y_train"])}
    train, test = read_npz(save_npz(tmp_path / "a.npz", gap))
    assert test is not None
    assert (train.n_classes, test.n_classes) == (5, 5)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    save_npz(tmp_path / "a.npz", ARRAYS | {"y_train": np.array([Trap()] * 12, object)})
    with pytest.raises(DataError, match=r"a\.npz: y_train holds Python objects, which are never unpickled"):
        load_data(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"b\.npz is not an \.npz file"):
        load_data(tmp_path / "b.npz")
    assert not trap.exists()


def test_damaged_npz_files_are_named(tmp_path: Path) -> None:
    good = save_npz(tmp_path / "good.npz", ARRAYS).read_bytes()
    start = good.index(b"x_train.npy")
    bad = {
        "empty": (b"", r"bad\.npz is damaged"),
        "cut": (good[:-100], r"bad\.npz is damaged"),
        "changed": (good[: start + 60] + bytes(40) + good[start + 100 :], r"bad\.npz: x_train is damaged"),
        "text": (b"x_train,y_train\n", r"bad\.npz is not an \.npz file"),
    }
    for content, message in bad.values():
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / "bad.npz")
    with (tmp_path / "bad.npz").open("wb") as file:
        np.save(file, ARRAYS["x_train"])
    with pytest.raises(DataError, match=r"bad\.npz is a single array"):
        load_data(tmp_path / "bad.npz")


def test_damaged_hdf5_files_are_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path = save_hdf5(tmp_path / "a.h5", ARRAYS)
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.h5 is damaged"):
            load_data(path)
    path = save_hdf5(tmp_path / "b.h5", without("y_train"))
    with h5py.File(path, "a") as file:
        file.create_group("y_train")
    with pytest.raises(DataError, match=r"b\.h5: y_train is a group"):
        load_data(path)
    with h5py.File(path, "a") as file:
        del file["y_train"]
        file["y_train"] = h5py.SoftLink("/nowhere")
    with pytest.raises(DataError, match=r"b\.h5: y_train is a link, which is not followed"):
        load_data(path)


def test_without_h5py_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"a\.h5 needs h5py to be read: pip install h5py"):
        read_hdf5(tmp_path / "a.h5")


# ---- CSV -------------------------------------------------------------------------------------------------------------


def table(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a,b,label\n1.5,2,0\n3,4,1\n5,6,2\n",
        "a,b,c\n1.5,2,0\n3,4,1\n5,6,2\n",
        "1.5,2,0\n3,4,1\n5,6,2\n",
        "1.5,2,0\n3,4,1\n5,6,2",
        "\n1.5,2,0\n\n3,4,1\n5,6,2\n\n",
        "LABEL,a,b\n0,1.5,2\n1,3,4\n2,5,6\n",
        "a, Label ,b\r\n1.5, 0,2\r\n3,1 ,4\r\n5,2,6\r\n",
        '"a","label","b"\n"1.5","0","2"\n3,1,4\n5,2,6\n',
        '"a\nb","label",c\n1.5,0,2\n3,1,4\n5,2,6\n',
        "\ufefflabel,a,b\n0.0,1.5,2\n1.0,3,4\n2e0,5,6\n",
        "0,1,label\n1.5,2,0\n3,4,1\n5,6,2\n",
    ],
)
@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz", "T.CSV"])
def test_an_ordinary_table(tmp_path: Path, text: str, file: str) -> None:
    data = load_data(table(tmp_path, text, file), test_fraction=0)
    np.testing.assert_array_equal(data.train.x, [[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert data.train.x.dtype == np.float64
    assert data.train.y.tolist() == [0, 1, 2]
    assert (data.train.scale, data.train.image_shape, data.train.n_classes) == (1.0, None, 3)


def test_small_integers_in_a_table_are_not_pixels(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "a,b,c,d,label\n0,255,17,3,0\n1,2,3,4,1\n"))
    assert data.x.dtype == np.float64
    assert (data.scale, data.image_shape) == (1.0, None)
    np.testing.assert_array_equal(data.x, [[0, 255, 17, 3], [1, 2, 3, 4]])


def pixel_table(tmp_path: Path, x: np.ndarray, header: str = "") -> Path:
    """Rows with their number as the label in front, under a header that says so."""
    names = ["label", *(f"{header or 'c'}{i}" for i in range(x.shape[1]))]
    rows = [",".join(str(cell) for cell in (label, *row)) for label, row in enumerate(x.tolist())]
    return table(tmp_path, "\n".join([",".join(names), *rows]))


@pytest.mark.parametrize(
    ("x", "header", "scale", "image_shape"),
    [
        (np.array([[0, 255, 3, 4]]), "pixel", 1 / 255, (2, 2)),
        (np.array([[0, 2, 1, 0]]), "Pixel_", 1 / 255, (2, 2)),
        (np.array([[0, 1, 1, 0]]), "pixel", 1.0, (2, 2)),
        (np.array([[0, 255, 3]]), "pixel", 1 / 255, None),
        (np.array([[0.0, 255.0, 3.0, 4.0]]), "pixel", 1 / 255, (2, 2)),
        (np.arange(64).reshape(1, 64) * 4, "", 1 / 255, (8, 8)),
        (np.arange(192).reshape(1, 192), "", 1 / 255, None),
        (np.arange(64).reshape(1, 64), "pixel", 1 / 255, (8, 8)),
    ],
)
def test_pixels_in_a_table(
    tmp_path: Path, x: np.ndarray, header: str, scale: float, image_shape: tuple[int, int] | None
) -> None:
    x = np.vstack([x, x])
    data = read_csv(pixel_table(tmp_path, x, header))
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.x, x)
    assert (data.scale, data.image_shape) == (scale, image_shape)
    assert data.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("x", "header", "image_shape"),
    [
        (np.arange(63).reshape(1, 63) * 4, "", None),
        (np.arange(65).reshape(1, 65) * 3, "", None),
        (np.arange(49).reshape(1, 49) * 5, "", None),
        (np.arange(64).reshape(1, 64), "", None),
        (np.arange(64).reshape(1, 64) % 17, "", None),
        (np.arange(64).reshape(1, 64) * 5, "", None),
        (np.arange(64).reshape(1, 64) - 1, "", None),
        (np.arange(64).reshape(1, 64) + 0.5, "", None),
        (np.array([[0.0, 0.5, 1.0, 0.25]]), "pixel", (2, 2)),
        (np.array([[0, 256, 1, 3]]), "pixel", (2, 2)),
        (np.array([[0, 1e300, 1, 3]]), "pixel", (2, 2)),
    ],
)
def test_other_numbers_in_a_table(
    tmp_path: Path, x: np.ndarray, header: str, image_shape: tuple[int, int] | None
) -> None:
    x = np.vstack([x, x])
    data = read_csv(pixel_table(tmp_path, x, header))
    assert data.x.dtype == np.float64
    np.testing.assert_array_equal(data.x, x)
    assert (data.scale, data.image_shape) == (1.0, image_shape)


def test_a_large_label_beside_pixels(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "label,pixel0\n0,255\n300,128\n"))
    assert data.y.tolist() == [0, 300]
    assert data.x.dtype == np.uint8


HEADER = "a,petal,label\n"
BAD_TABLES = {
    "text": (HEADER + "1,2,0\n1,blue,1\n", r"line 3, column 2 \(petal\): 'blue' is not a number"),
    "text without a header": ("1,2,0\n1,blue,1\n", r"line 2, column 2: 'blue' is not a number; correct the cell"),
    "text among the first numbers": ("1,blue,0\n1,2,1\n", r"line 1, column 2: 'blue' is not a number"),
    "text as label": (
        HEADER + "1,2,0\n3,4,cat\n1,2,0\n",
        r"line 3, column 3 \(label\): 'cat' is not a number, but other labels are; correct the cell",
    ),
    "a number as label": (
        HEADER + "1,2,cat\n3,4,7\n1,2,dog\n",
        r"line 3, column 3 \(label\): '7' is a number, but other labels are text; correct the cell",
    ),
    "no label": (HEADER + "1,2,cat\n3,4, \n", r"line 3, column 3 \(label\): the cell is empty: there is no label"),
    "underscore": (HEADER + "1_000,2,0\n", r"line 2, column 1 \(a\): '1_000' is not a number"),
    "after a blank line": (HEADER + "1,2,0\n\n1,blue,1\n", "line 4, column 2"),
    "below a header of two lines": ('"a\nb",petal,label\n1,blue,0\n', "line 3, column 2"),
    "short row": (HEADER + "1,2,0\n1,2\n", "line 3: 2 cells where line 1 has 3"),
    "long row": (HEADER + "1,2,0\n1,2,0,4\n", "line 3: 4 cells where line 1 has 3"),
    "all rows short": (HEADER + "1,0\n2,1\n", "line 2: 2 cells where line 1 has 3"),
    "row of blanks": (HEADER + "1,2,0\n   \n", "line 3: 1 cell where line 1 has 3"),
    "trailing comma": (HEADER + "1,2,0,\n", "line 2: 4 cells"),
    "empty cell": (HEADER + "1,2,0\n1,,1\n", r"line 3, column 2 \(petal\): the cell is empty"),
    "NaN": (HEADER + "1,2,0\n1,nan,1\n", r"line 3, column 2 \(petal\): nan is not a finite number"),
    "infinity": (HEADER + "-inf,2,0\n", r"line 2, column 1 \(a\): -inf is not a finite number"),
    "too large": (HEADER + "1e999,2,0\n", r"line 2, column 1 \(a\): 1e999 is not a finite number"),
    "NaN label": (HEADER + "1,2,0\n1,2,nan\n", r"line 3, column 3 \(label\): the label is nan; put one there"),
    "fractional label": (
        HEADER + "1,2,0\n1,2,0.5\n1,2,1\n",
        r"line 3, column 3 \(label\): the label is 0\.5, .*no class",
    ),
    "a fraction before the cell at fault": (HEADER + "1.5,-7,0\n1,nan,1\n", r"line 3, column 2 \(petal\): nan is not"),
    "huge label": (HEADER + "1,2,0\n1,2,100001\n", "line 3, .*the label is 100001, which looks like a value"),
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "header only": (HEADER, "has a header but no rows"),
    "one column": ("label\n1\n", "has one column, but at least one feature and a label are needed$"),
    "two labels": ("label,a,Label\n0,1,1\n", "line 1, column 3: a second column is called label"),
    "index column": (",a,label\n0,1,1\n", r"line 1, column 1: the column has no name.*index=False"),
    "label in front, without a header": ("0,7,0\n1,8,0\n", r"which column is the label\? Say --label -1 for the last"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_named_by_file_line_and_column(tmp_path: Path, case: str) -> None:
    text, message = BAD_TABLES[case]
    with pytest.raises(DataError, match=rf"t\.csv.*{message}") as caught:
        load_data(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_one_class_is_fine_in_a_column_called_label(tmp_path: Path) -> None:
    assert read_csv(table(tmp_path, HEADER + "1,2,0\n3,4,0\n")).y.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER.encode() + b"1,\xff\xfe,0\n", r"t\.csv is not UTF-8 text"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), r"t\.csv is not UTF-8 text"),
        (gzip.compress(RANDOM_IDX, mtime=0)[:-2000], r"t\.csv is (damaged|not UTF-8 text)"),
        (gzip.compress(HEADER.encode() + b"1,2,0\n" * 5000, mtime=0)[:-10], r"t\.csv is damaged"),
        (b'a,b,label\n1,2,"' + b"0" * 200_000 + b'"\n', r"t\.csv is not a CSV file"),
    ],
)
def test_what_is_no_table_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "t.csv")


def test_csv_rows_are_divided_by_class(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{i},{i / 2},{i % 2}\n" for i in range(20))
    data = load_data(table(tmp_path, text), seed=3)
    assert data.test is not None
    assert np.bincount(data.train.y).tolist() == [8, 8]
    assert sorted([*data.train.x[:, 0], *data.test.x[:, 0]]) == list(range(20))
    with pytest.raises(DataError, match=r"t\.csv has no test rows, and dividing it failed: class 1 has only one row"):
        load_data(table(tmp_path, HEADER + "1,2,0\n2,3,0\n3,4,1\n"))


def test_importing_datasets_imports_nothing_heavy() -> None:
    heavy = "{'sklearn', 'pooch', 'h5py', 'tqdm', 'requests'}"
    code = f"import sys, nn.data.sources; print(sorted({heavy} & set(sys.modules)))"
    root = Path(sources.__file__).parent.parent.parent
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"

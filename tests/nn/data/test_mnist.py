"""MNIST, with small files instead of its own: from a folder, from the cache, and by a download that is a stand-in."""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest

from nn.data import DataError, idx, mnist, sources
from nn.data.sources import load_data
from tests.helpers.idx_files import idx_bytes

#: No test downloads anything.
pytestmark = pytest.mark.usefixtures("offline")


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
    good = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    other = {name: gzip.compress(good, mtime=0) for name in zipped(small_mnist)}
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

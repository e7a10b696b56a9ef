"""MNIST: the four IDX files, from a folder, from the user's cache, or from a public mirror."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..files import write_atomically
from .archives import reading
from .checks import DataError, check_same_length
from .dataset import Dataset
from .units import PIXEL_SCALE

#: Public copies of the four MNIST files, in the order in which they are tried.
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
#: SHA-256 of each MNIST file, uncompressed: copies in circulation were compressed anew, their content is the same.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CHUNK = 1 << 20


def load_mnist(data_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> tuple[Dataset, Dataset]:
    """MNIST's 60,000 training and 10,000 test rows: x uint8 (n, 784) scaled to [0, 1]; ten classes.

    Args:
        data_dir: see ``load_data``. The files have their usual names, with or without ``.gz``, or are spelled
            ``train-images.idx3-ubyte``. Their uncompressed content is checked against MNIST's SHA-256.
        progress: show a bar while downloading.

    Raises:
        DataError: a file is missing, damaged, or not MNIST's, or it could not be downloaded.
    """
    folder = data_dir or os.environ.get("XPNET_DATA")
    if folder:
        return _mnist_in(Path(folder))
    import pooch

    cache = Path(pooch.os_cache("xpnet")) / "mnist"
    try:
        return _mnist_in(cache)
    except DataError:  # files are missing, or damaged and of no use to anybody
        for name in MNIST_SHA256:
            if not _is_good(cache, name):
                _download(name, cache, progress)
    return _mnist_in(cache)


def _mnist_in(folder: Path) -> tuple[Dataset, Dataset]:
    train, test = (_mnist_half(folder, half) for half in ("train", "t10k"))
    return train, test


def _mnist_half(folder: Path, half: str) -> Dataset:
    names = f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte"
    image_path, label_path = (_find_idx(folder, name) for name in names)
    (x, image_hash), (y, label_hash) = _read_idx(image_path), _read_idx(label_path)
    check_same_length(x, y, str(image_path), str(label_path))
    _check_hash(image_hash, image_path, names[0])
    _check_hash(label_hash, label_path, names[1])
    names_of_classes = tuple(str(digit) for digit in range(10))
    return Dataset(x.reshape(len(x), -1), y, PIXEL_SCALE, class_names=names_of_classes, image_shape=x.shape[1:])


def _find_idx(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, under any of its usual spellings; an uncompressed one is quicker to read."""
    spellings = [name, name.replace("-idx", ".idx")]
    for spelling in (*spellings, *(f"{spelling}.gz" for spelling in spellings)):
        if (folder / spelling).is_file():
            return folder / spelling
    raise DataError(
        f"{folder} has no {name}, with or without .gz; give the folder with the four MNIST files (--data-dir or "
        "XPNET_DATA), or neither to download them"
    )


def _check_hash(sha256: str, path: Path | str, name: str) -> None:
    if sha256 != MNIST_SHA256[name]:
        raise DataError(
            f"{path} is not the MNIST file (its content has another SHA-256); download it again, or save data of your "
            "own as an .npz file and give that as the source"
        )


def _is_good(folder: Path, name: str) -> bool:
    try:
        path = _find_idx(folder, name)
        _check_hash(_read_idx(path)[1], path, name)
    except DataError:
        return False
    return True


def _download(name: str, cache: Path, progress: bool) -> None:
    """Put the MNIST file ``name`` into ``cache`` from the first mirror that has it, checked before it gets its name,
    and kept uncompressed: unzipping takes longer than an epoch of a small network."""
    import pooch
    from tqdm import tqdm

    def download_and_check(url: str, output_file: str, _: Any) -> None:
        # A total that is not 0, until the size is known: pooch takes a bar with nothing to do for "no bar".
        with tqdm(total=1, desc=name, unit="B", unit_scale=True, disable=not progress) as bar:
            pooch.HTTPDownloader(progressbar=bar)(url, output_file, None)
        _check_hash(_read_idx(Path(output_file))[1], url, name)

    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            zipped, plain = cache / f"{name}.gz", cache / name
            for damaged in (zipped, plain):  # else it is taken for the file
                damaged.unlink(missing_ok=True)
            with _quiet(pooch.get_logger()):
                pooch.retrieve(
                    f"{mirror}{name}.gz",
                    known_hash=None,
                    fname=f"{name}.gz",
                    path=cache,
                    downloader=download_and_check,
                )
            write_atomically(plain, gzip.decompress(zipped.read_bytes()))
            zipped.unlink()
            return
        except (OSError, ValueError) as error:  # every requests exception is an OSError
            failures.append(f"{mirror}: {str(error).strip().partition(chr(10))[0]}")
    raise DataError(
        f"MNIST could not be downloaded to {cache} ({'; '.join(failures)}); give a folder that has the four files by "
        "--data-dir or XPNET_DATA, or use --data digits, which needs no download"
    )


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Without pooch's advice to write the hash of the file into the program, where another one already is."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An IDX file of unsigned bytes, gzip-compressed or plain, as a uint8 array.

    The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type code (8: unsigned byte), the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the values in C order.

    Raises:
        DataError: the file is missing, damaged, shorter or longer than its header says, or of another type.
    """
    return _read_idx(Path(path))[0]


def _read_idx(path: Path) -> tuple[np.ndarray, str]:
    """The array, and the SHA-256 of the uncompressed file: one pass, nothing of the data held twice."""
    with reading(path), path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        # DEFLATE shrinks by 1032 at most, so that a damaged header cannot ask for more memory than a file can fill.
        at_most = path.stat().st_size * (1032 if compressed else 1)
        file: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        header, shape = _read_idx_header(file, path)
        size = math.prod(shape)
        if size == 0:
            raise DataError(f"{path} has no values (its shape is {shape}); copy or download it again")
        if size > at_most:
            raise DataError(f"{path} is cut short: its header says {size} values; copy or download it again")
        values = np.empty(size, dtype=np.uint8)
        digest = hashlib.sha256(header)
        filled = 0
        while filled < size and (n := file.readinto(values[filled : filled + CHUNK].data)):
            digest.update(values[filled : filled + n].data)
            filled += n
        if filled < size:
            raise DataError(f"{path} is cut short: {filled} of {size} values; copy or download it again")
        if file.read(1):
            raise DataError(f"{path} goes on after the {size} values of its header; copy or download it again")
    return values.reshape(shape), digest.hexdigest()


def _read_idx_header(file: IO[bytes], path: Path) -> tuple[bytes, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 8:
        raise DataError(f"{path} is not an IDX file (it begins with {magic!r}); check the name or download it again")
    if magic[2] != 0x08:
        raise DataError(
            f"{path} holds values of type code 0x{magic[2]:02x}, but only unsigned bytes (0x08) are read; save the "
            "data as .npz instead"
        )
    dimensions = file.read(4 * magic[3])
    if len(dimensions) < 4 * magic[3]:
        raise DataError(f"{path} is cut short: it ends within its header; copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, dtype=">u4"))
    return magic + dimensions, shape

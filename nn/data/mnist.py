"""MNIST: the four IDX files, from a folder, from the user's cache, or from a public mirror."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..files import lock, remove_drafts, write_atomically
from ..messages import first_line
from .checks import DataError, UnreadableError, check_same_length
from .dataset import Dataset
from .idx import read_with_hash
from .units import PIXEL_SCALE

#: How the folders begin into which files are downloaded.
DOWNLOADING = ".downloading-"

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
    except UnreadableError:  # what cannot be read for a moment may be good
        raise
    except DataError:
        with _alone(cache):
            for name in MNIST_SHA256:
                if not _is_good(cache, name):  # missing, or damaged and of no use to anybody
                    _download(name, cache, progress)
    return _mnist_in(cache)


def _mnist_in(folder: Path) -> tuple[Dataset, Dataset]:
    train, test = (_mnist_half(folder, half) for half in ("train", "t10k"))
    return train, test


def _mnist_half(folder: Path, half: str) -> Dataset:
    names = f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte"
    image_path, label_path = (_find_idx(folder, name) for name in names)
    (x, image_hash), (y, label_hash) = read_with_hash(image_path), read_with_hash(label_path)
    check_same_length(x, y, str(image_path), str(label_path))
    _check_hash(image_hash, image_path, names[0])
    _check_hash(label_hash, label_path, names[1])
    names_of_classes = tuple(str(digit) for digit in range(10))
    return Dataset(x.reshape(len(x), -1), y, PIXEL_SCALE, class_names=names_of_classes, image_shape=x.shape[1:])


def _find_idx(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, under any of its usual spellings; an uncompressed one is quicker to read."""
    for spelling in _spellings(name):
        if (folder / spelling).is_file():
            return folder / spelling
    raise DataError(
        f"{folder} has no {name}, with or without .gz; give the folder with the four MNIST files (--data-dir or "
        "XPNET_DATA), or neither to download them"
    )


def _spellings(name: str) -> list[str]:
    plain = [name, name.replace("-idx", ".idx")]
    return [*plain, *(f"{spelling}.gz" for spelling in plain)]


def _check_hash(sha256: str, path: Path | str, name: str) -> None:
    if sha256 != MNIST_SHA256[name]:
        raise DataError(
            f"{path} is not the MNIST file (its content has another SHA-256); download it again, or save data of your "
            "own as an .npz file and give that as the source"
        )


def _is_good(folder: Path, name: str) -> bool:
    try:
        path = _find_idx(folder, name)
        _check_hash(read_with_hash(path)[1], path, name)
    except UnreadableError:
        raise
    except DataError:
        return False
    return True


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Have the cache to oneself: of several processes that miss its files one downloads them, and the others wait."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache for MNIST, {cache}, cannot be made ({error.strerror}); give the folder with the four files by "
            "--data-dir or XPNET_DATA"
        ) from None
    with cache.with_suffix(".lock").open("ab") as of_cache:
        lock(of_cache)
        remove_drafts(cache)
        for unfinished in cache.glob(f"{DOWNLOADING}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield


def _download(name: str, cache: Path, progress: bool) -> None:
    """Put the MNIST file ``name`` into ``cache`` from the first mirror that has it: it is downloaded beside, checked,
    and takes the place of what is there when it is whole. It is kept uncompressed: unzipping takes longer than an epoch
    of a small network."""
    import pooch
    from tqdm import tqdm

    def download_and_check(url: str, output_file: str, _: Any) -> None:
        # A total that is not 0, until the size is known: pooch takes a bar with nothing to do for "no bar".
        with tqdm(total=1, desc=name, unit="B", unit_scale=True, disable=not progress) as bar:
            pooch.HTTPDownloader(progressbar=bar)(url, output_file, None)
        _check_hash(read_with_hash(Path(output_file))[1], "what it sends", name)

    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            with tempfile.TemporaryDirectory(prefix=DOWNLOADING, dir=cache) as folder, _quiet(pooch.get_logger()):
                zipped = pooch.retrieve(
                    f"{mirror}{name}.gz", known_hash=None, fname="draft.gz", path=folder, downloader=download_and_check
                )
                write_atomically(cache / name, gzip.decompress(Path(zipped).read_bytes()))
            for worse in _spellings(name):
                if worse != name:
                    (cache / worse).unlink(missing_ok=True)
            return
        except (OSError, ValueError) as error:  # every requests exception is an OSError
            # requests writes its pool of connections and the address before the reason, which is the same each time.
            reason = "no connection" if "ConnectionPool(" in str(error) else first_line(error, 60)
            failures.append(f"{urlsplit(mirror).hostname}: {reason}")
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

"""Where rows come from: scikit-learn's digits, MNIST, and files (.npz, .csv, .csv.gz, .h5, .hdf5).

``load_data`` is for classification: the targets of every source are class labels 0, 1, ..., and a file that holds
something else is refused with a sentence that names the file, the position and the remedy. Nothing read is ever
unpickled.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .archives import read_hdf5, read_npz
from .checks import DataError
from .csv_table import read_csv
from .dataset import Dataset
from .mnist import load_mnist

KNOWN_SOURCES = "'digits', 'mnist', or a file .npz, .csv, .csv.gz, .h5 or .hdf5"


@dataclass(frozen=True)
class Data:
    """Training rows, and the rows kept for testing (None where none were asked for)."""

    name: str
    train: Dataset
    test: Dataset | None


def load_data(
    source: str | os.PathLike[str] = "digits",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Data:
    """Training and test rows with class labels.

    Args:
        source: ``"digits"`` (1,797 pictures of 8x8, bundled with scikit-learn), ``"mnist"`` (60,000 and 10,000 of
            28x28), or the path of a file: see ``read_npz``, ``read_hdf5`` and ``read_csv``.
        data_dir: the folder with the four MNIST files. Without it, the folder named by the environment variable
            XPNET_DATA; without that, the user's cache, into which missing files are downloaded.
        limit: keep the first so many training rows, and at most as many test rows.
        test_fraction: how much to hold out, by class, of a source without test rows; 0 for none (``test`` is None).
        seed: of that division, which also shuffles the rows.
        progress: show a bar while downloading.

    Raises:
        DataError: (a ValueError) the source is unknown or cannot be read, or its content cannot be used.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1 row, not {limit}")
    name, train, test = _load(source, data_dir, progress)
    if test is None and test_fraction != 0:
        try:
            train, test = train.split(test_fraction, seed)
        except DataError as error:
            raise DataError(f"{name} has no test rows, and dividing it failed: {error}") from None
    return Data(name, train[:limit], None if test is None else test[:limit])


def _load(
    source: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, progress: bool
) -> tuple[str, Dataset, Dataset | None]:
    known = str(source).lower()
    if known == "digits":
        return "digits", load_digits(), None
    if known == "mnist":
        return "mnist", *load_mnist(data_dir, progress)
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{path} is a folder; for MNIST files in it, say source 'mnist' and give it as data_dir")
    if not path.is_file():
        raise DataError(f"{str(source)!r} is neither a file nor a known source; known are {KNOWN_SOURCES}")
    if known.endswith(".npz"):
        return path.name, *read_npz(path)
    if known.endswith((".h5", ".hdf5")):
        return path.name, *read_hdf5(path)
    if known.endswith((".csv", ".csv.gz")):
        return path.name, read_csv(path), None
    raise DataError(f"{path} has an ending that says nothing of its format; known are {KNOWN_SOURCES}")


def load_digits() -> Dataset:
    """scikit-learn's bundled digits: x uint8 (1797, 64) of 0..16, scaled to [0, 1]; ten classes."""
    from sklearn.datasets import load_digits as bundled_digits

    digits = bundled_digits()
    x, y = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    return Dataset(x, y, scale=1 / 16, image_shape=(8, 8))

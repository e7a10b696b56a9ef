"""Archives of arrays: .npz and HDF5 files with ``x_train``, ``y_train``, ``x_test`` and ``y_test``."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .checks import DataError, check_labels, check_numbers, check_rows, check_same_length
from .dataset import Dataset
from .rows import pack
from .units import Units

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset | None]:
    """A NumPy archive of ``x_train``, ``y_train`` and, if there are test rows, ``x_test`` and ``y_test``.

    x is (n, features) or pictures (n, height, width[, channels]), which are flattened; whether they are pixels, to be
    scaled to [0, 1], is decided by the training rows (``units.are_pixels``). y is (n,) whole numbers or (n, k) one-hot.
    Other arrays of the file are not looked at.

    Raises:
        DataError: the file is damaged, an array is missing, needs unpickling, or cannot be used.

    Warns:
        UnitsWarning: the test rows cannot be in the units of the training rows.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file:  # opened here: NumPy leaves a damaged zip open
        try:
            archive = np.load(file, allow_pickle=False)
        except ValueError:  # neither a zip nor an array: NumPy would try to unpickle it
            raise DataError(f"{path} is not an .npz file; save one by numpy.savez_compressed") from None
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array, not an .npz file; save it by numpy.savez_compressed")
        with archive:
            arrays = {}
            for name in _array_names(list(archive.files), path):
                with reading(path, f"{path}: {name}"):
                    arrays[name] = _read_array(archive, name, path)
    return _train_and_test(arrays, path)


def _read_array(archive: Any, name: str, path: Path) -> np.ndarray:
    try:
        array: np.ndarray = archive[name]
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: {name} holds Python objects, which are never unpickled; save it as an array of numbers"
            ) from None
        raise DataError(f"{path}: {name} is damaged ({error}); copy or download the file again") from None
    return array


def read_hdf5(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset | None]:
    """An HDF5 file with the arrays that ``read_npz`` describes, at its root.

    Raises:
        DataError: h5py is not installed, the file is damaged, or an array is missing or cannot be used.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} needs h5py to be read: pip install h5py") from None
    with reading(path), h5py.File(path, "r") as file:
        arrays = {}
        for name in _array_names(list(file), path):
            try:
                item = file[name]
                if isinstance(item, h5py.Dataset):
                    arrays[name] = item[()]
            except (KeyError, RuntimeError) as error:
                raise DataError(f"{path}: {name} cannot be read ({error}); store it again") from None
            if name not in arrays:
                raise DataError(f"{path}: {name} is a group, not a dataset; store the array under that name")
    return _train_and_test(arrays, path)


def _array_names(present: list[str], path: Path) -> tuple[str, ...]:
    """Which of the four names to read."""
    wanted = ARRAY_NAMES if {"x_test", "y_test"} & set(present) else ARRAY_NAMES[:2]
    missing = [name for name in wanted if name not in present]
    if missing:
        have = ", ".join(sorted(present)[:8]) or "nothing"
        raise DataError(f"{path} lacks {' and '.join(missing)} (it has {have}); rename or add the arrays")
    return wanted


def _train_and_test(arrays: dict[str, np.ndarray], path: Path) -> tuple[Dataset, Dataset | None]:
    train = _labelled(arrays["x_train"], arrays["y_train"], path, "train")
    if "x_test" not in arrays:
        return train, None
    test = _labelled(arrays["x_test"], arrays["y_test"], path, "test", train.n_classes, Units.of(train))
    if (train.image_shape, train.n_features) != (test.image_shape, test.n_features):
        rows, others = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
        raise DataError(f"{path}: x_train has rows {rows} but x_test {others}; store both alike")
    return train, test


def _labelled(
    x: Any, y: Any, path: Path, half: str, n_classes: int | None = None, units: Units | None = None
) -> Dataset:
    x_name, y_name = f"{path}: x_{half}", f"{path}: y_{half}"
    x, y = check_rows(x, x_name), check_numbers(y, y_name)
    check_same_length(x, y, x_name, y_name)
    labels, n_classes = check_labels(y, y_name, n_classes, "the labels of y_train")
    return pack(x, labels, n_classes, units, x_name)


# ---- for every reader of files ---------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path, name: str | None = None) -> Iterator[None]:
    """Turns what the libraries raise about a file into a DataError that names it."""
    what = name or str(path)
    try:
        yield
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(f"{what} is damaged ({error}); copy or download it again") from None
    except OSError as error:
        raise DataError(f"{what} cannot be read ({error.strerror or error}); check the file") from None

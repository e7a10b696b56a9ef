"""Arrays from files: .npz and HDF5 archives of ``x`` and ``y``, or of these for training and test; single arrays."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from . import hdf5
from .checks import DataError, check_rows, check_same_length
from .dataset import Dataset
from .labels import Names, labels_of_file, read_labels
from .npy import npy_header
from .reading import check_is_file, library, open_file, reading, refuse_implausible
from .rows import pack
from .units import Units

THE_ARRAYS = "the arrays x and y, or x_train and y_train"
#: What rows without targets may be called in an archive, the likelier name first.
ROW_NAMES = ("x", "rows", "x_test")


def read_npz(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset | None]:
    """A NumPy archive of ``x_train`` and ``y_train``, or of ``x`` and ``y``; if there are test rows, also of ``x_test``
    and ``y_test``.

    x is (n, features) or pictures (n, height, width[, channels]), which are flattened; whether they are pixels, to be
    scaled to [0, 1], is decided by the training rows (``units.are_pixels``). y is (n,) whole numbers or (n, k) one-hot.
    Other arrays of the file are not looked at.

    Raises:
        DataError: the file is damaged, an array is missing, needs unpickling, claims more numbers than its bytes can
            plausibly hold, or cannot be used.

    Warns:
        UnitsWarning: the test rows cannot be in the units of the training rows.
    """
    path = Path(path)
    with reading(path), open_file(path) as file:
        begins = file.read(6)
        if begins == b"\x93NUMPY":
            raise DataError(f"{path} is a single array, not an .npz file; save it by numpy.savez_compressed")
        if begins and not begins.startswith(b"PK"):
            raise DataError(f"{path} is not an .npz file; save one by numpy.savez_compressed")
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            names = array_names([*members], path, THE_ARRAYS)
            stored = path.stat().st_size
            arrays = {name: _read_member(archive, members[name], stored, f"{path}: {name}") for name in names}
    return _train_and_test(arrays, path)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, stored: int, what: str) -> np.ndarray:
    """An array of a zip file of ``stored`` bytes; what its header claims is looked at before memory is taken for it."""
    with reading(what):
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{what} is encrypted or compressed as NumPy never does; save it by numpy.savez_compressed")
        with archive.open(member) as content:
            shape, dtype, _ = npy_header(content)
            if dtype.hasobject:
                raise DataError(f"{what} holds Python objects, which are never unpickled; save it as numbers")
            size = math.prod(shape) * dtype.itemsize
            if content.tell() + size != member.file_size or dtype.itemsize == 0:
                raise DataError(f"{what} is damaged (its header claims {size:,} bytes); copy or download it again")
            refuse_implausible(size, min(member.compress_size, stored), what)
        with archive.open(member) as content:
            array: np.ndarray = np.lib.format.read_array(content, allow_pickle=False)
            content.read(1)  # the end, where the checksum is compared
            return array


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        DataError: the file is damaged, or its array needs unpickling.
    """
    path = Path(path)
    with reading(path), open_file(path) as file:
        shape, dtype, _ = npy_header(file)
        if dtype.hasobject:
            raise DataError(f"{path} holds Python objects, which are never unpickled; save it as numbers")
        size = math.prod(shape) * dtype.itemsize
        if file.tell() + size != path.stat().st_size or dtype.itemsize == 0:
            raise DataError(f"{path} is damaged (its header claims {size:,} bytes); copy or download it again")
        file.seek(0)
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def read_npz_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by their names.

    Raises:
        DataError: as of ``read_npz``.
    """
    path = Path(path)
    with reading(path), open_file(path) as file, zipfile.ZipFile(file) as archive:
        stored = path.stat().st_size
        return {
            member.filename.removesuffix(".npy"): _read_member(archive, member, stored, f"{path}: {member.filename}")
            for member in archive.infolist()
        }


def read_npz_rows(path: str | os.PathLike[str]) -> np.ndarray:
    """The rows of an .npz file: its only array, or the one that is called ``x``, ``rows`` or ``x_test``.

    Raises:
        DataError: as of ``read_npz``; or there are several arrays, none of these names.
    """
    path = Path(path)
    with reading(path), open_file(path) as file, zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        name = row_array(list(members), path)
        return _read_member(archive, members[name], path.stat().st_size, f"{path}: {name}")


def row_array(present: list[str], path: Path) -> str:
    """Which of several arrays has the rows: the only one, or the one that is called ``x``, ``rows`` or ``x_test``.

    Raises:
        DataError: there are several, none of these names, or none at all.
    """
    if not present:
        raise DataError(f"{path} has no arrays in it; store the rows there, called x")
    names = present if len(present) == 1 else [name for name in ROW_NAMES if name in present]
    if not names:
        have = ", ".join(sorted(present)[:8])
        raise DataError(f"{path} has no array called {' or '.join(ROW_NAMES)} (it has {have}); rename the rows")
    return names[0]


def read_hdf5(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset | None]:
    """An HDF5 file with the arrays that ``read_npz`` describes, at its root.

    The file must hold them itself: links to other files, external storage and virtual datasets are not followed, for
    whoever wrote the file could name any file of the reader.

    Raises:
        DataError: h5py is not installed, the file is damaged, or an array is missing or cannot be used.
    """
    path = Path(path)
    h5py = library("h5py", path)
    check_is_file(path)
    with reading(path), h5py.File(path, "r") as file:
        arrays = {}
        for name in array_names(list(file), path, THE_ARRAYS):
            with reading(f"{path}: {name}"):
                arrays[name] = hdf5.read_array(file, name, path)
    return _train_and_test(arrays, path)


def array_names(present: list[str], path: Path, wanted: str) -> list[str]:
    """Those of the arrays that are used: rows and targets, and those to test.

    Args:
        wanted: what is to be stored, for the message.

    Raises:
        DataError: one is missing.
    """
    train = ["x", "y"] if "x_train" not in present and "x" in present else ["x_train", "y_train"]
    names = [*train, *(["x_test", "y_test"] if {"x_test", "y_test"} & {*present} else [])]
    missing = [name for name in names if name not in present]
    if missing:
        have = ", ".join(sorted(present)[:8]) or "nothing"
        raise DataError(f"{path} lacks {' and '.join(missing)} (it has {have}); store {wanted}")
    return names


def _train_and_test(arrays: dict[str, np.ndarray], path: Path) -> tuple[Dataset, Dataset | None]:
    names = [*arrays]
    train = _labelled(arrays, names[:2], path)
    if len(names) == 2:
        return train, None
    test = _labelled(arrays, names[2:], path, train.class_names, Units.of(train))
    if (train.image_shape, train.n_features) != (test.image_shape, test.n_features):
        rows, others = arrays[names[0]].shape[1:], arrays["x_test"].shape[1:]
        raise DataError(f"{path}: {names[0]} has rows {rows} but x_test {others}; store both alike")
    return train, test


def _labelled(
    arrays: dict[str, Any], names: list[str], path: Path, known: Names | None = None, units: Units | None = None
) -> Dataset:
    x_name, y_name = (f"{path}: {name}" for name in names)
    x, y = check_rows(arrays[names[0]], x_name), read_labels(arrays[names[1]], y_name)
    check_same_length(x, y, x_name, y_name)
    labels, classes = labels_of_file(y, y_name, known)
    return pack(x, labels, classes, units, x_name)

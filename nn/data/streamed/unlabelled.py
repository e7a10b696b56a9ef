"""Rows without targets, which a model is shown, in a file or folder that holds arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..archives import read_npy, row_array
from ..checks import DataError
from ..hdf5 import open_array
from ..npy import npy_header
from ..reading import check_is_file, library, open_file, reading
from .as_source import is_of
from .from_path import files_of
from .hdf5 import hdf5_source
from .joined import JoinedSource
from .npy import NpySource
from .reading import parts_of, row_bytes
from .source import Source
from .windows import WINDOW_BYTES
from .zarr import is_zarr, open_zarr, zarr_array


def stored_rows(path: Path, kind: str) -> Source | np.ndarray:
    """The rows that a path holds; in memory, where they have no more than 256 MiB.

    Of several arrays it is the one that is called ``x``, ``rows`` or ``x_test``. Each array of a folder may be several
    files, numbered.

    Args:
        kind: ``"npy"``, ``"hdf5"``, or ``"folder"``, of .npy files or of zarr.

    Raises:
        DataError: there is no such array, or it cannot be read.
    """
    if kind == "npy":
        return _of_npy(path)
    source = _of_hdf5(path) if kind == "hdf5" else _of_folder(path)
    return source if is_large(source) else loaded(source)


def is_large(source: Source) -> bool:
    """Whether rows have more bytes than a window has by default."""
    return source.shape[0] * row_bytes(source) > WINDOW_BYTES


def loaded(source: Source) -> np.ndarray:
    """All rows of a source, in memory."""
    rows = np.empty(source.shape, source.dtype)
    for first, part in parts_of(source):
        rows[first : first + len(part)] = part
    return rows


def _of_npy(path: Path) -> Source | np.ndarray:
    with reading(path), open_file(path) as file:
        shape, dtype, by_column = npy_header(file)
    can_be_streamed = len(shape) > 1 and not by_column and not dtype.hasobject
    source = NpySource(path) if can_be_streamed else None
    return read_npy(path) if source is None or not is_large(source) else source


def _of_hdf5(path: Path) -> Source:
    h5py = library("h5py", path)
    check_is_file(path)
    with reading(path):
        file = h5py.File(path, "r")  # it is closed with the array
        name = row_array(list(file), path)
        return hdf5_source(open_array(file, name, path), f"{path}: {name}")


def _of_folder(path: Path) -> Source:
    if is_zarr(path):
        found = open_zarr(path)
        if is_of("zarr", found):
            return zarr_array(found, str(path))
        name = row_array(list(found.keys()), path)
        return zarr_array(found[name], f"{path}: {name}")
    files = {name: found for name, found in files_of(path).items() if name.startswith("x")}
    if not files:
        raise DataError(f"{path} is a folder without x.npy; name the files in it, or store the rows there")
    return JoinedSource([NpySource(file) for file in files[row_array([*files], path)]])

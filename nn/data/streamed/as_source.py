"""What users give for the rows or the targets of a data set that is larger than memory, as a source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from backends.arguments import check_path, shown

from ..checks import DataError, DataTypeError
from ..labels import read_labels
from ..reading import reading
from .hdf5 import hdf5_source
from .joined import JoinedSource
from .mapped import mapped_source
from .npy import NpySource
from .source import ArraySource, Source
from .zarr import ZarrSource, is_zarr, open_zarr, zarr_array

WANTED = "a path (.npy, .zarr), a list of these, an array of NumPy, h5py or zarr, or a Source"


def source_of(values: Any, name: str) -> Source:
    """The source that ``values`` are, or that gives them; ``name`` is what messages call an array that has none.

    Raises:
        DataError: a file cannot be read in this way.
        DataTypeError: it is nothing that has rows.
    """
    found = _source_of(values, name)
    if found is None:
        raise DataTypeError(f"{name} must be {WANTED}, not {shown(values)}")
    return found


def targets_of(values: Any, name: str) -> Source:
    """Likewise of targets, which may also be a list, a Series, or an array of any library."""
    found = _source_of(values, name)
    return ArraySource(read_labels(values, name), name) if found is None else found


def _source_of(values: Any, name: str) -> Source | None:
    if isinstance(values, str | os.PathLike):
        return _of_path(check_path(name, values))
    if isinstance(values, list | tuple) and values and all(isinstance(one, str | os.PathLike) for one in values):
        if any(Path(one).suffix for one in values):  # else it is labels
            return JoinedSource([_of_path(check_path(name, one)) for one in values])
        return None
    if isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray):
        mapped = mapped_source(values) if isinstance(values, np.memmap) else None
        return mapped or (ArraySource(values, name) if values.dtype.kind != "O" else None)
    if is_of("h5py", values):
        return _of_hdf5(values)
    if is_of("zarr", values):
        return ZarrSource(values)
    if is_source(values):
        source: Source = values
        return source
    return None


def is_source(values: Any) -> bool:
    """Whether it has what a ``Source`` has."""
    return all(hasattr(values, of) for of in ("name", "shape", "dtype", "chunk", "read", "identity"))


def is_of(library: str, values: Any) -> bool:
    """Whether it is an array of h5py or zarr, which need not be imported to say so."""
    return (
        type(values).__module__.partition(".")[0] == library and hasattr(values, "chunks") and hasattr(values, "shape")
    )


def _of_hdf5(item: Any) -> Source:
    import h5py

    if h5py.check_string_dtype(item.dtype) is None:
        return hdf5_source(item)
    name = f"{item.file.filename}: {item.name.lstrip('/')}"
    with reading(name):  # labels as text, of any length each
        return ArraySource(np.asarray(item.asstr()[()], dtype=str), name)


def _of_path(path: Path) -> Source:
    ending = path.suffix.lower()
    if ending == ".npy":
        return NpySource(path)
    if is_zarr(path):
        found = open_zarr(path)
        if not is_of("zarr", found):
            raise DataError(f"{path} is a group of arrays; give one of them, or open it by nn.load_data")
        return zarr_array(found, str(path))
    if ending in (".h5", ".hdf5", ".parquet"):
        raise DataError(f"{path} holds several arrays; open it by nn.load_data, or give an array of it")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the files in it, or open it by nn.load_data")
    raise DataError(f"{path}: only .npy and .zarr are streamed; save the rows as one, or load it by nn.load_data")

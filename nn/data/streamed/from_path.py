"""Data sets that are opened by the path of a file or a folder, with training and test rows.

A folder of .npy files, a zarr group and an HDF5 file have the arrays ``x_train``, ``y_train`` and, if there are test
rows, ``x_test``, ``y_test``; the first two may be called ``x`` and ``y``. Each array of a folder may be several files,
numbered: ``x_000.npy``, ``x_001.npy``, ... A Parquet file is a table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..archives import THE_ARRAYS, array_names
from ..checks import DataError
from ..columns import Column
from ..hdf5 import open_array
from ..labels import are_numbers
from ..reading import check_is_file, library, reading
from ..tables.options import TableOptions
from ..units import Units
from .as_source import is_of
from .checks import check_as_many
from .dataset import StreamedDataset
from .hdf5 import hdf5_source
from .joined import JoinedSource
from .learnt import learnt_targets
from .npy import NpySource
from .parquet import ParquetFile, ParquetSource, parquet_columns, parquet_targets
from .reading import row_bytes
from .source import Source
from .zarr import is_zarr, open_zarr, zarr_array

#: Files of up to so many bytes of rows are loaded, unless it is said otherwise.
LOADED = 1 << 31
#: The file of an array in a folder: which array it is of, and its number.
PART = re.compile(r"(?P<array>[xy](?:_train|_test)?)(?:[_-]?(?P<number>\d+))?\.npy")
HDF5 = (".h5", ".hdf5")


class Stored(NamedTuple):
    """What a path holds: arrays, or a table with what is to be made of it; and how large the rows are, in bytes."""

    path: Path
    arrays: Mapping[str, Source]
    table: ParquetFile | None
    size: int


def is_stored(source: str) -> bool:
    """Whether a path, which need not exist, is one of those that are opened here alone: not loaded by other readers."""
    ending = Path(source).suffix.lower()
    return ending in (".npy", ".zarr") or os.path.isdir(source)  # which asks nothing of a name that is too long


def can_be_stored(source: str) -> bool:
    """Whether a path is one of those that can be opened here."""
    return is_stored(source) or Path(source).suffix.lower() in (*HDF5, ".parquet")


def is_large_table(path: str) -> bool:
    """Whether a Parquet file is too large to be loaded, as far as there is pyarrow to say so."""
    try:
        return bool(ParquetFile(Path(path)).size > LOADED)
    except DataError:
        return False  # who loads it says what is wrong with it


def open_stored(source: str) -> Stored:
    """What a path holds.

    Raises:
        DataError: it is none of these, lacks an array, or cannot be read.
    """
    path = Path(source)
    ending = path.suffix.lower()
    if ending == ".parquet":
        table = ParquetFile(path)
        return Stored(path, {}, table, table.size)
    if ending in HDF5:
        arrays = _of_hdf5(path)
    elif "," in source:
        x, _, y = source.partition(",")
        arrays = {"x": NpySource(x.strip()), "y": NpySource(y.strip())}
    elif ending == ".npy":
        arrays = {"x": NpySource(path), "y": NpySource(_targets_beside(path))}
    elif is_zarr(path):
        arrays = _of_zarr(path)
    else:
        arrays = _of_folder(path)
    rows = [array for name, array in arrays.items() if name.startswith("x")]
    return Stored(path, arrays, None, sum(array.shape[0] * row_bytes(array) for array in rows))


def _targets_beside(path: Path) -> Path:
    """The file of the targets of x.npy: y.npy."""
    found = PART.fullmatch(path.name)
    if found is None or not path.name.startswith("x"):
        raise DataError(
            f"{path} holds rows, and it is not known where their targets are: name both, as in x.npy,y.npy, or call "
            "them x.npy and y.npy"
        )
    targets = path.with_name(f"y{path.name[1:]}")
    if path.is_file() and not targets.exists():
        raise DataError(
            f"{path} has no targets beside it: there is no {targets}; store them there, or name both files, as in "
            "x.npy,labels.npy"
        )
    return targets


def _of_folder(path: Path) -> dict[str, Source]:
    found = files_of(path)
    if not found:
        raise DataError(
            f"{path} is a folder; store x.npy and y.npy in it to train on these, or, for MNIST files in it, say source "
            "'mnist' and give it as data_dir"
        )
    names = array_names([*found], path, ".npy files x and y, or x_train and y_train")
    arrays = {name: [NpySource(file) for file in found[name]] for name in names}
    for name in names[::2]:
        rows, targets = arrays[name], arrays[f"y{name[1:]}"]
        if len(rows) != len(targets):
            raise DataError(
                f"{path} has {len(rows)} files of {name} but {len(targets)} of y{name[1:]}; each file of rows needs "
                "one of their targets"
            )
        for one, other in zip(rows, targets, strict=True):
            check_as_many(one, other)
    return {name: JoinedSource(sources) for name, sources in arrays.items()}


def files_of(path: Path) -> dict[str, list[Path]]:
    """The .npy files of each array of a folder, by their numbers."""
    found = dict[str, list[tuple[int, Path]]]()
    with reading(path):
        for file in path.iterdir():
            if parts := PART.fullmatch(file.name):
                if file.is_symlink():
                    raise DataError(
                        f"{file} is a link, which is not followed in a folder; name both files, as x.npy,y.npy"
                    )
                found.setdefault(parts["array"], []).append((int(parts["number"] or -1), file))
    return {name: [file for _, file in sorted(files)] for name, files in found.items()}


def _of_zarr(path: Path) -> dict[str, Source]:
    group = open_zarr(path)
    with reading(path):
        if is_of("zarr", group):
            raise DataError(f"{path} is a single array; store x and y, or x_train and y_train, in one group")
        names = array_names(list(group.keys()), path, THE_ARRAYS)
        return {name: zarr_array(group[name], f"{path}: {name}") for name in names}


def _of_hdf5(path: Path) -> dict[str, Source]:
    h5py = library("h5py", path)
    check_is_file(path)
    with reading(path):
        file = h5py.File(path, "r")  # it is closed with the last of the arrays
        names = array_names(list(file), path, THE_ARRAYS)
        return {name: hdf5_source(open_array(file, name, path), f"{path}: {name}") for name in names}


def streamed_halves(
    stored: Stored, window: int | None, options: TableOptions
) -> tuple[StreamedDataset, StreamedDataset | None]:
    """Training and test rows; those that are trained on say what the others are.

    Args:
        window: in rows; None for the default.
        options: of a table.

    Raises:
        DataError: they cannot be used.

    Warns:
        UnitsWarning: the test rows cannot be in the units of the training rows.
    """
    if stored.table is not None:
        return _of_table(stored.table, window, options), None
    names = list(stored.arrays)
    is_hdf5 = stored.path.suffix.lower() in HDF5
    x, y = (stored.arrays[name] for name in names[:2])
    targets, classes = learnt_targets(y, of_file=True, whole_floats=is_hdf5)
    train = StreamedDataset(x, targets, class_names=classes, window=window)
    if len(names) == 2:
        return train, None
    x, y = (stored.arrays[name] for name in names[2:])
    if x.shape[1:] != stored.arrays[names[0]].shape[1:]:
        raise DataError(
            f"{stored.path}: {names[0]} has rows {stored.arrays[names[0]].shape[1:]} but x_test {x.shape[1:]}; store "
            "both alike"
        )
    has_names = not are_numbers(classes)
    targets, _ = learnt_targets(y, classes, of_file=True, trained=has_names, whole_floats=is_hdf5)
    settings: dict[str, Any] = {"scale": train.scale, "shift": train.shift, "image_shape": train.image_shape}
    test = StreamedDataset(x, targets, class_names=classes, window=window, **settings)
    Units.of(train).check(test.sample.x, x.name)
    return train, test


def _of_table(table: ParquetFile, window: int | None, options: TableOptions) -> StreamedDataset:
    targets, names = parquet_columns(table, options)
    y, classes = parquet_targets(table, targets, options.task)
    data = StreamedDataset(ParquetSource(table, names), y, class_names=classes, window=window)
    return data if data.image_shape is not None else replace(data, columns=tuple(map(Column, names)))

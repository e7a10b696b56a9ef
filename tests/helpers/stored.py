"""Rows in files of each kind, and what is equal to them in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nn.data import Dataset


def assert_same(found: Dataset, expected: Dataset) -> None:
    """Two data sets that are equal bit for bit."""
    for name in ("x", "y", "weights"):
        one, other = getattr(found, name), getattr(expected, name)
        if one is None or other is None:
            assert one is other, name
            continue
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, strict=True, err_msg=name)
    for name in ("scale", "shift", "class_names", "image_shape", "columns"):
        assert getattr(found, name) == getattr(expected, name), name


def npy_folder(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    for name, array in parts.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def npy_shards(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    for name, array in parts.items():
        for index, shard in enumerate(np.array_split(array, 11)):
            np.save(folder / f"{name}_{index}.npy", shard)  # of 11 the tenth does not come after the first
    return folder


def hdf5(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "data.h5", "w") as file:
        for name, array in parts.items():
            file.create_dataset(name, data=array, chunks=(4, *array.shape[1:]), compression="gzip")
    return folder / "data.h5"


def zarr_group(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder / "data.zarr", mode="w")
    for name, array in parts.items():
        made = group.create_array(name, shape=array.shape, chunks=(4, *array.shape[1:]), dtype=array.dtype)
        made[...] = array
    return folder / "data.zarr"

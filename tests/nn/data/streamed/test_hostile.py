"""Files and folders that nobody vouches for: what is damaged, or made to harm, is refused in a sentence."""

from __future__ import annotations

import math
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn.data import DataError, StreamedDataset, load_data
from tests.helpers.stored import hdf5, npy_folder, npy_shards, zarr_group

#: The files are small, and so are their chunks and windows.
pytestmark = pytest.mark.filterwarnings("ignore::nn.data.StreamWarning")


def parts() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("f4")
    return {"x_train": x[:40], "y_train": np.arange(40) % 2, "x_test": x[40:], "y_test": np.arange(20) % 2}


def parquet_file(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    columns: dict[str, Any] = {f"c{index}": arrays["x_train"][:, index] for index in range(5)}
    write_table(pyarrow.table(columns | {"label": arrays["y_train"]}), folder / "t.parquet", row_group_size=9)
    return folder / "t.parquet"


def spoiled(content: bytes, draw: random.Random) -> bytes:
    """Bytes that were changed, cut off or repeated."""
    found, kind = bytearray(content), draw.randrange(4)
    if not found:
        return b"\0"
    if kind == 0:
        return bytes(found[: draw.randrange(len(found))])
    if kind == 1:
        return bytes(found) + bytes(found[: draw.randrange(1, 40)])
    for _ in range(draw.choice((1, 1, 4))):
        found[draw.randrange(min(len(found), draw.choice((64, 600, len(found)))))] = draw.choice((0, 255, 0x7F, 49))
    return bytes(found)


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@pytest.fixture(autouse=True)
def _no_other_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about what is damaged
        yield


@pytest.mark.parametrize("store", [npy_folder, npy_shards, hdf5, zarr_group, parquet_file])
def test_damaged_files_are_read_or_refused_in_a_sentence(store: Callable[..., Path], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    path, draw, refused = store(whole, parts()), random.Random(store.__name__), list[str]()
    for trial in range(60):
        copy = tmp_path / f"copy {trial}"
        shutil.copytree(whole, copy)
        damaged = copy / path.relative_to(whole)
        file = draw.choice(files_of(damaged))
        file.write_bytes(spoiled(file.read_bytes(), draw))
        try:
            data = load_data(damaged, window=12, test_fraction=0.0)
            for rows in filter(None, (data.train, data.test)):
                assert isinstance(rows, StreamedDataset)
                assert np.isfinite(rows[:].x).all()
        except DataError as error:
            refused.append(str(error).replace(str(copy), "COPY"))
        shutil.rmtree(copy)
    assert len(refused) > 10
    assert all("COPY" in sentence and "\n" not in sentence for sentence in refused)


def test_links_in_folders_are_not_followed(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    private = tmp_path / "private.npy"
    np.save(private, parts()["x_train"])
    folder = tmp_path / "rows"
    folder.mkdir()
    np.save(folder / "y.npy", parts()["y_train"])
    with suppress(OSError):  # where there are no links, none is followed
        (folder / "x.npy").symlink_to(private)
        with pytest.raises(DataError, match=r"x.npy is a link, which is not followed in a folder"):
            load_data(folder)
        path = zarr_group(tmp_path, parts())
        chunk = next(file for file in files_of(path) if file.name not in ("zarr.json", ".zarray", ".zgroup"))
        chunk.unlink()
        chunk.symlink_to(private)
        with pytest.raises(DataError, match="is a link, which is not followed"):
            load_data(path)
        with pytest.raises(DataError, match="is a link, which is not followed"):
            StreamedDataset(path)


def test_what_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "x.npy").write_bytes(npy + b"\0" * 1000)
    with pytest.raises(DataError, match=r"is damaged .its header claims 4,000,000,000,000,000 bytes"):
        StreamedDataset(tmp_path / "x.npy")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x_train", (10**9, 1000), "f4", chunks=(10, 1000), compression="gzip")
        file["x_train"][0] = 1.0
        file["y_train"] = np.arange(4) % 2
    with pytest.raises(DataError, match=r"x_train claims 4,000\.0 GB"):
        load_data(tmp_path / "x.h5", window=10)


def test_numbers_that_are_none_are_named_wherever_they_are(tmp_path: Path) -> None:
    for value in (math.nan, math.inf):
        arrays = parts()
        arrays["x_train"][33, 2] = value
        for store in (npy_folder, hdf5, zarr_group):
            folder = tmp_path / f"{store.__name__} {value}"
            folder.mkdir()
            path = store(folder, arrays)
            with pytest.raises(DataError, match=rf"x_train(\.npy)?\[33, 2\] is {value}"):
                load_data(path, window=5)

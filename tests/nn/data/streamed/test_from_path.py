"""Data sets that are opened by a path: the same rows in memory and streamed, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn.data import DataError, Dataset, StreamedDataset, load_data
from nn.data.streamed import from_path
from tests.helpers.stored import assert_same, hdf5, npy_folder, npy_shards, zarr_group

N = 120
#: The files are small, and so are their chunks and windows.
pytestmark = pytest.mark.filterwarnings("ignore::nn.data.StreamWarning")


def arrays(kind: str = "pixels") -> dict[str, np.ndarray]:
    """Rows and labels to train on and to test."""
    random = np.random.default_rng(3)
    x = random.integers(0, 256, (N, 8, 8)).astype(np.uint8) if kind == "pixels" else random.normal(size=(N, 5))
    y = np.arange(N) % 4
    return {"x_train": x[:90], "y_train": y[:90], "x_test": x[90:], "y_test": y[90:]}


KINDS: list[Callable[[Path, dict[str, np.ndarray]], Path]] = [npy_folder, npy_shards, hdf5, zarr_group]


def in_npz(folder: Path, parts: dict[str, np.ndarray], **settings: Any) -> Any:
    np.savez(folder / "expected.npz", allow_pickle=False, **parts)
    return load_data(folder / "expected.npz", **settings)


@pytest.mark.parametrize("store", KINDS)
@pytest.mark.parametrize("kind", ["pixels", "numbers"])
@pytest.mark.parametrize("label", ["from 0", "from 1", "one-hot"])
def test_a_path_is_read_as_an_archive_is(store: Any, kind: str, label: str, tmp_path: Path) -> None:
    parts = arrays(kind)
    for name in ("y_train", "y_test"):
        parts[name] = (
            np.eye(4, dtype=np.uint8)[parts[name]] if label == "one-hot" else parts[name] + (label == "from 1")
        )
    expected = in_npz(tmp_path, parts)
    path = store(tmp_path, parts)
    loaded, streamed = load_data(path), load_data(path, window=10)
    assert isinstance(loaded.train, Dataset)
    assert isinstance(streamed.train, StreamedDataset)
    assert isinstance(streamed.test, StreamedDataset)
    assert streamed.train.window == 10
    assert streamed.name == path.name
    for found in (loaded, load_data(path, window="full")):
        assert_same(found.train, expected.train)
        assert_same(found.test, expected.test)
    assert_same(streamed.train[:], expected.train)
    assert_same(streamed.test[:], expected.test)
    assert_same(load_data(path, window=10, limit=7).train[:], expected.train[:7])


@pytest.mark.parametrize("store", KINDS)
def test_test_rows_are_set_aside_as_of_an_archive(store: Any, tmp_path: Path) -> None:
    parts = {name: array for name, array in arrays().items() if "train" in name}
    expected = in_npz(tmp_path, parts, seed=5)
    path = store(tmp_path, parts)
    for window in (None, 1000):  # one window has all rows: the same in the same order
        found = load_data(path, seed=5, window=window)
        assert_same(found.train[:], expected.train)
        assert found.test is not None
        assert_same(found.test[:], expected.test)
    streamed = load_data(path, seed=5, window=10)
    assert isinstance(streamed.train, StreamedDataset)
    assert isinstance(streamed.test, StreamedDataset)
    assert np.bincount(streamed.test.y).tolist() == np.bincount(expected.test.y).tolist()
    assert sorted(np.concatenate([streamed.train.chosen, streamed.test.chosen]).tolist()) == list(range(90))
    assert load_data(path, test_fraction=0.0, window=10).test is None


@pytest.mark.parametrize("name", ["x.npy", "x.npy,y.npy", "."])
def test_a_pair_of_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = arrays()
    npy_folder(tmp_path, {"x": parts["x_train"], "y": parts["y_train"]})
    found = load_data(name, test_fraction=0.0, window=10)
    assert isinstance(found.train, StreamedDataset)
    np.testing.assert_array_equal(found.train.y, parts["y_train"])


def test_files_that_are_too_large_to_be_loaded_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.data.sources.LOADED", 1000)
    monkeypatch.setattr(from_path, "LOADED", 1000)
    parts = arrays()
    for store in (npy_folder, hdf5, zarr_group):
        folder = tmp_path / store.__name__
        folder.mkdir()
        path = store(folder, parts)
        assert isinstance(load_data(path).train, StreamedDataset)
        assert isinstance(load_data(path, window="full").train, Dataset)


def test_values_are_fitted_where_targets_are_floats(tmp_path: Path) -> None:
    parts = arrays("numbers")
    npy_folder(tmp_path, {"x": parts["x_train"], "y": np.arange(90.0)})
    data = load_data(tmp_path, window=10)
    assert not data.train.has_classes
    hdf5(tmp_path, {"x_train": parts["x_train"], "y_train": np.arange(90) % 3 * 1.0})
    assert load_data(tmp_path / "data.h5", window=10).train.class_names == ("0", "1", "2")
    assert load_data(tmp_path / "data.h5").train.class_names == ("0", "1", "2")


def test_text_labels_of_files(tmp_path: Path) -> None:
    parts = arrays("numbers")
    names = np.array(["ant", "bee", "cat", "dog"])
    parts |= {"y_train": names[parts["y_train"]], "y_test": names[parts["y_test"] // 2]}
    npy_folder(tmp_path, parts)
    data = load_data(tmp_path, window=10)
    assert data.train.class_names == tuple(names)
    assert data.test is not None
    assert data.test.class_names == tuple(names)
    np.testing.assert_array_equal(np.array(names)[data.test.y], parts["y_test"])


# ---- Parquet ---------------------------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict[str, Any], rows: int = 16) -> Path:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows)
    return path


def test_a_parquet_file_is_read_as_the_table_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns: dict[str, Any] = {f"c{index}": np.random.default_rng(index).normal(size=N) for index in range(4)}
    columns["kind"] = [["ape", "bee", "cat"][index % 3] for index in range(N)]
    path = parquet(tmp_path / "t.parquet", columns)
    expected = load_data(path, label="kind")
    assert isinstance(expected.train, Dataset)
    for window in (1000, 20):
        found = load_data(path, label="kind", window=window)
        assert isinstance(found.train, StreamedDataset)
        assert found.train.columns == expected.train.columns
        if window == 1000:
            assert_same(found.train[:], expected.train)
        assert found.train.class_names == expected.train.class_names
    monkeypatch.setattr(from_path, "LOADED", 100)
    monkeypatch.setattr("nn.data.sources.LOADED", 100)
    assert isinstance(load_data(path, label="kind").train, StreamedDataset)
    assert isinstance(load_data(path, label="kind", window="full").train, Dataset)
    with pytest.raises(DataError, match="which column is the label"):
        load_data(path)
    assert isinstance(load_data(path, label="kind", impute="mean").train, Dataset)
    with pytest.raises(DataError, match="learnt of tables in memory"):
        load_data(path, label="kind", impute="mean", window=20)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_folders_that_lack_something_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder; store x.npy and y.npy in it .*'mnist'.*data_dir"):
        load_data(tmp_path)
    x = np.zeros((5, 2))
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match=r"lacks y \(it has x\)"):
        load_data(tmp_path)
    np.save(tmp_path / "y.npy", np.zeros(4, int))
    with pytest.raises(DataError, match=r"x.npy has 5 rows but .*y.npy has 4"):
        load_data(tmp_path)
    np.save(tmp_path / "y_1.npy", np.zeros(1, int))
    with pytest.raises(DataError, match="has 1 files of x but 2 of y"):
        load_data(tmp_path)
    (tmp_path / "y_1.npy").unlink()
    np.save(tmp_path / "y.npy", np.arange(5) % 2)
    np.save(tmp_path / "x_test.npy", x)
    with pytest.raises(DataError, match="lacks y_test"):
        load_data(tmp_path)
    np.save(tmp_path / "y_test.npy", np.arange(5) % 2)
    np.save(tmp_path / "x_test.npy", np.zeros((5, 3)))
    with pytest.raises(DataError, match=r"x has rows \(2,\) but x_test \(3,\); store both alike"):
        load_data(tmp_path)
    np.save(tmp_path / "x_test.npy", x)
    np.save(tmp_path / "y_test.npy", np.arange(5))
    with pytest.raises(DataError, match=r"y_test.npy\[2\] is 2, outside the classes 0 to 1"):
        load_data(tmp_path)


def test_what_has_no_windows_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", allow_pickle=False, **arrays())
    for source in ("digits", tmp_path / "x.npz"):
        with pytest.raises(DataError, match="is always loaded whole, so there are no windows of it"):
            load_data(source, window=10)
    with pytest.raises(DataError, match="'nosuch' is neither a file nor a known source"):
        load_data("nosuch", window=10)
    assert isinstance(load_data("digits", window="full").train, Dataset)
    np.save(tmp_path / "rows.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match="it is not known where their targets are"):
        load_data(tmp_path / "rows.npy")
    with pytest.raises(DataError, match="is neither a file nor a known source; check the path"):
        load_data(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"x.npy has no targets beside it: there is no .*y.npy; store them there"):
        load_data(tmp_path / "x.npy")
    npy_folder(tmp_path, {"x": np.zeros((4, 2)), "y": np.arange(4) % 2})
    with pytest.raises(DataError, match="is no table"):
        load_data(tmp_path, label="y")


@pytest.mark.parametrize(("library", "name"), [("h5py", "x.h5"), ("zarr", "x.zarr"), ("pyarrow", "x.parquet")])
def test_what_to_install_is_said(library: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.parquet", None)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=rf"needs {library} to be read: pip install {library}"):
        load_data(tmp_path / name, window=10)


def test_links_of_hdf5_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    hdf5(tmp_path, arrays())
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["x_train"] = h5py.ExternalLink("data.h5", "x_train")
        file["y_train"] = np.arange(90) % 4
    with pytest.raises(DataError, match="x_train is a link, which is not followed"):
        load_data(tmp_path / "links.h5", window=10)


def test_rows_of_zarr_are_in_a_group(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(store=tmp_path / "x.zarr", shape=(4, 2), dtype="f4")
    with pytest.raises(DataError, match="is a single array; store x and y"):
        load_data(tmp_path / "x.zarr")
    (tmp_path / "nothing.zarr").mkdir()
    with pytest.raises(DataError, match=r"nothing\.zarr is empty; copy or download it again$"):
        load_data(tmp_path / "nothing.zarr")
    zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(DataError, match="lacks x_train and y_train"):
        load_data(tmp_path / "g.zarr")

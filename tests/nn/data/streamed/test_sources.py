"""Ranges of rows from HDF5, zarr and Parquet, and from several files, and what is refused of files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import Linear, Sequential, Standardize, Trainer
from nn.data import DataError, as_dataset
from nn.data.streamed import ArraySource, NpySource, Source, StreamedDataset, StreamWarning
from nn.data.streamed.hdf5 import hdf5_source
from nn.data.streamed.joined import JoinedSource
from nn.data.streamed.mapped import mapped_source
from nn.data.streamed.raw import RawSource
from nn.data.streamed.zarr import ZarrSource
from nn.data.tables import TableOptions


def assert_gives(source: Source, expected: np.ndarray, ranges: Sequence[tuple[int, int]] | None = None) -> None:
    """A source that gives the rows of an array, by any range."""
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    assert source.chunk >= 1
    n = len(expected)
    for start, stop in ranges or [(0, n), (0, 1), (n - 1, n), (n // 3, n // 2 + 1), (n // 4, n // 4)]:
        out = np.empty((stop - start, *source.shape[1:]), source.dtype)
        source.read(start, stop, out)
        np.testing.assert_array_equal(out, expected[start:stop])
    one = source.identity()
    assert one == source.identity()


def numbers(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


# ---- several files ---------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5), start=st.integers(0, 30), stop=st.integers(0, 30))
def test_rows_of_several_files_follow_each_other(lengths: list[int], start: int, stop: int) -> None:
    arrays = [numbers((length, 3), seed=index) for index, length in enumerate(lengths)]
    whole = np.concatenate(arrays)
    joined = JoinedSource([ArraySource(array) for array in arrays])
    first, last = sorted((min(start, len(whole)), min(stop, len(whole))))
    assert joined.shape == whole.shape
    out = np.empty((last - first, 3), np.float32)
    joined.read(first, last, out)
    np.testing.assert_array_equal(out, whole[first:last])


def test_rows_that_are_mapped_into_memory_are_read_from_their_file(tmp_path: Path) -> None:
    path, x = tmp_path / "x.npy", numbers((5000, 10))
    np.save(path, x)
    whole = np.load(path, mmap_mode="r")
    from_4080 = np.memmap(path, np.float32, "r", offset=128 + 40 * 102, shape=(50, 10))
    others: Sequence[Any] = (whole[2000:][100:900], whole.reshape(-1, 20), whole.view(np.int32), from_4080[7:])
    for one in (whole, from_4080, *others):
        found = mapped_source(one)
        assert found is not None
        assert found.name == str(path.resolve())
        assert_gives(found, np.array(one), [(0, len(one)), (len(one) // 3, len(one) // 2)])


def test_a_map_that_need_not_equal_its_file_stays_a_map(tmp_path: Path) -> None:
    path, x = tmp_path / "x.npy", numbers((50, 10))
    np.save(path, x)
    read_only = np.load(path, mmap_mode="r")
    for one in (read_only[:, :5], np.load(path, mmap_mode="r+"), np.load(path, mmap_mode="c")):
        assert isinstance(one, np.memmap)
        assert mapped_source(one) is None
    if sys.platform == "win32":
        return  # it does not let a file go that is mapped
    np.save(tmp_path / "other.npy", x + 1)
    (tmp_path / "other.npy").replace(path)
    assert mapped_source(read_only) is None
    np.testing.assert_array_equal(StreamedDataset(read_only)[:].x, x)
    path.unlink()
    assert mapped_source(read_only) is None


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is mapped cannot be made shorter")
def test_a_mapped_file_that_becomes_shorter_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, numbers((5000, 10)))
    data = StreamedDataset(np.load(path, mmap_mode="r"), window=100)
    with open(path, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"x\.npy has changed since it was opened"):
        data[4000:4001]


def test_a_path_alone_is_answered_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"only \.npy and \.zarr are streamed; save the rows as one, or load it by"):
        StreamedDataset(tmp_path / "x.npz", np.zeros(3, int))
    with pytest.raises(TypeError, match=r"this is a path alone: name the targets, too, as in fit\('x.npy', 'y.npy'\)"):
        as_dataset(tmp_path / "x.npy")


def test_a_list_of_files_is_one_data_set(tmp_path: Path) -> None:
    x, y = numbers((30, 4)), np.arange(30) % 3
    for index, part in enumerate(np.array_split(np.arange(30), 4)):
        np.save(tmp_path / f"x_{index}.npy", x[part])
        np.save(tmp_path / f"y_{index}.npy", y[part])
    names = [[tmp_path / f"{name}_{index}.npy" for index in range(4)] for name in "xy"]
    data = StreamedDataset(*names)
    np.testing.assert_array_equal(data[:].x, x)
    np.testing.assert_array_equal(data.y, y)
    assert data.rows.name.endswith("x_0.npy ... x_3.npy")
    np.save(tmp_path / "x_2.npy", x[:, :3])
    with pytest.raises(DataError, match=r"x_2.npy has rows \(3,\) .* store all alike"):
        StreamedDataset(*names)
    with pytest.raises(DataError, match="no files to join"):
        JoinedSource([])


# ---- HDF5 ------------------------------------------------------------------------------------------------------------

FILTERS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (7, 3)},
    "gzip": {"chunks": (7, 3), "compression": "gzip"},
    "gzip and shuffle": {"chunks": (16, 5), "compression": "gzip", "shuffle": True},
    "shuffle": {"chunks": (3, 2), "shuffle": True},
    "lzf": {"chunks": (7, 3), "compression": "lzf"},
    "checksum": {"chunks": (7, 3), "fletcher32": True},
    "checksum and gzip": {"chunks": (7, 3), "fletcher32": True, "compression": "gzip", "shuffle": True},
    "one chunk for all": {"chunks": (60, 5), "maxshape": (None, 5)},
}


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f8", "int16", "bool"])
def test_any_range_of_hdf5_is_that_of_its_array(kind: str, dtype: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    x = (numbers((50, 5)) % 2).astype("bool") if dtype == "bool" else numbers((50, 5), dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=x, **FILTERS[kind])
    with h5py.File(tmp_path / "x.h5", "r") as file:
        source = hdf5_source(file["x"])
        assert_gives(source, x, [(a, b) for a in range(0, 50, 6) for b in range(a + 1, 51, 7)])
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda start: _read(source, start, start + 5), range(0, 50, 5)))
        np.testing.assert_array_equal(np.concatenate(found), x)
        assert source.name == f"{tmp_path / 'x.h5'}: x"
        assert source.chunk == FILTERS[kind].get("chunks", (1,))[0]
    assert isinstance(source, RawSource) == (kind == "contiguous")


def _read(source: Source, start: int, stop: int) -> np.ndarray:
    out = np.empty((stop - start, *source.shape[1:]), source.dtype)
    source.read(start, stop, out)
    return out


def test_chunks_of_hdf5_that_were_never_written_have_the_fill_value(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        item = file.create_dataset("x", (20, 3), "f4", chunks=(4, 3), fillvalue=7.0)
        item[4:8] = 1.0
    with h5py.File(tmp_path / "x.h5", "r") as file:
        expected = np.full((20, 3), 7.0, np.float32)
        expected[4:8] = 1.0
        assert_gives(hdf5_source(file["x"]), expected)


def test_hdf5_that_may_still_be_written_to_is_read_by_the_library(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    x = numbers((20, 3))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
        source = hdf5_source(file["x"])
        assert not isinstance(source, RawSource)
        assert_gives(source, x)
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        file.create_dataset("x", data=x, chunks=(4, 3), compression="gzip")
        assert_gives(hdf5_source(file["x"]), x)


def test_a_chunk_that_unpacks_to_more_than_it_should_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    import zlib

    path = tmp_path / "x.h5"
    for content in (b"\0" * 100_000_000, b"\0"):
        with h5py.File(path, "w") as file:
            item = file.create_dataset("x", (100, 10), "f4", chunks=(10, 10), compression="gzip")
            item[...] = 1.0
            item.id.write_direct_chunk((50, 0), zlib.compress(content))
        with h5py.File(path, "r") as file:
            source = hdf5_source(file["x"])
            assert _read(source, 0, 50).min() == 1.0
            with pytest.raises(DataError, match="a chunk is larger or smaller than it should be"):
                _read(source, 55, 60)


def test_text_labels_of_hdf5_are_classes(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = numbers((4, 3))
        file["y"] = ["cat", "ape", "cat", "bee"]
    with h5py.File(tmp_path / "x.h5", "r") as file:
        data = StreamedDataset(file["x"], file["y"])
        assert data.class_names == ("ape", "bee", "cat")
        assert data.y.tolist() == [2, 0, 2, 1]


def test_hdf5_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["text"] = [["a", "b"]]
        file["number"] = 3.0
        file["nothing"] = h5py.Empty("f4")
        file.create_dataset("huge", (2**20, 2**12), "f4", chunks=(2**17, 2**12))
        for name, message in [
            ("number", "single number"), ("nothing", "holds nothing"), ("huge", r"chunks of 2\.1 GB"),
        ]:  # fmt: skip
            with pytest.raises(DataError, match=message):
                StreamedDataset(file[name])
        with pytest.raises(DataError, match="holds no numbers"):
            StreamedDataset(file["text"])


# ---- zarr ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["version 2", "version 3", "shards"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int16"])
def test_any_range_of_zarr_is_that_of_its_array(kind: str, dtype: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    x, path = numbers((50, 6), dtype), tmp_path / "x.zarr"
    settings: dict[str, Any] = {"zarr_format": 2} if kind == "version 2" else {}
    settings |= {"shards": (20, 6)} if kind == "shards" else {}
    array = zarr.create_array(store=path, shape=x.shape, chunks=(10, 3), dtype=dtype, **settings)
    array[:] = x
    for given_x in (path, zarr.open(path, mode="r")):
        data = StreamedDataset(given_x)
        assert data.rows.chunk == 10
        np.testing.assert_array_equal(data[:].x, x)
        np.testing.assert_array_equal(data[13:31].x, x[13:31])


@pytest.mark.parametrize("inside", [False, True])
def test_zarr_that_would_be_unpickled_is_refused(inside: bool) -> None:
    pytest.importorskip("zarr")
    codec: Any = SimpleNamespace(codec_id="pickle")
    if inside:
        codec = SimpleNamespace(codecs=[codec], to_dict=lambda: {"name": "sharding_indexed"})
    metadata = SimpleNamespace(codecs=[codec])
    array: Any = SimpleNamespace(name="x", shape=(20, 2), dtype="f4", chunks=(5, 2), metadata=metadata)
    with pytest.raises(DataError, match="packed by 'pickle', which is not read"):
        ZarrSource(array)


def test_zarr_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", shape=(3, 2), dtype="f4")
    with pytest.raises(DataError, match="group of arrays"):
        StreamedDataset(tmp_path / "g.zarr")
    (tmp_path / "g.zarr" / "x" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        StreamedDataset(tmp_path / "g.zarr" / "x")
    zarr.create_array(store=tmp_path / "huge.zarr", shape=(10**9, 1000), chunks=(10, 1000), dtype="f4")
    with pytest.raises(DataError, match=r"claims 4,000\.0 GB"):
        StreamedDataset(tmp_path / "huge.zarr")
    zarr.create_array(store=tmp_path / "x.zarr", shape=(2**20, 2**12), chunks=(2**18, 2**12), dtype="f4")
    with pytest.raises(DataError, match=r"chunks of 4\.3 GB"):
        StreamedDataset(zarr.open(tmp_path / "x.zarr", mode="r"))


# ---- Parquet ---------------------------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict[str, Any], rows: int = 7) -> Any:
    """A Parquet file with row groups of so many rows, opened; the test is skipped without pyarrow."""
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    from nn.data.streamed.parquet import ParquetFile

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows)
    return ParquetFile(path)


def test_any_range_of_parquet_is_that_of_its_columns(tmp_path: Path) -> None:
    from nn.data.streamed.parquet import ParquetSource

    n = 50
    columns = {
        "a": np.arange(n, dtype=np.float32) / 7,
        "b": np.arange(n, dtype=np.int16),
        "c": np.arange(n) % 2 == 1,
        "d": np.arange(n, dtype=np.float64) * 1e-9,
        "e": np.arange(n) + 2**40,
    }
    file = parquet(tmp_path / "x.parquet", columns)
    ranges = [(a, b) for a in range(0, n, 6) for b in range(a + 1, n + 1, 7)]
    for names, dtype in [("abc", "float32"), ("abcde", "float64"), ("b", "float32"), ("ea", "float64")]:
        expected = np.stack([columns[name] for name in names], axis=1).astype(dtype)
        source = ParquetSource(file, list(names))
        assert source.chunk == 7
        assert_gives(source, expected, ranges)
    assert_gives(ParquetSource(file, ["d"], alone=True), columns["d"], ranges)
    with pytest.warns(StreamWarning, match="is stored in row groups of 7 rows, .*: store it in row groups of 1 rows"):
        StreamedDataset(ParquetSource(file, ["a", "d"]), window=40)


LABELS: dict[str, Callable[[int], Any]] = {
    "integers": lambda n: np.arange(n) % 3,
    "from one": lambda n: np.arange(n) % 3 + 1,
    "text": lambda n: [["cat", "ape", "bee"][index % 3] for index in range(n)],
    "bool": lambda n: np.arange(n) % 2 == 0,
    "fractions": lambda n: np.arange(n) / 3.7,
    "whole floats": lambda n: (np.arange(n) % 4).astype(float),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("task", ["auto", "values"])
def test_labels_of_parquet_are_those_of_the_table_in_memory(kind: str, task: Any, tmp_path: Path) -> None:
    from nn.data.streamed.parquet import ParquetSource, parquet_columns, parquet_targets
    from nn.data.tables import read_csv

    pytest.importorskip("pandas")
    if task == "values" and kind in ("text", "bool"):
        pytest.skip("text cannot be fitted")
    file = parquet(tmp_path / "x.parquet", {"a": np.arange(40.0), "label": LABELS[kind](40), "b": -np.arange(40.0)})
    expected = read_csv(tmp_path / "x.parquet", task=task)
    targets, names = parquet_columns(file, TableOptions(task=task))
    y, class_names = parquet_targets(file, targets, task)
    data = StreamedDataset(ParquetSource(file, names), y, class_names=class_names)
    np.testing.assert_array_equal(data[:].x, expected.x)
    np.testing.assert_array_equal(data.y, expected.y)
    assert data.class_names == expected.class_names


def test_parquet_that_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    from nn.data.streamed.parquet import ParquetSource, parquet_columns, parquet_targets

    file = parquet(tmp_path / "x.parquet", {"a": [1.0, None, 3.0], "b": ["x", "y", "z"], "c": [1, None, 2]}, 2)
    source = ParquetSource(file, ["a"])
    with pytest.raises(DataError, match=r"x.parquet, row 1, column 'a': the value is missing"):
        _read(source, 0, 3)
    assert _read(source, 2, 3).item() == 3.0
    with pytest.raises(DataError, match="column 'b': it holds string, but rows that are streamed are numbers"):
        ParquetSource(file, ["a", "b"])
    with pytest.raises(DataError, match="which column is the label"):
        parquet_columns(file, TableOptions())
    with pytest.raises(DataError, match="missing values and categories are learnt of tables in memory"):
        parquet_columns(file, TableOptions(impute="mean"))
    with pytest.raises(DataError, match=r"row 1, column 'c': the cell is empty"):
        parquet_targets(file, [2], "auto")
    file = parquet(tmp_path / "x.parquet", {"a": np.arange(9.0), "y": np.arange(9)}, 2)
    source = ParquetSource(file, ["a"])
    parquet(tmp_path / "x.parquet", {"a": np.arange(8.0), "y": np.arange(8)}, 2)
    with pytest.raises(DataError, match="has changed since it was opened"):
        _read(source, 0, 3)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    from nn.data.streamed.parquet import ParquetFile

    with pytest.raises(DataError, match="is damaged"):
        ParquetFile(tmp_path / "x.parquet")


# ---- libraries that are not there ------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["zarr", "pyarrow"])
def test_what_to_install_is_said(library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nn.data.streamed.parquet import ParquetFile

    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.parquet", None)
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(DataError, match=rf"needs {library} to be read: pip install {library}"):
        StreamedDataset(tmp_path / "x.zarr") if library == "zarr" else ParquetFile(tmp_path / "x.parquet")


# ---- rows that are given to what takes rows --------------------------------------------------------------------------


def test_rows_that_are_not_in_memory_are_not_loaded(tmp_path: Path) -> None:
    x, y = numbers((20, 3)), np.arange(20) % 2
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    expected = as_dataset((x, y))
    for pair in [
        (tmp_path / "x.npy", tmp_path / "y.npy"),
        (str(tmp_path / "x.npy"), y),
        ([tmp_path / "x.npy"], y.tolist()),
        (NpySource(tmp_path / "x.npy"), tmp_path / "y.npy"),
    ]:
        found: Any = as_dataset(pair)
        assert isinstance(found, StreamedDataset)
        np.testing.assert_array_equal(found[:].x, expected.x)
        np.testing.assert_array_equal(found.y, expected.y)
        assert found.class_names == expected.class_names
    rows: Any = as_dataset((tmp_path / "x.npy",))
    assert isinstance(rows, StreamedDataset)
    assert not rows.has_targets


@pytest.mark.parametrize("kind", ["paths", "hdf5", "zarr", "memmap"])
def test_what_is_given_to_fit_evaluate_and_predict_is_as_in_memory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = numbers((60, 4)) / 7, np.arange(60) % 3
    given_x: Any = str(tmp_path / "x.npy")
    given_y: Any = str(tmp_path / "y.npy")
    np.save(given_x, x)
    np.save(given_y, y)
    if kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        file = h5py.File(tmp_path / "rows.h5", "w")
        given_x = file.create_dataset("x", data=x, chunks=(4, 4), compression="gzip")
        given_y = file.create_dataset("y", data=y)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        given_x = zarr.create_array(store=tmp_path / "x.zarr", shape=x.shape, chunks=(4, 4), dtype=x.dtype)
        given_x[...] = x
        given_y = y.tolist()
    elif kind == "memmap":
        monkeypatch.setattr("nn.data.streamed.as_streamed.WINDOW_BYTES", 100)
        given_x = np.load(given_x, mmap_mode="r")
    found = []
    for rows, labels in ((x, y), (given_x, given_y)):
        trainer = Trainer(Sequential(Standardize(4), Linear(4, 3), backend="cpu", seed=1))
        trainer.fit(rows, labels, epochs=2, batch_size=8, validation=0.2)
        results = trainer.evaluate(rows, labels), trainer.losses(rows, labels), trainer.predict(rows)
        found.append((trainer.model.state_dict(), *results))
    (one, evaluated, losses, predicted), (other, *others) = found
    assert all((one[name] == other[name]).all() for name in one)
    assert others[0] == evaluated
    np.testing.assert_array_equal(others[1], losses)
    np.testing.assert_array_equal(others[2], predicted)
    np.testing.assert_array_equal(Standardize.from_data(given_x).mean_init, Standardize.from_data(x).mean_init)


def test_two_texts_are_no_rows_and_targets_of_an_array() -> None:
    trainer = Trainer(Sequential(Linear(4, 3), backend="cpu"))
    with pytest.raises(ValueError, match="y must be targets, one for each row, not the text"):
        trainer.fit(numbers((6, 4)), "y.npy")
    with pytest.raises(ValueError, match="a StreamedDataset has its targets already"):
        trainer.fit(StreamedDataset(numbers((6, 4)), [0, 1] * 3), [0, 1] * 3)

"""npz and HDF5 files: the arrays in them, and what is said of bad ones."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn.data import DataError, UnitsWarning
from nn.data.archives import read_hdf5, read_npz
from nn.data.sources import load_data

RNG = np.random.default_rng(1)
ARRAYS: dict[str, np.ndarray] = {
    "x_train": RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8),
    "y_train": np.arange(12, dtype=np.uint8) % 3,
    "x_test": RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8),
    "y_test": np.arange(6, dtype=np.uint8) % 3,
}


def save_npz(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def save_hdf5(path: Path, arrays: dict[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


SAVE = {"data.npz": save_npz, "data.h5": save_hdf5, "data.HDF5": save_hdf5}


@pytest.fixture(params=SAVE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_four_arrays(tmp_path: Path, name: str) -> None:
    data = load_data(SAVE[name](tmp_path / name, ARRAYS))
    assert data.name == name
    assert data.test is not None
    for half, rows in (("train", data.train), ("test", data.test)):
        np.testing.assert_array_equal(rows.x, ARRAYS[f"x_{half}"].reshape(-1, 16))
        np.testing.assert_array_equal(rows.y, ARRAYS[f"y_{half}"])
        assert rows.x.dtype == np.uint8
        assert (rows.scale, rows.image_shape, rows.n_classes) == (1 / 255, (4, 4), 3)


def test_two_arrays_are_divided(tmp_path: Path, name: str) -> None:
    path = SAVE[name](tmp_path / name, {key: ARRAYS[key] for key in ("x_train", "y_train")})
    data = load_data(path, test_fraction=0.25)
    assert data.test is not None
    assert np.bincount(data.train.y).tolist() == [3, 3, 3]
    assert np.bincount(data.test.y).tolist() == [1, 1, 1]


def test_floats_are_taken_as_scaled_already(tmp_path: Path, name: str) -> None:
    scaled = {key: array / np.float32(255) if key[0] == "x" else array for key, array in ARRAYS.items()}
    train = load_data(SAVE[name](tmp_path / name, scaled)).train
    assert train.x.dtype == np.float32
    assert train.scale == 1.0
    np.testing.assert_array_equal(train.x, scaled["x_train"].reshape(12, 16))


@pytest.mark.parametrize(
    ("n_features", "high", "dtype", "scale", "image_shape"),
    [
        (64, 255, "uint8", 1 / 255, (8, 8)),
        (64, 255, "int64", 1 / 255, (8, 8)),
        (64, 255, "float32", 1 / 255, (8, 8)),
        (64, 16, "uint8", 1.0, None),
        (65, 255, "uint8", 1.0, None),
        (192, 255, "uint8", 1 / 255, None),
        (16, 255, "uint8", 1.0, None),
    ],
)
def test_flat_rows_are_pixels_by_their_numbers(
    tmp_path: Path, n_features: int, high: int, dtype: str, scale: float, image_shape: tuple[int, int] | None
) -> None:
    x = np.zeros((12, n_features), dtype)
    x[3, 5] = high
    train, test = read_npz(save_npz(tmp_path / "a.npz", {"x_train": x, "y_train": ARRAYS["y_train"]}))
    assert (train.scale, train.image_shape) == (scale, image_shape)
    np.testing.assert_array_equal(train.x, x)
    assert test is None


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
@pytest.mark.parametrize("high", [16, 255])
def test_test_rows_are_in_the_units_of_the_training_rows(tmp_path: Path, name: str, high: int, dtype: str) -> None:
    """Also where they are all dark, or of another dtype."""
    x_train = np.minimum(ARRAYS["x_train"], high)
    data = load_data(SAVE[name](tmp_path / name, ARRAYS | {"x_train": x_train, "x_test": np.full((6, 4, 4), 9, dtype)}))
    assert data.test is not None
    assert data.train.scale == data.test.scale == (1 / 255 if high == 255 else 1.0)
    np.testing.assert_array_equal(data.test.features("float64"), 9 * data.train.scale)


def test_test_rows_in_other_units_get_a_warning(tmp_path: Path, name: str) -> None:
    path = SAVE[name](tmp_path / name, ARRAYS | {"x_test": ARRAYS["x_test"] / 255})
    with pytest.warns(UnitsWarning, match=rf"{name}: x_test goes from 0 to 1: multiply by 255"):
        load_data(path)


@pytest.mark.parametrize("y", [ARRAYS["y_train"].astype(float), np.eye(3)[ARRAYS["y_train"]]])
def test_whole_floats_and_one_hot_rows_are_labels_in_a_file(tmp_path: Path, name: str, y: np.ndarray) -> None:
    train = load_data(SAVE[name](tmp_path / name, ARRAYS | {"y_train": y})).train
    np.testing.assert_array_equal(train.y, ARRAYS["y_train"])
    assert train.y.dtype == np.int64


def without(*names: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in ARRAYS.items() if key not in names}


NAN_ROWS = np.zeros((12, 16))
NAN_ROWS[5, 3] = np.nan
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": (without("y_train"), r" lacks y_train \(it has x_test, x_train, y_test\)"),
    "nothing": ({}, r" lacks x_train and y_train \(it has nothing\)"),
    "half a test": (without("y_test"), r" lacks y_test \(it has "),
    "the other half": (without("x_test"), r" lacks x_test \(it has "),
    "lengths": (ARRAYS | {"y_train": np.zeros(11, int)}, ": x_train has 12 rows but .*: y_train has 11"),
    "NaN": (ARRAYS | {"x_train": NAN_ROWS}, r": x_train\[5, 3\] is nan"),
    "fraction": (ARRAYS | {"y_train": np.full(12, 0.5)}, r": y_train\[0\] is 0\.5, which is no class"),
    "fraction among numbers": (
        ARRAYS | {"y_train": np.arange(12) - 0.5},
        r": y_train\[0\] is -0\.5, which is no class",
    ),
    "value": (ARRAYS | {"y_train": np.arange(12) * 10_001}, r": y_train\[10\] is 100010, which looks like a value"),
    "new class": (
        ARRAYS | {"y_test": np.array([0, 1, 2, 3, 1, 2])},
        r": y_test\[3\] is 3, outside the classes 0 to 2 \(the labels of y_train\)",
    ),
    "one-hot": (ARRAYS | {"y_train": np.zeros((12, 3))}, r": y_train\[0\] is not one-hot"),
    "shapes": (ARRAYS | {"x_test": np.zeros((6, 4, 5), np.uint8)}, r": x_train has rows \(4, 4\) .* x_test \(4, 5\)"),
    "flat and not": (ARRAYS | {"x_test": np.zeros((6, 8, 2))}, r": x_train has rows \(4, 4\) but x_test \(8, 2\); "),
    "empty": (ARRAYS | {"x_train": np.zeros((0, 4)), "y_train": np.zeros(0)}, ": x_train is empty"),
    "complex": (ARRAYS | {"x_train": np.zeros((12, 4), complex)}, ": x_train has complex numbers"),
    "text": (ARRAYS | {"y_train": np.array([b"cat"] * 12)}, ": y_train has text in it"),
}


def test_arrays_may_be_called_x_and_y(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    short = {"x": ARRAYS["x_train"], "y": ARRAYS["y_train"]}
    for arrays in (short, short | {half: ARRAYS[half] for half in ("x_test", "y_test")}):
        expected = load_data(SAVE[name](path, ARRAYS), test_fraction=0)
        found = load_data(SAVE[name](path, arrays), test_fraction=0)
        np.testing.assert_array_equal(found.train.x, expected.train.x)
        np.testing.assert_array_equal(found.train.y, expected.train.y)
        assert (found.test is None) == (arrays is short)
    for window in (5, None) if path.suffix != ".npz" else ():
        streamed = load_data(path, window=window)
        np.testing.assert_array_equal(streamed.train.y, ARRAYS["y_train"])
    with pytest.raises(DataError, match=r" lacks y \(it has x\); store the arrays x and y, or x_train and y_train"):
        load_data(SAVE[name](path, {"x": ARRAYS["x_train"]}))


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_named(tmp_path: Path, name: str, case: str) -> None:
    arrays, message = BAD_ARRAYS[case]
    path = SAVE[name](tmp_path / name, arrays)
    with pytest.raises(DataError, match=f"{name}{message}"):
        load_data(path)


def test_a_training_set_may_skip_a_class(tmp_path: Path) -> None:
    gap = ARRAYS | {"y_train": np.where(ARRAYS["y_train"] == 1, 4, ARRAYS["y_train"])}
    train, test = read_npz(save_npz(tmp_path / "a.npz", gap))
    assert test is not None
    assert (train.n_classes, test.n_classes) == (5, 5)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    save_npz(tmp_path / "a.npz", ARRAYS | {"y_train": np.array([Trap()] * 12, object)})
    with pytest.raises(DataError, match=r"a\.npz: y_train holds Python objects, which are never unpickled"):
        load_data(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"b\.npz is not an \.npz file"):
        load_data(tmp_path / "b.npz")
    assert not trap.exists()


def test_damaged_npz_files_are_named(tmp_path: Path) -> None:
    good = save_npz(tmp_path / "good.npz", ARRAYS).read_bytes()
    start = good.index(b"x_train.npy")
    bad = {
        "empty": (b"", r"bad\.npz is empty; copy or download it again$"),
        "cut": (good[:-100], r"bad\.npz is damaged"),
        "changed": (good[: start + 60] + bytes(40) + good[start + 100 :], r"bad\.npz: x_train is damaged"),
        "text": (b"x_train,y_train\n", r"bad\.npz is not an \.npz file"),
    }
    for content, message in bad.values():
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / "bad.npz")
    with (tmp_path / "bad.npz").open("wb") as file:
        np.save(file, ARRAYS["x_train"])
    with pytest.raises(DataError, match=r"bad\.npz is a single array"):
        load_data(tmp_path / "bad.npz")


def test_damaged_hdf5_files_are_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path = save_hdf5(tmp_path / "a.h5", ARRAYS)
    content = path.read_bytes()
    for damaged, wrong in ((b"", "empty;"), (b"text", "damaged"), (content[: len(content) // 2], "damaged")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"a\.h5 is {wrong}"):
            load_data(path)
    path = save_hdf5(tmp_path / "b.h5", without("y_train"))
    with h5py.File(path, "a") as file:
        file.create_group("y_train")
    with pytest.raises(DataError, match=r"b\.h5: y_train is a group"):
        load_data(path)
    with h5py.File(path, "a") as file:
        del file["y_train"]
        file["y_train"] = h5py.SoftLink("/nowhere")
    with pytest.raises(DataError, match=r"b\.h5: y_train is a link, which is not followed"):
        load_data(path)


def test_without_h5py_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"a\.h5 needs h5py to be read: pip install h5py"):
        read_hdf5(tmp_path / "a.h5")

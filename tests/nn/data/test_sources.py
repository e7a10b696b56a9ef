"""Where rows come from: digits, and what is said of a source that there is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn.data import DataError, sources
from nn.data.sources import load_data, load_digits

#: No test downloads anything.
pytestmark = pytest.mark.usefixtures("offline")


def test_digits() -> None:
    digits = load_digits()
    assert digits.x.shape == (1797, 64)
    assert digits.x.dtype == np.uint8
    assert (digits.x.min(), digits.x.max()) == (0, 16)
    assert (digits.scale, digits.image_shape, digits.n_classes) == (1 / 16, (8, 8), 10)
    assert digits.y[:5].tolist() == [0, 1, 2, 3, 4]


def test_digits_are_divided_by_class_and_shuffled() -> None:
    data = load_data()
    assert data.name == "digits"
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (1437, 360)
    share = np.bincount(data.test.y) / np.bincount(load_digits().y)
    assert np.all(np.abs(share - 0.2) < 0.01)
    assert set(data.train.y[:60]) == set(range(10))
    again, other = load_data("digits", seed=0), load_data("digits", seed=1)
    np.testing.assert_array_equal(data.train.x, again.train.x)
    assert not np.array_equal(data.train.x, other.train.x)


def test_limit_and_test_fraction() -> None:
    data = load_data("digits", limit=50, test_fraction=0.5)
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (50, 50)
    np.testing.assert_array_equal(data.train.x, load_data("digits", test_fraction=0.5).train.x[:50])
    whole = load_data("digits", test_fraction=0)
    assert whole.test is None
    assert len(whole.train) == 1797
    huge = load_data("digits", limit=10**6)
    assert len(huge.train) == 1437
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit must be a whole number of at least 1, not {limit}"):
            load_data("digits", limit=limit)
    with pytest.raises(DataError, match=r"digits has no test rows, .*between 0 and 1, not be 1\.5"):
        load_data("digits", test_fraction=1.5)


def test_it_is_known_whether_test_rows_were_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\n" + "1,a\n2,b\n" * 20)
    arrays: dict[str, Any] = {"x": np.eye(20, dtype=np.float32), "y": np.arange(20) % 2}
    np.savez(
        tmp_path / "apart.npz", **{f"{name}{part}": a for name, a in arrays.items() for part in ("_train", "_test")}
    )
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    for source in ("digits", tmp_path / "a.csv", tmp_path / "x.npy"):
        assert load_data(source).divided
        assert not load_data(source, test_fraction=0).divided
    assert load_data(tmp_path / "x.npy", window=4).divided
    assert not load_data(tmp_path / "apart.npz").divided


def test_unknown_sources_are_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'diggits' is neither .* known are 'digits', 'mnist', a file \.npz, .* or \.zarr$"
    ):
        load_data("diggits")
    with pytest.raises(DataError, match=r"missing\.npz' is neither a file"):
        load_data(tmp_path / "missing.npz")
    with pytest.raises(DataError, match=r"is a folder; .*'mnist'.*data_dir"):
        load_data(tmp_path)
    (tmp_path / "data.txt").write_text("1,2\n")
    with pytest.raises(DataError, match=r"data\.txt has an ending"):
        load_data(tmp_path / "data.txt")


def test_importing_datasets_imports_nothing_heavy() -> None:
    heavy = "{'sklearn', 'pooch', 'h5py', 'tqdm', 'requests'}"
    code = f"import sys, nn.data.sources; print(sorted({heavy} & set(sys.modules)))"
    root = Path(sources.__file__).parent.parent.parent
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"

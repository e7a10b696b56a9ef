"""Tables of pandas and of arrays with text or missing values, for training and, by what was learnt, for later rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import Linear, Sequential, Trainer, load_model, save_model
from nn.data import DataError, Dataset, Units, as_dataset, as_rows
from nn.data.columns import Column

pd: Any = pytest.importorskip("pandas", reason="pandas is not installed")

FRAME = pd.DataFrame({"age": [30.0, 40.0, 50.0, 60.0], "height": [1.5, 1.6, 1.7, 1.8]}, index=[9, 8, 7, 6])
LABELS = [0, 1, 0, 1]
#: What a model has learnt of a table with a column of categories.
LEARNT = (Column("age", 42.5), Column("size", "S", ("L", "S")))
UNITS = Units(columns=LEARNT)


def test_columns_are_taken_by_their_names() -> None:
    data = as_dataset((FRAME, LABELS))
    assert data.columns == (Column("age"), Column("height"))
    units = Units.of(data)
    turned = FRAME[["height", "age"]]
    np.testing.assert_array_equal(as_rows(turned, units).x, FRAME.to_numpy())
    np.testing.assert_array_equal(as_rows(FRAME.to_numpy(), units).x, FRAME.to_numpy())
    with pytest.raises(DataError, match="x lacks the column age, which the training rows had"):
        as_rows(FRAME[["height"]], units)
    with pytest.raises(DataError, match="x has the column weight, which the training rows had not; drop"):
        as_rows(FRAME.assign(weight=1.0), units)
    with pytest.raises(DataError, match="two columns are called 'age'"):
        as_rows(pd.concat([FRAME, FRAME], axis=1), units)


def test_columns_without_names_are_taken_in_their_order() -> None:
    data = as_dataset((pd.DataFrame(FRAME.to_numpy()), LABELS))
    assert data.columns is None
    np.testing.assert_array_equal(as_rows(FRAME, Units.of(data)).x, FRAME.to_numpy())


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "float32", "int16", "object", "uint8"])
def test_dtypes_of_pandas(dtype: str) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]}).astype(dtype)
    np.testing.assert_array_equal(as_rows(frame).x, [[1, 2], [3, 4]] if dtype is None else [[1, 3], [2, 4]])
    mixed = frame.assign(c=[True, False])
    np.testing.assert_array_equal(as_rows(mixed).x, [[1, 3, 1], [2, 4, 0]])


def test_pixels_in_a_frame_stay_bytes() -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 64), dtype=np.uint8)
    data = as_rows(pd.DataFrame(x))
    assert data.x.dtype == np.uint8
    assert data.image_shape == (8, 8)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", "b", "c", "d"], "x, column 'more' holds text, 'a' for example; turn it into numbers, or make"),
        (pd.Categorical(["a", "b", "c", "d"]), "x, column 'more' holds categories"),
        ([1.0, np.nan, 2.0, 3.0], "x, column 'more', row 1: the value is missing"),
        (pd.array([1, None, 2, 3], dtype="Int64"), "x, column 'more', row 1: the value is missing"),
        (pd.to_datetime(["2020-01-01"] * 4), "x, column 'more' holds datetime64.*; turn it into numbers first"),
        ([[1], [2], [3], [4]], "x, column 'more' holds list; turn it"),
        ([1.0, np.inf, 2.0, 3.0], r"x\[1, 2\] is inf"),
    ],
)
def test_what_is_no_number_is_named(column: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset((FRAME.assign(more=column), LABELS))


def test_later_rows_go_by_what_was_learnt() -> None:
    frame = pd.DataFrame({"size": ["S", None, "L"], "age": [30.0, np.nan, 50.0]})
    encoded = [[30.0, 0.0, 1.0], [42.5, 0.0, 1.0], [50.0, 1.0, 0.0]]
    for x in (frame, frame[["age", "size"]].to_numpy(), frame[["age", "size"]].values.tolist(), np.array(encoded)):
        np.testing.assert_array_equal(as_rows(x, UNITS).x, encoded)
    with pytest.raises(DataError, match=r"x, column 'size', row 0: 'M' is a category that the training rows did not"):
        as_rows(frame.assign(size="M"), UNITS)
    with pytest.raises(DataError, match=r"x\[1, 0\]: the value is missing"):
        as_rows([[1.0, "S"], [None, "S"]], Units(columns=(Column("age"), LEARNT[1])))


def test_missing_numbers_of_an_array_are_filled() -> None:
    units = Units(columns=(Column("a", 7.0), Column("b")))
    np.testing.assert_array_equal(as_rows([[1.0, 2.0], [np.nan, 3.0]], units).x, [[1, 2], [7, 3]])
    with pytest.raises(DataError, match=r"x\[0, 1\]: the value is missing"):
        as_rows([[1.0, np.nan]], units)


def test_what_was_learnt_is_kept_in_the_model_file(tmp_path: Path) -> None:
    x = np.array([[30.0, 0.0, 1.0], [42.5, 0.0, 1.0], [50.0, 1.0, 0.0]])
    trainer = Trainer(Sequential(Linear(3, 2), backend="cpu"))
    trainer.fit(Dataset(x, np.array([0, 1, 1]), columns=LEARNT))
    save_model(trainer.model, tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors", "cpu")
    assert model.units is not None
    assert model.units.columns == LEARNT
    frame = pd.DataFrame({"size": ["S", None, "L"], "age": [30.0, np.nan, 50.0]})
    np.testing.assert_array_equal(model.predict_proba(frame), model.predict_proba(x))


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_numbers_beyond_float32_are_refused(value: float) -> None:
    x = np.ones((4, 3))
    x[2, 1] = value
    trainer = Trainer(Sequential(Linear(3, 1), backend="cpu"), "mse")
    for call in (lambda: trainer.fit((x, np.ones(4))), lambda: trainer.model.predict(x)):
        with pytest.raises(DataError, match=r"x\[2, 1\] is -?1e\+\d+, but the network computes in float32"):
            call()
    with pytest.raises(DataError, match=r"y\[2\] is -?1e\+\d+, but the network computes in float32"):
        trainer.fit((np.ones((4, 3)), x[:, 1]))
    assert np.isfinite(Sequential(Linear(3, 1), backend="cpu", dtype="float64").predict(np.minimum(x, 1e39))).all()

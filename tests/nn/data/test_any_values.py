"""Values of any kind, through every way in: understood, or refused with the remedy; never altered silently."""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nn import SGD, Linear, Sequential, Softmax, Trainer
from nn.data import DataError, DataTypeError, as_dataset

ROWS = np.array([[1.5, 2.0], [3.0, -4.0], [5.0, 6.0], [7.0, 8.0]])
WHOLE = np.array([[1, 2], [3, -4], [5, 6], [7, 8]])
LABELS = [0, 1, 0, 1]
VALUES = ROWS[:, :1]


def fields() -> np.ndarray:
    return np.array([(1.5, 2.0)] * 4, dtype=[("a", "f8"), ("b", "f8")])


def objects(value: Any) -> np.ndarray:
    array = ROWS.astype(object)
    array[2, 1] = value
    return array


#: Each is the same rows as ``ROWS`` or ``WHOLE``.
UNDERSTOOD: dict[str, tuple[Any, np.ndarray]] = {
    "float64": (ROWS, ROWS),
    "float16": (ROWS.astype("f2"), ROWS),
    "long double": (ROWS.astype(np.longdouble), ROWS),
    "big-endian": (ROWS.astype(">f8"), ROWS),
    "big-endian integers": (WHOLE.astype(">i2"), WHOLE),
    "int8": (WHOLE.astype("i1"), WHOLE),
    "columns first": (np.asfortranarray(ROWS), ROWS),
    "every other column": (np.repeat(ROWS, 2, axis=1)[:, ::2], ROWS),
    "from the end": (ROWS[::-1].copy()[::-1], ROWS),
    "read only": (np.broadcast_to(ROWS[0], (4, 2)), ROWS[[0] * 4]),
    "bool": (WHOLE > 2, WHOLE > 2),
    "nothing masked": (np.ma.masked_array(ROWS, mask=False), ROWS),
    "lists": (ROWS.tolist(), ROWS),
    "lists of arrays": (list(ROWS), ROWS),
    "lists of ranges": ([range(1, 3)] * 4, np.array([[1, 2]] * 4)),
    "bool beside floats": ([[True, 2.5]] * 4, np.array([[1, 2.5]] * 4)),
    "integers beyond float32": (WHOLE + 2**24, WHOLE + 2**24),
    "integers beyond int64": ([[2**63, 1]] * 4, np.array([[2.0**63, 1]] * 4)),
}

#: What is wrong, and the remedy, in a message about ``x``.
REFUSED: dict[str, tuple[Any, str]] = {
    "masked": (np.ma.masked_array(ROWS, mask=ROWS == 6), r"x\[2, 1\] is masked; give x\.filled"),
    "masked integers": (np.ma.masked_array(WHOLE, mask=WHOLE == 6), r"x\[2, 1\] is masked; give x\.filled"),
    "masked rows": ([np.ma.masked_array(row, mask=row == 6) for row in ROWS], r"x\[2\]\[1\] is masked; give"),
    "a masked object": (objects(np.ma.masked), r"x\[2, 1\] is masked; put a number there"),
    "objects": (ROWS.astype(object), r"as Python objects; give floats, as numpy\.array\(\.\.\., dtype=float\)"),
    "None": (objects(None), r"x\[2, 1\] is missing \(None\); put a number there or remove the row"),
    "None in lists": ([[1.5, None]] * 4, r"x\[0, 1\] is missing"),
    "text": (objects("6"), "x has text in it; turn it into numbers"),
    "bytes": ([[b"1", b"2"]] * 4, "x has text in it"),
    "Decimal": ([[Decimal("1.5"), Decimal(2)]] * 4, r"x\[0, 0\] is a Decimal; give floats"),
    "Decimal beyond float64": ([[1.0, Decimal("1e400")]] * 4, r"x\[0, 1\] is a Decimal"),
    "Fraction": ([[1, Fraction(1, 3)]] * 4, r"x\[0, 1\] is a Fraction; give floats"),
    "integers of 100 bits": ([[1, 2**100]] * 4, r"x\[0, 1\] is an integer of more than 64 bits; give floats"),
    "integers of 5,000 digits": ([[1, 10**5000]] * 4, r"x\[0, 1\] is an integer of more than 64 bits"),
    "a dict": (objects({}), r"x\[2, 1\] is a dict, which is no number"),
    "complex": (ROWS + 0j, "x has complex numbers; give their real and imaginary parts as columns"),
    "dates": (np.full((4, 2), "2026-11-22", "M8[D]"), r"x holds times .*; x\.astype\('int64'\) makes them numbers"),
    "durations": (np.full((4, 2), 3, "m8[s]"), r"x holds times \(timedelta64\[s\]\)"),
    "datetime": ([[datetime.datetime(2026, 11, 22)] * 2] * 4, r"x\[0, 0\] is a datetime, which is no number"),
    "fields": (fields(), "x has the fields a, b; make them columns: .*structured_to_unstructured"),
    "a record": (fields().view(np.recarray), "x has the fields a, b"),
    "a set": ({1.5, 2.0}, "x is a set, which is no array of numbers; give an array, or a list of rows"),
    "a generator": ((row for row in ROWS), "x is a generator, which is no array"),
    "a dict of columns": ({"a": [1.0] * 4}, "x is a dict, which is no array"),
    "nothing": (None, "x is None, which is no array"),
    "a number": (3.0, r"x has shape \(\), but rows are \(n, features\)"),
    "no dimension": (np.array(3.0), r"x has shape \(\)"),
    "five dimensions": (np.ones((4, 1, 1, 1, 2)), r"x has shape \(4, 1, 1, 1, 2\)"),
    "ragged": ([[1.0, 2.0], [1.0], [1.0, 2.0], [1.0, 2.0]], r"x is ragged: x\[0\] has 2 values but x\[1\] has 1"),
    "NaN": (objects(np.nan).astype(float), r"x\[2, 1\] is nan; remove the row or put a number there"),
    "beyond float64": (np.full((4, 2), np.finfo(np.longdouble).max), r"x\[0, 0\] is inf; remove the row"),
}


def trainer(outputs: int = 2, loss: str = "cross_entropy") -> Trainer:
    return Trainer(Sequential(Linear(2, outputs), backend="cpu"), loss, SGD(0.1))


def classifier() -> Sequential:
    return Sequential(Linear(2, 2), Softmax(), backend="cpu")


#: Each takes rows and gives how the model sees them.
WAYS: dict[str, Callable[[Any], Any]] = {
    "as_dataset": lambda x: as_dataset((x, LABELS)).features(),
    "fit": lambda x: trainer().fit((x, LABELS), epochs=1, batch_size=4),
    "fit with values": lambda x: trainer(1, "mse").fit(x, VALUES, epochs=1, batch_size=4),
    "validation": lambda x: trainer().fit((ROWS, LABELS), epochs=1, validation=(x, LABELS)),
    "evaluate": lambda x: trainer().evaluate((x, LABELS)),
    "predict": lambda x: trainer().model.predict(x),
    "predict_proba": lambda x: classifier().predict_proba(x),
    "losses": lambda x: trainer().losses((x, LABELS)),
}


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_what_is_understood_is_not_altered(kind: str) -> None:
    given, meant = UNDERSTOOD[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = as_dataset((given, LABELS))
    np.testing.assert_array_equal(data.x.astype(np.float64), meant.astype(np.float64))
    model = Sequential(Linear(2, 2), backend="cpu", seed=3)
    np.testing.assert_array_equal(model.predict(given), model.predict(meant.astype(np.float64)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_understood_is_refused_with_the_remedy(kind: str, way: str) -> None:
    given, message = REFUSED[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=message) as caught:
            WAYS[way](given)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind not in ("text", "nothing", "a number")])
def test_targets_of_any_kind_are_refused_alike(kind: str) -> None:
    given, message = REFUSED[kind]
    if isinstance(given, list | np.ndarray) and kind not in ("no dimension", "five dimensions", "ragged"):
        with pytest.raises(DataError, match=re.sub(r"\bx\b", "y", message)) as caught:
            trainer(2, "mse").fit(ROWS, given, epochs=1)
        assert len(str(caught.value)) < 300


def test_sparse_matrices_are_refused_with_the_remedy() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    for given in (sparse.csr_matrix(ROWS), sparse.coo_array(ROWS)):
        for way in WAYS.values():
            with pytest.raises(DataTypeError, match=r"a sparse matrix cannot be used here; pass its \.toarray\(\)"):
                way(given)


@pytest.mark.parametrize("value", [1e300, -1e39, 3.5e38])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "as_dataset"])
def test_rows_beyond_float32_are_refused_where_the_network_computes_in_it(way: str, value: float) -> None:
    rows = ROWS.copy()
    rows[2, 1] = value
    with pytest.raises(DataError, match=r"x\[2, 1\] is .*, but the network computes in float32"):
        WAYS[way](rows)
    model = Sequential(Linear(2, 2), backend="cpu", dtype="float64")
    assert np.isfinite(model.predict(rows)).all()


def test_targets_beyond_float32_are_refused_and_whole_ones_are_kept() -> None:
    for way in (Trainer.fit, Trainer.evaluate):
        with pytest.raises(DataError, match=r"y\[0.*\] is 1e\+300, but the network computes in float32"):
            way(trainer(1, "mse"), (ROWS, np.full((4, 1), 1e300)))
    whole = np.full((4, 2), 2**24 + 1)
    np.testing.assert_array_equal(as_dataset((ROWS, whole)).y, whole)
    bit = Sequential(Linear(2, 2), backend="cpu", dtype="float64")
    loss = Trainer(bit, "mse", SGD(0.1)).evaluate((ROWS * 0, whole))["loss"]
    assert loss == pytest.approx(float((2**24 + 1) ** 2), rel=1e-15)


# ---- pandas ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pandas() -> Any:
    return pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "category", "object", "Sparse"])
def test_columns_of_pandas_are_understood_or_refused(pandas: Any, dtype: str) -> None:
    numbers = pandas.Series([1, 0, 1, 1])
    column = pandas.arrays.SparseArray([1, 0, 1, 1]) if dtype == "Sparse" else numbers.astype(dtype)
    frame = pandas.DataFrame({"a": column, "b": [0.5, 1.5, 2.5, 3.5]})
    if dtype == "category":
        with pytest.raises(DataError, match=r"x, column 'a' holds categories, .* for example; turn it into numbers"):
            as_dataset((frame, LABELS))
        return
    expected = [[1, 0.5], [0, 1.5], [1, 2.5], [1, 3.5]]
    np.testing.assert_array_equal(as_dataset((frame, LABELS)).x, expected)
    np.testing.assert_array_equal(as_dataset((ROWS, frame)).y, expected)
    for way in WAYS.values():
        way(frame)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["x", "y", "x", "y"], "column 'a' holds text, 'x' for example; turn it into numbers"),
        (["2026-01-01"] * 4, "column 'a' holds text"),
        ([1.0, "y", 2.0, None], "column 'a' holds text"),
        ([1.0, None, 2.0, 3.0], "column 'a', row 1: the value is missing; put one there, remove the row, or have it"),
        ([Decimal(1)] * 4, "column 'a' holds Decimal; turn it into numbers"),
        ([1j] * 4, "column 'a' holds complex128; turn it into numbers"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_mixed_columns_are_refused_with_the_remedy(pandas: Any, way: str, column: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"x, {message}") as caught:
        WAYS[way](pandas.DataFrame({"a": column, "b": [0.5, 1.5, 2.5, 3.5]}))
    assert len(str(caught.value)) < 300


def test_missing_values_of_nullable_columns_are_named(pandas: Any) -> None:
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3, 4], dtype="Int64"), "b": [0.5, 1.5, 2.5, 3.5]})
    for way in WAYS.values():
        with pytest.raises(DataError, match="x, column 'a', row 1: the value is missing"):
            way(frame)
    with pytest.raises(DataError, match="y, column 'a', row 1: the value is missing"):
        trainer(2, "mse").fit(ROWS, frame, epochs=1)
    frame["a"] = [1e300, 1.0, 2.0, 3.0]
    with pytest.raises(DataError, match=r"x\[0, 0\] is 1e\+300, but the network computes in float32"):
        trainer().fit(frame, LABELS, epochs=1)


def test_masked_values_are_missing_values_where_the_training_rows_taught_what_stands_for_them(pandas: Any) -> None:
    from nn.data import from_frame

    frame = pandas.DataFrame({"a": [1.0, None, 3.0, 2.0], "b": ROWS[:, 1], "label": LABELS})
    model = Sequential(Linear(2, 2), backend="cpu")
    Trainer(model, "cross_entropy", SGD(0.1)).fit(from_frame(frame, impute="mean"), epochs=1)
    rows = np.array([[2.0, 1.0], [3.0, -4.0]])
    masked = np.ma.masked_array([[9.0, 1.0], [3.0, -4.0]], mask=[[True, False], [False, False]])
    np.testing.assert_array_equal(model.predict_proba(masked), model.predict_proba(rows))
    with pytest.raises(DataError, match=r"x\[0\]\[0\] is masked"):
        model.predict(list(masked))

"""Units of training rows: what is read off them, what a model file keeps, which rows are pixels, and the warning."""

from __future__ import annotations

import json
import tracemalloc
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.data import DataError, Dataset, Units, UnitsWarning, as_rows
from nn.data.units import are_bytes, are_pixels

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (20, 64), dtype=np.uint8)
#: 1,797 pictures of the digits data have numbers from 0 to 16; these are like them.
SIXTEENTHS = np.minimum(PICTURES, 16)
WINES = RNG.uniform(0.1, 1.0, (30, 5)) * [15.0, 2.0, 3.0, 120.0, 1500.0] + [10.0, 0.0, 0.0, 60.0, 250.0]


def units_of(x: Any, scale: float = 1.0, shift: float = 0.0) -> Units:
    x = np.asarray(x)
    return Units.of(Dataset(x, np.zeros(len(x)), scale, shift))


# ---- what is read off the training rows ------------------------------------------------------------------------------


def test_units_are_read_off_the_training_rows() -> None:
    x = np.array([[3.0, -2.0, 7.5], [0.0, 0.0, 0.0], [-1.0, 0.25, 0.0], [4.0, 4.0, 1.0]])
    assert units_of(x, 0.5, -1.0) == Units(0.5, -1.0, low=-2.0, high=7.5, smallest_peak=0.25, row_shape=(3,))


def test_rows_of_zeros_have_no_peak() -> None:
    assert units_of(np.zeros((2, 3))) == Units(row_shape=(3,))
    assert units_of(-np.ones((2, 3))) == Units(low=-1.0, high=-1.0, row_shape=(3,))


@pytest.mark.parametrize(
    ("shape", "image_shape", "row_shape"),
    [((12,), None, (12,)), ((12,), (3, 4), (3, 4)), ((12,), (2, 2, 3), (2, 2, 3)), ((3, 4), None, (3, 4))],
)
def test_the_shape_of_a_raw_row(
    shape: tuple[int, ...], image_shape: tuple[int, ...] | None, row_shape: tuple[int, ...]
) -> None:
    assert Units.of(Dataset(np.ones((2, *shape)), np.zeros(2), image_shape=image_shape)).row_shape == row_shape


def test_the_smallest_peak_of_two_trainings_is_that_of_both() -> None:
    first, second = Units(0.5, 0.0, 0.0, 3.0, 0.75), Units(0.5, 0.0, -1.0, 2.0, 0.25)
    assert first.then(second) == Units(0.5, 0.0, -1.0, 3.0, 0.25)
    assert second.then(first) == Units(0.5, 0.0, -1.0, 3.0, 0.25)
    not_known = Units(0.5, 0.0, 0.0, 2.0, 0.0)
    assert first.then(not_known).smallest_peak == 0.75
    assert not_known.then(not_known).smallest_peak == 0.0


def test_no_rows_teach_no_range() -> None:
    assert Units.of(Dataset(np.zeros((0, 3)), np.zeros(0), 0.5, 1.0)) == Units(0.5, 1.0)


def test_rows_that_are_not_finite_are_named() -> None:
    for value in (np.nan, np.inf, -np.inf):
        x = np.ones((3, 4))
        x[1, 2] = value
        with pytest.raises(DataError, match=rf"x\[1, 2\] is {value}; remove"):
            units_of(x)


# ---- in a model file -------------------------------------------------------------------------------------------------

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE, FINITE, FINITE, FINITE, st.none() | st.lists(st.integers(1, 99), min_size=1, max_size=3))
def test_units_come_back_from_json(a: float, b: float, c: float, d: float, e: float, shape: list[int] | None) -> None:
    units = Units(a, b, c, d, e, None if shape is None else tuple(shape))
    again = Units.from_dict(json.loads(json.dumps(units.to_dict())))
    assert again == units
    assert repr(again) == repr(units)  # -0.0 and the type of row_shape too


def test_units_of_numpy_numbers_can_be_written() -> None:
    data = Dataset(PICTURES, np.zeros(20), np.float32(0.5), image_shape=tuple(np.array([8, 8])))  # type: ignore[arg-type]
    units = Units.of(data)
    assert Units.from_dict(json.loads(json.dumps(units.to_dict()))) == units


def test_what_an_earlier_file_does_not_have_is_not_known() -> None:
    units = Units.from_dict({"scale": 1 / 255, "shift": 0})
    assert units == Units(1 / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (PICTURES, PICTURES / 255, -WINES):
            units.check(x)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 1.0, "colour": 3}, "units have no colour"),
        ({"scale": None}, "units must be numbers"),
        ({"scale": "wide"}, "wide"),
        ({"scale": float("nan")}, "the scale of units must be a finite number, not nan"),
        ({"high": float("inf")}, "the high of units must be a finite number, not inf"),
        ({"row_shape": 784}, "units must be numbers"),
        ({"row_shape": []}, "must have positive extents"),
        ({"row_shape": [28, 0]}, r"must have positive extents, not \(28, 0\)"),
    ],
)
def test_damaged_units_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Units.from_dict(values)


# ---- which rows are pixels -------------------------------------------------------------------------------------------


def rows(*shape: int, high: float = 255, low: float = 0, other: float = 7) -> np.ndarray:
    """Rows of ``other``, one number of which is ``low`` and one ``high``."""
    x = np.full(shape, float(other))
    x.flat[-1], x.flat[0] = high, low
    return x


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "high", "expected"),
    [
        ((1, 64), 255, True),
        ((5, 64), 128, True),
        ((5, 64), 127, False),
        ((5, 784), 255, True),
        ((5, 63), 255, False),
        ((5, 65), 255, False),
        ((5, 49), 255, False),
        ((5, 192), 255, True),
        ((5, 3072), 255, True),
        ((5, 147), 255, False),
        ((5, 128), 255, False),
        ((5, 256), 255, True),
        ((5, 2, 3), 255, True),
        ((5, 2, 3), 127, False),
        ((5, 2, 3, 3), 128, True),
        ((1, 1, 2), 200, True),
    ],
)
def test_pixels_are_told_by_shape_and_numbers(shape: tuple[int, ...], high: int, expected: bool, dtype: str) -> None:
    assert are_pixels(rows(*shape, high=high).astype(dtype)) is expected


@pytest.mark.parametrize(
    "x",
    [
        rows(5, 64, high=256),
        rows(5, 64, high=255.5),
        rows(5, 64, low=-1),
        rows(5, 64, low=0.5),
        rows(5, 64, other=1.25),
        rows(5, 64) / 255,
        rows(5, 64, high=1e300),
    ],
)
def test_other_numbers_are_no_pixels(x: np.ndarray) -> None:
    assert not are_pixels(x)
    assert not are_bytes(x)


def test_every_row_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the one number that is not whole stands, however many rows are looked at at a time."""
    for chunk in (1, 64, 100, 128, 1000):
        monkeypatch.setattr("nn.data.units.CHUNK", chunk)
        assert are_pixels(rows(7, 64))
        for index in range(0, 7 * 64, 37):
            x = rows(7, 64)
            x.flat[index] = 0.5
            assert not are_pixels(x)


def test_looking_for_pixels_takes_little_memory() -> None:
    x = np.full((20_000, 784), 200.0, np.float32)
    tracemalloc.start()
    assert are_pixels(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 10


# ---- the warning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "x", "message"),
    [
        (PICTURES, PICTURES / 255, "from 0 to 255, but x goes from 0 to 1: multiply by 255, or pass a Dataset that"),
        (PICTURES.astype(float), PICTURES[:1] / 255, "multiply by 255"),
        (PICTURES, (PICTURES > 127).astype("f4"), "from 0 to 255, but x goes from 0 to 1: multiply by 255"),
        (SIXTEENTHS, SIXTEENTHS / 16, "from 0 to 16, but x goes from 0 to 1: bring them to the units of the training"),
        (WINES, WINES / WINES.max(axis=0), "bring them to the units"),
        (WINES, WINES[3:4] / WINES.max(axis=0), "bring them to the units"),
        (PICTURES / 255, PICTURES, "from 0 to 1, but x goes from 0 to 255: divide by 255, or pass a Dataset that"),
        (PICTURES / 255, PICTURES[:1].astype(float), "divide by 255"),
        (SIXTEENTHS / 16, SIXTEENTHS, "from 0 to 1, but x goes from 0 to 16: bring them to the units"),
        (WINES / WINES.max(axis=0), WINES, "bring them to the units"),
    ],
)
def test_rows_in_other_units_get_a_warning(train: np.ndarray, x: np.ndarray, message: str) -> None:
    with pytest.warns(UnitsWarning, match=message) as caught:
        units_of(train, scale=0.5).check(x)
    (warning,) = caught
    assert str(warning.message).startswith("the training rows went from ")
    assert "\n" not in str(warning.message)


ONE_HOT = np.eye(5)
COUNTS = np.array([[0, 1, 0, 0], [3, 0, 9, 1], [0, 0, 0, 0], [1, 1, 0, 40]], float)


@pytest.mark.parametrize(
    ("train", "x"),
    [
        (PICTURES, PICTURES[:1]),
        (PICTURES, np.zeros((1, 64))),  # an all-black picture
        (PICTURES, np.full((1, 64), 2)),  # a very dark one
        (np.vstack([PICTURES, np.eye(1, 64, dtype=np.uint8)]), np.eye(1, 64)),  # as dark as one of the training rows
        (PICTURES / 255, PICTURES / 255),
        (PICTURES / 255, np.zeros((1, 64))),
        (np.zeros((3, 64)), PICTURES),  # nothing can be said
        (PICTURES / 255, PICTURES / 127.5),  # a little brighter
        (PICTURES / 127.5 - 1, PICTURES),  # other units are not guessed
        (PICTURES, PICTURES / 127.5 - 1),
        (ONE_HOT, ONE_HOT[2:3]),
        (ONE_HOT * 2.0, ONE_HOT[2:3]),
        (COUNTS, COUNTS[:1]),  # few counts, as among the training rows
        (COUNTS, np.array([[0, 1, 1, 0]])),
        (np.arange(11.0)[:, None], np.array([[0.5]])),  # one feature, between training rows
        (np.linspace(0, 10, 50)[:, None], np.linspace(0, 1, 9)[:, None]),
        (np.linspace(-10, 10, 50)[:, None], np.array([[0.5]])),
        (WINES / WINES.max(axis=0), WINES / WINES.max(axis=0) * [9, 1, 1, 1, 1]),  # one feature goes beyond
        (WINES / WINES.max(axis=0), np.array([[0.3, 0.2, 2.5, 0.1, 0.9]])),
        (WINES, WINES / 100),
        (WINES - 500, WINES),
        (PICTURES, np.zeros((0, 64))),
    ],
)
def test_rows_that_may_be_in_the_same_units_get_none(train: np.ndarray, x: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        units_of(train).check(x)


@given(st.data())
def test_no_training_row_gets_a_warning_by_itself(choose: st.DataObject) -> None:
    number = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 255.0, -1.0])
    n_features = choose.draw(st.integers(1, 3))
    row = st.lists(number, min_size=n_features, max_size=n_features)
    x = np.array(choose.draw(st.lists(row, min_size=1, max_size=5)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(len(x)):
            units_of(x).check(x[i : i + 1])


@pytest.mark.parametrize(
    ("peak", "high", "warns"),
    [(2.0, 1.0, False), (2.5, 1.0, True), (2.5, 1.25, False), (2.5, 0.125, True), (2.5, 0.0, False)],
)
def test_where_the_warning_begins(peak: float, high: float, warns: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        units_of([[0.0, peak], [9.0, 0.0]]).check(np.array([[0.0, high]]))
    assert len(caught) == warns


@pytest.mark.parametrize(
    ("trained_high", "x", "warns"),
    [
        (1.0, [3.0, 0.5, 0.0], False),  # as many numbers above 1 as not
        (1.0, [3.0, 1.5, 0.5], True),
        (1.0, [3.0, 1.0, 1.0], False),
        (1.0, [2.0, 2.0, 2.0], False),
        (1.0, [2.5, 0.0, 0.0], True),
        (1.0, [2.5, 2.5, -0.5], False),
        (1.5, [2.5, 2.5, 2.5], False),
    ],
)
def test_where_the_other_warning_begins(trained_high: float, x: list[float], warns: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        units_of([[0.0, trained_high, 0.5]]).check(np.array([x]))
    assert len(caught) == warns


@pytest.mark.parametrize(
    ("high", "remedy"), [(127, "bring them"), (128, "multiply by 255"), (255, "multiply by 255"), (256, "bring them")]
)
def test_the_remedy_for_what_may_be_pixels(high: float, remedy: str) -> None:
    x = np.full((2, 64), float(high))
    with pytest.warns(UnitsWarning, match=f": {remedy}"):
        units_of(x).check(x / high)
    with pytest.warns(UnitsWarning, match=f": {remedy.replace('multiply', 'divide')}"):
        units_of(x / high).check(x)


def test_the_warning_names_the_rows_and_the_line_of_the_user() -> None:
    units = units_of(PICTURES)
    with pytest.warns(UnitsWarning, match=r"but digits\.npz: x_test goes from 0 to 1"):
        units.check(PICTURES / 255, "digits.npz: x_test")
    with pytest.warns(UnitsWarning) as caught:
        as_rows(PICTURES / 255, units)
    assert [warning.filename for warning in caught] == [__file__]


def test_units_are_values() -> None:
    assert units_of(PICTURES) == units_of(PICTURES.astype("f4"))
    assert len({Units(), Units(1.0), Units(0.5)}) == 2  # hashable, and so not to be changed
    assert set(asdict(Units())) == {
        "scale",
        "shift",
        "low",
        "high",
        "smallest_peak",
        "row_shape",
        "class_names",
        "columns",
    }

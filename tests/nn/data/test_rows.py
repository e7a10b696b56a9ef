"""The one way in for rows: equal numbers give equal network inputs, whatever holds them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import Flatten, Linear, Sequential, Softmax
from nn.data import DataError, Dataset, Units, UnitsWarning, as_dataset, as_rows

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)


def torch_tensor(x: np.ndarray) -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed").asarray(x.astype("int64"))


#: Whole numbers from 0 to 255, (n, ...) uint8, in everything that can hold them.
CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {
    "uint8": lambda x: x,
    "int16": lambda x: x.astype("int16"),
    "int64": lambda x: x.astype("int64"),
    "uint64": lambda x: x.astype("uint64"),
    "float16": lambda x: x.astype("float16"),
    "float32": lambda x: x.astype("float32"),
    "float64": lambda x: x.astype("float64"),
    "longdouble": lambda x: x.astype("longdouble"),
    "big-endian": lambda x: x.astype(">f8"),
    "Fortran order": lambda x: np.asfortranarray(x.astype("f4")),
    "list of int": lambda x: x.tolist(),
    "list of float": lambda x: x.astype(float).tolist(),
    "array_api_strict": lambda x: array_api_strict.asarray(x.astype("int32")),
    "torch": torch_tensor,
}

WHOLE_NUMBERS = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.builds(
        lambda shape, high: np.random.default_rng(seed).integers(0, high + 1, shape).astype(np.uint8),
        st.sampled_from([(1, 1), (3, 5), (2, 64), (2, 65), (2, 192), (2, 3, 4), (1, 8, 8), (2, 2, 2, 3)]),
        st.sampled_from([0, 1, 16, 127, 128, 255]),
    )
)
UNITS = st.none() | st.builds(Units, st.sampled_from([1.0, 1 / 255, 1 / 16, 0.1]), st.sampled_from([0.0, -0.5, 0.1]))


@pytest.mark.parametrize("container", CONTAINERS)
@settings(deadline=None)  # the first call imports PyTorch
@given(x=WHOLE_NUMBERS, units=UNITS)
def test_equal_numbers_give_equal_inputs(container: str, x: np.ndarray, units: Units | None) -> None:
    """Bit for bit, for a model that was trained and for one that was not, with targets and without."""
    expected = as_rows(x, units)
    held = CONTAINERS[container](x)
    for data in (as_rows(held, units), as_dataset((held, np.arange(len(x))), units)):
        assert (data.scale, data.shift, data.image_shape) == (expected.scale, expected.shift, expected.image_shape)
        assert data.features().tobytes() == expected.features().tobytes()
        assert data.features("float64").tobytes() == expected.features("float64").tobytes()


def test_arrays_are_in_the_units_of_the_training_rows() -> None:
    units = Units(scale=1 / 16, shift=-0.5)
    for x in (PICTURES, PICTURES / 3, PICTURES.astype(int) - 100):
        data = as_rows(x, units)
        assert (data.scale, data.shift) == (1 / 16, -0.5)
        np.testing.assert_allclose(data.features("float64"), x.reshape(6, 64) / 16 - 0.5)
        assert not data.has_targets
        with_targets = as_dataset((x, np.linspace(0, 1, 6)), units)
        assert (with_targets.scale, with_targets.shift) == (1 / 16, -0.5)
        assert with_targets.y.shape == (6,)
        labelled = as_dataset((x, np.arange(6)), units)
        assert (labelled.scale, labelled.n_classes) == (1 / 16, 6)
        several = as_dataset((x, np.ones((6, 2), int)), units)
        assert (several.scale, several.y.shape) == (1 / 16, (6, 2))


def test_a_dataset_states_its_units() -> None:
    data = Dataset(PICTURES.reshape(6, 64) / 255, np.arange(6), scale=2.0, shift=0.25)
    units = Units.of(Dataset(PICTURES, np.arange(6), scale=1 / 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_rows(data, units, (64,)) is data
        assert as_dataset(data, units, (64,)) is data


def test_rows_of_an_untrained_model_decide_for_themselves() -> None:
    for x in (PICTURES, np.minimum(PICTURES, 16), PICTURES / 255):
        assert as_rows(x).shift == 0.0
        np.testing.assert_array_equal(as_rows(x).x, x.reshape(6, 64))
    assert as_rows(PICTURES).scale == 1 / 255
    assert as_rows(np.minimum(PICTURES, 16)).scale == 1.0  # scikit-learn's digits
    assert as_rows(PICTURES / 255).scale == 1.0
    ages = np.array([[63, 1, 145, 233], [37, 1, 130, 250]], np.uint8)
    assert as_rows(ages).scale == 1.0
    assert as_rows(ages).image_shape is None


def test_pixels_are_kept_as_bytes() -> None:
    for dtype in ("int64", "float32", "float64"):
        data = as_rows(PICTURES.astype(dtype))
        assert data.x.dtype == np.uint8
        np.testing.assert_array_equal(data.x, PICTURES.reshape(6, 64))


def test_flat_pixels_that_fill_a_square_are_pictures() -> None:
    assert as_rows(PICTURES.reshape(6, 64)).image_shape == (8, 8)
    assert as_rows(np.full((2, 192), 255)).image_shape is None  # (8, 8, 3) or (3, 8, 8)
    assert as_rows(np.full((2, 64), 16)).image_shape is None


def test_rows_of_a_trained_model_are_pictures_like_the_training_rows() -> None:
    units = Units(row_shape=(4, 16))
    assert as_rows(PICTURES.reshape(6, 64), units).image_shape == (4, 16)
    assert as_rows(PICTURES, units).image_shape == (8, 8)
    assert as_rows(np.ones((3, 5)), units).image_shape is None
    assert as_rows(PICTURES.reshape(6, 64), Units(row_shape=(64,))).image_shape is None


def test_rows_in_other_units_get_a_warning() -> None:
    units = Units.of(as_dataset((PICTURES, np.arange(6))))
    with pytest.warns(UnitsWarning, match="x goes from 0 to 1: multiply by 255"):
        as_rows(PICTURES / 255, units)
    with pytest.warns(UnitsWarning, match="multiply by 255"):
        as_dataset((PICTURES / 255, np.arange(6)), units)


def test_flatten_takes_pictures_and_flat_rows() -> None:
    data = as_rows(PICTURES)
    flattening = Sequential(Flatten(), Linear(64, 3), backend="cpu", seed=1)
    expected = Sequential(Linear(64, 3), backend="cpu", seed=1).state_dict()
    flattening.load_state_dict({name.replace("0", "1"): value for name, value in expected.items()})
    outputs = data.features() @ expected["0.weight"] + expected["0.bias"]
    for shaped in (data, data.as_pictures(), data.shaped_for((8, 8, 1)), data.shaped_for((64,))):
        np.testing.assert_allclose(flattening(shaped), outputs, rtol=1e-4, atol=1e-6)


# ---- one row ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "row_shape", "trained_on"),
    [
        ((64,), (64,), None),
        ((64,), None, (64,)),
        ((64,), (8, 8), None),
        ((8, 8), (64,), None),
        ((8, 8), (8, 8), None),
        ((8, 8), None, (8, 8)),
        ((8, 8), (8, 8, 1), None),
        ((8, 8, 1), (64,), None),
        ((8, 8, 1), (8, 8), (8, 8)),
        ((4, 16), (64,), (4, 16)),
        ((4, 16), (4, 16), None),
        ((4, 16, 1), (64,), (4, 16)),
        ((4, 16), (64,), (4, 16, 1)),
        ((8, 8, 3), (192,), None),
        ((8, 8, 4), (256,), None),
        ((2, 4, 3), (24,), (2, 4, 3)),
        ((2, 4, 3), (2, 4, 3), None),
        ((1,), (1,), None),
    ],
)
def test_a_single_row_is_understood(
    shape: tuple[int, ...], row_shape: tuple[int, ...] | None, trained_on: tuple[int, ...] | None
) -> None:
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    units = Units(0.5, row_shape=trained_on)
    for data in (as_rows(x, units, row_shape), as_dataset((x.tolist(), [0]), units, row_shape)):
        assert len(data) == 1
        assert data.x.tolist() == [x.ravel().tolist()]
        assert data.scale == 0.5
        if len(shape) > 1:
            assert data.image_shape == shape


def test_a_single_row_is_understood_before_training() -> None:
    data = as_rows(PICTURES[0], row_shape=(64,))
    assert (len(data), data.scale, data.image_shape) == (1, 1 / 255, (8, 8))
    assert as_rows(PICTURES[0].ravel(), row_shape=(64,)).x.shape == (1, 64)


@pytest.mark.parametrize(
    ("shape", "row_shape", "n_rows"),
    [
        ((1, 64), (64,), 1),
        ((1, 8, 8), (64,), 1),
        ((28, 28), (28,), 28),
        ((8, 8), (63,), 8),
        ((4, 16), (64,), 4),
        ((64, 1), (64,), 64),
        ((8, 8, 3), (24,), 8),
        ((8, 8, 5), (320,), 8),
        ((2, 32, 1), (64,), 2),
        ((3, 8, 8), (192,), 3),
        ((1, 1), (1,), 1),
        ((8, 8), None, 8),
    ],
)
def test_what_can_be_several_rows_is_several(
    shape: tuple[int, ...], row_shape: tuple[int, ...] | None, n_rows: int
) -> None:
    data = as_rows(np.ones(shape), None, row_shape)
    assert len(data) == n_rows
    assert data.image_shape == (shape[1:] if len(shape) > 2 else None)


@pytest.mark.parametrize(("shape", "row_shape"), [((63,), (64,)), ((64,), None), ((5,), (1,)), ((), (1,))])
def test_numbers_that_are_no_row_are_refused(shape: tuple[int, ...], row_shape: tuple[int, ...] | None) -> None:
    with pytest.raises(DataError, match=r"x has shape .* but rows are \(n, features\)"):
        as_rows(np.ones(shape), None, row_shape)


def test_one_row_needs_one_target() -> None:
    with pytest.raises(DataError, match="x has 1 rows but y has 2"):
        as_dataset((PICTURES[0], [1, 0]), None, (64,))


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("y", [np.arange(6) % 3, np.linspace(0, 1, 6), None])
def test_rows_with_their_targets_are_no_rows_alone(y: Any, lists: bool) -> None:
    x: Any = RNG.uniform(size=(6, 4))
    model = Sequential(Linear(4, 3), Softmax())
    given = (x.tolist(), None if y is None else y.tolist()) if lists else (x, y)
    for call in (model, model.predict, model.predict_proba, model.layer_outputs, as_rows):
        with pytest.raises(DataError, match=r"^rows are wanted here without their targets; pass x, not \(x, y\)$"):
            call(given)


@pytest.mark.parametrize("x", [((1, 2, 3), (4, 5, 6)), ([1, 2, 3], [4, 5, 6]), (np.ones(3), np.ones(3))])
def test_a_tuple_of_two_rows_is_two_rows(x: Any) -> None:
    np.testing.assert_array_equal(as_rows(x).x, np.array(x))

"""What becomes of rows and targets of any kind, and which are refused."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from nn.data import DataError, Dataset, DataTypeError, as_dataset

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("x", "dtype", "scale"),
    [
        (np.zeros((2, 3), np.uint8), np.uint8, 1.0),
        (np.full((2, 3), 255, np.uint8), np.uint8, 1.0),
        (np.full((2, 64), 255, np.uint8), np.uint8, 1 / 255),
        (np.full((2, 64), 255.0), np.uint8, 1 / 255),
        (np.full((2, 64), 254.5), np.float64, 1.0),
        (np.zeros((2, 3), np.float32), np.float32, 1.0),
        (np.zeros((2, 3), np.float64), np.float64, 1.0),
        (np.zeros((2, 3), ">f8"), np.float64, 1.0),
        (np.zeros((2, 3), np.float16), np.float32, 1.0),
        (np.zeros((2, 3), np.longdouble), np.float64, 1.0),
        (np.zeros((2, 3), np.int64), np.float32, 1.0),
        (np.zeros((2, 3), bool), np.float32, 1.0),
        ([[1, 2], [3, 2**24]], np.float32, 1.0),
        ([[1, 2], [3, -(2**24) - 1]], np.float64, 1.0),
        ([[1, 2.5], [3, 4]], np.float64, 1.0),
    ],
)
def test_dtypes_of_rows(x: object, dtype: type, scale: float) -> None:
    data = as_dataset((x, [0, 1]))
    assert data.x.dtype == dtype
    assert data.x.dtype.isnative
    assert data.scale == scale
    np.testing.assert_array_equal(data.x, np.asarray(x))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 3)])
def test_pictures_are_flattened_and_keep_their_shape(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    data = as_dataset((x, [0, 1]))
    assert data.image_shape == shape[1:]
    np.testing.assert_array_equal(data.x, x.reshape(2, -1))
    assert as_dataset((x.reshape(2, -1), [0, 1])).image_shape is None


@pytest.mark.parametrize("data", [(X,), (X, None)])
def test_rows_without_targets(data: tuple[object, ...]) -> None:
    dataset = as_dataset(data)
    assert dataset.y.shape == (3, 0)
    assert not dataset.has_targets
    assert dataset.class_names is None


def test_arrays_of_other_libraries() -> None:
    x, y = array_api_strict.asarray(X), array_api_strict.asarray([0, 1, 1])
    data = as_dataset((x, y))
    np.testing.assert_array_equal(data.x, X)
    assert data.y.tolist() == [0, 1, 1]


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    data = as_dataset((torch.asarray(X, requires_grad=True), torch.asarray([0, 1, 1])))
    np.testing.assert_array_equal(data.x, X)
    assert data.n_classes == 2


@pytest.mark.parametrize(
    ("y", "labels", "n_classes"),
    [
        ([0, 4, 2], [0, 4, 2], 5),
        (np.array([0, 1, 1], np.uint8), [0, 1, 1], 2),
        ([True, False, True], [1, 0, 1], 2),
        ([[0], [1], [1]], [0, 1, 1], 2),
    ],
)
def test_integers_are_labels(y: object, labels: list[int], n_classes: int) -> None:
    data = as_dataset((X, y))
    assert data.y.tolist() == labels
    assert data.y.dtype == np.int64
    assert data.n_classes == n_classes


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        (np.array([0.0, 1.0, 2.0]), np.float64),
        (np.array([0.5, 1.5, -2.0], np.float16), np.float32),
        (np.eye(3, dtype=np.float32), np.float32),
        (np.array([[1, 1], [0, 1], [0, 0]]), np.float32),
        (np.array([[1, 0], [0, 1], [0, 1]]), np.float32),
        (np.eye(3, dtype=bool), np.float32),
    ],
)
def test_floats_and_several_columns_are_values_whatever_is_in_them(y: np.ndarray, dtype: type) -> None:
    data = as_dataset((X, y))
    assert data.class_names is None
    assert data.y.dtype == dtype
    np.testing.assert_array_equal(data.y, y)


def with_value(value: float, dtype: str = "float64") -> np.ndarray:
    x = np.zeros((4, 5), dtype)
    x[2, 3] = x[3, 0] = value
    return x


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (([], []), r"x has shape \(0,\)"),
        ((np.zeros((0, 3)), []), r"x is empty \(shape \(0, 3\)\)"),
        ((np.zeros((3, 0)), [0, 1, 1]), r"x is empty \(shape \(3, 0\)\)"),
        (([1.0, 2.0], [0, 1]), r"x has shape \(2,\), .*reshape"),
        ((np.zeros((2, 1, 1, 1, 1)), [0, 1]), r"x has shape \(2, 1, 1, 1, 1\)"),
        ((X, [0, 1]), "x has 3 rows but y has 2; rows are examples"),
        ((X, 1), "x has 3 rows but y has no"),
        ((with_value(NAN), [0, 1, 1, 0]), r"x\[2, 3\] is nan"),
        ((with_value(INF, "float32"), [0, 1, 1, 0]), r"x\[2, 3\] is inf"),
        ((with_value(-INF, "float16"), [0, 1, 1, 0]), r"x\[2, 3\] is -inf"),
        ((with_value(NAN).reshape(4, 5, 1), [0, 1, 1, 0]), r"x\[2, 3, 0\] is nan"),
        ((X, [0, -1, -2]), r"y\[1\] is -1, but labels count from 0; .*, or pass floats to fit values"),
        ((X, [0, 1, 100_001]), r"y\[2\] is 100001, which looks like a value, not a class"),
        ((X, np.array([0, 1, 2**64 - 1], np.uint64)), r"y\[2\] is 18446744073709551615, which looks like"),
        ((X, [0.5, NAN, 1.0]), r"y\[1\] is nan"),
        ((X, np.array([[0.5, 1.0], [1.0, INF], [0.0, 0.0]])), r"y\[1, 1\] is inf"),
        ((X, np.zeros((3, 2, 2))), r"y has shape \(3, 2, 2\)"),
        ((X, np.zeros((3, 0))), r"y has shape \(3, 0\)"),
    ],
)
def test_unusable_values_are_named(data: tuple[object, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (([["cat", 1.0]] * 3, [0, 1, 1]), "x has text in it.*turn it into numbers first"),
        ((X, np.array(["a", 1, "b"], object)), r"y\[1\] is 1, but y\[0\] is 'a'; labels are all text or all numbers"),
        ((X, np.array(["a", "b", None], object)), r"y\[2\] is missing \(None\); put a label there"),
        ((X, np.array([None, 1, 2], object)), r"y\[0\] is missing"),
        ((X, np.array([[0], [1], [{}]], object)), r"y\[2(, 0)?\] is a dict, which is no number"),
        (([[1.0, 2.0], [3.0]], [0, 1]), r"x is ragged: x\[0\] has 2 values but x\[1\] has 1"),
        ((X * 1j, [0, 1, 1]), "x has complex numbers"),
        ((X, [0, 1, 1], [1, 1, 1]), r"tuple \(x, y\)"),
        (X, r"tuple \(x, y\)"),
        ([X, [0, 1, 1]], r"tuple \(x, y\)"),
    ],
)
def test_things_that_are_no_numbers_are_named(data: object, message: str) -> None:
    with pytest.raises(DataTypeError, match=message) as caught:
        as_dataset(data)
    assert isinstance(caught.value, TypeError)


def test_the_largest_finite_values_pass() -> None:
    largest = np.full((2, 2), np.finfo(np.float32).max)
    np.testing.assert_array_equal(as_dataset((largest, [0, 1])).x, largest)


@pytest.mark.parametrize("x", [np.ones((40, 3), order="F"), np.ones((80, 3))[::2], np.ones((40, 6), "f4")[:, ::2]])
def test_rows_lie_one_after_the_other(x: np.ndarray) -> None:
    """Gathering a batch from others copies all of them, at every step."""
    y = np.arange(40) % 2
    assert Dataset(x, y).x.flags.c_contiguous
    assert as_dataset((x, y)).x.flags.c_contiguous
    assert Dataset(np.ascontiguousarray(x), y)[::2].x.flags.c_contiguous
    whole = Dataset(np.ascontiguousarray(x), y)
    assert whole[5:9].x.base is not None

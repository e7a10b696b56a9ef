"""A data set: its rows, their shape, and how it is divided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from backends.random import stream_key
from nn.data import DataError, Dataset, as_dataset

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
NAN = float("nan")


def make(counts: list[int]) -> Dataset:
    """A data set whose row i is [i, i, i], with so many rows of each class."""
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.repeat(np.arange(len(y), dtype=np.float32), 3).reshape(-1, 3)
    return Dataset(x, y)


def test_properties_of_labelled_rows() -> None:
    data = Dataset(np.zeros((3, 4, 5), np.uint8), np.array([0, 2, 1], np.uint8))
    assert (len(data), data.n_features, data.n_classes) == (3, 20, 3)
    assert data.class_names == ("0", "1", "2")
    assert data.y.dtype == np.int64
    assert data.has_classes
    assert data.has_targets


def test_properties_of_values() -> None:
    data = Dataset(X, np.array([0.5, 1.5, 2.0]))
    assert (data.class_names, data.n_classes) == (None, 0)
    assert not data.has_classes
    assert data.has_targets
    assert not Dataset(X, np.zeros((3, 0))).has_targets


def test_features_are_scaled_and_shifted_in_a_new_array() -> None:
    x = np.array([[0, 255], [51, 102]], np.uint8)
    data = Dataset(x, np.array([0, 1]), scale=1 / 255, shift=-0.5)
    features = data.features()
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [[-0.5, 0.5], [-0.3, -0.1]], rtol=1e-6)
    assert data.features("float64").dtype == np.float64
    plain = Dataset(X, np.array([0, 1, 0]))
    plain.features("float64")[0, 0] = 9.0
    assert plain.x[0, 0] == 0.0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3), np.int32), np.array([0, 1]), "as_dataset"),
        (np.zeros(2), np.array([0, 1]), r"\(n, features\)"),
        (X, np.array([0, 1]), "x has 3 rows but y has 2"),
        (X, np.array(1), "y has no"),
        (X, np.array([True, False, True]), "bool"),
        (X, np.array([[0], [1], [1]]), r"\(3, 1\) of int64"),
        (X, np.array([0, -1, 1]), r"y\[1\] is -1"),
    ],
)
def test_a_dataset_of_the_wrong_make_is_refused(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset(x, y)


def test_a_label_without_a_class_name_is_refused() -> None:
    with pytest.raises(DataError, match=r"y\[2\] is 2, outside the classes 0 to 1 \(there are 2 class names\)"):
        Dataset(X, np.array([0, 1, 2]), class_names=("cat", "dog"))


@given(st.data())
def test_rows_are_taken_as_numpy_takes_them(choose: st.DataObject) -> None:
    data = Dataset(np.arange(40.0).reshape(20, 2), np.arange(20) % 4, 0.5, 1.0, ("a", "b", "c", "d"), (1, 2))
    rows = choose.draw(
        st.one_of(st.slices(20), st.lists(st.integers(-20, 19)), st.lists(st.booleans(), min_size=20, max_size=20))
    )
    taken = data[rows]
    index = rows if isinstance(rows, slice) or rows else []
    expected = np.arange(20)[index if isinstance(index, slice) else np.array(index, dtype=None if index else int)]
    np.testing.assert_array_equal(taken.x, data.x[expected])
    np.testing.assert_array_equal(taken.y, data.y[expected])
    assert (taken.scale, taken.shift, taken.class_names, taken.image_shape) == (0.5, 1.0, data.class_names, (1, 2))


def test_a_slice_is_a_view_and_one_number_is_refused() -> None:
    data = make([2, 2])
    assert np.shares_memory(data[1:3].x, data.x)
    with pytest.raises(TypeError, match="dataset\\[i : i \\+ 1\\]"):
        data[0]  # type: ignore[index]
    with pytest.raises(IndexError):
        data[[4]]


def pictures(*shape: int, image_shape: tuple[int, ...] | None = None) -> Dataset:
    """Three rows of the numbers 0, 1, 2, ..."""
    x = np.arange(3.0 * np.prod(shape)).reshape(3, *shape)
    return Dataset(x, np.array([0, 1, 2]), 0.5, 1.0, image_shape=image_shape)


@pytest.mark.parametrize(
    ("shape", "image_shape", "row_shape"),
    [
        ((24,), None, (24,)),
        ((24,), None, (4, 6)),
        ((24,), None, (2, 4, 3)),
        ((24,), (4, 6), (24,)),
        ((24,), (4, 6), (4, 6)),
        ((24,), (4, 6), (4, 6, 1)),
        ((24,), (4, 6, 1), (4, 6)),
        ((24,), (2, 4, 3), (2, 4, 3)),
        ((4, 6), None, (24,)),
        ((4, 6), None, (4, 6, 1)),
        ((4, 6), (4, 6), (4, 6)),
    ],
)
def test_rows_get_the_shape_that_a_network_takes(
    shape: tuple[int, ...], image_shape: tuple[int, ...] | None, row_shape: tuple[int, ...]
) -> None:
    data = pictures(*shape, image_shape=image_shape)
    shaped = data.shaped_for(row_shape)
    assert shaped.x.shape == (3, *row_shape)
    assert np.shares_memory(shaped.x, data.x)
    np.testing.assert_array_equal(shaped.x.ravel(), data.x.ravel())
    known = image_shape or (shape if len(shape) > 1 and shape != row_shape else None)  # flat rows remember it
    assert (shaped.scale, shaped.shift, shaped.image_shape, shaped.n_classes) == (0.5, 1.0, known, 3)
    assert shaped[:2].x.shape == (2, *row_shape)


@pytest.mark.parametrize(
    ("shape", "image_shape", "row_shape"),
    [
        ((24,), None, (23,)),
        ((24,), None, (5, 5)),
        ((24,), (4, 6), (6, 4)),
        ((24,), (4, 6), (2, 12)),
        ((24,), (2, 4, 3), (3, 2, 4)),
        ((24,), (2, 4, 3), (8, 3)),
        ((4, 6), None, (6, 4)),
        ((4, 6), None, (25,)),
    ],
)
def test_rows_that_do_not_fit_a_network_are_refused(
    shape: tuple[int, ...], image_shape: tuple[int, ...] | None, row_shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError) as caught:
        pictures(*shape, image_shape=image_shape).shaped_for(row_shape)
    message = str(caught.value)
    assert message.startswith(f"the rows of the data, of shape {image_shape or shape}, do not fit: ")
    assert f"takes rows of shape {row_shape};" in message


def test_a_network_that_takes_any_shape_gets_the_rows_as_they_are() -> None:
    for data in (pictures(24), pictures(24, image_shape=(4, 6)), pictures(4, 6)):
        assert data.shaped_for(None) is data


def test_pictures_are_had_in_their_shape() -> None:
    flat = pictures(24, image_shape=(2, 4, 3))
    assert flat.as_pictures().x.shape == (3, 2, 4, 3)
    assert np.shares_memory(flat.as_pictures().x, flat.x)
    assert pictures(4, 6).as_pictures().x.shape == (3, 4, 6)
    with pytest.raises(DataError, match=r"rows of 24 numbers are not known to be pictures; .*image_shape"):
        pictures(24).as_pictures()


@settings(deadline=None)  # the first call imports scikit-learn
@given(
    st.lists(st.integers(2, 30), min_size=1, max_size=4),
    st.sampled_from([0.1, 0.25, 0.5, 0.8]),
    st.integers(0, 2**70),
)
def test_a_split_divides_the_rows_by_class(counts: list[int], fraction: float, seed: int) -> None:
    data = make(counts)
    n_held_out = int(np.ceil(fraction * len(data)))
    if min(n_held_out, len(data) - n_held_out) < len(counts):
        with pytest.raises(DataError, match=r"fewer than the|cannot be divided"):
            data.split(fraction, seed)
        return
    rest, held_out = data.split(fraction, seed)
    assert len(held_out) == n_held_out
    assert sorted([*rest.x[:, 0], *held_out.x[:, 0]]) == list(range(len(data)))
    for part in (rest, held_out):
        np.testing.assert_array_equal(part.y, data.y[part.x[:, 0].astype(int)])
        assert part.n_classes == len(counts)
    # Rounding moves a class by less than one row.
    share = np.bincount(held_out.y, minlength=len(counts)) - len(held_out) / len(data) * np.array(counts)
    assert np.abs(share).max() < 1.0


def test_a_split_is_decided_by_its_seed() -> None:
    data = make([50, 50])
    first, again, other = (data.split(0.3, seed)[1].x for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    drawn_by = stream_key(1, "split") % 2**32
    _, expected = train_test_split(data.x, test_size=0.3, stratify=data.y, random_state=drawn_by)
    np.testing.assert_array_equal(first, expected)


@pytest.mark.parametrize("y", [np.arange(10.0), np.arange(20.0).reshape(10, 2), np.zeros((10, 0))])
def test_values_are_split_without_classes(y: np.ndarray) -> None:
    rest, held_out = Dataset(np.arange(10.0).reshape(10, 1), y).split(0.3)
    assert (len(rest), len(held_out)) == (7, 3)
    np.testing.assert_array_equal(held_out.y, y[held_out.x[:, 0].astype(int)])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, NAN])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        make([5, 5]).split(fraction)


def test_a_class_of_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 1 has only one row"):
        make([5, 1, 5]).split(0.5)
    with pytest.raises(DataError, match="1 rows cannot be divided"):
        make([1]).split(0.5)


def test_a_dataset_passes_as_it_is() -> None:
    data = make([1, 1])
    assert as_dataset(data) is data


def test_a_whole_number_of_rows_can_be_held_out() -> None:
    data = as_dataset((np.arange(4200.0)[:, None], np.arange(4200) % 10))
    rest, held_out = data.split(1000)
    assert (len(rest), len(held_out)) == (3200, 1000)
    np.testing.assert_array_equal(np.bincount(held_out.y), 100)
    with pytest.raises(DataError, match="cannot be divided"):
        data.split(4200)


def test_one_class_against_the_rest() -> None:
    data = as_dataset((np.arange(6.0)[:, None], [0, 1, 2, 2, 1, 0])).one_against_rest(2)
    np.testing.assert_array_equal(data.y, [0, 0, 1, 1, 0, 0])
    assert data.class_names == ("not 2", "2")


def test_only_some_classes_in_the_order_given() -> None:
    data = as_dataset((np.arange(6.0)[:, None], [0, 1, 2, 2, 1, 0])).only([2, 0])
    np.testing.assert_array_equal(data.y, [1, 0, 0, 1])
    np.testing.assert_array_equal(data.x[:, 0], [0, 2, 3, 5])
    assert data.class_names == ("2", "0")


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (lambda data: data.only([1, 7]), "class 7 has no rows; the classes are 0 to 2"),
        (lambda data: data.only([1, 1]), "name two different classes or more"),
        (lambda data: data.only([1]), "name two different classes or more"),
        (lambda data: data.one_against_rest(-1), "class -1 has no rows"),
    ],
)
def test_classes_that_are_not_there(select: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        select(as_dataset((np.arange(6.0)[:, None], [0, 1, 2, 2, 1, 0])))


def test_test_rows_are_a_data_set_of_their_own() -> None:
    labels = np.array([0, 1, 2])
    for x_test in (X, X.tolist()):
        with pytest.raises(TypeError, match=r"^Dataset: scale must be .*; a Dataset has one x and one y: make another"):
            Dataset(X, labels, x_test, labels)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Dataset: scale must be a finite number, not '2'$"):
        Dataset(X, labels, "2")  # type: ignore[arg-type]

"""Targets as a loss takes them: classes, one-hot rows, values, and what is wrong with others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.data import DataError, check_labels, encode_targets, label_problem

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "y",
    [
        [2, 0, 1],
        np.array([2, 0, 1], np.uint8),
        [2.0, 0.0, 1.0],
        np.array([2, 0, 1], np.float16),
        [[2], [0], [1]],
        [[2.0], [0.0], [1.0]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        np.eye(3)[[2, 0, 1]],
        np.eye(3, dtype=bool)[[2, 0, 1]],
    ],
)
def test_classes(y: object) -> None:
    labels = encode_targets(y, "classes", 3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 3, 4], r"y\[1\] is 3, outside the classes 0 to 2 \(the network has 3 outputs\)"),
        ([0, 1, -1], r"y\[2\] is -1, outside the classes 0 to 2"),
        ([0.0, 0.5, 1.0], r"y\[1\] is 0.5, which is no class"),
        ([0.0, NAN, 1.0], r"y\[1\] is nan, which is no class"),
        ([0.0, 1.0, INF], r"y\[2\] is inf, which is no class"),
        ([0.0, 1.0, 3.0], r"y\[2\] is 3.0, outside"),
        ([[0, 0, 1], [1, 1, 0]], r"y\[1\] is not one-hot"),
        ([[0, 0, 1], [0, 0, 0]], r"y\[1\] is not one-hot"),
        ([[0, 0, 1], [0, 2, 0]], r"y\[1\] is not one-hot"),
        ([[0.0, 0.1, 0.9], [0.0, 0.0, 1.0]], r"y\[0\] is not one-hot"),
        ([[0, 1], [1, 0]], "y has 2 columns, .* 3 classes"),
        (np.zeros((2, 0)), "no targets"),
        ([], r"y has shape \(0,\)"),
        (3, r"y has shape \(\)"),
    ],
)
def test_what_is_no_class(y: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_targets(y, "classes", 3)


@pytest.mark.parametrize(
    ("y", "n_outputs", "expected", "dtype"),
    [
        ([0.5, 2.0], 1, [[0.5], [2.0]], np.float64),
        (np.array([0.5, 2.0], np.float32), 1, [[0.5], [2.0]], np.float32),
        ([[0.5], [2.0]], 1, [[0.5], [2.0]], np.float64),
        ([[0.5, 1.0], [2.0, 3.0]], 2, [[0.5, 1.0], [2.0, 3.0]], np.float64),
        ([0, 1], 1, [[0.0], [1.0]], np.float32),
        ([True, False], 1, [[1.0], [0.0]], np.float32),
        ([[0], [1]], 1, [[0.0], [1.0]], np.float32),
        ([0, 2], 3, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32),
        ([[1, 1], [0, 1]], 2, [[1.0, 1.0], [0.0, 1.0]], np.float32),
    ],
)
def test_values(y: object, n_outputs: int, expected: list[list[float]], dtype: type) -> None:
    values = encode_targets(y, "values", n_outputs)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("y", "n_outputs", "message"),
    [
        ([0.5, 1.0], 3, "y has 1 value a row, but the network has 3 outputs"),
        ([[0.5, 1.0]], 1, "y has 2 values a row, but the network has 1 output;"),
        ([0, 2], 1, r"y\[1\] is 2, outside the classes 0 to 1 \(the network has 1 output; pass floats"),
        ([0, 3], 3, r"y\[1\] is 3, outside the classes 0 to 2 \(the network has 3 outputs\)"),
        ([0.5, NAN], 1, r"y\[1\] is nan"),
        (np.zeros((2, 0)), 1, "no targets"),
    ],
)
def test_values_that_do_not_fit(y: object, n_outputs: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_targets(y, "values", n_outputs)


def test_binary_cross_entropy_needs_the_unit_interval() -> None:
    np.testing.assert_array_equal(encode_targets([0.0, 1.0], "values", 1, unit_interval=True), [[0.0], [1.0]])
    with pytest.raises(DataError, match=r"y\[1\] is 1\.5, but this loss needs targets from 0 to 1"):
        encode_targets([0.5, 1.5, -1.0], "values", 1, unit_interval=True)
    with pytest.raises(DataError, match=r"y\[0\] is -0\.5"):
        encode_targets([[0.5, -0.5]], "values", 2, unit_interval=True)
    assert encode_targets([0.5, 1.5], "values", 1).tolist() == [[0.5], [1.5]]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'classes' or 'values'"):
        encode_targets([0, 1], "labels", 2)


@given(st.lists(st.integers(0, 6), min_size=1), st.integers(7, 9))
def test_one_hot_and_labels_are_the_same_targets(labels: list[int], n_outputs: int) -> None:
    one_hot = encode_targets(labels, "values", n_outputs)
    assert one_hot.shape == (len(labels), n_outputs)
    assert encode_targets(one_hot, "classes", n_outputs).tolist() == labels
    again, n_classes = check_labels(one_hot)
    assert again.tolist() == labels
    assert n_classes == n_outputs


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1.0, "count from 0"),
        (0.5, "no class"),
        (NAN, "no class"),
        (INF, "no class"),
        (100_001.0, "looks like a value"),
    ],
)
def test_what_is_wrong_with_a_label(label: float, message: str) -> None:
    assert message in str(label_problem(label))
    assert label_problem(0.0) is None
    assert label_problem(100_000.0) is None

"""Numbers with a bound: each rule of the error analysis, by the numbers that it gives for small ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends.check import namespace
from backends.check.bounds import ULPS, Arithmetic, Bounded, Condition, Wide

#: Rounding that does not matter, in float64; float32 has the unit roundoff U, which is easy to recognise.
DOUBLE = Arithmetic("float64")
SINGLE = Arithmetic("float32", counts_reference=False, reference=np.float64)
U = 2.0**-24


def near(*values: float, error: float | list[float] = 0.0, rule: Arithmetic = SINGLE) -> Bounded:
    x = np.array(values, rule.reference)
    return Bounded(rule, x, np.zeros_like(x) + np.array(error, rule.reference))


# ---- an arithmetic ---------------------------------------------------------------------------------------------------


def test_the_unit_roundoff_counts_that_of_the_reference_or_not() -> None:
    wide = float(np.finfo(Wide).eps) / 2
    assert (Arithmetic("float32").roundoff, Arithmetic("float64").roundoff) == (U + wide, 2.0**-53 + wide)
    assert SINGLE.roundoff == U
    assert Arithmetic("float32", reference=np.float64).roundoff == U + 2.0**-53


def test_the_ends_of_a_dtype() -> None:
    assert (SINGLE.largest, SINGLE.smallest_normal) == (float(np.finfo("f4").max), 2.0**-126)
    assert SINGLE.largest_squared == SINGLE.largest**2
    assert Arithmetic("float64", reference=np.float64).largest_squared == np.inf


def test_below_the_smallest_normal_number_half_a_denormal_is_lost_or_all() -> None:
    assert SINGLE.underflow == 2.0**-150
    assert Arithmetic("float32", flushes=True).underflow == 2.0**-126
    assert Arithmetic("float64", reference=np.float64).underflow == 2.0**-1074  # there is no half of it


def test_gamma_and_its_probable_form() -> None:
    assert SINGLE.gamma(3) == 3 * U / (1 - 3 * U)
    assert SINGLE.of_sum(1000) == SINGLE.gamma(1000)
    probable = Arithmetic("float32", confidence=8.0, counts_reference=False)
    assert probable.of_sum(10_000) == pytest.approx(SINGLE.gamma(800), rel=1e-12)
    assert probable.of_sum(64) == pytest.approx(SINGLE.gamma(64), rel=1e-12)
    assert probable.of_sum(49) == pytest.approx(SINGLE.gamma(49), rel=1e-12)
    assert (probable.of_sum(0), probable.of_sum(-1)) == (0.0, 0.0)


def test_numbers_of_the_dtype_are_exact_and_others_rounded_once() -> None:
    x = SINGLE.exact(np.array([1.0, 1e-40], np.float32))
    assert x.is_exact
    assert x.error.tolist() == [0.0, 0.0]
    flushed = Arithmetic("float32", flushes=True).exact(np.array([1.0, 1e-40, -1e-40], np.float32))
    assert flushed.error.tolist() == [0.0, *[float(np.float32(1e-40))] * 2]
    assert not flushed.is_exact
    assert Arithmetic("float32", flushes=True).exact(np.array([1.0, 2.0**-126], np.float32)).is_exact
    assert SINGLE.number(0.5).is_exact
    tenth = SINGLE.number(0.1)
    assert (float(tenth.value), float(tenth.error)) == (0.1, U * 0.1)
    mixed = SINGLE.number(np.array([0.5, 0.1]))
    assert mixed.error.tolist() == [0.0, U * 0.1]


# ---- operations ------------------------------------------------------------------------------------------------------

A, B = near(3.0, -5.0, error=[0.1, 0.2]), near(2.0, 4.0, error=[0.01, 0.02])
#: What is computed, its value, and the error that comes from the numbers; beside it a rounding of U (|value| + error).
OPERATIONS: dict[str, tuple[Callable[[], Bounded], list[float], list[float]]] = {
    "a + b": (lambda: A + B, [5.0, -1.0], [0.11, 0.22]),
    "a - b": (lambda: A - B, [1.0, -9.0], [0.11, 0.22]),
    "a * b": (lambda: A * B, [6.0, -20.0], [3 * 0.01 + 2.01 * 0.1, 5 * 0.02 + 4.02 * 0.2]),
    "a / b": (lambda: A / B, [1.5, -1.25], [(0.1 + 1.5 * 0.01) / 1.99, (0.2 + 1.25 * 0.02) / 3.98]),
    "a^2": (lambda: A**2, [9.0, 25.0], [3 * 0.1 + 3.1 * 0.1, 5 * 0.2 + 5.2 * 0.2]),
    "exact + b": (lambda: near(1.0, 2.0) + B, [3.0, 6.0], [0.01, 0.02]),
    "exact * b": (lambda: SINGLE.exact(np.array([3, 5], "f4")) * B, [6.0, 20.0], [0.03, 0.1]),
    "b * exact": (lambda: B * SINGLE.exact(np.array([3, 5], "f4")), [6.0, 20.0], [0.03, 0.1]),
    "a number + b": (lambda: 1.0 + B, [3.0, 5.0], [0.01, 0.02]),
    "a number - b": (lambda: 1.0 - B, [-1.0, -3.0], [0.01, 0.02]),
    "a number * b": (lambda: 3.0 * B, [6.0, 12.0], [0.03, 0.06]),
    "a number / b": (lambda: 1.0 / B, [0.5, 0.25], [0.5 * 0.01 / 1.99, 0.25 * 0.02 / 3.98]),
    "square root": (lambda: B.sqrt(), [2**0.5, 2.0], [0.01 / (2**0.5 + 1.99**0.5), 0.02 / (2 + 3.98**0.5)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_rounds_once_what_it_makes_of_errors(name: str) -> None:
    operation, value, error = OPERATIONS[name]
    result = operation()
    assert result.value.tolist() == pytest.approx(value, rel=1e-12)
    rounded = [e + U * (abs(v) + e) for v, e in zip(value, error, strict=True)]
    assert result.error.tolist() == pytest.approx(rounded, rel=1e-9)


def test_what_is_not_rounded_keeps_its_error() -> None:
    for result, value in ((-A, [-3.0, 5.0]), (abs(A), [3.0, 5.0]), (A.positive(), [3.0, 0.0])):
        assert (result.value.tolist(), result.error.tolist()) == (value, [0.1, 0.2])
    assert (A[1:].value.tolist(), A[1:].error.tolist()) == ([-5.0], [0.2])
    assert (A.max(0).value.tolist(), A.max(0).error.tolist()) == ([3.0], [0.2])
    larger = A.maximum(B)
    assert (larger.value.tolist(), larger.error.tolist()) == ([3.0, 4.0], [0.1, 0.2])
    assert np.isnan(near(np.nan).maximum(near(1.0)).value).all()
    assert A.or_as(near(0.0, 0.0, error=[0.15, 0.15])).error.tolist() == [0.15, 0.2]
    matrix = Bounded(SINGLE, np.array([[1.0, 2.0]]), np.array([[0.1, 0.2]]))
    assert (matrix.T.value.tolist(), matrix.T.error.tolist()) == ([[1.0], [2.0]], [[0.1], [0.2]])


def test_a_division_by_what_may_be_0_has_no_bound() -> None:
    with np.errstate(all="ignore"):
        errors = (near(1.0, 1.0, 1.0) / near(0.5, 0.5, -0.5, error=[0.4, 0.5, 0.6])).error
        of_logarithm = near(0.5, 0.5, error=[0.4, 0.5]).log().error
    assert np.isfinite(errors).tolist() == [True, False, False]
    assert np.isfinite(of_logarithm).tolist() == [True, False]


def test_near_0_a_product_loses_half_a_denormal_and_a_sum_nothing() -> None:
    tiny = near(2.0**-140)
    assert float((tiny * tiny).error[0]) == 2.0**-150
    assert float((tiny + tiny).error[0]) == U * 2.0**-139
    flushing = near(2.0**-140, rule=Arithmetic("float32", True, counts_reference=False, reference=np.float64))
    assert float((flushing + flushing).error[0]) == U * 2.0**-139 + 2.0**-126


@pytest.mark.parametrize("name", ULPS)
def test_a_function_is_off_by_units_in_the_last_place(name: str) -> None:
    x = near(0.5)
    result = getattr(namespace, name)(x)
    expected = getattr(math, name)(0.5)
    assert float(result.value[0]) == pytest.approx(expected)
    assert float(result.error[0]) == pytest.approx(8 * U * abs(expected), rel=1e-9)


def test_sums_and_products_of_matrices() -> None:
    x = Bounded(SINGLE, np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    gamma = SINGLE.gamma
    columns = x.sum(0)
    assert columns.value.tolist() == [4.0, 2.0]
    assert columns.error.tolist() == pytest.approx([0.4 + gamma(1) * 4.4, 0.6 + gamma(1) * 6.6], rel=1e-12)
    everything = x.sum()
    assert (float(everything.value), everything.error.shape) == (6.0, ())
    assert float(everything.error) == pytest.approx(1.0 + gamma(3) * 11.0, rel=1e-12)
    assert x.sum(1, keepdims=True).value.tolist() == [[-1.0], [7.0]]
    mean = x.mean(1)
    assert mean.value.tolist() == [-0.5, 3.5]
    assert mean.error.tolist() == pytest.approx([(0.3 + gamma(1) * 3.3) / 2, (0.7 + gamma(1) * 7.7) / 2], rel=1e-6)
    exact = SINGLE.exact(np.array([[2.0], [1.0]], "f4"))
    product = x.matmul(exact)
    assert product.value.tolist() == [[0.0], [10.0]]
    assert product.error.ravel().tolist() == pytest.approx(
        [gamma(2) * 4.0 + (1 + gamma(2)) * 0.4, gamma(2) * 10.0 + (1 + gamma(2)) * 1.0], rel=1e-12
    )
    both = exact.T.matmul(x)
    assert both.error.ravel().tolist() == pytest.approx([gamma(2) * 5.0 + 0.5, gamma(2) * 8.0 + 0.8], rel=1e-6)
    squared = x.matmul(x)
    inexact = np.abs(x.value) @ (gamma(2) * (np.abs(x.value) + x.error) + x.error)
    inexact += (1 + gamma(2)) * (x.error @ (np.abs(x.value) + x.error))
    np.testing.assert_allclose(squared.error, inexact, rtol=1e-12)
    flushing = Arithmetic("float32", True, counts_reference=False, reference=np.float64)
    small = Bounded(flushing, np.full((3, 1), 2.0**-80), np.zeros((3, 1)))
    assert float(small.T.matmul(small).error[0, 0]) == pytest.approx(3 * 2.0**-126, rel=1e-6, abs=0)
    smallest = Bounded(flushing, np.full(3, 2.0**-126), np.zeros(3))
    assert float(smallest.sum().error) == pytest.approx(3 * 2.0**-126, rel=1e-6, abs=0)


def test_products_of_no_columns_and_of_too_large_numbers() -> None:
    none = Bounded(SINGLE, np.zeros((2, 0)), np.zeros((2, 0)))
    assert none.T.matmul(none).value.shape == (0, 0)
    assert none.matmul(none.T).error.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    huge = SINGLE.exact(np.array([[1e38, 1.0]], "f4"))
    product = huge.T.matmul(huge)
    assert product.value.tolist() == [[np.inf, float(np.float32(1e38))], [float(np.float32(1e38)), 1.0]]
    assert product.error[0, 0] == 0.0
    assert product.error[1, 1] > 0.0


def test_results_can_be_computed_with() -> None:
    """They know in which arithmetic."""
    matrix = Bounded(SINGLE, np.array([[1.0, 2.0]]), np.array([[0.1, 0.2]]))
    results = [
        -A, abs(A), A[:1], A.max(0), A.positive(), A.or_as(B), A.maximum(B), A.where(A > B, B), A.sum(0), A.exp(),
        A.wide(SINGLE), matrix.T, matrix.matmul(matrix.T), namespace.zeros_like(A), namespace.ones_like(A),
    ]  # fmt: skip
    for result in results:
        assert result.arithmetic is SINGLE
        assert np.all((result + 1.0).error >= result.error)


def test_what_is_too_large_is_infinite_and_has_no_error() -> None:
    largest = SINGLE.largest
    result = near(largest, -largest, largest / 4, error=[0.0, 0.0, 1.0]) * 2.0
    assert result.value.tolist() == [np.inf, -np.inf, largest / 2]
    assert result.error[:2].tolist() == [0.0, 0.0]
    assert result.error[2] > 2.0
    unsure = near(largest, error=largest / 10) * 1.05  # it may be smaller, and finite
    assert np.isfinite(unsure.value).all()
    assert (near(np.nan) + 1.0).error.tolist() == [0.0]


def test_where_both_could_be_meant_both_are_allowed() -> None:
    condition = near(3.05, -9.0) < A
    assert (condition.value.tolist(), condition.sure.tolist()) == ([False, True], [False, True])
    chosen = near(1.0, 1.0, error=[0.1, 0.1]).where(condition, near(4.0, 4.0, error=[0.2, 0.2]))
    assert chosen.value.tolist() == [4.0, 1.0]
    assert chosen.error.tolist() == pytest.approx([3.1, 0.1])  # the other one, and its error
    plain = A.where(np.array([True, False]), B)
    assert (plain.value.tolist(), plain.error.tolist()) == ([3.0, 4.0], [0.1, 0.02])
    for compared, values in ((A >= B, [True, False]), (A < B, [False, True]), (A <= B, [False, True])):
        assert compared.value.tolist() == values
        assert compared.sure.all()
    assert (near(1.0) >= near(1.0)).value.all()
    assert (near(1.0) <= 1.0).value.all()
    assert (near(1.0) > 1.0).sure.all()  # both are exact
    touching = near(1.0, error=0.5) > near(1.5)
    assert not touching.sure.any()


def test_numbers_move_between_arithmetics() -> None:
    wide = A.wide(DOUBLE)
    assert (wide.value.tolist(), wide.error.tolist(), wide.dtype) == ([3.0, -5.0], [0.1, 0.2], DOUBLE)
    back = wide.rounded_to(SINGLE)
    assert back.error.tolist() == pytest.approx([0.1 + U * 3.1, 0.2 + U * 5.2], rel=1e-9)
    assert A.rounded_to(SINGLE).error.tolist() == [0.1, 0.2]


def test_only_squares_are_powers() -> None:
    with pytest.raises(ValueError, match="only squares have a bound here, not the power 3"):
        A**3


# ---- sizes, slopes and conditions ------------------------------------------------------------------------------------


#: By what it does to a = (3 - 5) and b = (2 + 6), of sizes 8 and 8: the value, and the size of its terms.
SIZES: dict[str, tuple[Callable[[Any, Any], Any], float, float]] = {
    "add": (lambda a, b: a + b, 6, 16),
    "subtract": (lambda a, b: a - b, -10, 16),
    "multiply": (lambda a, b: a * b, -16, 64),
    "divide": (lambda a, b: a / b, -0.25, 1),
    "square": (lambda a, b: a**2, 4, 64),
    "negative": (lambda a, b: -a, 2, 8),
    "absolute": (lambda a, b: namespace.abs(a), 2, 8),
    "from a number": (lambda a, b: 3.0 - a, 5, 11),
    "maximum": (lambda a, b: namespace.maximum(a, b), 8, 8),
    "maximum, other way": (lambda a, b: namespace.maximum(b * 2.0, a), 16, 16),
    "minimum": (lambda a, b: namespace.minimum(a, b * b), -2, 8),
    "where": (lambda a, b: namespace.where(a < b, a, b * b), -2, 8),
    "where not": (lambda a, b: namespace.where(a > b, a, b * b), 64, 64),
    "positive": (lambda a, b: (b - 1.0).positive(), 7, 9),
    "none positive": (lambda a, b: a.positive(), 0, 0),
    "an element": (lambda a, b: a[0:1], -2, 8),
    "transposed": (lambda a, b: a.T, -2, 8),
    "sum": (lambda a, b: a.sum(0, keepdims=True), -2, 8),
    "or as": (lambda a, b: a.or_as(b), -2, 8),
    "log": (lambda a, b: namespace.log(b), np.log(8), np.log(8) + 1),
    "exp": (lambda a, b: namespace.exp(a), np.exp(-2), np.exp(-2)),
    "square root": (lambda a, b: namespace.sqrt(b * 2.0), 4, 4),
    "in another arithmetic": (lambda a, b: a.rounded_to(Arithmetic("float64")), -2, 8),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_terms(name: str) -> None:
    """Errors are reported in relation to them."""
    operation, value, size = SIZES[name]
    three, five, two, six = (Arithmetic("float32").exact(np.array([x], np.float32)) for x in (3, 5, 2, 6))
    result = operation(three - five, two + six)
    assert float(result.value[0]) == pytest.approx(value)
    assert float(result.size[0]) == pytest.approx(size)


#: A function, where it is defined, and how much larger its bound may be than what an error of 0.1 does to its result.
CURVES: dict[str, tuple[Callable[[Any], Any], list[float], float]] = {
    "exp": (np.exp, [-3.0, 0.0, 2.0], 1.01),
    "expm1": (np.expm1, [-3.0, 0.0, 2.0], 1.01),
    "log": (np.log, [0.2, 1.0, 7.0], 1.01),
    "log1p": (np.log1p, [0.2, 1.0, 2.0], 4.0),
    "tanh": (np.tanh, [-3.0, -1.0, 0.0, 0.5, 2.0], 1.2),
    "sqrt": (np.sqrt, [0.2, 1.0, 7.0], 1.2),
}


@pytest.mark.parametrize("name", CURVES)
def test_an_error_goes_through_a_function_by_its_slope(name: str) -> None:
    function, values, room = CURVES[name]
    x = np.array(values)
    bound = getattr(namespace, name)(Bounded(Arithmetic("float64"), x, np.full(x.shape, 0.1))).error
    moved = np.maximum(np.abs(function(x + 0.1) - function(x)), np.abs(function(x - 0.1) - function(x)))
    assert np.all(moved <= bound * (1 + 1e-9))
    assert np.all(bound <= room * moved)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize("other_value", [True, False])
@pytest.mark.parametrize("other_sure", [True, False])
def test_conditions_are_sure_if_no_error_of_either_could_change_them(
    value: bool, sure: bool, other_value: bool, other_sure: bool
) -> None:
    one, other = Condition(np.array(value), np.array(sure)), Condition(np.array(other_value), np.array(other_sure))

    def outcomes(combined: Callable[[bool, bool], bool]) -> set[bool]:
        """All that could come out, where what is not sure may be either."""
        firsts, seconds = {value} if sure else {True, False}, {other_value} if other_sure else {True, False}
        return {combined(a, b) for a in firsts for b in seconds}

    both, either = one & other, one | other
    assert (bool(both.value), bool(both.sure)) == (value and other_value, len(outcomes(lambda a, b: a and b)) == 1)
    assert (bool(either.value), bool(either.sure)) == (value or other_value, len(outcomes(lambda a, b: a or b)) == 1)


def test_powers_of_what_is_off_are_off_as_far_as_the_power_goes() -> None:
    x = Bounded(SINGLE, np.array([0.5, 0.0, 0.25]), np.array([0.0, 0.01, 0.5]))
    for exponent in (0.5, 2.0):
        result = x.power(exponent)
        assert result.value.tolist() == [0.5**exponent, 0.0, 0.25**exponent]
        assert float(result.error[0]) == pytest.approx(16 * U * 0.5**exponent, rel=1e-9)
        furthest = [0.01**exponent, max(0.75**exponent - 0.25**exponent, 0.25**exponent)]
        assert result.error[1:].tolist() == pytest.approx(furthest, rel=1e-5)
    assert x.power(0.0).value.tolist() == [1.0, 1.0, 1.0]

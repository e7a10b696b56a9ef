"""The bounds that formulas carry: sharp, as the documentation has them, and never too narrow."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backends import get_backend
from backends.base import DTYPES
from backends.check import check, compare, expected_of, formulas, namespace
from backends.check.bounds import Arithmetic, Bounded, Wide
from backends.check.cases import cases
from backends.updates import RULES
from tests.helpers.backends import make_backend


def test_the_bounds_are_sharp() -> None:
    """Inputs that a summation one by one rounds the same way each time come close to the bound; nothing passes it."""
    for dtype in DTYPES:
        terms = np.full(2000, 0.9 * float(np.finfo(dtype).eps) / 2, dtype)
        terms[0] = 1
        total = np.cumsum(terms, dtype=dtype)[-1:]
        outcome = compare((total,), formulas(get_backend("cpu", dtype)).column_sum(terms[:, None]))
        assert 0.85 < outcome.ratio <= 1
        for result in check(get_backend("cpu", dtype), operations=["matmul", "column_sum", "multiply"]):
            assert 0.5 < result.ratio <= 1, result


def test_the_bound_of_a_product_grows_with_its_depth() -> None:
    for dtype in DTYPES:
        rule = Arithmetic(dtype)
        u = float(np.finfo(dtype).eps) / 2
        for depth in (1, 10, 1000, 4096):
            ones = np.ones((1, depth), dtype)
            (bound,) = formulas(get_backend("cpu", dtype)).matmul(ones, ones.T)
            assert bound.error[0, 0] == pytest.approx(depth * depth * u, rel=1e-3)
            (with_beta,) = formulas(get_backend("cpu", dtype)).matmul(
                ones, ones.T, alpha=0.3, beta=0.7, out=np.ones((1, 1), dtype)
            )
            assert with_beta.error[0, 0] <= rule.gamma(depth + 3) * (0.3 * depth + 0.7) * (1 + 1e-12)


def test_cancelling_terms_count_with_their_size() -> None:
    (bound,) = formulas(get_backend("cpu")).column_sum(np.array([[1e8], [1.0], [-1e8]], np.float32))
    assert bound.value == 1
    assert bound.size == 2e8 + 1
    assert 2 * 2e8 * 2**-24 < bound.error < 2.01 * 2e8 * 2**-24


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_the_formula_of_an_update_is_not_that_of_the_table(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """A mistake there is one of every backend that computes by it, and must be found."""
    right = RULES[rule]

    def wrong(xp: Any, gradient: Any, state: Any, number: Any, **settings: Any) -> Any:
        direction, changed = right.direction(xp, gradient, state, number, **settings)
        return 1.5 * direction, changed

    monkeypatch.setitem(RULES, rule, dataclasses.replace(right, direction=wrong))
    (result,) = check(make_backend(("cpu", False)), operations=["update"])
    assert result.wrong > 10
    assert rule in result.first_wrong


@pytest.mark.parametrize(
    ("spec", "dtype", "flushes"),
    [("cuda:0", "float32", True), ("torch:cuda:1", "float32", True), ("cuda:0", "float64", False),
     ("cpu", "float32", False)],
)  # fmt: skip
def test_a_gpu_may_take_denormals_of_float32_for_0(spec: str, dtype: str, flushes: bool) -> None:
    stand_in: Any = SimpleNamespace(dtype_name=dtype, device=SimpleNamespace(spec=spec, has_float64=True))
    assert formulas(stand_in).real.flushes == flushes
    assert not formulas(stand_in).wide.flushes
    if dtype == "float32":
        assert formulas(get_backend("cpu"), stand_in).real.flushes == flushes


def test_the_table_of_bounds_in_the_documentation_is_right() -> None:
    """Its closed forms are the bounds that the formulas carry, up to terms of second order, or a little above."""
    f, u, (m, n) = formulas(get_backend("cpu")), 2.0**-24, (40, 30)
    gamma, rng = f.real.gamma, np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return (3 * rng.normal(size=shape)).astype(np.float32)

    def assert_near(error: Any, closed: Any, least: float = 0.6) -> None:
        assert np.all(error <= closed * (1 + 1e-4))
        assert np.all(error >= closed * least)

    a, b, out = draw(m, 50), draw(50, n), draw(m, n)
    (product,) = f.matmul(a, b, alpha=0.3, beta=0.7, out=out)
    assert_near(product.error, gamma(53) * (0.3 * abs(a) @ abs(b) + 0.7 * abs(out)))
    z, bias, dy = draw(m, n), draw(n), draw(m, n)
    x = abs(z.astype(np.float64) + bias)

    def sigmoid(y: Any, x: Any) -> Any:
        return (4.5 * abs(2 * y - 1) + y) * u + 2 * u * y * (1 - y) * x

    forward: dict[str, Callable[[Any], Any]] = {
        "identity": lambda y: u * x, "relu": lambda y: u * x,
        "tanh": lambda y: 8 * u * abs(y) + (1 - y**2) * u * x, "sigmoid": lambda y: sigmoid(y, x),
    }  # fmt: skip
    backward: dict[str, Callable[[Any], Any]] = {
        "identity": lambda dz: 0 * dz, "relu": lambda dz: u * dz,
        "tanh": lambda dz: 2 * u * abs(dy), "sigmoid": lambda dz: 3 * u * dz,
    }  # fmt: skip
    w = f.real.underflow
    for name, closed in forward.items():
        (y,) = f.bias_activation(z, bias, name)
        assert_near(np.where(y.value == 0, u * x, y.error) if name == "relu" else y.error, closed(y.value))
        dz, sums = f.bias_activation_backward(dy, abs(draw(m, n)) / 20, name, bias)
        assert_near(dz.error, backward[name](abs(dz.value)) + w * (name == "relu"), least=0.5)
        assert_near(sums.error, gamma(m - 1) * abs(dz.value).sum(0) + dz.error.sum(0))

    (p,) = f.softmax(z)
    y, s = p.value, z.max(1, keepdims=True) - z.astype(np.float64)
    weighted = (y * s).sum(1, keepdims=True)
    softmax = y * (17 * u + gamma(n - 1) + u * s + u * weighted)
    assert_near(p.error, softmax)
    y32 = y.astype(np.float32)
    (back,) = f.softmax_backward(dy, y32)
    inner = dy * y32
    spread = abs(dy - inner.sum(1, keepdims=True))
    assert_near(back.error, y32 * (gamma(n) * abs(inner).sum(1, keepdims=True) + 2 * u * spread))
    for row in range(5):
        one = slice(row, row + 1)
        totals, dz = f.softmax_cross_entropy(z[one], np.array([row]), scale=0.3)
        normal, loss = np.log(np.exp(-s[row]).sum()), totals.value[0]
        assert_near(totals.error[0], 8 * u * (1 + normal) + gamma(n - 1) + u * (weighted[row] + s[row, row] + loss))
        assert_near(dz.error, 0.3 * (softmax[one] + 3 * u * (y[one] + (np.arange(n) == row))))
        logit, target = float(z[row, 0]), float(y32[row, 0])
        totals, dz = f.binary_cross_entropy(z[one, :1], y32[one, :1], scale=0.3)
        linear, loss = max(logit, 0) - logit * target, totals.value[0]
        terms = abs(logit * target) + abs(linear) + 16 * np.exp(-abs(logit)) + 2 * loss  # one for the mean of n = 1
        assert_near(totals.error[0], u * terms)
        probability = 1 / (1 + np.exp(-logit))
        assert_near(dz.error, 0.3 * (sigmoid(probability, abs(logit)) + 3 * u * abs(probability - target)))
        totals, dz = f.squared_error(z[one], dy[one], scale=0.3)
        assert_near(totals.error[0], gamma(n + 4) * totals.value[0])
        assert_near(dz.error, 3 * u * abs(dz.value))

    params, gradient, mean, square = draw(99), draw(99), draw(99), abs(draw(99))
    for decay in (0.0, 0.1):
        more: dict[str, Any] = {"weight_decay": decay, "n_decayed": 99}
        with_decay = 3 * u * abs(params) * (decay > 0)
        momentum: dict[str, Any] = {"momentum": 0.9, "dampening": 0.3}
        new, v = f.update("sgd", params, gradient, {"velocity": mean}, learning_rate=0.1, **momentum, **more)
        velocity = 3 * u * (abs(0.9 * mean) + abs(0.7 * gradient))
        assert_near(v.error, velocity)
        assert_near(new.error, u * abs(new.value) + 0.1 * (velocity + 3 * u * abs(v.value)) + with_decay)
        state = {"mean": mean, "square": square}
        new, first, second = f.update("adam", params, gradient, state, number=3, learning_rate=0.1, **more)
        of_mean = 3 * u * (abs(0.9 * mean) + abs(0.1 * gradient))
        of_square = 4 * u * (0.999 * square + 0.001 * gradient**2)
        assert_near(first.error, of_mean)
        assert_near(second.error, of_square)
        change = abs(0.1 * first.value / (1 - 0.9**3) / np.sqrt(second.value / (1 - 0.999**3)))
        relative = 8 * u + of_mean / abs(first.value) + of_square / second.value / 2
        assert_near(new.error, u * abs(new.value) + change * relative + with_decay)
    rows = draw(9, 5).astype(np.float64)
    (taken,) = f.take_rows(rows, None, 0, 9, scale=0.3, shift=0.7)
    assert_near(taken.error, u * (3 * abs(0.3 * rows) + 0.7 + abs(taken.value)))
    (squares,) = f.sum_of_squares(draw(77))
    assert_near(squares.error, f.wide.gamma(77) * squares.value)
    (columns,) = f.column_sum(z)
    assert_near(columns.error, gamma(m - 1) * abs(z).sum(0))


floats = hnp.arrays(np.float32, 6, elements=st.floats(-1e6, 1e6, width=32))


@settings(deadline=None, max_examples=50, derandomize=True, database=None)
@given(x=floats, y=floats, z=floats)
def test_what_float32_computes_is_within_the_bound(x: Any, y: Any, z: Any) -> None:
    """Formulas of several roundings, in float32 and in numbers with bounds."""
    rule = Arithmetic("float32")
    a, b, c, one = (rule.exact(v) for v in (x, y, z, np.ones(6)))
    pairs: list[tuple[Any, Bounded]] = [
        (x * y + z, a * b + c),
        ((x - y) * z - x, (a - b) * c - a),
        (x / (np.abs(y) + np.float32(1)) - z, a / (abs(b) + one) - c),
        (np.sqrt(np.abs(x * y)) * z, abs(a * b).sqrt() * c),
        (np.exp(-np.abs(x - y)), (-abs(a - b)).exp()),
        (np.log1p(np.abs(x * y)), abs(a * b).log1p()),
        (np.log(np.abs(x) + np.float32(1)), (abs(a) + one).log()),
        (np.tanh(x * y - z), (a * b - c).tanh()),
        (np.sum(x * y, keepdims=True), (a * b).sum(0, keepdims=True)),
        (np.mean(x - y, keepdims=True), (a - b).mean(0)[None]),
    ]
    for index, (found, expected) in enumerate(pairs):
        assert compare((found,), (expected,)).complaint == "", index


@settings(deadline=None, max_examples=50, derandomize=True, database=None)
@given(x=floats, y=floats)
def test_a_branch_that_could_go_either_way_is_allowed_both(x: Any, y: Any) -> None:
    """x - y + y - x is 0, and in float32 on either side of it."""
    rule = Arithmetic("float32")
    a, b = rule.exact(x), rule.exact(y)
    found, near = x - y + y - x, a - b + b - a
    for condition, taken in (
        (near > 0.0, found > 0), (near >= 0.0, found >= 0), (~(near < 0.0), ~(found < 0)), (near <= 0.0, found <= 0),
        ((near > 0.0) | (a > 1.0), (found > 0) | (x > 1)), ((near > 0.0) & (a > 1.0), (found > 0) & (x > 1)),
    ):  # fmt: skip
        found_and_expected = [
            (np.where(taken, x, y), a.where(condition, b)),
            (taken.astype("f4"), namespace.astype(condition, rule)),
            (taken * x, a * condition),
        ]
        with np.errstate(all="ignore"):
            assert all(compare((one,), (other,)).complaint == "" for one, other in found_and_expected)
    sure = rule.exact(np.array([1.0, 2.0, 3.0], "f4")) > 2.0
    assert sure.sure.all()
    assert namespace.astype(sure, rule).error.max() == 0


def test_the_probable_bound_of_sums_is_no_wider_and_grows_with_the_root() -> None:
    worst, probable = Arithmetic("float32"), Arithmetic("float32", confidence=8.0)
    for depth in (1, 10, 64):
        assert probable.of_sum(depth) == worst.of_sum(depth) == worst.gamma(depth)
    for depth in (65, 1000, 100_000):
        assert probable.of_sum(depth) == pytest.approx(8 * depth**0.5 * 2.0**-24, rel=1e-3)
        assert probable.of_sum(depth) < worst.of_sum(depth)
        ones = np.ones((1, depth), np.float32)
        (bound,) = dataclasses.replace(formulas(get_backend("cpu")), real=probable).matmul(ones, ones.T)
        assert bound.error[0, 0] == pytest.approx(probable.of_sum(depth) * depth)
    assert worst.of_sum(0) == probable.of_sum(0) == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_in_float64_are_those_in_the_widest_float(dtype: str) -> None:
    """Up to what the reference itself rounds: the comparison of training runs is as strict as the check."""
    backend = get_backend("cpu", dtype)
    wide, fast = formulas(backend), formulas(backend, with_reference=False)
    for operation in ("matmul", "bias_activation", "bias_activation_backward", "softmax_cross_entropy", "update"):
        for case in itertools.islice(cases(operation, dtype), 0, 40):
            with np.errstate(all="ignore"):
                pairs = zip(expected_of(wide, case), expected_of(fast, case), strict=True)
            for a, b in pairs:
                if isinstance(a, Bounded):
                    small = np.abs(a.value) < 1e-30
                    ratio = np.where((a.error == 0) | small, 1, b.error / np.where(a.error == 0, 1, a.error))
                    assert np.all(ratio <= 1 + 1e-3), case.name


def test_what_reaches_infinity_only_by_rounding_may() -> None:
    rule = Arithmetic("float32")
    largest = np.float32(rule.largest)
    near = Bounded(rule, np.array([Wide(largest)]), np.array([Wide(largest) * 1e-7]), np.array([Wide(largest)]))
    far = dataclasses.replace(near, valued=near.value / 2)
    for found, expected, right in (
        (largest, near, True), (np.inf, near, True), (-np.inf, near, False), (np.nan, near, False),
        (np.inf, far, False), (largest, far, False),
    ):  # fmt: skip
        outcome = compare((np.array([found], np.float32),), (expected,))
        assert (outcome.complaint == "") == right


def test_a_device_that_flushes_denormals_may_do_so_and_no_other() -> None:
    tiny = np.array([1e-40, 1.0], np.float32)
    (flushes,) = dataclasses.replace(formulas(get_backend("cpu")), real=Arithmetic("float32", True)).multiply(
        tiny, tiny
    )
    (keeps,) = formulas(get_backend("cpu")).multiply(tiny, np.ones(2, np.float32))
    flushed = np.array([0.0, 1.0], np.float32)
    assert compare((flushed,), (flushes,)).complaint == ""
    assert "got 0 instead of 9.9999461e-41" in compare((flushed,), (keeps,)).complaint

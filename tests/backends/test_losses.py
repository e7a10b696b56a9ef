"""Losses: weights of rows, the loss of each row, and what holds for every loss on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from backends import Backend
from backends.check import formulas
from tests.helpers.backends import make_backend
from tests.helpers.with_emulated import WITH_EMULATED, made

LOSSES = ("softmax_cross_entropy", "binary_cross_entropy", "sigmoid_focal", "squared_error", "absolute_error", "huber")
NAN = math.nan


@pytest.fixture(params=WITH_EMULATED)
def which(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["float32", "float64"])
def backend(which: tuple[str, bool], request: pytest.FixtureRequest) -> Any:
    backend = made(which, request.param)
    with backend.use():
        yield backend


def inputs(name: str, m: int, n: int, dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(m + n)
    outputs = rng.normal(size=(m, n)).astype(dtype)
    targets = rng.integers(0, n, m) if name == "softmax_cross_entropy" else rng.uniform(size=(m, n)).astype(dtype)
    return outputs, targets


class Call:
    """A loss of NumPy arrays; what comes out, on the host."""

    def __init__(self, backend: Backend, name: str, outputs: Any, targets: Any, **options: Any) -> None:
        by_row = backend.empty((len(outputs),)) if options.pop("by_row", False) else None
        on_device = {k: backend.asarray(v.copy()) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        arrays = backend.asarray(outputs.copy()), backend.asarray(targets.copy())
        totals, gradient = getattr(backend, name)(*arrays, losses=by_row, **on_device)
        self.totals = np.array(backend.to_numpy(totals))
        self.gradient: Any = None if gradient is None else np.array(backend.to_numpy(gradient))
        self.losses: Any = None if by_row is None else np.array(backend.to_numpy(by_row))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 1), (9, 4), (200, 40)])
def test_weights_of_one_change_no_bit(backend: Backend, which: Any, name: str, shape: tuple[int, int]) -> None:
    """But with Numba, which leaves rows with weights to NumPy."""
    outputs, targets = inputs(name, *shape, backend.dtype_name)
    ones = np.ones(len(outputs), backend.dtype_name)
    plain = Call(backend, name, outputs, targets)
    for options in ({"weights": ones}, {"weights": ones, "by_row": True}, {"by_row": True}):
        weighted = Call(backend, name, outputs, targets, **options)
        if which == ("numba", True):
            tolerance = 1e-5 if backend.dtype_name == "float32" else 1e-13
            np.testing.assert_allclose(weighted.totals, plain.totals, rtol=tolerance)
            np.testing.assert_allclose(weighted.gradient, plain.gradient, rtol=tolerance, atol=tolerance)
        else:
            assert weighted.totals.tobytes() == plain.totals.tobytes()
            assert weighted.gradient.tobytes() == plain.gradient.tobytes()


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_of_n_is_the_row_n_times(which: Any, name: str) -> None:
    backend = made(which, "float64")
    outputs, targets = inputs(name, 6, 4, "float64")
    times = np.array([1, 0, 3, 2, 0, 1])
    repeated = [np.repeat(x, times, axis=0) for x in (outputs, targets)]
    with backend.use():
        weighted = Call(backend, name, outputs, targets, weights=times.astype("f8"), scale=0.5, by_row=True)
        expected = Call(backend, name, *repeated, scale=0.5, by_row=True)
    np.testing.assert_allclose(weighted.totals, expected.totals, rtol=1e-13)
    np.testing.assert_allclose(np.repeat(weighted.losses, times), expected.losses, rtol=1e-13)
    np.testing.assert_allclose(weighted.totals[0], (times * weighted.losses).sum(), rtol=1e-13)
    once = np.repeat(weighted.gradient / np.maximum(times, 1)[:, None], times, axis=0)
    np.testing.assert_allclose(once, expected.gradient, rtol=1e-13, atol=1e-15)
    assert not weighted.gradient[times == 0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_of_the_rows_are_those_of_each_row_alone(which: Any, name: str) -> None:
    backend = made(which, "float64")
    outputs, targets = inputs(name, 8, 3, "float64")
    with backend.use():
        for gradient in (True, False):
            together = Call(backend, name, outputs, targets, by_row=True, gradient=gradient)
            alone = [Call(backend, name, outputs[i : i + 1], targets[i : i + 1]).totals[0] for i in range(8)]
            np.testing.assert_allclose(together.losses, alone, rtol=1e-13)
            assert (together.gradient is None) == (not gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_central_difference(backend: Backend, name: str) -> None:
    """Of the weighted mean over the rows, by the formula of the check."""
    rng, h = np.random.default_rng(3), 1e-5
    dtype = backend.dtype_name
    z = rng.uniform(-2, 2, (4, 3)).astype(dtype).astype("f8")
    targets = inputs(name, 4, 3, dtype)[1]
    targets = targets if targets.dtype.kind == "i" else targets.astype("f8")
    weights = np.array([1.0, 0.5, 0.0, 2.0])
    formula = getattr(formulas(make_backend(("cpu", False), "float64")), name)
    expected = np.empty_like(z)
    for i in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i] = h
        high, low = (formula(z + sign * step, targets, weights=weights)[0].value[0] for sign in (1, -1))
        expected[i] = (high - low) / (2 * h) / len(z)
    found = Call(backend, name, z.astype(dtype), targets, weights=weights.astype(dtype))
    np.testing.assert_allclose(found.gradient, expected, atol=1e-9 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_totals_accumulate_in_place(backend: Backend, name: str) -> None:
    z = backend.asarray([[3.0, -1.0], [0.5, 2.0]])
    targets = backend.asarray([0, 0] if name == "softmax_cross_entropy" else [[1.0, 0.0], [1.0, 0.0]])
    operation = getattr(backend, name)
    first = np.array(backend.to_numpy(operation(z, targets)[0]))
    assert first[1] == 1
    totals = backend.zeros((2,), backend.wide)
    for times in (1, 2, 3):
        operation(z, targets, totals=totals, gradient=times == 2)
        np.testing.assert_allclose(backend.to_numpy(totals), times * first, rtol=1e-12)
    operation(z, targets, totals=totals, weights=backend.asarray([2.0, 0.5]))
    assert backend.to_numpy(totals)[1] == 3 + 2


# ---- at the edges ----------------------------------------------------------------------------------------------------


def test_losses_of_large_logits(backend: Backend) -> None:
    z = backend.asarray([[1e4, -1e4, 0.0]] * 3)
    totals, gradient = backend.softmax_cross_entropy(z, backend.asarray([0, 1, 2]), scale=1.0)
    assert backend.to_numpy(totals).tolist() == [3e4, 1]
    assert backend.to_numpy(gradient).tolist() == [[0, 0, 0], [1, -1, 0], [1, 0, -1]]

    targets = backend.asarray([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [1.0, 1.0, 0.5]])
    totals, gradient = backend.binary_cross_entropy(z, targets, scale=3.0)
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-6
    np.testing.assert_allclose(backend.to_numpy(totals), [1e4 + math.log(2), 1], rtol=tolerance)
    assert backend.to_numpy(gradient).tolist() == [[0, 0, 0], [1, -1, 0], [0, -1, 0]]


def test_small_binary_cross_entropy_is_not_lost_in_a_large_logit(backend: Backend) -> None:
    totals, _ = backend.binary_cross_entropy(backend.asarray([[10.0], [-10.0]]), backend.asarray([[1.0], [0.0]]))
    np.testing.assert_allclose(backend.to_numpy(totals), [2 * math.log1p(math.exp(-10)), 2], rtol=1e-6)


def test_a_row_with_nan_is_never_correct(backend: Backend) -> None:
    z = backend.asarray([[1.0, NAN], [NAN, 0.0], [NAN, NAN], [2.0, 1.0]])
    zeros, ones = backend.asarray([0] * 4), backend.asarray([1] * 4)
    assert backend.to_numpy(backend.argmax(z)).tolist() == [0, 0, 0, 0]
    for labels, correct in ((zeros, 1), (ones, 0)):
        assert backend.to_numpy(backend.softmax_cross_entropy(z, labels)[0])[1] == correct
    for targets, correct in (([1.0, 0.0], 1), ([0.0, 1.0], 0)):
        assert backend.to_numpy(backend.squared_error(z, backend.asarray([targets] * 4))[0])[1] == correct
    assert backend.to_numpy(backend.binary_cross_entropy(z, backend.asarray([[1.0, 1.0]] * 4))[0])[1] == 1
    one_column = backend.asarray([[NAN], [0.0]])
    for loss in (backend.binary_cross_entropy, backend.squared_error):
        assert backend.to_numpy(loss(one_column, backend.zeros((2, 1)))[0])[1] == 1

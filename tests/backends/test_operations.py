"""Operations: every way to call them, and what the bounds of ``backends.check`` do not say.

Formulas, inputs and bounds are those of ``backends.check``. ``tests/backends/check`` tries many inputs of every
operation in one way or two; here a few of them are tried in all ways. Activations, losses and updates have files of
their own.
"""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backends import Backend, StepNumbers
from backends.check import MAKERS, Case, cases, compare, expected_of, formulas, perform, ways
from tests.helpers.backends import make_backend

Array = Any


@cache
def some_cases(operation: str, dtype: str) -> list[tuple[Case, bool]]:
    """The first case that can be called in a way, for each of the ways, and a twelfth of all others, which are True.

    The same arrays for all backends of a dtype: whoever calls an operation hands on copies.
    """
    every, known, found = list(cases(operation, dtype, seed=20)), set[str](), []
    for number, case in enumerate(every):
        is_one_of_twelve = number % max(len(every) // 12, 1) == 0
        if is_one_of_twelve or not known.issuperset(ways(case)):
            found.append((case, is_one_of_twelve))
        known.update(ways(case))
    return found


#: In how many ways each of the cases is called. All of them are the full product, which takes four times as long; two,
#: other ones in the next case, leave every way three cases or more, and every case two ways.
HOW_MANY = [2, pytest.param(100, marks=pytest.mark.slow)]


@pytest.mark.parametrize("most", HOW_MANY)
@pytest.mark.parametrize("operation", MAKERS)
def test_every_way_to_call(backend: Backend, operation: str, most: int) -> None:
    """Inputs of several layouts and read-only ones, a new ``out``, one with gaps, and one that is an input."""
    tried: Counter[str] = Counter()
    possible: Counter[str] = Counter()
    bounds = formulas(backend)
    with np.errstate(all="ignore"):
        for case, is_one_of_twelve in some_cases(operation, backend.dtype_name):
            chosen = [way for way in ways(case) if way not in possible]
            possible.update(ways(case))
            if is_one_of_twelve:  # those that were tried least
                chosen += sorted(set(ways(case)) - {*chosen}, key=lambda way: (tried[way], way))[:most]
            tried.update(chosen)
            expected = expected_of(bounds, case) if chosen else ()
            for way in chosen:
                assert not compare(perform(backend, case, way), expected).complaint, (case.name, way)
    assert tried.keys() == possible.keys()
    assert all(tried[way] >= min(possible[way], 3) for way in possible)


def test_the_ways_to_call_are_these() -> None:
    found = {
        operation: {way for case in itertools.islice(cases(operation, "float32"), 40) for way in ways(case)}
        for operation in MAKERS
    }
    layouts = {"plain", "strided", "read-only", "recorded"}
    assert found["column_sum"] == {*layouts, "transposed", "into out", "into strided out"}
    assert found["multiply"] == {*found["column_sum"], "into input 0", "into input 1"}
    assert found["bias_activation"] == {*found["column_sum"], "into input 0", "z_out into input 0"}
    assert found["update"] == {"plain", "strided", "recorded"}
    assert found["asarray"] == found["record"] == {"plain"}
    assert found["all_finite"] == layouts
    for operation in ("softmax", "softmax_backward", "bias_activation_backward", "squared_error"):
        assert found[operation] == {*found["column_sum"], "into input 0"}, operation


# ---- products and activations ----------------------------------------------------------------------------------------


def test_matmul_with_beta_needs_out(backend: Backend) -> None:
    one = backend.zeros((1, 1))
    with pytest.raises(ValueError, match="matmul with beta needs the array `out`"):
        backend.matmul(one, one, beta=0.5)


def test_denormals_are_kept(backend: Backend) -> None:
    tiny = np.array([[1e-40, -1e-40]] if backend.dtype_name == "float32" else [[5e-324, -5e-324]])
    x, one = backend.asarray(tiny), backend.asarray(np.ones((1, 2)))
    expected = tiny.astype(backend.dtype_name)
    for result in (backend.copy(x), backend.multiply(x, one), backend.bias_activation(x, None)):
        np.testing.assert_array_equal(backend.to_numpy(result), expected)
    relu = backend.bias_activation(x, None, "relu")
    np.testing.assert_array_equal(backend.to_numpy(relu), np.maximum(expected, 0))


def test_sums_stay_in_float32_where_the_standard_is_an_old_one() -> None:
    """Before 2023.12 a sum of float32 was one of float64, unless one said otherwise."""
    strict = pytest.importorskip("array_api_strict")
    backend = make_backend(("array_api_strict", False))
    x, y = (backend.asarray(np.full((3, 2), value)) for value in (1.0, 0.25))
    labels, losses = backend.asarray(np.array([0, 1, 1])), backend.empty((3,))
    with strict.ArrayAPIStrictFlags(api_version="2022.12"):
        assert backend.xp.sum(x).dtype == backend.xp.float64
        results = [backend.column_sum(x), backend.softmax(x), backend.softmax_backward(x, y)]
        results.append(backend.softmax_cross_entropy(x, labels, losses=losses)[1])
        assert {str(result.dtype).rpartition(".")[2] for result in results} == {"float32"}
    assert backend.xp.sum(x).dtype == backend.xp.float32


# ---- arrays in and out, and the device -------------------------------------------------------------------------------


def test_zeros_and_empty(backend: Backend) -> None:
    for make in (backend.zeros, backend.empty):
        assert backend.to_numpy(make((2, 3))).shape == (2, 3)
        assert backend.to_numpy(make((0,))).dtype == backend.dtype_name
        assert backend.to_numpy(make((), backend.xp.int64)).dtype == np.int64
    assert not backend.to_numpy(backend.zeros((2, 3))).any()


def test_item_and_to_numpy(backend: Backend) -> None:
    for value in (0.5, [0.5], [[0.5]]):
        number = backend.item(backend.asarray(value))
        assert type(number) is float
        assert number == 0.5
    host = backend.to_numpy(backend.asarray([[1.5, 2.5]]))
    assert type(host) is np.ndarray
    assert host.tolist() == [[1.5, 2.5]]


def test_copy_is_another_array(backend: Backend) -> None:
    x = backend.asarray(np.ones(3))
    y = backend.copy(x)
    y[...] = backend.zeros((3,))
    assert backend.to_numpy(x).tolist() == [1, 1, 1]


def test_a_recorded_step_does_what_the_step_does(backend: Backend) -> None:
    rows, out = backend.asarray(np.arange(12.0).reshape(6, 2)), backend.zeros((2, 2))

    def take(numbers: StepNumbers, count: int) -> None:
        backend.take_rows(rows, None, numbers.start, count, out=out)

    step = backend.record(take)
    for start in (0, 2, 4, 2, 0):
        step(StepNumbers(start, 0, 1, 0.5), 2)
        backend.synchronize()
        assert backend.to_numpy(out).ravel().tolist() == [2 * start, 2 * start + 1, 2 * start + 2, 2 * start + 3]


@pytest.mark.parametrize("rates", [0.5, (0.5, 0.25, 0.125, 1.0)])
def test_a_recorded_step_is_made_several_times_in_one_call(backend: Backend, rates: Any) -> None:
    """Each time with the numbers of the next step, its own learning rate among them."""
    rows, batch, sums = backend.asarray(np.arange(24.0).reshape(12, 2)), backend.zeros((2, 2)), backend.zeros((2,))
    moved = backend.zeros((2,))

    def step(numbers: StepNumbers, count: int) -> None:
        x = backend.take_rows(rows, None, numbers.start, count, out=batch)
        backend.column_sum(x, out=sums)
        backend.update("sgd", moved, sums, {}, learning_rate=numbers.learning_rate)

    recorded = backend.record(step)
    expected = np.zeros(2)
    for _ in range(3):
        numbers = StepNumbers(2, 0, 1, rates)
        recorded(numbers, 2, 4)
        recorded(numbers.first(1), 2)
        for each in [*numbers.steps(2, 4), numbers.first(1)]:
            start = int(each.start)
            expected -= each.learning_rate * np.arange(24.0).reshape(12, 2)[start : start + 2].sum(axis=0)
    np.testing.assert_allclose(backend.to_numpy(moved), expected, rtol=1e-6)


def test_repr_names_device_and_dtype(backend: Backend) -> None:
    words = [type(backend).__name__, backend.device.spec, backend.dtype_name, *["reference"] * (not backend.fused)]
    assert repr(backend) == f"<{' '.join(words)}>"


# ---- properties ------------------------------------------------------------------------------------------------------

few = settings(
    deadline=None,
    max_examples=20,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def matrices(largest: float = 50, shape: Any = None) -> st.SearchStrategy[Array]:
    """Of 1 to 6 rows and columns, with numbers that float32 has."""
    sides = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
    numbers = st.floats(-largest, largest, width=32, allow_subnormal=False)
    return hnp.arrays(np.float64, sides if shape is None else shape, elements=numbers)


@few
@given(logits=matrices(), shift=st.floats(-50, 50, width=16))
def test_softmax_rows_sum_to_one_and_ignore_a_shift(backend: Backend, logits: Array, shift: float) -> None:
    y = backend.to_numpy(backend.softmax(backend.asarray(logits)))
    assert (y >= 0).all()
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-4
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=tolerance)
    shifted = backend.to_numpy(backend.softmax(backend.asarray(logits + shift)))
    np.testing.assert_allclose(shifted, y, rtol=0, atol=tolerance)


@few
@given(logits=matrices(), data=st.data())
def test_cross_entropy_is_positive_and_its_gradient_sums_to_zero(
    backend: Backend, logits: Array, data: st.DataObject
) -> None:
    m, n = logits.shape
    labels = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=m, max_size=m)))
    totals, gradient = backend.softmax_cross_entropy(backend.asarray(logits), backend.asarray(labels))
    loss_sum, correct = backend.to_numpy(totals)
    assert loss_sum >= 0
    assert correct == (backend.to_numpy(backend.argmax(backend.asarray(logits))) == labels).sum()
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-5
    np.testing.assert_allclose(backend.to_numpy(gradient).sum(axis=1), 0, atol=tolerance)


# ---- the backends as classes -----------------------------------------------------------------------------------------


def public_methods(cls: type) -> dict[str, Callable[..., Any]]:
    """Its own and those it inherits."""
    return {name: x for name, x in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


@pytest.mark.parametrize(
    "path", ["cpu.numpy_backend.NumpyBackend", "cpu.numba_backend.NumbaBackend", "cuda.cupy_backend.CupyBackend"]
)
def test_overrides_have_the_signature_of_the_base(path: str) -> None:
    if "numba" in path:
        make_backend(("numba", True))
    module, _, name = path.rpartition(".")
    overrides = public_methods(getattr(import_module(f"backends.{module}"), name))
    assert overrides.keys() <= public_methods(Backend).keys()
    for operation, function in overrides.items():
        assert inspect.signature(function) == inspect.signature(getattr(Backend, operation)), operation

"""The check of backends finds those that are right within their bounds, and forgets no operation."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.base import DTYPES
from backends.check import OPERATIONS, Result, check, formulas
from backends.check.calls import ways
from backends.check.cases import MAKERS, WITHOUT_RESULT, Case, cases
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from benchmarks import gpu_record
from tests import proof
from tests.helpers.backends import BACKENDS, backend_params, is_on_gpu, make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler

#: What says with whom a backend computes, and computes nothing; tests/backends/collectives has its tests.
NO_OPERATIONS = {"train_with"}


def operations_of(backend: type[Backend]) -> set[str]:
    """The public operations, its own and those it inherits."""
    methods = inspect.getmembers(backend, inspect.isfunction)
    return {name for name, _ in methods if not name.startswith("_")} - NO_OPERATIONS


#: Operations that have no result that could be checked; one more needs a reason, and a test elsewhere.
UNCHECKED = {"use", "synchronize"}


def assert_right(results: list[Result]) -> None:
    assert {result.operation for result in results} == operations_of(Backend) - UNCHECKED
    assert all(result.cases > 0 for result in results)
    assert {result.operation: result.first_wrong for result in results if result.wrong} == {}
    assert all(result.ratio <= 1 for result in results)


def assert_tried(tried: Collection[gpu_record.Tried]) -> None:
    """Nothing is wrong, and every operation was called."""
    assert {it.operation.split()[0] for it in tried} == operations_of(Backend)
    assert {it.operation: it.first_wrong for it in tried if it.wrong or not it.calls} == {}


def claimed_of(which: tuple[str, bool], dtype: str) -> dict[str, str]:
    """What docs/agreement.md says of the operations of a backend in a dtype."""
    column = proof.heading(which)
    cells = proof.committed().operations
    return {row: proof.of_dtype(cell, dtype) for (row, of), cell in cells.items() if of == column}


@pytest.mark.parametrize("which_backend", backend_params(BACKENDS))
def test_every_operation_of_every_backend_is_within_its_bounds(
    backend: Backend, which_backend: tuple[str, bool]
) -> None:
    """And docs/agreement.md says so, of these operations and no others.

    Each operation of array-api-strict takes ten times as long as NumPy's. Its second device computes the same as the
    first, and refuses more; so on the first there is less to try.
    """
    shown = proof.show(backend, every=64 if which_backend[0] == "array_api_strict" else 16)
    assert_tried(shown.tried)
    if not is_on_gpu(which_backend[0]):  # a GPU is believed by its record alone
        assert claimed_of(which_backend, backend.dtype_name) == shown.cells


@needs_compiler
@pytest.mark.parametrize(
    ("dtype", "every"),
    [("float32", 8), ("float64", 8), *(pytest.param(dtype, 1, marks=pytest.mark.slow) for dtype in DTYPES)],
)
def test_the_cuda_kernels_are_within_their_bounds(dtype: str, every: int) -> None:
    """And docs/agreement.md says so, of these operations and kernels and no others: both dtypes have one text."""
    backend, which = CupyBackend(EmulatedCudaDevice(), dtype), ("cuda", True)
    if every > 1:  # a part of the inputs may not need all kernels
        assert_tried([*gpu_record.try_operations(backend, every=every)])
        return
    shown = proof.show(backend)
    assert_tried(shown.tried)
    record = gpu_record.read()
    assert claimed_of(which, dtype) == {
        operation: proof.with_gpu(cell, record, which, operation, dtype) for operation, cell in shown.cells.items()
    }
    kernels = {name: proof.of_dtype(cell, dtype) for (name, _), cell in proof.committed().kernels.items()}
    assert kernels == proof.kernel_cells(shown.kernels, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_is_within_its_bounds_for_other_seeds(dtype: str) -> None:
    for seed in (1, 2):
        assert_right(check(get_backend("cpu", dtype), seed=seed, every=8))


@pytest.mark.parametrize("every", [30, pytest.param(10, marks=pytest.mark.slow)])
def test_a_device_without_float64(every: int) -> None:
    assert_right(check(make_backend(("array_api_strict:no_float64", False)), every=every))


@pytest.mark.parametrize("every", [40, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spec", ["torch", "array_api_strict:device1"])
def test_two_backends_are_within_both_bounds_of_each_other(spec: str, every: int) -> None:
    for dtype in DTYPES:
        other = make_backend((spec, False), dtype)
        assert_right(check(get_backend("cpu", dtype), against=other, every=every))


def test_backends_of_two_dtypes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="differ in dtype"):
        check(get_backend("cpu", "float64"), against=get_backend("cpu", "float32"))


def test_every_operation_has_cases() -> None:
    """An operation that nobody wrote cases for is noticed here, in the base class and in every backend."""
    assert WITHOUT_RESULT == UNCHECKED
    for backend in (Backend, NumpyBackend, CupyBackend):
        assert operations_of(backend) - UNCHECKED == MAKERS.keys() == set(OPERATIONS)
    fused = get_backend("cpu")
    for operation in MAKERS:
        assert hasattr(formulas(fused), operation)
        for dtype in DTYPES:
            assert {case.operation for case in all_cases(operation, dtype)} == {operation}


def test_an_operation_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "layer_norm", lambda self, x: x, raising=False)
    with pytest.raises(AssertionError):
        test_every_operation_has_cases()
    monkeypatch.undo()
    monkeypatch.delitem(MAKERS, "argmax")
    with pytest.raises(AssertionError):
        test_every_operation_has_cases()
    with pytest.raises(AssertionError):
        assert_right(check(get_backend("cpu"), operations=["copy"]))


def all_cases(operation: str, dtype: str) -> list[Case]:
    with np.errstate(all="ignore"):
        return list(cases(operation, dtype))


def test_every_option_of_an_operation_is_tried() -> None:
    for operation in MAKERS.keys() - {"record"}:
        found = all_cases(operation, "float32")
        tried = {"out" for case in found for way in ways(case) if "out" in way}
        tried |= {name for case in found for name in case.options}
        parameters = inspect.signature(getattr(Backend, operation)).parameters.values()
        optional = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert optional <= tried, operation


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_default_run_has_1250_cases_in_a_dtype(dtype: str) -> None:
    """For at least 10,000 over five backends in two dtypes."""
    calls = sum(min(len(list(ways(case))), 2) for operation in MAKERS for case in all_cases(operation, dtype))
    assert calls >= 1250


def test_the_seed_decides() -> None:
    backend = get_backend("cpu")
    first, again, other = (check(backend, seed=seed, operations=["matmul", "softmax"]) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_errors_between_two_backends_are_told_in_relation_to_the_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those between a backend and the formulas: where terms cancel, the result is small beside them."""
    terms = np.full((5, 1), 2.0**20, np.float32) * np.array([[1], [-1], [1], [-1], [0]], np.float32)
    terms[4] = 2.0**-10
    monkeypatch.setitem(MAKERS, "column_sum", lambda make: iter([("cancelling", (terms,), {})]))
    right = NumpyBackend.column_sum

    def off_by_a_little(self: Any, x: Any, out: Any = None) -> Any:
        out = right(self, x, out=out)
        out[...] += np.float32(2.0**-12)
        return out

    monkeypatch.setattr(NumpyBackend, "column_sum", off_by_a_little)
    strict, cpu = make_backend(("array_api_strict", False)), get_backend("cpu")
    (result,) = check(strict, against=cpu, operations=["column_sum"])
    assert result.error == pytest.approx(2.0**-12 / 2.0**22)
    assert result.worst == "cancelling 5x1"  # the plain way is the usual one, and is not told


def cases_of_ones(count: int) -> Callable[[Any], Any]:
    """Sums of 1, 2, 3, ... ones."""
    return lambda make: iter([(f"case {n}", (np.ones((n, 1), make.dtype),), {}) for n in range(1, count + 1)])


def test_what_is_told_of_an_operation_is_the_worst_and_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of n ones may be off by (n - 1) u n; here the third one is off by much, and the fourth by more."""
    monkeypatch.setitem(MAKERS, "column_sum", cases_of_ones(5))
    right, off = NumpyBackend.column_sum, {2: 1e-16, 3: 0.25, 4: 2.0}

    def wrong(self: Any, x: Any, out: Any = None) -> Any:
        out = right(self, x, out=out)
        out[...] += off.get(len(x), 0.0)
        return out

    monkeypatch.setattr(NumpyBackend, "column_sum", wrong)
    backend = get_backend("cpu", "float64")
    (result,) = check(backend, operations=["column_sum"])
    assert (result.operation, result.dtype, result.cases) == ("column_sum", "float64", 10)
    assert result.error == pytest.approx(0.5)
    assert result.ratio == pytest.approx(2.0 / (3 * 2.0**-53 * 4), rel=1e-3)
    assert result.worst == "case 4 4x1"
    assert (result.wrong, result.verdict) == (4, "WRONG in 4")
    assert result.first_wrong.startswith("case 3 3x1: got 3.25 instead of 3 +- ")
    (odd,) = check(backend, operations=["column_sum"], every=2)
    assert (odd.cases, odd.wrong, odd.worst) == (6, 2, "case 3 3x1")
    (none,) = check(backend, operations=["column_sum"], every=5)
    assert (none.cases, none.wrong, none.ratio, none.worst, none.verdict) == (2, 0, 0.0, "", "ok")


def test_each_case_is_called_plainly_and_in_one_other_way_that_the_seed_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKERS, "column_sum", cases_of_ones(40))
    module, calls = sys.modules["backends.check.check"], []
    perform = module.perform

    def seen(backend: Backend, case: Case, way: str) -> Any:
        calls.append((case.name.split()[1], way))
        return perform(backend, case, way)

    monkeypatch.setattr(module, "perform", seen)
    drawn = []
    for seed in (0, 0, 1):
        calls.clear()
        (result,) = check(get_backend("cpu"), seed, operations=["column_sum"])
        assert result.cases == len(calls)
        assert [name for name, way in calls if way == "plain"] == [str(n) for n in range(1, 41)]
        others = {name: way for name, way in calls if way != "plain"}
        assert len(calls) == 40 + len(others)
        drawn.append(others)
    assert drawn[0] == drawn[1] != drawn[2]
    one = next(iter(cases("column_sum", "float32")))
    assert set(drawn[0].values()) >= {"transposed", "strided", "read-only", "into out", "into strided out"}
    assert set(drawn[0].values()) <= {*ways(dataclasses.replace(one, inputs=(np.ones((3, 1), "f4"),)))}


def test_what_another_backend_leaves_in_new_memory_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyBackend, "empty", lambda self, shape, dtype=None: np.full(shape, 7, dtype or self.dtype))
    (result,) = check(make_backend(("array_api_strict", False)), against=get_backend("cpu"), operations=["empty"])
    assert (result.wrong, result.first_wrong) == (0, "")

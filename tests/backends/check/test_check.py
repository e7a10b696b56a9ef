"""The check of backends finds those that are right within their bounds, and names what is wrong."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backends import Backend, get_backend
from backends.__main__ import main
from backends.base import DTYPES
from backends.check import OPERATIONS, Result, check, compare, expected_of, formulas, namespace
from backends.check.bounds import Arithmetic, Bounded, Wide
from backends.check.calls import ways
from backends.check.cases import MAKERS, WITHOUT_RESULT, Case, cases
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from backends.updates import RULES
from benchmarks import gpu_record
from tests import proof
from tests.helpers.backends import BACKENDS, backend_params, is_on_gpu, make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, str]:
    """The exit code, and what was printed and complained about."""
    try:
        code: Any = main(flags)
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


# ---- backends that are right -----------------------------------------------------------------------------------------


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


def assert_shown(shown: proof.Shown) -> None:
    """Nothing is wrong, and every operation was called."""
    assert {it.operation.split()[0] for it in shown.tried} == operations_of(Backend)
    assert {it.operation: it.first_wrong for it in shown.tried if it.wrong or not it.calls} == {}


def claimed_of(which: tuple[str, bool], dtype: str) -> dict[str, str]:
    """What docs/agreement.md says of the operations of a backend in a dtype."""
    column = proof.heading(which)
    cells = proof.committed().operations
    return {row: proof.of_dtype(cell, dtype) for (row, of), cell in cells.items() if of == column}


@pytest.mark.parametrize("which_backend", backend_params(BACKENDS))
def test_every_operation_of_every_backend_is_within_its_bounds(
    backend: Backend, which_backend: tuple[str, bool]
) -> None:
    """And docs/agreement.md says so, of these operations and no others."""
    shown = proof.show(backend, every=8)
    assert_shown(shown)
    if not is_on_gpu(which_backend[0]):  # a GPU is believed by its record alone
        assert claimed_of(which_backend, backend.dtype_name) == shown.cells


@needs_compiler
@pytest.mark.parametrize(
    ("dtype", "every"),
    [("float32", 4), ("float64", 4), *(pytest.param(dtype, 1, marks=pytest.mark.slow) for dtype in DTYPES)],
)
def test_the_cuda_kernels_are_within_their_bounds(dtype: str, every: int) -> None:
    """And docs/agreement.md says so, of these operations and kernels and no others: both dtypes have one text."""
    shown, which = proof.show(CupyBackend(EmulatedCudaDevice(), dtype), every), ("cuda", True)
    assert_shown(shown)
    if every > 1:  # a part of the inputs may not need all kernels
        return
    record = gpu_record.read()
    assert claimed_of(which, dtype) == {
        operation: proof.with_gpu(cell, record, which, operation, dtype) for operation, cell in shown.cells.items()
    }
    kernels = {name: proof.of_dtype(cell, dtype) for (name, _), cell in proof.committed().kernels.items()}
    assert kernels == proof.kernel_cells(shown.kernels, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_is_within_its_bounds_for_other_seeds(dtype: str) -> None:
    for seed in (1, 2):
        assert_right(check(get_backend("cpu", dtype), seed=seed, every=8))


def test_a_device_without_float64() -> None:
    assert_right(check(make_backend(("array_api_strict:no_float64", False)), every=10))


@pytest.mark.parametrize("spec", ["torch", "array_api_strict:device1"])
def test_two_backends_are_within_both_bounds_of_each_other(spec: str) -> None:
    for dtype in DTYPES:
        other = make_backend((spec, False), dtype)
        assert_right(check(get_backend("cpu", dtype), against=other, every=10))


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


# ---- backends that are wrong -----------------------------------------------------------------------------------------

Operation = Callable[..., Any]


def wrong_sign(right: Operation, self: Backend, dy: Any, y: Any, activation: str = "identity", **options: Any) -> Any:
    dz, sums = right(self, dy, y, activation, **options)
    if activation == "tanh":
        dz[...] = -dz
    return dz, sums


def missing_factor(right: Operation, self: Backend, outputs: Any, targets: Any, **options: Any) -> Any:
    totals, gradient = right(self, outputs, targets, **options)
    if gradient is not None:
        gradient *= 0.5
    return totals, gradient


def half_precision(right: Operation, self: Backend, a: Any, b: Any, **options: Any) -> Any:
    return right(self, a.astype(np.float16).astype(a.dtype), b, **options)


def accumulated_in_float32(right: Operation, self: Backend, a: Any, b: Any, **options: Any) -> Any:
    if options:
        return right(self, a, b, **options)
    return (a.astype(np.float32) @ b.astype(np.float32)).astype(a.dtype)


def loses_more_the_deeper(right: Operation, self: Backend, a: Any, b: Any, **options: Any) -> Any:
    """As one accumulator rounded four times as coarsely would: an error of 4 K u at most, right for small K."""
    result = right(self, a, b, **options)
    if a.shape[1] > 1000:
        result *= 1 + 4 * a.shape[1] * np.finfo(a.dtype).eps
    return result


def last_row_forgotten(right: Operation, self: Backend, x: Any, **options: Any) -> Any:
    return right(self, x[:-1] if len(x) > 100 else x, **options)


def one_row_later(
    right: Operation, self: Backend, rows: Any, order: Any, start: Any, count: int, **options: Any
) -> Any:
    moves = isinstance(start, int) and start + count < len(rows) and options.get("scale") is None
    return right(self, rows, order, start + 1 if moves else start, count, **options)


def no_correction(right: Operation, self: Backend, rule: str, *buffers: Any, number: Any = 1, **options: Any) -> Any:
    return right(self, rule, *buffers, number=10**9 if rule == "adam" else number, **options)


def plain_momentum(right: Operation, self: Backend, *buffers: Any, nesterov: bool = False, **options: Any) -> Any:
    return right(self, *buffers, **options)


def state_copied(right: Operation, self: Backend, rule: str, params: Any, gradient: Any, state: Any, **kw: Any) -> Any:
    return right(self, rule, params, gradient, {name: x.copy() for name, x in state.items()}, **kw)


def float32_sum(right: Operation, self: Backend, x: Any) -> Any:
    return np.float64(np.sum((x * x).astype(np.float32), dtype=np.float32))


def last_of_equal(right: Operation, self: Backend, x: Any) -> Any:
    return x.shape[1] - 1 - right(self, x[:, ::-1])


def last_forgotten(right: Operation, self: Backend, x: Any) -> Any:
    return right(self, x[:-1])


def never_without_dropout(right: Operation, self: Backend, *, rate: float, **options: Any) -> Any:
    return right(self, rate=max(rate, 0.01), **options)


def minus_zero_lost(right: Operation, self: Backend, x: Any, **options: Any) -> Any:
    return right(self, x + 0.0, **options)


def flushed(right: Operation, self: Backend, a: Any, b: Any, **options: Any) -> Any:
    result = right(self, a, b, **options)
    result[np.abs(result) < np.finfo(result.dtype).tiny] = 0
    return result


def not_written(right: Operation, self: Backend, logits: Any, *, out: Any = None) -> Any:
    return right(self, logits.copy())


def input_changed(right: Operation, self: Backend, dy: Any, y: Any, **options: Any) -> Any:
    result = right(self, dy, y, **options)
    y *= 2
    return result


def nan_swallowed(right: Operation, self: Backend, z: Any, bias: Any, activation: str = "identity", **kw: Any) -> Any:
    result = right(self, z, bias, activation, **kw)
    return np.nan_to_num(result, copy=False) if activation == "relu" else result


def maximum_not_subtracted(right: Operation, self: Backend, logits: Any, *, out: Any = None) -> Any:
    e = np.exp(logits)
    return np.divide(e, e.sum(axis=1, keepdims=True), out=out)


def wrong_dtype(right: Operation, self: Backend, a: Any, b: Any, **options: Any) -> Any:
    return right(self, a, b, **options).astype(np.float16)


def raising(right: Operation, self: Backend, x: Any, **options: Any) -> Any:
    if len(x) > 1000:
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED\nand more")
    return right(self, x, **options)


def z_without_bias(
    right: Operation, self: Backend, z: Any, bias: Any, activation: str = "identity", *, z_out: Any = None, **kw: Any
) -> Any:
    y = right(self, z, bias, activation, z_out=z_out, **kw)
    if z_out is not None and bias is not None:
        z_out -= bias
    return y


def count_without_weights(right: Operation, self: Backend, logits: Any, labels: Any, **options: Any) -> Any:
    counted, _ = right(self, logits.copy(), labels, gradient=False)
    totals, gradient = right(self, logits, labels, **options)
    if options.get("weights") is not None and options.get("totals") is None:
        totals[1] = counted[1]
    return totals, gradient


def gradient_without_weights(right: Operation, self: Backend, *arrays: Any, weights: Any = None, **options: Any) -> Any:
    _, gradient = right(self, *(x.copy() for x in arrays), **{**options, "totals": None, "losses": None})
    return right(self, *arrays, weights=weights, **{**options, "out": None})[0], gradient


def losses_with_weights(right: Operation, self: Backend, *arrays: Any, losses: Any = None, **options: Any) -> Any:
    results = right(self, *arrays, losses=losses, **options)
    if losses is not None and options.get("weights") is not None:
        losses *= options["weights"]
    return results


def out_is_read(
    right: Operation, self: Backend, a: Any, b: Any, *, out: Any = None, beta: float = 0.0, **kw: Any
) -> Any:
    return right(self, a, b, **kw) if out is None else right(self, a, b, out=out, beta=beta or 1e-30, **kw)


def one_more_decayed(right: Operation, self: Backend, *buffers: Any, n_decayed: int = 0, **options: Any) -> Any:
    return right(self, *buffers, n_decayed=n_decayed + 1 if n_decayed else 0, **options)


def gaps_forgotten(right: Operation, self: Backend, a: Any, b: Any, *, out: Any = None) -> Any:
    result = right(self, a, b)
    if out is None:
        return result
    np.lib.stride_tricks.as_strided(out, result.shape, result.strides)[...] = result
    return out


def rows_by_their_position(right: Operation, self: Backend, rows: Any, width: int, **options: Any) -> Any:
    return right(self, np.arange(len(rows)), width, **options)


def x_for_y(right: Operation, self: Backend, x: Any, maps: Any, fields: Any = None, **options: Any) -> Any:
    return right(self, x, maps, None if fields is None else fields[:, ::-1], **options)


#: operation, the fault, and words that must stand beneath the operation's line.
FAULTS: list[tuple[str, Operation, str]] = [
    ("bias_activation_backward", wrong_sign, "activation=tanh"),
    ("squared_error", missing_factor, "random 1x1 1x1"),
    ("matmul", half_precision, "random"),
    ("matmul", accumulated_in_float32, "random"),
    ("matmul", loses_more_the_deeper, "1031x4"),
    ("column_sum", last_row_forgotten, "128x10"),
    ("take_rows", one_row_later, "instead of exactly"),
    ("update", no_correction, "number=1"),
    ("update", plain_momentum, "nesterov=True"),
    ("update", state_copied, "random sgd 1 1"),
    ("sum_of_squares", float32_sum, "random"),
    ("argmax", last_of_equal, "instead of exactly"),
    ("all_finite", last_forgotten, "got np.True_ instead of exactly np.False_"),
    ("dropout_mask", never_without_dropout, "rate=0.0"),
    ("copy", minus_zero_lost, "got np.float64(0.0) instead of exactly np.float64(-0.0)"),
    ("multiply", flushed, "denormals"),
    ("softmax", not_written, "out does not hold the result"),
    ("softmax_backward", input_changed, "argument 1 was changed"),
    ("bias_activation", nan_swallowed, "instead of inf"),
    ("softmax", maximum_not_subtracted, "equal 3x5"),
    ("multiply", wrong_dtype, "got float16 (1, 1) instead of float64 (1, 1)"),
    ("bias_activation", z_without_bias, "activation=identity"),
    ("softmax_cross_entropy", count_without_weights, "random"),
    ("squared_error", gradient_without_weights, "random"),
    ("binary_cross_entropy", losses_with_weights, "random"),
    ("matmul", out_is_read, "out: got nan"),
    ("update", one_more_decayed, "weight_decay="),
    ("multiply", gaps_forgotten, "into strided out"),
    ("random_rows", rows_by_their_position, "instead of exactly"),
    ("warp", x_for_y, "displaced"),
    ("column_sum", raising, "RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED\n"),
]


@pytest.mark.parametrize(("operation", "fault", "words"), FAULTS, ids=[f"{o}-{f.__name__}" for o, f, _ in FAULTS])
def test_a_planted_fault_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, operation: str, fault: Operation, words: str
) -> None:
    right = getattr(NumpyBackend, operation)
    monkeypatch.setattr(NumpyBackend, "record", Backend.record)  # what a fault computes is no operation
    monkeypatch.setattr(NumpyBackend, operation, lambda self, *args, **options: fault(right, self, *args, **options))
    others = ("to_numpy",)
    code, out, err = run(capsys, "check", "--device", "cpu", "--dtype", "float64", "--operation", operation, *others)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    (index,) = [number for number, line in enumerate(lines) if line.startswith(f"  {operation} ")]
    assert "WRONG in " in lines[index]
    assert words.rstrip("\n") in lines[index + 1]
    assert sum("WRONG" in line for line in lines) == 1
    assert lines[-1].endswith(f"out of bounds, in {operation}")


def test_the_other_side_may_be_the_one_that_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NumpyBackend, "column_sum", lambda self, x, out=None: x[0])
    flags = ("--device", "array_api_strict", "--against", "cpu", "--operation", "column_sum")
    code, out, _ = run(capsys, "check", *flags)
    assert code == 1
    assert "array_api_strict, reference operations, against cpu: " in out
    assert "column_sum                float32" in out


@pytest.mark.parametrize(("message", "said"), [("one line", "one line"), ("first\nand more", "first")])
def test_an_error_of_the_other_side_is_named_by_its_first_line(
    monkeypatch: pytest.MonkeyPatch, message: str, said: str
) -> None:
    def fails(self: Backend, x: Any, **options: Any) -> Any:
        raise RuntimeError(message)

    monkeypatch.setattr(NumpyBackend, "column_sum", fails)
    other = get_backend("cpu", "float64")
    (result,) = check(make_backend(("array_api_strict", False), "float64"), against=other, operations=["column_sum"])
    assert result.wrong == result.cases
    assert result.first_wrong.endswith(f": {other!r}: RuntimeError: {said}")


EXACT = np.array([[1.0, -0.0], [np.nan, 2.0]])
#: What is found, what is expected, and what is said of it; "" where it is right.
COMPARED: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], str]] = {
    "equal": ((EXACT.copy(), None), (EXACT, None), ""),
    "too few": ((EXACT,), (EXACT, None), "1 results instead of 2"),
    "one too many": ((EXACT, EXACT), (EXACT, None), "a result where there should be none"),
    "none": ((None,), (EXACT,), "got NoneType instead of float64 (2, 2)"),
    "another dtype": ((EXACT.astype("f4"),), (EXACT,), "got float32 (2, 2) instead of float64 (2, 2)"),
    "another shape": ((EXACT[0],), (EXACT,), "got float64 (2,) instead of float64 (2, 2)"),
    "another number": (
        (np.add(EXACT, [[0.0, 0.0], [0.0, 1.0]]),), (EXACT,),
        "got np.float64(0.0) instead of exactly np.float64(-0.0) at (0, 1)",
    ),
    "two that are wrong": (
        (np.array([3]), np.array(True)), (np.array([4]), np.array(False)),
        "got np.int64(3) instead of exactly np.int64(4) at (0,); "
        "got np.True_ instead of exactly np.False_ at ()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_what_must_be_equal_is_compared_bit_for_bit(name: str) -> None:
    found, expected, complaint = COMPARED[name]
    outcome = compare(found, expected)
    wrong = np.inf if complaint else 0.0
    assert (outcome.error, outcome.ratio, outcome.complaint) == (wrong, wrong, complaint)


def test_what_is_out_of_its_bound_is_told_with_the_bound() -> None:
    rule = Arithmetic("float64")
    value, error = np.array([[1.0, 2.0], [4.0, 8.0]], Wide), np.array([[0.1, 0.1], [0.5, 0.5]], Wide)
    found = np.array([[1.05, 2.1], [4.0, 9.0]])
    outcome = compare((found,), (Bounded(rule, value, error),))
    assert [outcome.error, outcome.ratio] == pytest.approx([0.125, 2.0])
    assert outcome.complaint == "got 9 instead of 8 +- 0.5 at (1, 1)"
    within = compare((np.array([[1.05, 2.0], [4.0, 8.25]]),), (Bounded(rule, value, error),))
    assert [within.error, within.ratio] == pytest.approx([0.05, 0.5])
    assert within.complaint == ""
    number = compare((np.array(3.0),), (Bounded(rule, np.array(1.0, Wide), np.array(0.5, Wide)),))
    assert (number.ratio, number.complaint) == (4.0, "got 3 instead of 1 +- 0.5")


# ---- the bounds themselves -------------------------------------------------------------------------------------------


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

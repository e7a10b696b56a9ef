"""The check names what is wrong: faults that are planted into a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.__main__ import main
from backends.check import check, compare
from backends.check.bounds import Arithmetic, Bounded, Wide
from backends.cpu.numpy_backend import NumpyBackend
from tests.helpers.backends import make_backend


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, str]:
    """The exit code, and what was printed and complained about."""
    try:
        code: Any = main(flags)
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


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

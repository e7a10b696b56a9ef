"""Every operation of every backend against the plain formula, in float64 NumPy.

``Textbook`` holds the formulas, under the names of the operations. ``CASES`` is the table of inputs: each is computed
with inputs of several memory layouts, with ``out``, with ``out`` in place of an input, and with NaN and infinities.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backends import Backend, StepNumbers, get_backend, random
from tests.helpers.backends import make_backend

Array = Any
NAN, INF = float("nan"), float("inf")

#: name: f(z), and f'(z) in terms of y = f(z).
ACTIVATION_FORMULAS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, lambda y: np.ones_like(y)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda y: y * (1 - y)),
    "tanh": (lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)), lambda y: 1 - y**2),
    "relu": (lambda z: np.where(z > 0, z, 0.0), lambda y: np.where(y > 0, 1.0, 0.0)),
}


def first_largest(row: Array) -> int:
    values: list[float] = row.tolist()
    return values.index(max(values))


class Textbook:
    """The formulas: NumPy arrays in, NumPy arrays out, nothing clever."""

    @staticmethod
    def matmul(
        a: Array,
        b: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1,
        beta: float = 0,
        **kw: Array,
    ) -> Array:
        product = alpha * np.einsum("ij,jk->ik", a.T if transpose_a else a, b.T if transpose_b else b)
        return product + beta * kw["out"] if beta else product

    @staticmethod
    def bias_activation(z: Array, bias: Array | None, activation: str = "identity") -> Array:
        return ACTIVATION_FORMULAS[activation][0](z if bias is None else z + bias)

    @staticmethod
    def bias_activation_backward(
        dy: Array, y: Array, activation: str = "identity", bias_gradient: Array | None = None
    ) -> tuple[Array, Array | None]:
        dz = dy * ACTIVATION_FORMULAS[activation][1](y)
        return dz, None if bias_gradient is None else dz.sum(axis=0)

    @staticmethod
    def column_sum(x: Array) -> Array:
        return x.sum(axis=0)

    @staticmethod
    def multiply(a: Array, b: Array) -> Array:
        return a * b

    @staticmethod
    def softmax(logits: Array) -> Array:
        e = np.exp(logits)
        return e / e.sum(axis=1, keepdims=True)

    @staticmethod
    def softmax_backward(dy: Array, y: Array) -> Array:
        jacobians = [np.diag(row) - np.outer(row, row) for row in y]
        return np.array([jacobian @ d for jacobian, d in zip(jacobians, dy, strict=True)]).reshape(dy.shape)

    @staticmethod
    def softmax_cross_entropy(logits: Array, labels: Array, **options: Any) -> tuple[Array, Array | None]:
        p = Textbook.softmax(logits)
        onehot = np.eye(logits.shape[1])[labels]
        losses = -np.log(p[np.arange(len(p)), labels])
        right = [first_largest(row) == label for row, label in zip(logits, labels, strict=True)]
        return loss_results(losses, right, p - onehot, **options)

    @staticmethod
    def binary_cross_entropy(logits: Array, targets: Array, **options: Any) -> tuple[Array, Array | None]:
        p = 1 / (1 + np.exp(-logits))
        losses = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(axis=1)
        right = [all((z > 0) == (t > 0.5)) for z, t in zip(logits, targets, strict=True)]
        return loss_results(losses, right, (p - targets) / logits.shape[1], **options)

    @staticmethod
    def squared_error(outputs: Array, targets: Array, **options: Any) -> tuple[Array, Array | None]:
        n = outputs.shape[1]
        place = first_largest if n > 1 else (lambda row: row[0] > 0.5)
        right = [place(o) == place(t) for o, t in zip(outputs, targets, strict=True)]
        losses = ((outputs - targets) ** 2).mean(axis=1)
        return loss_results(losses, right, 2 * (outputs - targets) / n, **options)

    @staticmethod
    def argmax(x: Array) -> Array:
        return np.array([first_largest(row) for row in x], dtype=np.int64)

    @staticmethod
    def sum_of_squares(x: Array) -> Array:
        return (x**2).sum()

    @staticmethod
    def all_finite(x: Array) -> Array:
        return np.array(all(math.isfinite(value) for value in x))

    @staticmethod
    def take_rows(
        rows: Array, order: Array | None, start: Any, count: int, scale: float | None = None, shift: float = 0
    ) -> Array:
        order = np.arange(len(rows)) if order is None else order
        taken = rows[order[int(np.ravel(start)[0]) :][:count]]
        return taken if scale is None else taken.astype(np.float64) * scale + shift

    @staticmethod
    def dropout_mask(shape: tuple[int, ...], rate: float, key: tuple[int, int], step: Any) -> Array:
        bits = [random.mask_bits(element, key, int(np.ravel(step)[0])) for element in range(math.prod(shape))]
        return np.array([0.0 if word < rate * 2**32 else 1 / (1 - rate) for word in bits]).reshape(shape)

    @staticmethod
    def copy(x: Array) -> Array:
        return x


def loss_results(
    losses: Array,
    right: list[Any],
    gradient_of_sum: Array,
    gradient: bool = True,
    scale: float | None = None,
    totals: Array | None = None,
) -> tuple[Array, Array | None]:
    factor = 1 / max(len(losses), 1) if scale is None else scale
    sums = np.array([losses.sum(), sum(right)], dtype=np.float64)
    return sums if totals is None else sums + totals, gradient_of_sum * factor if gradient else None


@dataclass(frozen=True)
class Case:
    """Inputs of an operation. ``options`` go to the operation (arrays as arrays of the backend) and to the formula."""

    operation: str
    inputs: tuple[Array | None, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = [None if x is None else x.shape for x in self.inputs]
        return f"{self.operation} of {shapes} with {self.options}"


#: Operations that add up many numbers, for which float32 is allowed more.
ADDING = {"matmul", "bias_activation_backward", "column_sum", "sum_of_squares"}
#: Operations with a loss or a sum of dtype ``wide`` as first result, and the losses, whose ``out`` is the second.
LOSSES = dict.fromkeys(("softmax_cross_entropy", "binary_cross_entropy", "squared_error")).keys()  # in a fixed order
WIDE = LOSSES | {"sum_of_squares"}
#: Which inputs ``out`` may be.
MAY_BE_OUT = {
    "bias_activation": (0,),
    "bias_activation_backward": (0,),
    "multiply": (0, 1),
    "softmax": (0,),
    "softmax_backward": (0,),
    **dict.fromkeys(LOSSES, (0,)),
}


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(20)

    def values(*shape: int) -> Array:
        return rng.uniform(-3, 3, shape)

    def probabilities(*shape: int) -> Array:
        return rng.uniform(0, 1, shape)

    for m, k, n in ((5, 4, 3), (1, 4, 3), (0, 4, 3), (5, 0, 3), (5, 4, 1), (40, 300, 20)):
        yield Case("matmul", (values(m, k), values(k, n)))
    yield Case("matmul", (values(4, 5), values(4, 3)), {"transpose_a": True})
    yield Case("matmul", (values(5, 4), values(3, 4)), {"transpose_b": True, "alpha": -0.5})
    yield Case("matmul", (values(4, 5), values(3, 4)), {"transpose_a": True, "transpose_b": True, "alpha": 2.0})
    for alpha, beta, k in ((1.0, 1.0, 4), (-2.0, 0.5, 4), (1.0, 0.5, 0)):
        yield Case("matmul", (values(5, k), values(k, 3)), {"alpha": alpha, "beta": beta, "out": values(5, 3)})

    tiny = np.array([[0.0, -0.0, 1e-40, -1e-40], [5e-324, -5e-324, 1e-300, 30.0]])
    for name, (function, _) in ACTIVATION_FORMULAS.items():
        for z in (values(6, 4), values(1, 1), values(0, 4), values(3, 0), tiny):
            bias = values(z.shape[1])
            yield Case("bias_activation", (z, bias), {"activation": name})
            yield Case("bias_activation", (z, None), {"activation": name})
            backward = (values(*z.shape), function(z + bias))
            yield Case("bias_activation_backward", backward, {"activation": name})
            yield Case(
                "bias_activation_backward", backward, {"activation": name, "bias_gradient": np.full_like(bias, NAN)}
            )

    for shape in ((7, 4), (1, 1), (0, 4), (3, 0), (3000, 3)):
        yield Case("column_sum", (values(*shape),))
    for shape in ((7, 4), (0, 4), (3, 0)):
        yield Case("multiply", (values(*shape), values(*shape)))
        yield Case("copy", (values(*shape),))
    yield Case("multiply", (tiny, tiny[:, ::-1].copy()))
    for shape in ((7, 4), (1, 10), (4, 1), (0, 4), (2, 300)):
        logits = values(*shape)
        yield Case("softmax", (logits,))
        yield Case("softmax_backward", (values(*shape), Textbook.softmax(logits)))
        yield Case("argmax", (logits,))
        yield Case("softmax_cross_entropy", (logits, rng.integers(0, shape[1], shape[0])))
        yield Case("binary_cross_entropy", (logits, probabilities(*shape)))
        yield Case("squared_error", (probabilities(*shape), probabilities(*shape)))

    ties = np.array([[2.0, 2.0, 1.0], [0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, -0.0, -1.0], [-0.0, 0.0, -1.0]])
    yield Case("argmax", (ties,))
    yield Case("squared_error", (ties, ties[::-1].copy()))
    for label in range(3):  # the first and the last column among them
        yield Case("softmax_cross_entropy", (ties, np.full(5, label)))
    yield Case("softmax_cross_entropy", (ties, np.array([2, 0, 1, 2, 0], dtype=np.int32)))
    yield Case("softmax_cross_entropy", (ties, np.array([2, 0, 1, 2, 0], dtype=np.uint8)))
    yield Case("binary_cross_entropy", (ties - 1, np.tile([0.0, 1.0, 0.5], (5, 1))))
    for options in ({"gradient": False}, {"scale": 0.25}, {"scale": 0.0}, {"totals": np.array([10.0, 3.0])}):
        yield Case("softmax_cross_entropy", (values(6, 4), rng.integers(0, 4, 6)), options)
        yield Case("binary_cross_entropy", (values(6, 4), probabilities(6, 4)), options)
        yield Case("squared_error", (values(6, 4), values(6, 4)), options)

    for size in (0, 1, 50, 5000):
        yield Case("sum_of_squares", (values(size),))
        yield Case("all_finite", (values(size),))
    for bad in (NAN, INF, -INF):
        yield Case("all_finite", (np.array([0.0, bad, 1.0]),))
        yield Case("all_finite", (np.array([*values(5000), bad]),))

    order = rng.permutation(9)
    images = rng.integers(0, 256, (9, 2, 3), dtype=np.uint8)
    for rows in (images, images.reshape(9, 6), values(9, 5), np.arange(9), np.arange(9.0)):
        for way in (None, order):
            for start in (0, 4, np.array([4])):
                yield Case("take_rows", (rows, way), {"start": start, "count": 5})
                yield Case("take_rows", (rows, way), {"start": start, "count": 5, "scale": 1 / 255, "shift": -0.5})
    yield Case("take_rows", (images, order), {"start": 0, "count": 9, "scale": 1.0})
    yield Case("take_rows", (images, order), {"start": 3, "count": 0, "scale": 1.0})

    for mask_shape in [(3, 5), (1,), (0, 4), (2, 3, 4), (40, 30)]:
        for step in (0, 2**31 + 7, np.array([5])):
            yield Case("dropout_mask", (), {"shape": mask_shape, "rate": 0.4, "key": (7, 2**32 - 1), "step": step})
    yield Case("dropout_mask", (), {"shape": (4, 4), "rate": 0.0, "key": (1, 2), "step": 3})


CASES = list(cases())
#: Public methods without an entry in CASES: tested in functions of their own below, or (asarray) in test_devices.py.
TESTED_APART = {"asarray", "empty", "item", "record", "update"}
TESTED_APART |= {"synchronize", "to_numpy", "use", "zeros"}


# ---- helpers ---------------------------------------------------------------------------------------------------------


def plain(backend: Backend, x: Array) -> Array:
    return backend.asarray(x.copy())


def transposed(backend: Backend, x: Array) -> Array:
    return backend.asarray(x.T.copy()).T if x.ndim == 2 else strided(backend, x)


def strided(backend: Backend, x: Array) -> Array:
    return backend.asarray(np.repeat(x, 2, axis=-1))[..., ::2]


def read_only(backend: Backend, x: Array) -> Array:
    locked = np.array(x, dtype=backend.dtype_name if x.dtype.kind == "f" else None)
    locked.flags.writeable = False
    return backend.asarray(locked)


Layout = Callable[[Backend, Array], Array]


def rounded(x: Any, dtype: str) -> Any:
    """``x``, its floats rounded to ``dtype``, in float64: what the formula gets."""
    return x.astype(dtype).astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def expected_of(case: Case, dtype: str) -> tuple[Any, ...]:
    inputs = [rounded(x, dtype) for x in case.inputs]
    options = {name: rounded(value, dtype) for name, value in case.options.items()}
    return as_tuple(getattr(Textbook, case.operation)(*inputs, **options))


def run(backend: Backend, case: Case, inputs: list[Array], **more: Array) -> tuple[Any, ...]:
    """The results of the operation."""
    options = {
        name: backend.asarray(value.copy(), backend.wide if name == "totals" else None)
        if isinstance(value, np.ndarray)
        else value
        for name, value in case.options.items()
    }
    return as_tuple(getattr(backend, case.operation)(*inputs, **{**options, **more}))


def given_to(backend: Backend, case: Case, layout: Layout = plain) -> list[Array]:
    return [None if x is None else layout(backend, x) for x in case.inputs]


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def check(backend: Backend, case: Case, results: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Shapes, dtypes and values."""
    for place, (result, value) in enumerate(zip(results, expected, strict=True)):
        if value is None:
            assert result is None
            continue
        host = backend.to_numpy(result)
        is_float = value.dtype.kind == "f"
        exact = case.operation == "copy" or (case.operation == "take_rows" and "scale" not in case.options)
        wide = place == 0 and case.operation in WIDE
        assert host.dtype == ("float64" if wide else backend.dtype_name if is_float else value.dtype)
        assert host.shape == value.shape
        if exact or not is_float:
            np.testing.assert_array_equal(host, value)
        else:
            compare(backend, host, value, adding=wide or case.operation in ADDING)


def compare(backend: Backend, host: Array, value: Array, adding: bool = False) -> None:
    """Close to 1e-12 in float64 and, in float32, 1e-5 or, for sums of many numbers, 1e-4 of the largest."""
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-4 if adding else 1e-5
    largest = np.max(np.abs(value), where=np.isfinite(value), initial=1.0)
    np.testing.assert_allclose(host, value, rtol=tolerance, atol=tolerance * largest)


# ---- every case ------------------------------------------------------------------------------------------------------

OPERATIONS = sorted({case.operation for case in CASES})
WITH_OUT = [name for name in OPERATIONS if "out" in inspect.signature(getattr(Backend, name)).parameters]


def cases_of(operation: str, *layouts: Layout) -> Iterator[tuple[Case, Layout]]:
    return itertools.product((case for case in CASES if case.operation == operation), layouts)


@contextmanager
def during(case: Case, what: Any) -> Iterator[None]:
    """Names the case in the report of a failure."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{case}, {getattr(what, '__name__', what)}")
        raise


@pytest.mark.parametrize("operation", OPERATIONS)
def test_result_is_that_of_the_formula(backend: Backend, operation: str) -> None:
    for case, layout in cases_of(operation, plain, transposed, strided, read_only):
        with during(case, layout):
            inputs = given_to(backend, case, layout)
            before = [None if x is None else backend.to_numpy(x).copy() for x in inputs]
            check(backend, case, run(backend, case, inputs), expected_of(case, backend.dtype_name))
            for x, value in zip(inputs, before, strict=True):
                if x is not None:
                    np.testing.assert_array_equal(backend.to_numpy(x), value, "an input was changed")


@pytest.mark.parametrize("operation", WITH_OUT)
def test_result_is_in_out(backend: Backend, operation: str) -> None:
    """What ``out`` held before, NaN for one, matters only where beta scales it."""
    place = 1 if operation in LOSSES else 0
    for case, layout in cases_of(operation, plain, transposed, strided):
        with during(case, layout):
            expected = expected_of(case, backend.dtype_name)
            value = np.zeros((2, 2)) if expected[place] is None else expected[place]
            held = case.options.get("out", np.full(value.shape, NAN if value.dtype.kind == "f" else 7, value.dtype))
            out = layout(backend, held)
            results = run(backend, case, given_to(backend, case), out=out)
            check(backend, case, results, expected)
            written = held if expected[place] is None else backend.to_numpy(results[place])
            np.testing.assert_array_equal(backend.to_numpy(out), written)


@pytest.mark.parametrize("operation", MAY_BE_OUT)
def test_out_may_be_an_input(backend: Backend, operation: str) -> None:
    for case, layout in cases_of(operation, plain, transposed):
        for place in MAY_BE_OUT[operation]:
            with during(case, layout):
                inputs = given_to(backend, case, layout)
                results = run(backend, case, inputs, out=inputs[place])
                check(backend, case, results, expected_of(case, backend.dtype_name))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("special", [NAN, INF, -INF])
def test_nan_and_infinities_are_those_of_the_reference(backend: Backend, operation: str, special: float) -> None:
    """One special number in the first input; the reference on NumPy says what comes out."""
    reference = get_backend("cpu", backend.dtype_name, fused=False)
    for case, _ in cases_of(operation, plain):
        first, *others = case.inputs or (None,)
        if first is None or first.size < 2 or first.dtype.kind != "f":
            continue
        spoiled = first.copy()
        spoiled.flat[1] = special
        case = Case(operation, (spoiled, *others), case.options)
        with during(case, special):
            with np.errstate(invalid="ignore"):  # inf - inf; a logarithm of 0 or an overflow still fails
                expected = run(reference, case, given_to(reference, case))
                results = run(backend, case, given_to(backend, case))
            check(backend, case, results, expected)


# ---- products and activations ----------------------------------------------------------------------------------------


def test_matmul_with_beta_needs_out(backend: Backend) -> None:
    one = backend.zeros((1, 1))
    with pytest.raises(ValueError, match="matmul with beta needs the array `out`"):
        backend.matmul(one, one, beta=0.5)


def test_large_arguments_saturate(backend: Backend) -> None:
    z = backend.asarray([[1e4, -1e4, 0.0]])
    for name, y in (("sigmoid", [1, 0, 0.5]), ("tanh", [1, -1, 0]), ("relu", [1e4, 0, 0])):
        np.testing.assert_array_equal(backend.to_numpy(backend.bias_activation(z, None, name)), [y])
    np.testing.assert_array_equal(backend.to_numpy(backend.softmax(z)), [[1, 0, 0]])


def test_denormals_are_kept(backend: Backend) -> None:
    tiny = np.array([[1e-40, -1e-40]] if backend.dtype_name == "float32" else [[5e-324, -5e-324]])
    x, one = backend.asarray(tiny), backend.asarray(np.ones((1, 2)))
    expected = tiny.astype(backend.dtype_name)
    for result in (backend.copy(x), backend.multiply(x, one), backend.bias_activation(x, None)):
        np.testing.assert_array_equal(backend.to_numpy(result), expected)
    relu = backend.bias_activation(x, None, "relu")
    np.testing.assert_array_equal(backend.to_numpy(relu), np.maximum(expected, 0))


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_gradient_is_the_central_difference(backend: Backend, name: str) -> None:
    """Of the mean over the rows, by the formula in float64."""
    rng, h = np.random.default_rng(3), 1e-5
    z = rounded(rng.uniform(-2, 2, (4, 3)), backend.dtype_name)
    targets = (
        rng.integers(0, 3, 4) if name == "softmax_cross_entropy" else rounded(rng.random((4, 3)), backend.dtype_name)
    )
    formula = getattr(Textbook, name)
    expected = np.empty_like(z)
    for i in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i] = h
        expected[i] = (formula(z + step, targets)[0][0] - formula(z - step, targets)[0][0]) / (2 * h) / len(z)
    _, gradient = getattr(backend, name)(backend.asarray(z), backend.asarray(targets))
    tolerance = 1e-9 if backend.dtype_name == "float64" else 1e-6
    np.testing.assert_allclose(backend.to_numpy(gradient), expected, atol=tolerance)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_totals_accumulate_in_place(backend: Backend, name: str) -> None:
    z = backend.asarray([[3.0, -1.0], [0.5, 2.0]])
    targets = backend.asarray([0, 0] if name == "softmax_cross_entropy" else [[1.0, 0.0], [1.0, 0.0]])
    operation = getattr(backend, name)
    first = backend.to_numpy(operation(z, targets)[0])
    assert first[1] == 1
    totals = backend.zeros((2,), backend.wide)
    for times in (1, 2, 3):
        operation(z, targets, totals=totals, gradient=times == 2)
        np.testing.assert_allclose(backend.to_numpy(totals), times * first, rtol=1e-12)


def test_losses_of_large_logits(backend: Backend) -> None:
    z = backend.asarray([[1e4, -1e4, 0.0]] * 3)
    totals, gradient = backend.softmax_cross_entropy(z, backend.asarray([0, 1, 2]), scale=1.0)
    assert backend.to_numpy(totals).tolist() == [3e4, 1]
    assert backend.to_numpy(gradient).tolist() == [[0, 0, 0], [1, -1, 0], [1, 0, -1]]

    targets = backend.asarray([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [1.0, 1.0, 0.5]])
    totals, gradient = backend.binary_cross_entropy(z, targets, scale=3.0)
    compare(backend, backend.to_numpy(totals), np.array([1e4 + math.log(2), 1]))
    assert backend.to_numpy(gradient).tolist() == [[0, 0, 0], [1, -1, 0], [0, -1, 0]]


def test_small_binary_cross_entropy_is_not_lost_in_a_large_logit(backend: Backend) -> None:
    totals, _ = backend.binary_cross_entropy(backend.asarray([[10.0], [-10.0]]), backend.asarray([[1.0], [0.0]]))
    np.testing.assert_allclose(backend.to_numpy(totals), [2 * math.log1p(math.exp(-10)), 2], rtol=1e-6)


def test_a_row_with_nan_is_never_right(backend: Backend) -> None:
    z = backend.asarray([[1.0, NAN], [NAN, 0.0], [NAN, NAN], [2.0, 1.0]])
    zeros, ones = backend.asarray([0] * 4), backend.asarray([1] * 4)
    assert backend.to_numpy(backend.argmax(z)).tolist() == [0, 0, 0, 0]
    for labels, right in ((zeros, 1), (ones, 0)):
        assert backend.to_numpy(backend.softmax_cross_entropy(z, labels)[0])[1] == right
    for targets, right in (([1.0, 0.0], 1), ([0.0, 1.0], 0)):
        assert backend.to_numpy(backend.squared_error(z, backend.asarray([targets] * 4))[0])[1] == right
    assert backend.to_numpy(backend.binary_cross_entropy(z, backend.asarray([[1.0, 1.0]] * 4))[0])[1] == 1
    one_column = backend.asarray([[NAN], [0.0]])
    for loss in (backend.binary_cross_entropy, backend.squared_error):
        assert backend.to_numpy(loss(one_column, backend.zeros((2, 1)))[0])[1] == 1


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


def test_repr_names_device_and_dtype(backend: Backend) -> None:
    text = repr(backend)
    assert backend.device.spec in text
    assert backend.dtype_name in text
    assert ("reference" in text) == (not backend.fused)


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
    compare(backend, y.sum(axis=1), np.ones(len(y)), adding=True)
    shifted = backend.to_numpy(backend.softmax(backend.asarray(logits + shift)))
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-4
    np.testing.assert_allclose(shifted, y, rtol=0, atol=tolerance)


@few
@given(logits=matrices(), data=st.data())
def test_cross_entropy_is_positive_and_its_gradient_sums_to_zero(
    backend: Backend, logits: Array, data: st.DataObject
) -> None:
    m, n = logits.shape
    labels = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=m, max_size=m)))
    totals, gradient = backend.softmax_cross_entropy(backend.asarray(logits), backend.asarray(labels))
    loss_sum, right = backend.to_numpy(totals)
    assert loss_sum >= 0
    assert right == (backend.to_numpy(backend.argmax(backend.asarray(logits))) == labels).sum()
    compare(backend, backend.to_numpy(gradient).sum(axis=1), np.zeros(m))


@few
@given(data=st.data())
def test_take_rows_is_fancy_indexing(backend: Backend, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 8))
    order = np.array(data.draw(st.permutations(range(n))))
    start = data.draw(st.integers(0, n - 1))
    count = data.draw(st.integers(1, n - start))
    rows = np.arange(3 * n, dtype=np.float64).reshape(n, 3)
    taken = backend.take_rows(backend.asarray(rows), backend.asarray(order), start, count)
    np.testing.assert_array_equal(backend.to_numpy(taken), rows[order[start : start + count]])


@few
@given(a=matrices(), n=st.integers(1, 6), data=st.data())
def test_matmul_is_that_of_numpy(backend: Backend, a: Array, n: int, data: st.DataObject) -> None:
    b = data.draw(matrices(shape=(a.shape[1], n)))
    result = backend.matmul(backend.asarray(a), backend.asarray(b))
    compare(backend, backend.to_numpy(result), a @ b, adding=True)


# ---- the backends as classes -----------------------------------------------------------------------------------------


def public_methods(cls: type) -> dict[str, Callable[..., Any]]:
    return {name: x for name, x in vars(cls).items() if inspect.isfunction(x) and not name.startswith("_")}


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


def test_every_operation_is_tested() -> None:
    in_cases = {case.operation for case in CASES}
    assert in_cases.isdisjoint(TESTED_APART)
    assert in_cases | TESTED_APART == public_methods(Backend).keys()

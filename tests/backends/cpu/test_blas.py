"""The BLAS behind NumPy: what its functions compute, and that NumPy does the same without it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from backends import get_backend
from backends.cpu import blas
from backends.cpu.blas import numpy_blas
from backends.cpu.library import file_of_numpy

RNG = np.random.default_rng(0)

needs_blas = pytest.mark.skipif(numpy_blas("float32") is None, reason="NumPy's BLAS cannot be called here")


def drawn(dtype: str, *shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "letter"), [("float32", "s"), ("float64", "d")])
def test_it_is_used_where_numpy_has_it(dtype: str, letter: str) -> None:
    """A mistake in how it is called would make a slower program, and skip the tests below."""
    library = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
    forms = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}")
    if not all(
        any(hasattr(library, form.format(f"{letter}{name}")) for form in forms) for name in ("axpby", "axpy", "gemm")
    ):
        pytest.skip("this NumPy is not linked with a BLAS that has these functions")
    assert numpy_blas(dtype) is not None
    assert numpy_blas(dtype) is numpy_blas(dtype)
    assert get_backend("cpu", dtype).accumulates


@needs_blas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_gemm_is_the_formula(dtype: str, transpose_a: bool, transpose_b: bool) -> None:
    a = drawn(dtype, *((4, 3) if transpose_a else (3, 4)))
    b = drawn(dtype, *((5, 4) if transpose_b else (4, 5)))
    out = drawn(dtype, 3, 5)
    expected = 0.25 * (a.T if transpose_a else a) @ (b.T if transpose_b else b) + 3.0 * out
    library = numpy_blas(dtype)
    assert library is not None
    library.gemm(0.25, a, transpose_a, b, transpose_b, 3.0, out)()
    np.testing.assert_allclose(out, expected, rtol=1e-5 if dtype == "float32" else 1e-13)


@needs_blas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 17, 20_000])
def test_axpby_is_the_formula(dtype: str, size: int) -> None:
    x, y, z = (drawn(dtype, size) for _ in range(3))
    expected_y, expected_z = 0.1 * x + y, 0.1 * x + 0.9 * z
    library = numpy_blas(dtype)
    assert library is not None
    library.axpby(0.1, x, 1.0, y)()
    library.axpby(0.1, x, 0.9, z)()
    np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z, expected_z, rtol=1e-5, atol=1e-6)


@needs_blas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(size=st.integers(0, 90_000), threads=st.integers(1, 4), factor=st.floats(-2, 2, width=32))
def test_subtraction_by_several_threads_has_the_bits_of_one(dtype: str, size: int, threads: int, factor: float) -> None:
    library = numpy_blas(dtype)
    assert library is not None
    rng = np.random.default_rng(size)
    x, y = rng.standard_normal((2, size)).astype(dtype)
    alone, shared, by_one = y.copy(), y.copy(), y.copy()
    library.subtraction(x, alone)(factor)
    with threadpool_limits(threads, "blas"):
        library.subtraction(x, shared, threads)(factor)
        subtract = library.subtraction(x, by_one, threads)
    with threadpool_limits(1, "blas"):
        subtract(factor)
    np.testing.assert_array_equal(shared, alone)
    np.testing.assert_array_equal(by_one, alone)
    np.testing.assert_allclose(alone, y - factor * x, rtol=1e-5, atol=1e-6)


@needs_blas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(sizes=st.lists(st.integers(0, 300), max_size=5), first=st.integers(0, 70))
def test_subtraction_has_the_same_bits_wherever_a_number_is(dtype: str, sizes: list[int], first: int) -> None:
    """A network's parameters may be moved together, or layer by layer."""
    library = numpy_blas(dtype)
    assert library is not None
    x, y = np.random.default_rng(0).standard_normal((2, first + sum(sizes))).astype(dtype)
    together, apart = y.copy(), y.copy()
    library.subtraction(x, together)(0.3)
    for start, size in zip(np.cumsum([0, first, *sizes]), [first, *sizes], strict=False):
        library.subtraction(x[start : start + size], apart[start : start + size])(0.3)
    np.testing.assert_array_equal(apart, together)


@needs_blas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(sizes=st.lists(st.integers(0, 40_000), max_size=4), first=st.integers(0, 70), threads=st.integers(1, 4))
def test_subtraction_in_parts_has_the_same_bits(dtype: str, sizes: list[int], first: int, threads: int) -> None:
    library = numpy_blas(dtype)
    assert library is not None
    x, y = np.random.default_rng(0).standard_normal((2, first + sum(sizes) + 50)).astype(dtype)
    parts = [x[end - size : end].reshape(1, -1) for end, size in zip(first + np.cumsum(sizes), sizes, strict=True)]
    expected = y.copy()
    library.subtraction(x, expected)(0.3)
    with threadpool_limits(threads, "blas"):
        library.subtraction(x, y, threads, [*parts[::-1], np.ones(5, dtype)])(0.3)
    np.testing.assert_array_equal(y, expected)


@needs_blas
def test_each_part_is_shared_by_all_threads() -> None:
    """Each thread of axpy takes an equal part of what it is given."""
    own = WithOwnAxpy(ctypes.CDLL(file_of_numpy()), 16)
    library = blas.Blas(own, "float32")  # type: ignore[arg-type]
    x, y = drawn("float32", 2, 70_003)
    subtract = library.subtraction(x, y, 2, [x[:20_000], x[20_000:60_016]])
    own.sizes.clear()
    subtract(0.3)
    assert own.sizes[:3] == [20_000, 40_000, 9_984]  # multiples of 2 times 16, and what is left: 3 and 16 numbers
    assert sum(own.sizes[3:]) <= 3 * 16
    whole = library.subtraction(x, y, 2)
    own.sizes.clear()
    whole(0.3)
    assert own.sizes[0] == 69_984


class WithOwnAxpy:
    """NumPy's library with an axpy that computes some numbers of a vector with two roundings, others with one: those in
    registers of ``width`` numbers, but in vectors of more than ``most`` all but the last seven."""

    def __init__(self, library: ctypes.CDLL, width: int) -> None:
        self.library, self.width, self.calls = library, width, 0
        self.sizes: list[int] = []
        self.most = 10**9

    def __getattr__(self, name: str) -> Any:
        return self.axpy if "saxpy" in name else getattr(self.library, name)

    @property
    def axpy(self) -> Callable[..., None]:
        def axpy(size: Any, alpha: Any, x: Any, step: Any, y: Any, step_of_y: Any) -> None:
            self.calls += 1
            self.sizes.append(size.value)
            numbers = ctypes.c_float * size.value
            given, out = (np.frombuffer(numbers.from_address(ctypes.addressof(at)), np.float32) for at in (x, y))
            rounded_once = given.astype(np.float64) * alpha.value + out
            out += np.float32(alpha.value) * given
            in_registers = size.value // self.width * self.width if size.value <= self.most else size.value - 7
            out[:in_registers] = rounded_once[:in_registers]

        return axpy


@needs_blas
def test_how_many_numbers_axpy_computes_alike_is_found_out() -> None:
    """Kernels compute 16 or 32 numbers at a time with one rounding, and what is left perhaps with two."""
    file = ctypes.CDLL(file_of_numpy())
    x, y = drawn("float32", 2, 100)
    results = []
    for width, expected in ((1, 1), (16, 16), (32, 32), (48, 0), (512, 1)):
        own = WithOwnAxpy(file, width)
        library = blas.Blas(own, "float32")  # type: ignore[arg-type]
        assert library.width == expected
        own.calls = 0
        moved = y.copy()
        library.subtraction(x, moved)(0.3)
        assert (own.calls > 0) == (expected > 0)  # else it is axpby, which computes all alike
        results.append(moved)
    once, of_16, of_32, _, twice = results
    np.testing.assert_array_equal(of_16, once)
    np.testing.assert_array_equal(of_32, once)
    assert not np.array_equal(once, twice)


@needs_blas
def test_threads_that_have_other_bits_are_found_out() -> None:
    """As of a BLAS that gives them other parts than equal ones."""
    own = WithOwnAxpy(ctypes.CDLL(file_of_numpy()), 32)
    library = blas.Blas(own, "float32")  # type: ignore[arg-type]
    x, y = drawn("float32", 2, 50_000)
    alone, shared = y.copy(), y.copy()
    library.subtraction(x, alone)(0.3)
    own.most = blas.PIECE  # beyond it numbers are cut into parts that are no multiples of 32
    library.subtraction(x, shared, 2)(0.3)
    np.testing.assert_array_equal(shared, alone)


def test_without_it_numpy_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NumPy's BLAS has other names (``NAMES``), or none."""
    usual = get_backend("cpu")
    monkeypatch.setattr(blas, "NAMES", ("no_such_{}",))
    numpy_blas.cache_clear()
    try:
        alone = get_backend("cpu")
    finally:
        numpy_blas.cache_clear()
    assert not alone.accumulates
    results = []
    for backend in (usual, alone):
        rng = np.random.default_rng(3)
        p, g, v = (rng.standard_normal(50).astype("f") for _ in range(3))
        a, b, out = (rng.standard_normal(shape).astype("f") for shape in ((4, 3), (4, 5), (3, 5)))
        decay: dict[str, Any] = {"weight_decay": 0.1, "n_decayed": 20}
        backend.update("sgd", p, g, {"velocity": v}, learning_rate=0.1, momentum=0.9, dampening=0.5, **decay)
        backend.matmul(a, b, transpose_a=True, alpha=0.5, beta=0.9, out=out)
        results.append((p, v, out))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


class Renamed:
    """NumPy's library as another build would call its functions."""

    def __init__(self, library: ctypes.CDLL, form: str) -> None:
        self.names = {form.format(name): name for name in ("saxpby", "saxpy", "sgemm")}
        self.library = library

    def __getattr__(self, name: str) -> Any:
        if name not in self.names:
            raise AttributeError(name)
        forms = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}")
        found = (getattr(self.library, form.format(self.names[name]), None) for form in forms)
        return next(function for function in found if function is not None)


@needs_blas
@pytest.mark.parametrize(
    ("form", "is_known"),
    [("scipy_cblas_{}64_", True), ("cblas_{}64_", True), ("cblas_{}", True), ("mkl_{}", False)],
)
def test_builds_of_numpy_call_it_by_one_of_three_names(
    monkeypatch: pytest.MonkeyPatch, form: str, is_known: bool
) -> None:
    """Wheels, other builds with 64-bit sizes, MKL and plain OpenBLAS."""
    opened = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Renamed(opened(path), form))
    numpy_blas.cache_clear()
    try:
        assert (numpy_blas("float32") is not None) == is_known
    finally:
        numpy_blas.cache_clear()


@needs_blas
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("axpby", lambda right, self, alpha, x, beta, y: right(self, alpha, x, 1.0, y)),
        ("axpby", lambda right, self, alpha, x, beta, y: right(self, 2.0, x, beta, y)),
        ("axpby", lambda right, self, alpha, x, beta, y: right(self, alpha, x[:-1], beta, y[:-1])),
        ("subtraction", lambda right, self, x, y: right(self, x + x, y)),
        ("subtraction", lambda right, self, x, y: right(self, x[:-1], y[:-1])),
        ("gemm", lambda right, self, alpha, *rest: right(self, 1.0, *rest)),
        ("gemm", lambda right, self, *rest: right(self, *rest[:5], 1.0, rest[6])),
        ("gemm", lambda right, self, *rest: right(self, *rest[:3], rest[3][::-1].copy(), *rest[4:])),
    ],
)
def test_a_library_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: Callable[..., Any]
) -> None:
    numpy_blas.cache_clear()
    try:
        monkeypatch.setattr(blas.Blas, name, method_of(wrong, getattr(blas.Blas, name)))
        assert numpy_blas("float32") is None
    finally:
        numpy_blas.cache_clear()


def method_of(wrong: Callable[..., Any], right: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: blas.Blas, *arguments: Any) -> Any:
        return wrong(right, self, *arguments)

    return method


def test_zero_factors_lose_no_nan() -> None:
    """A BLAS does not read a vector whose factor is 0."""
    backend = get_backend("cpu")
    for rate, momentum in ((0.0, 0.9), (0.1, 0.0)):
        p, g, v = np.ones(4, "f"), np.full(4, np.nan, "f"), np.full(4, np.nan, "f")
        p = backend.update("sgd", p, g, {"velocity": v}, learning_rate=rate, momentum=momentum)
        assert np.isnan(p).all()


@pytest.mark.parametrize(
    ("nan_in", "settings"),
    [
        ("velocity", {"momentum": 0.0}),
        ("gradient", {"momentum": 0.5, "dampening": 1.0}),
        ("gradient", {"momentum": 0.5, "learning_rate": 0.0}),
    ],
)
def test_a_nan_in_one_array_alone_is_not_lost_either(nan_in: str, settings: dict[str, Any]) -> None:
    arrays = {name: np.full(4, np.nan if name == nan_in else 1.0, "f") for name in ("gradient", "velocity")}
    options = {"learning_rate": 0.1, **settings}
    p = get_backend("cpu").update(
        "sgd", np.ones(4, "f"), arrays["gradient"], {"velocity": arrays["velocity"]}, **options
    )
    assert np.isnan(p).all()


def test_arrays_that_do_not_fit_are_not_read_beyond_their_ends() -> None:
    backend = get_backend("cpu")
    z, flat, short = (np.zeros(shape, "f") for shape in ((4, 6), 24, 5))
    calls: list[Any] = [
        lambda: backend.update("sgd", flat, short, {}, learning_rate=0.1),
        lambda: backend.update("sgd", flat, flat, {"velocity": short}, learning_rate=0.1, momentum=0.9),
        lambda: backend.matmul(z, z, beta=1.0, out=np.zeros((4, 6), "f")),
        lambda: backend.matmul(z, z, transpose_a=True, beta=1.0, out=np.zeros((6, 7), "f")),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"shape|broadcast|mismatch"):
            call()

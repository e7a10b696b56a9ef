"""Products by two threads: each computes a half as it would alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backends import get_backend
from backends.cpu import core
from backends.cpu.blas import Blas, numpy_blas
from backends.cpu.halves import FEWEST_OF_HALF, Halves, find_halves, split
from backends.cpu.library import file_of_numpy
from backends.cpu.threads import Threads
from nn import SGD, Optimizer
from tests.helpers.blas import train, two_threads

REALS = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}


@pytest.fixture(scope="module")
def two() -> Iterator[Threads]:
    """Two threads of NumPy's own BLAS."""
    library = numpy_blas("float32")
    if library is None or library.halves is None:
        pytest.skip("NumPy's BLAS takes no list of products")
    with two_threads() as threads:
        yield threads


def halves_of(dtype: str) -> Halves:
    library = numpy_blas(dtype)
    assert library is not None
    assert library.halves is not None
    return library.halves


@pytest.mark.parametrize("dtype", REALS)
def test_it_is_used_where_numpy_has_it(dtype: str) -> None:
    """A mistake in how it is called would make a slower program, and skip the tests below."""
    library = ctypes.CDLL(file_of_numpy())
    letter = REALS[dtype][0]
    if not hasattr(library, f"scipy_cblas_{letter}gemm_batch64_"):
        pytest.skip("this NumPy is not linked with a BLAS that has the function")
    assert halves_of(dtype) is halves_of(dtype)


SIZES = st.integers(1, 10**4)


@given(m=SIZES, n=SIZES, k=SIZES)
def test_the_halves_are_of_the_longer_side_and_large_enough(m: int, n: int, k: int) -> None:
    """OpenBLAS crashes on smaller ones."""
    first, by_rows = split(m, n, k)
    if first == 0:
        assert m * n * k < 2 * (FEWEST_OF_HALF + 8 * min(m, n) * k) or 1 in (m, n)
        return
    longer, shorter = (m, n) if by_rows else (n, m)
    assert longer >= shorter
    assert first + 16 > longer - first > first - 16
    assert min(first, longer - first) * shorter * k > 100**3


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(2, 300), st.integers(2, 300), st.integers(16, 900)),
    transposes=st.tuples(st.booleans(), st.booleans()),
    beta=st.sampled_from([0.0, 1.0, 0.9]),
    dtype=st.sampled_from([*REALS]),
    seed=st.integers(0, 1000),
)
def test_it_is_the_formula_with_the_same_bits_on_one_thread(
    two: Threads, shape: tuple[int, int, int], transposes: tuple[bool, bool], beta: float, dtype: str, seed: int
) -> None:
    (m, n, k), (of_a, of_b) = shape, transposes
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((k, m) if of_a else (m, k), (n, k) if of_b else (k, n)))
    before = rng.standard_normal((m, n)).astype(dtype)
    by_two, by_one, by_factor = before.copy(), before.copy(), before.copy()
    halves = halves_of(dtype)
    gemm = halves.gemm(0.3, a, of_a, b, of_b, beta, by_two)
    assert (gemm is not None) == (split(m, n, k)[0] > 0)
    assume(gemm is not None)
    alone, times = (
        halves.gemm(0.3, a, of_a, b, of_b, beta, by_one),
        halves.gemm_times(0.6, a, of_a, b, of_b, beta, by_factor),
    )
    assert gemm is not None
    assert alone is not None
    assert times is not None
    gemm()
    times(0.5)
    two.set(1)
    alone()
    two.set(2)
    np.testing.assert_array_equal(by_one, by_two)
    np.testing.assert_array_equal(by_factor, by_two)
    wide_a, wide_b = (x.astype("f8") for x in (a.T if of_a else a, b.T if of_b else b))
    room = (k + 4) * float(np.finfo(dtype).eps)
    error = abs(by_two - (0.3 * wide_a @ wide_b + beta * before.astype("f8")))
    assert (error <= room * (abs(wide_a) @ abs(wide_b) + abs(before))).all()


def test_columns_one_after_the_other_give_the_same_bits(two: Threads) -> None:
    """A matrix in the order of Fortran is one to be transposed in that of C."""
    rng = np.random.default_rng(0)
    a, b = rng.random((100, 784), "f4"), rng.random((784, 300), "f4")
    backend = get_backend("cpu")
    expected = backend.matmul(a, b)
    for first in (a, np.asfortranarray(a)):
        for second in (b, np.asfortranarray(b)):
            np.testing.assert_array_equal(backend.matmul(first, second), expected)
            turned = backend.matmul(first.T, second.T, transpose_a=True, transpose_b=True)
            np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("shape", [(200, 200, 3), (200, 300, 3), (200, 200, 0)])
def test_what_is_no_matrix_is_left_to_numpy(two: Threads, shape: tuple[int, ...]) -> None:
    a, b = np.ones((200, 200), "f4"), np.ones(shape, "f4")
    try:
        expected = np.dot(a, b)
    except ValueError:
        with pytest.raises(ValueError, match="aligned"):
            get_backend("cpu").matmul(a, b)
    else:
        np.testing.assert_array_equal(get_backend("cpu").matmul(a, b), expected)


def test_numbers_of_another_dtype_are_not_taken_for_its_own(two: Threads) -> None:
    a, b, out = np.ones((200, 200)), np.ones((200, 200)), np.ones((200, 200), "f4")
    found = get_backend("cpu").matmul(a, b, beta=1.0, out=out)
    np.testing.assert_array_equal(found, np.full((200, 200), 201.0))


def test_a_matrix_that_may_only_be_read_gives_the_same_bits(two: Threads) -> None:
    """As rows in a file do."""
    rng = np.random.default_rng(0)
    x, w = rng.random((128, 784), "f4"), rng.random((784, 64), "f4")
    backend = get_backend("cpu")
    expected = backend.matmul(x, w)
    for array in (x, w):
        array.flags.writeable = False
    np.testing.assert_array_equal(backend.matmul(x, w), expected)
    into = np.empty_like(expected)
    into.flags.writeable = False
    with pytest.raises(ValueError, match="output"):
        backend.matmul(x, w, out=into)


# ---- in training -----------------------------------------------------------------------------------------------------


def decayed() -> Optimizer:
    return SGD(0.1, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("widths", [[784, 300, 10], [50, 400, 300, 10]])
@pytest.mark.parametrize("device", ["cpu", "numba"])
def test_recorded_steps_have_the_bits_of_others_and_of_one_thread(
    two: Threads, monkeypatch: pytest.MonkeyPatch, device: str, widths: list[int]
) -> None:
    """Also where OpenBLAS's own products of one and two threads differ."""
    if device == "numba":
        pytest.importorskip("numba")
    called: list[bool] = []

    class Alternates:
        """One thread and two in turn."""

        waits = False

        @property
        def alone(self) -> bool:
            called.append(True)
            return len(called) % 4 < 2

        def took(self, seconds: float) -> None: ...

    usual = train(get_backend(device), widths, 100, decayed(), eagerly=False)
    eager = train(get_backend(device), widths, 100, decayed(), eagerly=True)
    monkeypatch.setattr("backends.cpu.recording.Paces", Alternates)
    in_turn = train(get_backend(device), widths, 100, decayed(), eagerly=False)
    assert called
    for name, values in usual.items():
        np.testing.assert_array_equal(eager[name], values, err_msg=name)
        np.testing.assert_array_equal(in_turn[name], values, err_msg=name)


def test_the_update_shares_what_was_computed_in_halves(two: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Product by product."""
    parts: list[tuple[int, ...]] = []
    subtraction = Blas.subtraction

    def noted(self: Blas, x: Any, y: Any, threads: int = 0, of: Any = ()) -> Callable[[float], None]:
        if threads == 2:
            parts.extend(part.shape for part in of if np.may_share_memory(part, x))
        return subtraction(self, x, y, threads, of)

    monkeypatch.setattr(Blas, "subtraction", noted)
    train(get_backend("cpu"), [784, 300, 10], 100, decayed(), eagerly=False)
    assert {*parts} == {(784, 300)}


# ---- where the function is not there, or wrong -----------------------------------------------------------------------


class Other:
    """NumPy's library with another function for lists of products, or none."""

    def __init__(self, gemm_batch: Callable[..., None] | None) -> None:
        self.library, self.gemm_batch = ctypes.CDLL(file_of_numpy()), gemm_batch

    def __getattr__(self, name: str) -> Any:
        if "gemm_batch" not in name:
            return getattr(self.library, name)
        if self.gemm_batch is None:
            raise AttributeError(name)
        return self.gemm_batch


def computes_nothing(*_: Any) -> None: ...


@pytest.mark.parametrize("function", [None, computes_nothing])
def test_without_it_products_are_numpys_own(
    two: Threads, monkeypatch: pytest.MonkeyPatch, function: Callable[..., None] | None
) -> None:
    """As with sizes of 32 bits, where the second half would be taken to be empty."""
    other: Any = Other(function)
    assert find_halves(other, "float32", *REALS["float32"]) is None
    without = Blas(other, "float32")
    assert without.halves is None
    monkeypatch.setattr(core, "numpy_blas", lambda dtype: without)
    a, b = np.random.default_rng(0).standard_normal((2, 200, 200)).astype("f4")
    two.set(2)
    expected = np.dot(a, b)
    np.testing.assert_array_equal(get_backend("cpu").matmul(a, b), expected)
    eager, recorded = (train(get_backend("cpu"), [784, 300, 10], 100, decayed(), eagerly=how) for how in (True, False))
    for name, values in eager.items():
        np.testing.assert_array_equal(recorded[name], values, err_msg=name)

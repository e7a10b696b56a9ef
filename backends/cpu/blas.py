"""Two functions of the BLAS that NumPy itself was linked with, called through ctypes.

An update with momentum is ``v <- mu v + g`` and ``p <- p - rate v``. NumPy has no function for either: five passes over
memory with its own, two with axpby, one where the product that gives g is added to v at once (gemm). Not axpy, whose
threads of OpenBLAS win nothing on a vector that is in the cache, and wait for each other where the cores are busy.

It must be NumPy's own BLAS: another one (SciPy's) brings another pool of threads, and the two in turn are many times
slower. Where its functions cannot be found, or do not compute what they should, there is no ``Blas``, and NumPy's do
the work.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

#: What builds of NumPy call the function ``cblas_saxpby``: its wheels, other 64-bit builds, MKL and plain OpenBLAS.
NAMES = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}")
_LETTERS = {"float32": "s", "float64": "d"}
_NOTHING = ctypes.c_char * 0


#: A call with all its arguments.
Call = Callable[[], None]

#: 64 bits are right for libraries with 32-bit sizes too: all are passed in registers, or in slots of 64 bits.
_SIZE = ctypes.c_int64
_ONE = _SIZE(1)
_BY_ROWS, _AS_IT_IS, _TRANSPOSED = (ctypes.c_int(number) for number in (101, 111, 112))


class Blas:
    """axpby and gemm for one dtype, on C-contiguous arrays of it: calls with all arguments bound, to be made at once or
    again and again. Each keeps its arrays alive.

    The arguments are bound as values of C: so ctypes has nothing to convert, which takes it two thirds of a call.
    """

    def __init__(self, library: ctypes.CDLL, dtype: str) -> None:
        self._real: Any = ctypes.c_float if dtype == "float32" else ctypes.c_double
        self._axpby = _function(library, f"{_LETTERS[dtype]}axpby")
        self._gemm = _function(library, f"{_LETTERS[dtype]}gemm")

    def axpby(self, alpha: float, x: Any, beta: float, y: Any) -> Call:
        """y <- alpha x + beta y. Does not read x for alpha = 0, nor y for beta = 0."""
        real = self._real
        return partial(self._axpby, _SIZE(x.size), real(alpha), _memory(x), _ONE, real(beta), _memory(y), _ONE)

    def subtraction(self, x: Any, y: Any) -> Callable[[float], None]:
        """y <- y - factor x, the factor to be given at each call. Does not read x where that is 0."""
        alpha = self._real()
        axpby = partial(self._axpby, _SIZE(x.size), alpha, _memory(x), _ONE, self._real(1.0), _memory(y), _ONE)

        def subtract(factor: float) -> None:
            alpha.value = -factor
            axpby()

        return subtract

    def gemm(self, alpha: float, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any) -> Call:
        """out <- alpha op(a) op(b) + beta out, of no empty matrices. Does not read a and b for alpha = 0."""
        return self._bound_gemm(self._real(alpha), a, transpose_a, b, transpose_b, beta, out)

    def gemm_times(
        self, alpha: float, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any
    ) -> Callable[[float], None]:
        """out <- factor alpha op(a) op(b) + beta out, the factor to be given at each call."""
        real = self._real()
        gemm = self._bound_gemm(real, a, transpose_a, b, transpose_b, beta, out)

        def add(factor: float) -> None:
            real.value = factor * alpha
            gemm()

        return add

    def _bound_gemm(
        self, alpha: Any, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any
    ) -> Call:
        m, n = out.shape
        return partial(
            self._gemm,
            _BY_ROWS,
            _TRANSPOSED if transpose_a else _AS_IT_IS,
            _TRANSPOSED if transpose_b else _AS_IT_IS,
            *(_SIZE(m), _SIZE(n), _SIZE(a.shape[0 if transpose_a else 1])),
            *(alpha, _memory(a), _SIZE(a.shape[1]), _memory(b), _SIZE(b.shape[1])),
            *(self._real(beta), _memory(out), _SIZE(n)),
        )


def _memory(x: Any) -> Any:
    """The memory of an array, as a pointer that keeps it alive."""
    return _NOTHING.from_buffer(x)


def _function(library: ctypes.CDLL, name: str) -> Any:
    for form in NAMES:
        function = getattr(library, form.format(name), None)
        if function is not None:
            function.restype = None
            return function
    raise AttributeError(name)


@cache
def numpy_blas(dtype: str) -> Blas | None:
    """NumPy's own BLAS, or None where it cannot be used."""
    try:
        # A name is looked up in what this module of NumPy is linked with.
        blas = Blas(ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__), dtype)
    except (AttributeError, KeyError, OSError, TypeError):
        return None
    x, y, z = (np.arange(start, start + 37, dtype=dtype) for start in (1, 5, 9))
    blas.axpby(2.0, x, 1.0, y)()
    blas.axpby(3.0, x, 4.0, z)()
    a, b, c = x.reshape(1, 37), y[:35].reshape(7, 5), np.ones((5, 1), dtype)
    blas.gemm(2.0, b, True, a[:, :7].reshape(7, 1).copy(), False, 3.0, c)()
    n = np.arange(37)
    good = (y == 3 * n + 7).all() and (z == 7 * n + 39).all()
    return blas if good and (c == 2.0 * b.T @ np.arange(1.0, 8.0)[:, None] + 3.0).all() else None

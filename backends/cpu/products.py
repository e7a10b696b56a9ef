"""Matrix products through the BLAS, on the threads that the rule allows them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy

from ..core import check_beta
from ..typing import Array
from .blas import Blas, Cut
from .core import NumpyCore, are_plain, are_readable, host_number
from .threads import Product, Threads, Ways, cut_for_one_thread, depends_on_threads


class NumpyProducts(NumpyCore):
    """Products of matrices, and sums of columns, which are one."""

    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        out: Array | None = None,
    ) -> Array:
        np = self._memory.numpy
        if beta != 0.0:
            check_beta("matmul", beta, out)
            return self._add_product(a, b, transpose_a, transpose_b, alpha, beta, times, out)
        if alpha != 1.0 and out is not None and b.size < out.size:
            b = np.multiply(b, alpha, out=self._scratch("scaled", b.shape))
            alpha = 1.0
        out = self._product(a, b, out, transpose_a, transpose_b)
        if alpha != 1.0:
            np.multiply(out, alpha, out=out)
        self._multiply_by(out, times)
        return out

    def column_sum(self, x: Array, *, out: Array | None = None) -> Array:
        # A product with ones runs through the BLAS, several times faster than a sum over the long axis.
        return self._product(self._ones(x.shape[0]), x, out)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _multiply_by(self, product: Array, times: float | Array) -> None:
        if not isinstance(times, float) or times != 1.0:
            self._call(_multiply_by, product, times)

    def _product(
        self, a: Array, b: Array, out: Array | None, transpose_a: bool = False, transpose_b: bool = False
    ) -> Array:
        """The product of two matrices, or of a vector and a matrix, by the same function of the BLAS in both cases:
        np.dot gets there sooner, and takes a seventh of np.matmul's time where the inner dimension is 1."""
        np = self._memory.numpy
        first, second = a.T if transpose_a else a, b.T if transpose_b else b
        # np.matmul takes any `out`, and says which shape would fit.
        fits = out is None or (out.flags.c_contiguous and out.shape == (*first.shape[:-1], second.shape[1]))
        fits = fits and a.dtype == b.dtype == (a if out is None else out).dtype
        m, n, k = prod(first.shape[:-1]), second.shape[1], second.shape[0]
        if self._threads is None or not depends_on_threads(m, n, k):
            return (np.dot if fits else np.matmul)(first, second, out=out)
        a, transpose_a, b, transpose_b = *_by_rows(a, transpose_a), *_by_rows(b, transpose_b)
        is_plain = fits and first.ndim == second.ndim == 2 and first.shape[1] == k and a.dtype == self.dtype
        if self._blas is None or not is_plain or not are_readable(a, b) or not are_plain(out):
            operands = (first, second) if out is None else (first, second, out)
            return self._compute((m, n, k), None, numpy.dot if fits else numpy.matmul, *operands)
        out = numpy.empty((m, n), self.dtype) if out is None else out
        ways = _ByBlas(self._blas, Product(m, n, k, transpose_a, transpose_b, alpha=1.0, beta=0.0), a, b, out)
        return self._compute((m, n, k), ways, numpy.dot, first, second, out)

    def _compute(self, sizes: tuple[int, int, int], ways: Ways | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that computes a product, on the threads that the rule allows for its sizes (m, n, k); while a
        step is recorded, note it."""
        memory = self._memory
        if memory.tape is not None:
            tape = memory.tape
            with memory.noting(None):
                return tape.product(prod(sizes), ways, function, *args)
        if self._threads is None:
            return function(*args)
        return self._threads.call(prod(sizes), ways, function, *args)

    def _add_product(
        self,
        a: Array,
        b: Array,
        transpose_a: bool,
        transpose_b: bool,
        alpha: float,
        beta: float,
        times: float | Array,
        out: Array,
    ) -> Array:
        """out = times alpha op(a) op(b) + beta out"""
        k, m = a.shape if transpose_a else a.shape[::-1]
        n, k_b = b.shape if transpose_b else b.shape[::-1]
        fits = k == k_b and out.shape == (m, n) and 0 not in (m, n, k) and are_plain(a, b, out)
        fits = fits and a.dtype == b.dtype == out.dtype == self.dtype
        if self._blas is not None and alpha != 0.0 and fits:
            self._add_by_blas(self._blas, Product(m, n, k, transpose_a, transpose_b, alpha, beta), a, b, times, out)
            return out
        np = self._memory.numpy
        product = self._product(a, b, self._scratch("product", out.shape), transpose_a, transpose_b)
        if alpha != 1.0:
            np.multiply(product, alpha, out=product)
        self._multiply_by(product, times)
        np.multiply(out, beta, out=out)
        return np.add(out, product, out=out)

    def _add_by_blas(self, blas: Blas, product: Product, a: Array, b: Array, times: float | Array, out: Array) -> None:
        """The same, where the BLAS can do it."""
        m, n, k, transpose_a, transpose_b, alpha, beta = product
        factor: tuple[Callable[..., Array], float | Array] | None = None
        if not isinstance(times, float) or times != 1.0:
            of = {"transpose_a": transpose_a, "transpose_b": transpose_b, "alpha": alpha, "beta": beta, "out": out}
            factor = partial(super().matmul, a, b, **of), times
        ways = _ByBlas(blas, product, a, b, out, factor)
        if depends_on_threads(m, n, k):
            self._compute((m, n, k), ways, ways.whole())
        else:
            self._call(ways.whole())


class _ByBlas:
    """Calls of the BLAS that compute one product: out <- alpha op(a) op(b) + beta out.

    Args:
        factor: what computes the product where the number is 0, so that the BLAS does not read the matrices, and the
            number, which is one more factor, as it is at each call.
    """

    def __init__(
        self,
        blas: Blas,
        product: Product,
        a: Array,
        b: Array,
        out: Array,
        factor: tuple[Callable[..., Array], float | Array] | None = None,
    ) -> None:
        self.out = out
        self._blas, self._product, self._factor = blas, product, factor
        self._settings = product.alpha, a, product.transpose_a, b, product.transpose_b, product.beta, out

    def whole(self, cut: Cut | None = None) -> Callable[[], None]:
        """All of it at once, or in these blocks."""
        if self._factor is None:
            return self._blas.gemm(*self._settings, cut)
        return partial(_add_times, self._blas.gemm_times(*self._settings, cut), *self._factor)

    def in_halves(self, number: int) -> Callable[[], None] | None:
        halves = self._blas.halves
        if number != 2 or halves is None:
            return None
        if self._factor is None:
            return halves.gemm(*self._settings)
        add = halves.gemm_times(*self._settings)
        return None if add is None else partial(_add_times, add, *self._factor)

    def alone(self, threads: Threads, number: int) -> Callable[[], None] | None:
        _, a, _, b, *_ = self._settings
        if not are_plain(a, b):  # Blas.gemm takes no memory that may only be read
            return None
        product = self._product if self._factor is None else self._product._replace(alpha=0.3 * self._product.alpha)
        cut = cut_for_one_thread(threads, self._blas, product, number)
        return None if cut is None else self.whole(cut)


def _by_rows(x: Array, transpose: bool) -> tuple[Array, bool]:
    """The same matrix as it lies in memory, and whether it is to be transposed then."""
    return (x.T, not transpose) if x.flags.f_contiguous and not x.flags.c_contiguous else (x, transpose)


def _multiply_by(product: Array, times: float | Array) -> None:
    numpy.multiply(product, host_number(times), out=product)


def _add_times(add: Callable[[float], None], otherwise: Callable[..., Array], times: float | Array) -> None:
    factor = float(host_number(times))
    if factor == 0.0:  # matrices that the BLAS does not read
        otherwise(times=factor)
    else:
        add(factor)

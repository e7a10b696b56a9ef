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
from .core import NumpyCore, are_plain, host_number
from .threads import Alone, Product, Threads, cut_for_one_thread, depends_on_threads


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
        sizes = prod(first.shape[:-1]), second.shape[1], second.shape[0]
        if self._threads is None or not depends_on_threads(*sizes):
            return (np.dot if fits else np.matmul)(first, second, out=out)

        def alone(result: Array | None, threads: Threads, number: int) -> Callable[[], None] | None:
            alike = first.ndim == 2 and first.shape[1] == sizes[2] and a.dtype == b.dtype == self.dtype
            if self._blas is None or result is None or not (fits and alike and are_plain(a, b, result)):
                return None
            product = Product(*sizes, transpose_a, transpose_b, alpha=1.0, beta=0.0)
            cut = cut_for_one_thread(threads, self._blas, product, number)
            return None if cut is None else self._blas.gemm(1.0, a, transpose_a, b, transpose_b, 0.0, result, cut)

        return self._compute(sizes, alone, numpy.dot if fits else numpy.matmul, first, second, out=out)

    def _compute(
        self,
        sizes: tuple[int, int, int],
        alone: Alone,
        function: Callable[..., Any],
        *args: Any,
        out: Array | None = None,
    ) -> Any:
        """Call a function that computes a product, on the threads that the rule allows for its sizes (m, n, k); while a
        step is recorded, note it."""
        memory = self._memory
        if memory.tape is not None:
            tape = memory.tape
            with memory.noting(None):
                return tape.product(prod(sizes), alone, function, *args, **({} if out is None else {"out": out}))
        if self._threads is None:
            return function(*args) if out is None else function(*args, out=out)
        return self._threads.call(prod(sizes), alone, function, *args, out=out)

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
        is_plain = isinstance(times, float) and times == 1.0
        settings = alpha, a, transpose_a, b, transpose_b, beta, out
        otherwise = partial(
            super().matmul, a, b, transpose_a=transpose_a, transpose_b=transpose_b, alpha=alpha, beta=beta, out=out
        )

        def add(cut: Cut | None = None) -> Callable[[], None]:
            if is_plain:
                return blas.gemm(*settings, cut)
            return partial(_add_times, blas.gemm_times(*settings, cut), otherwise, times)

        def alone(_: Any, threads: Threads, number: int) -> Callable[[], None] | None:
            typical = product if is_plain else product._replace(alpha=0.3 * alpha)
            cut = cut_for_one_thread(threads, blas, typical, number)
            return None if cut is None else add(cut)

        if depends_on_threads(m, n, k):
            self._compute((m, n, k), alone, add())
        else:
            self._call(add())


def _multiply_by(product: Array, times: float | Array) -> None:
    numpy.multiply(product, host_number(times), out=product)


def _add_times(add: Callable[[float], None], otherwise: Callable[..., Array], times: float | Array) -> None:
    factor = float(host_number(times))
    if factor == 0.0:  # matrices that the BLAS does not read
        otherwise(times=factor)
    else:
        add(factor)

"""A product by two threads, each of which computes one half of the result alone.

OpenBLAS's own way to share a product has each thread prepare a part of one matrix for both: they wait for each other
within it, and read what the other core has just written. Two halves have nothing to do with each other, so no thread
waits before the end; that both prepare the shorter matrix for themselves costs less. A list of products at once
(``gemm_batch``) gives each thread of the same pool one of them.

So a half has the bits of a product of its own, and one thread, which computes them one after the other, has the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .library import find_function

#: What builds of OpenBLAS with sizes of 64 bits call the function ``cblas_sgemm_batch``. With sizes of 32 bits it would
#: have to be handed other arrays.
NAMES = ("scipy_cblas_{}64_", "cblas_{}64_")
#: Of fewer multiplications there is no half: up to 100^3 gemm_batch takes another way, which crashes in OpenBLAS 0.3.28
#: to 0.3.31 (mended by its pull request 5980).
FEWEST_OF_HALF = 100**3 + 1
#: Rows or columns in the first half are a multiple of so many: kernels take 4 to 16 at a time.
UNIT = 8

_BY_ROWS, _AS_IT_IS, _TRANSPOSED = ctypes.c_int(101), 111, 112
_Sizes, _Flags, _Addresses = ctypes.c_int64 * 2, ctypes.c_int * 2, ctypes.c_void_p * 2
_TWO, _ONE_OF_EACH, _NOTHING = ctypes.c_int64(2), _Sizes(1, 1), ctypes.c_char * 0


class Halves:
    """gemm in halves for one dtype, on C-contiguous arrays of it.

    Args:
        library: in which the function is looked for.
        letter: that of the dtype in the names of the BLAS.
        real: the dtype in C.

    Raises:
        AttributeError: the library does not have it.
    """

    def __init__(self, library: ctypes.CDLL, letter: str, real: Any) -> None:
        self._reals = real * 2
        self._batch: Any = find_function(library, f"{letter}gemm_batch", NAMES)
        self._batch.restype = None

    def gemm(
        self, alpha: float, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any
    ) -> Callable[[], None] | None:
        """out <- alpha op(a) op(b) + beta out: a call, which keeps the arrays alive; None for smaller matrices."""
        return self._bound(self._reals(alpha, alpha), a, transpose_a, b, transpose_b, beta, out)

    def gemm_times(
        self, alpha: float, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any
    ) -> Callable[[float], None] | None:
        """out <- factor alpha op(a) op(b) + beta out, the factor to be given at each call."""
        reals = self._reals()
        gemm = self._bound(reals, a, transpose_a, b, transpose_b, beta, out)
        if gemm is None:
            return None

        def add(factor: float) -> None:
            reals[:] = factor * alpha, factor * alpha
            gemm()

        return add

    def _bound(
        self, alpha: Any, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any
    ) -> Callable[[], None] | None:
        m, n = out.shape
        layout = _layout(m, n, a.shape[0 if transpose_a else 1], transpose_a, transpose_b, beta, self._reals)
        if layout is None:
            return None
        sizes, width_a, width_b, betas, width_out, (at_a, at_b, at_out) = layout
        in_a, in_b, in_out = _two(a, at_a), _two(b, at_b), _two(out, at_out)
        alpha.arrays = a, b, out  # are kept alive
        return partial(
            self._batch, *sizes, alpha, in_a, width_a, in_b, width_b, betas, in_out, width_out, _TWO, _ONE_OF_EACH
        )


@lru_cache(maxsize=1000)
def _layout(m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, beta: float, reals: Any) -> Any:
    """The arguments that are the same for all arrays of these shapes, and where in them the second half begins, in
    bytes; None where there are to be no halves. (To make them takes longer than the rest of a call.)"""
    first, by_rows = split(m, n, k)
    if first == 0:
        return None
    width_a, width_b = m if transpose_a else k, k if transpose_b else n
    if by_rows:
        rows, columns = _Sizes(first, m - first), _Sizes(n, n)
        second = first if transpose_a else first * width_a, 0, first * n
    else:
        rows, columns = _Sizes(m, m), _Sizes(first, n - first)
        second = 0, first * width_b if transpose_b else first, first
    of_a, of_b = _TRANSPOSED if transpose_a else _AS_IT_IS, _TRANSPOSED if transpose_b else _AS_IT_IS
    sizes = _BY_ROWS, _Flags(of_a, of_a), _Flags(of_b, of_b), rows, columns, _Sizes(k, k)
    itemsize = ctypes.sizeof(reals) // 2
    return (
        *(sizes, _Sizes(width_a, width_a), _Sizes(width_b, width_b), reals(beta, beta), _Sizes(n, n)),
        [itemsize * at for at in second],
    )


def split(m: int, n: int, k: int) -> tuple[int, bool]:
    """How many rows, or columns, of the result are in the first half, and whether they are rows: the longer of the two,
    as the half of the other matrix is what only one thread prepares. (0, False) where there are to be no halves."""
    longer, shorter = max(m, n), min(m, n)
    first = -(-longer // (2 * UNIT)) * UNIT
    if shorter == 1 or (longer - first) * shorter * k < FEWEST_OF_HALF:
        return 0, False
    return first, m >= n


def _two(x: Any, second: int) -> Any:
    """Where an array begins in memory, and so many bytes on."""
    first = address(x)
    return _Addresses(first, first + second)


def address(x: Any) -> int:
    """Where a contiguous array begins in memory."""
    # The first way takes a third of the time, and no memory that may only be read.
    return ctypes.addressof(_NOTHING.from_buffer(x)) if x.flags.writeable else int(x.__array_interface__["data"][0])


def find_halves(library: ctypes.CDLL, dtype: str, letter: str, real: Any) -> Halves | None:
    """What computes halves, where the library has it and its results are right."""
    try:
        halves = Halves(library, letter, real)
    except AttributeError:
        return None
    a, b, out = (np.arange(3 * 128 * 128) % 7 - 3).astype(dtype).reshape(3, 128, 128)
    expected = 2.0 * (a.T @ b) + 3.0 * out  # whole numbers, in any order of additions
    gemm = halves.gemm(2.0, a, True, b, False, 3.0, out)
    assert gemm is not None
    gemm()
    return halves if np.array_equal(out, expected) else None

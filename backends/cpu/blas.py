"""Three functions of the BLAS that NumPy itself was linked with, called through ctypes.

An update with momentum is ``v <- mu v + g`` and ``p <- p - rate v``. NumPy has no function for either: five passes over
memory with its own, two with axpby and axpy, one where the product that gives g is added to v at once (gemm). axpby has
one thread. axpy has as many as a product, which is faster where each has just computed its part of v, and many times
slower where the cores are busy: that is for recorded steps, whose threads are looked after (``threads.Pace``).
Elsewhere it gets pieces for which it takes one thread.

It must be NumPy's own BLAS: another one (SciPy's) brings another pool of threads, and the two in turn are many times
slower. Where its functions cannot be found, or do not compute what they should, there is no ``Blas``, and NumPy's do
the work.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from .halves import Halves, address, find_halves
from .library import file_of_numpy, find_function

#: What builds of NumPy call the function ``cblas_saxpby``: its wheels, other 64-bit builds, MKL and plain OpenBLAS.
NAMES = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}")
_LETTERS = {"float32": "s", "float64": "d"}
_NOTHING = ctypes.c_char * 0


#: A call with all its arguments.
Call = Callable[[], None]

#: 64 bits are right for libraries with 32-bit sizes too: all are passed in registers, or in slots of 64 bits.
_SIZE = ctypes.c_int64
_ONE = _SIZE(1)
#: So many numbers at most are a piece: OpenBLAS takes several threads for more than 10,000.
PIECE = 8192
#: Numbers that kernels of axpy may compute at a time, and those that are left over otherwise.
WIDTHS = (1, 16, 32, 64)
_BY_ROWS, _AS_IT_IS, _TRANSPOSED = (ctypes.c_int(number) for number in (101, 111, 112))


class Cut(NamedTuple):
    """How a product is cut into blocks, which are computed one after the other: the sizes of the blocks of rows and of
    columns of the result, and of those of the inner dimension, whose products are added up."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    inner: tuple[int, ...]


class Blas:
    """axpby, axpy and gemm for one dtype, on C-contiguous arrays of it: calls with all arguments bound, to be made at
    once or again and again. Each keeps its arrays alive.

    The arguments are bound as values of C: so ctypes has nothing to convert, which takes it two thirds of a call.

    Attributes:
        dtype: its name.
        width: axpy computes all numbers alike in vectors of whole multiples of so many; 0 where that is not so.
        halves: computes products in halves; None where it cannot.
    """

    def __init__(self, library: ctypes.CDLL, dtype: str) -> None:
        self.dtype: Any = dtype
        self._real: Any = ctypes.c_float if dtype == "float32" else ctypes.c_double
        self._axpby = _function(library, f"{_LETTERS[dtype]}axpby")
        self._axpy = _function(library, f"{_LETTERS[dtype]}axpy")
        self._gemm = _function(library, f"{_LETTERS[dtype]}gemm")
        self.halves: Halves | None = find_halves(library, dtype, _LETTERS[dtype], self._real)
        self.width = self._width()
        self._alike: dict[int, bool] = {}  # by the number of threads

    def axpby(self, alpha: float, x: Any, beta: float, y: Any) -> Call:
        """y <- alpha x + beta y. Does not read x for alpha = 0, nor y for beta = 0."""
        real = self._real
        return partial(self._axpby, _SIZE(x.size), real(alpha), _memory(x), _ONE, real(beta), _memory(y), _ONE)

    def subtraction(self, x: Any, y: Any, threads: int = 0, parts: Sequence[Any] = ()) -> Callable[[float], None]:
        """y <- y - factor x, the factor to be given at each call. Does not read x where that is 0. The bits do not
        depend on the threads, nor on where in a vector a number is.

        Args:
            threads: that the BLAS is set to now and at each call, or to one; 0 where that is not known: it takes one.
            parts: arrays in the memory of x that are shared among the threads one by one. Where each thread has just
                computed one half of a part, the upper rows or the lower, it takes about that half.
        """
        alpha, size = self._real(), x.size
        calls: list[Call]
        if self.width == 0:
            calls = [partial(self._axpby, _SIZE(size), alpha, _memory(x), _ONE, self._real(1.0), _memory(y), _ONE)]
        else:
            whole = size - size % self.width if size > PIECE or size % self.width == 0 else 0
            shared = self._shared(x, whole, threads, parts) if threads and self._are_alike(threads) else []
            sizes = [*shared, *_pieces(whole - sum(shared))]
            calls = [self._add(alpha, count, _memory(x, start), _memory(y, start)) for start, count in _blocks(sizes)]
            if whole < size:
                calls += self._add_elsewhere(alpha, x.reshape(-1)[whole:], y.reshape(-1)[whole:])
        add = calls[0] if len(calls) == 1 else partial(_call_each, calls)

        def subtract(factor: float) -> None:
            alpha.value = -factor
            add()

        return subtract

    def _shared(self, x: Any, size: int, threads: int, parts: Sequence[Any]) -> list[int]:
        """In which sizes so many of the first numbers are to be shared by threads, which take equal parts of each."""
        first = address(x)
        ends = [(address(part) - first) // x.itemsize + end for part in parts for end in (0, part.size)]
        unit = self.width * threads
        cuts = sorted({0, *(end // unit * unit for end in (*ends, size) if 0 < end <= size)})
        return [end - start for start, end in pairwise(cuts)]

    def _add(self, alpha: Any, count: int, x: Any, y: Any) -> Call:
        """y <- y + alpha x, of that many numbers."""
        return partial(self._axpy, _SIZE(count), alpha, x, _ONE, y, _ONE)

    def _add_elsewhere(self, alpha: Any, x: Any, y: Any) -> list[Call]:
        """The same of few numbers, in memory for more: whole multiples of the width."""
        size = -(-x.size // self.width) * self.width
        there_x, there_y = np.zeros((2, size), self.dtype)
        in_x, in_y, copy = there_x[: x.size], there_y[: y.size], np.copyto
        add = self._add(alpha, size, _memory(there_x), _memory(there_y))
        return [partial(copy, in_x, x), partial(copy, in_y, y), add, partial(copy, y, in_y)]

    def _added(self, numbers: Any, sizes: Sequence[int], first: int = 0) -> Any:
        """What axpy makes of two vectors in pieces of these sizes, from that place in memory on."""
        x, y = np.empty((2, first + numbers.shape[1]), self.dtype)
        x[first:], y[first:] = numbers
        for start, count in _blocks(sizes):
            self._add(self._real(-0.3), count, _memory(x, first + start), _memory(y, first + start))()
        return y[first:]

    def _width(self) -> int:
        """``width``, tried out."""
        size = 4 * WIDTHS[-1]
        numbers = _made_up(size)
        whole = self._added(numbers, (size,))
        if not np.array_equal(self._added(numbers, (size,), first=1), whole):
            return 0
        for width in WIDTHS:
            cuts = ((first, size - first) for first in range(width, size, width))
            if all(np.array_equal(self._added(numbers, sizes), whole) for sizes in cuts):
                return width
        return 0

    def _are_alike(self, threads: int) -> bool:
        """Whether so many threads, to which the BLAS is set, have the bits of one: they do where each gets as much."""
        if threads not in self._alike:
            unit = self.width * threads
            size = (2 * PIECE // unit + 1) * unit
            numbers = _made_up(size)
            self._alike[threads] = np.array_equal(self._added(numbers, (size,)), self._added(numbers, _pieces(size)))
        return self._alike[threads]

    def gemm(
        self,
        alpha: float,
        a: Any,
        transpose_a: bool,
        b: Any,
        transpose_b: bool,
        beta: float,
        out: Any,
        cut: Cut | None = None,
    ) -> Call:
        """out <- alpha op(a) op(b) + beta out, of no empty matrices. Does not read a and b for alpha = 0."""
        return self._bound_gemm(self._real(alpha), a, transpose_a, b, transpose_b, beta, out, cut)

    def gemm_times(
        self,
        alpha: float,
        a: Any,
        transpose_a: bool,
        b: Any,
        transpose_b: bool,
        beta: float,
        out: Any,
        cut: Cut | None = None,
    ) -> Callable[[float], None]:
        """out <- factor alpha op(a) op(b) + beta out, the factor to be given at each call."""
        real = self._real()
        gemm = self._bound_gemm(real, a, transpose_a, b, transpose_b, beta, out, cut)

        def add(factor: float) -> None:
            real.value = factor * alpha
            gemm()

        return add

    def strided_gemm(
        self,
        sizes: tuple[int, int, int],
        a: tuple[Any, int, int],
        transpose_a: bool,
        b: tuple[Any, int, int],
        beta: float,
        out: tuple[Any, int, int],
    ) -> Call:
        """out <- op(a) b + beta out, (m, k) times (k, n), of matrices in the memory of arrays of any shape: each is
        given as such an array, the index of its first element there, and how far its rows lie apart."""
        flags = _BY_ROWS, _TRANSPOSED if transpose_a else _AS_IT_IS, _AS_IT_IS
        m, n, k = map(_SIZE, sizes)
        arrays = [(_memory(array, first), _SIZE(width)) for array, first, width in (a, b, out)]
        one, beta = self._real(1.0), self._real(beta)
        return partial(self._gemm, *flags, m, n, k, one, *arrays[0], *arrays[1], beta, *arrays[2])

    def _bound_gemm(
        self, alpha: Any, a: Any, transpose_a: bool, b: Any, transpose_b: bool, beta: float, out: Any, cut: Cut | None
    ) -> Call:
        m, n = out.shape
        cut = Cut((m,), (n,), (a.shape[0 if transpose_a else 1],)) if cut is None else cut
        width_a, width_b = a.shape[1], b.shape[1]
        flags = _BY_ROWS, _TRANSPOSED if transpose_a else _AS_IT_IS, _TRANSPOSED if transpose_b else _AS_IT_IS
        calls: list[Call] = []
        for (i, rows), (j, columns), (k, inner) in product(*map(_blocks, cut)):
            first_a = k * width_a + i if transpose_a else i * width_a + k
            first_b = j * width_b + k if transpose_b else k * width_b + j
            call = partial(
                self._gemm,
                *flags,
                *(_SIZE(rows), _SIZE(columns), _SIZE(inner)),
                *(alpha, _memory(a, first_a), _SIZE(width_a), _memory(b, first_b), _SIZE(width_b)),
                *(self._real(beta if k == 0 else 1.0), _memory(out, i * n + j), _SIZE(n)),
            )
            calls.append(call)
        return calls[0] if len(calls) == 1 else partial(_call_each, calls)


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first index of each block, and its size."""
    first = 0
    for size in sizes:
        yield first, size
        first += size


def _made_up(size: int) -> Any:
    """The numbers of two vectors."""
    return np.random.default_rng(0).standard_normal((2, size))


def _pieces(size: int) -> list[int]:
    """The sizes of parts of a vector for which axpy takes one thread each."""
    return [PIECE] * (size // PIECE) + ([size % PIECE] if size % PIECE else [])


def _call_each(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _memory(x: Any, first: int = 0) -> Any:
    """The memory of an array from one of its elements on, as a pointer that keeps it alive."""
    return _NOTHING.from_buffer(x, first * x.itemsize)


def _function(library: ctypes.CDLL, name: str) -> Any:
    function = find_function(library, name, NAMES)
    function.restype = None
    return function


@cache
def numpy_blas(dtype: str) -> Blas | None:
    """NumPy's own BLAS, or None where it cannot be used."""
    try:
        blas = Blas(ctypes.CDLL(file_of_numpy()), dtype)
    except (AttributeError, KeyError, OSError, TypeError):
        return None
    x, y, z, w = (np.arange(start, start + 37, dtype=dtype) for start in (1, 5, 9, 3))
    blas.axpby(2.0, x, 1.0, y)()
    blas.axpby(3.0, x, 4.0, z)()
    blas.subtraction(x, w)(2.0)
    a, b, c = x.reshape(1, 37), y[:35].reshape(7, 5), np.ones((5, 1), dtype)
    blas.gemm(2.0, b, True, a[:, :7].reshape(7, 1).copy(), False, 3.0, c)()
    n = np.arange(37)
    good = (y == 3 * n + 7).all() and (z == 7 * n + 39).all() and (w == 1 - n).all()
    return blas if good and (c == 2.0 * b.T @ np.arange(1.0, 8.0)[:, None] + 3.0).all() else None

"""How many threads of the BLAS a product takes: a fixed rule, and one thread where the others are kept waiting.

More threads are faster only if there is work for each, and waiting for each other is all they do where other processes
hold the cores: a small network trained 20 times slower then than on one thread. But a product with another number of
threads may have other last bits, and a repeated run shall have the same. So:

- ``rule`` decides by the sizes of a product alone, never by the clock.
- A recorded step whose products have the same bits on one thread may be made so (``Pace``). Two threads compute half a
  product each where the BLAS can be told to (``halves``), one thread the halves one after the other. Otherwise a BLAS
  cuts a product into blocks, and another way with several threads: ``cut_for_one_thread`` looks, on made-up data, for
  the blocks that give the same bits one after the other.

The number of threads is one of the process. It is changed here for the time of a product, or of some recorded steps,
and is then what the user chose, who is asked anew each time; it is never more than that.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from math import ceil, inf
from time import perf_counter, thread_time
from typing import Any, NamedTuple, Protocol

import numpy

from .blas import Blas, Cut
from .library import file_of_numpy, find_function

#: What builds of OpenBLAS call the function ``openblas_set_num_threads``.
NAMES = ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}")

#: Multiplications for each thread: 15 to 25 us of work in float32. Measured with two threads: 1.3 to 1.6 million are
#: 0.6 to 1.8 times as long on two threads as on one, 3.2 million 0.8 times, 6.4 million 0.7 times.
PER_THREAD = 2**20
#: Of fewer multiplications OpenBLAS makes no use of threads, of two matrices or of a vector and a matrix.
FEWEST, FEWEST_OF_VECTOR = 2**18, 9216


def rule(multiplications: int, most: int) -> int:
    """The threads of a product of so many multiplications, m n k, where ``most`` are allowed."""
    return max(1, min(most, multiplications // PER_THREAD))


def depends_on_threads(m: int, n: int, k: int) -> bool:
    """Whether a BLAS may compute a product of this size by several threads."""
    return m * n * k >= (FEWEST_OF_VECTOR if 1 in (m, n) else FEWEST)


class Threads:
    """The number of threads of a BLAS, which is one of the process.

    Args:
        library: with OpenBLAS's functions, which are called with Python's lock held: they are as short as that.

    Attributes:
        busy_until: until when (``perf_counter``) the cores are taken to be held by others.
    """

    def __init__(self, library: ctypes.PyDLL) -> None:
        self._get: Callable[[], int] = find_function(library, "get_num_threads", NAMES)
        self._set: Callable[[Any], None] = find_function(library, "set_num_threads", NAMES)
        self._lock = threading.Lock()
        self._owner, self._most = 0, 1
        self.busy_until = 0.0
        self._changes = 0  # odd while the number may not be what the user chose

    def number(self) -> int:
        """How many a product takes now."""
        return self._get()

    def set(self, number: int) -> None:
        """Let products take so many, inside ``held``."""
        self._set(number)

    def setter(self, number: int) -> Callable[[], None]:
        """A call that does so."""
        return partial(self._set, ctypes.c_int(number))

    @contextmanager
    def held(self) -> Iterator[int]:
        """A context in which this thread of Python alone may change the number, and after which it is as before. Gives
        the number that the user chose; where that is 1 nobody changes anything, nor has to wait."""
        changes = self._changes
        if self._get() == 1 and changes == self._changes and changes % 2 == 0:
            yield 1
        elif self._owner == threading.get_ident():
            yield self._most
        else:
            with self._lock:
                self._most, self._owner = self._get(), threading.get_ident()
                self._changes += 1
                try:
                    yield self._most
                finally:
                    self._set(self._most)
                    self._changes += 1
                    self._owner = 0

    def call(self, multiplications: int, ways: Ways | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that computes a product on the threads that the rule allows; or on one, where the bits are
        the same and recorded steps have lately been faster so. Gives what the function gives.

        Args:
            ways: to compute the same into an array that the function writes to and gives.
        """
        with self.held() as most:
            if most == 1:
                return function(*args)
            number = rule(multiplications, most)
            is_busy = number > 1 and perf_counter() < self.busy_until
            if ways is not None:
                call = ways.in_halves(number)
                if call is None and is_busy:
                    call = ways.alone(self, number)
                if call is not None:
                    self._set(1 if is_busy else number)
                    call()
                    return ways.out
            self._set(number)
            return function(*args)


class Ways(Protocol):
    """Calls that compute one product into an array, which is what a function of NumPy does and gives.

    Attributes:
        out: the array.
    """

    out: Any

    def in_halves(self, number: int) -> Callable[[], Any] | None:
        """A call for so many threads, two, that has the same bits on one; None where there is none, and the function of
        NumPy is to be called."""

    def alone(self, threads: Threads, number: int) -> Callable[[], Any] | None:
        """A call that gives on one thread the bits of that function on so many; None where there is none."""


@cache
def numpy_threads() -> Threads | None:
    """The threads of NumPy's own BLAS, or None where their number cannot be changed."""
    try:
        threads = Threads(ctypes.PyDLL(file_of_numpy()))
    except (AttributeError, KeyError, OSError, TypeError):
        return None
    with threads.held() as most:
        threads.set(1)
        is_one = threads.number() == 1
    return threads if is_one and threads.number() == most else None


# ---- the same bits on one thread -------------------------------------------------------------------------------------

#: A product that takes longer waits less often for what it is, and making sure of its bits would take long.
MOST_COMPARED = 2**27
#: Seconds of work after which no further cut is tried.
LONGEST_SEARCH = 0.05
#: How many rows of a block of the inner dimension kernels of OpenBLAS take at a time (GEMM_Q in its param.h).
INNER_BLOCKS = (448, 384, 320, 256, 352, 512, 640, 768, 192, 240, 128, 1024)


class Product(NamedTuple):
    """out <- alpha op(a) op(b) + beta out, (m, k) times (k, n)."""

    m: int
    n: int
    k: int
    transpose_a: bool
    transpose_b: bool
    alpha: float
    beta: float


@lru_cache(maxsize=1000)
def cut_for_one_thread(threads: Threads, blas: Blas, product: Product, number: int) -> Cut | None:
    """How to cut a product so that one thread computes it with the bits that ``number`` threads give; None where no
    such way is found. To be called inside ``threads.held()``; the number is as the last call has left it.

    The way is looked for on made-up data. Nothing that decides the order of additions depends on the data.
    """
    m, n, k, transpose_a, transpose_b, alpha, beta = product
    if m * n * k > MOST_COMPARED:
        return None
    draw = numpy.random.default_rng(0).random
    a, b, before = (
        draw(shape, blas.dtype) - 0.5
        for shape in ((k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n), (m, n))
    )
    expected, out = before.copy(), numpy.empty_like(before)
    threads.set(number)
    blas.gemm(alpha, a, transpose_a, b, transpose_b, beta, expected)()
    threads.set(1)
    begun = thread_time()
    for cut in _cuts(m, n, k, number):
        numpy.copyto(out, before)
        blas.gemm(alpha, a, transpose_a, b, transpose_b, beta, out, cut)()
        if numpy.array_equal(out, expected):
            return cut
        if thread_time() - begun > LONGEST_SEARCH:
            break
    return None


def _cuts(m: int, n: int, k: int, number: int) -> Iterator[Cut]:
    """Ways in which OpenBLAS may cut a product for so many threads (driver/level3/level3_thread.c).

    It halves what is left of the inner dimension between one and two blocks, and rounds the halves up to whole tiles
    for one thread only. Each thread takes a part of the columns (its rows, in the order of Fortran) and brings its part
    of the rows into order for all, in two halves: kernels that treat the last rows of a part otherwise see other ends.
    """
    for blocks in dict.fromkeys([(k,), *(_halved(k, block) for block in INNER_BLOCKS)]):
        for rows, columns in ((1, 1), (2 * number, 1), (2 * number, number)):
            yield Cut(_parts(m, rows), _parts(n, columns), blocks)


def _halved(size: int, block: int) -> tuple[int, ...]:
    whole = max(0, size // block - 1)
    rest = size - whole * block
    last = (rest,) if rest <= block else (block, block) if rest == 2 * block else (ceil(rest / 2), rest // 2)
    return (block,) * whole + last


def _parts(size: int, count: int) -> tuple[int, ...]:
    """About equal parts, larger ones first, of which none is empty."""
    parts = []
    while size > 0:
        parts.append(ceil(size / count))
        size -= parts[-1]
        count -= 1
    return tuple(parts)


# ---- several threads or one, by the clock ----------------------------------------------------------------------------


class Pace:
    """Whether steps are made by several threads or by one, where both give the same bits: what the clock says.

    Steps on several threads may lose some time in all against steps on one, and beside it what they have gained before,
    up to ``GAINED_SECONDS``: a machine that takes a core away for an instant is not a busy one. Beyond that steps are
    made on one thread, for ``PAUSE`` times what was lost, and then on several again; each time that those have not
    lasted the next pause is twice as long, for threads of OpenBLAS that wait for work hold a core for a while. How long
    a step takes on one thread is measured meanwhile; and, where none is made so, by a few from time to time
    (``LOOK_AFTER``).

    Attributes:
        alone: whether the next step is to be made by one thread.
        waits: whether that is so because several have lost too much.
    """

    LOST_SECONDS, LOST_STEPS = 0.005, 8
    GAINED_SECONDS = 0.05
    PAUSE, LONGEST_PAUSE_SECONDS = 20, 2.0
    LOOK_AFTER_SECONDS, LOOK_AFTER_STEPS = 0.25, 200
    LOOK_STEPS, REMEMBERED_STEPS = 3, 16

    def __init__(self) -> None:
        self.alone = True
        self._one = self._lost = 0.0  # seconds: of a step on one thread; and lost on several, less than 0 if gained
        self._longer = 1.0  # twice that for each time that several have not lasted, one after the other; may be inf
        self._left = self._pause = 0.0  # seconds until something is to change
        self._steps, self._sum, self._least = 0, 0.0, inf  # of the steps on one thread since they began

    def took(self, seconds: float) -> None:
        """The step was made, in so many seconds."""
        self._left -= seconds
        if self.alone:
            self._steps += 1
            self._sum += seconds
            self._least = min(self._least, seconds)
            if self._steps >= self.LOOK_STEPS and self._left <= 0.0:
                self._learn()
                self.alone = False
                self._left = max(self.LOOK_AFTER_SECONDS, self.LOOK_AFTER_STEPS * self._one)
            return
        self._lost = max(-self.GAINED_SECONDS, self._lost + seconds - self._one)
        if self._lost > max(self.LOST_SECONDS, self.LOST_STEPS * self._one):
            pause = self.PAUSE * self._lost
            self._go_alone(max(pause, min(pause * self._longer, self.LONGEST_PAUSE_SECONDS)))
            self._lost = 0.0
            self._longer *= 2.0
        elif self._left <= 0.0:
            self._longer = 1.0
            self._go_alone(0.0)

    @property
    def waits(self) -> bool:
        return self.alone and self._pause > 0.0

    def _learn(self) -> None:
        """Of the first few steps one may have been disturbed; later on some always are, and count as much as they last,
        for steps on several threads are disturbed as well: more of them the more they are, and within bounds."""
        if self._one == 0.0:
            self._one = self._least
            return
        mean = min(self._sum / self._steps, 2.0 * self._one)
        self._one += (mean - self._one) * self._steps / (self._steps + self.REMEMBERED_STEPS)

    def _go_alone(self, seconds: float) -> None:
        self.alone, self._left, self._pause = True, seconds, seconds
        self._steps, self._sum, self._least = 0, 0.0, inf


class Beside:
    """A context in which a thread of this process works beside the one that trains: reads rows for it, for one.

    Attributes:
        number: how many threads are in it.
    """

    def __init__(self) -> None:
        self.number = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.number += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.number -= 1


beside = Beside()


class Paces:
    """A ``Pace`` for while other threads of this process are at work (``beside``), and one for while none is.

    Rows are read ahead in bursts, which last for a part of a second. Steps on several threads lose much meanwhile and
    nothing afterwards, and one pace for both would pause for longer than a burst lasts.
    """

    def __init__(self) -> None:
        self._quiet, self._busy = Pace(), Pace()
        self._now = self._quiet

    @property
    def alone(self) -> bool:
        return self._now.alone

    @property
    def waits(self) -> bool:
        return self._now.waits

    def took(self, seconds: float) -> None:
        """The step was made, in so many seconds: which tell nothing where the others have begun or ended meanwhile."""
        before, self._now = self._now, self._busy if beside.number else self._quiet
        if before is self._now:
            before.took(seconds)

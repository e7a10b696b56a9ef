"""Random and harmful arrays, from which the cases of ``backends.check`` are made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..typing import Array

NAN, INF = math.nan, math.inf

Made = Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]
#: Shapes of operations on rows: one row, one column, primes, none, tall, wide.
SHAPES = ((1, 1), (7, 5), (1, 10), (11, 1), (0, 4), (13, 17), (128, 10), (3, 257), (211, 3), (2, 1031))


@dataclass(frozen=True)
class Inputs:
    """Arrays in one dtype.

    Attributes:
        part: the activation or rule, of an operation that is other code for each of them.
    """

    rng: np.random.Generator
    dtype: np.dtype[Any]
    flushes: bool
    part: str = ""

    def array(self, x: Any) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(x).astype(self.dtype)

    def normal(self, *shape: int) -> Array:
        return self.array(self.rng.normal(size=shape))

    def uniform(self, *shape: int) -> Array:
        return self.array(self.rng.uniform(size=shape))

    def wide_range(self, *shape: int) -> Array:
        """Numbers whose magnitudes differ by 12 powers of ten."""
        return self.array(self.rng.normal(size=shape) * 2.0 ** self.rng.integers(-20, 20, shape))

    def order(self, n: int) -> Array:
        return self.rng.permutation(n)

    @property
    def u(self) -> float:
        return float(np.finfo(self.dtype).eps) / 2

    @property
    def tiny(self) -> list[float]:
        """The smallest denormal, a few others and the smallest normal number."""
        info = np.finfo(self.dtype)
        return [float(info.smallest_subnormal), float(info.tiny) * 0.3, float(info.tiny)]

    @property
    def huge(self) -> float:
        return float(np.finfo(self.dtype).max) * 0.99

    def summands(self, n: int) -> Iterator[tuple[str, Array]]:
        """Sequences of ``n`` that are hard to add up."""
        k, big = np.arange(n), 1e8 if self.dtype == np.float32 else 1e17
        yield "cancelling", self.array(np.take([big, 1.0, -big], k % 3))
        yield "alternating", self.array((1 + k / (n + 1.0)) * (-1.0) ** k)
        yield "rounded every time", self.array(np.where(k == 0, 1.0, 0.9 * self.u))
        yield "rounded up every time", self.array(np.where(k == 0, 1.0, 1.1 * self.u))
        yield "harmonic", self.array((-1.0) ** k / (k + 1))
        yield "growing", self.array(2.0 ** ((k % 40) - 20.0))

    def specials(self) -> Iterator[tuple[str, Array]]:
        """Matrices of four columns: a finite row, and rows with what is special."""
        low, middle, normal = self.tiny
        yield "zeros", self.array([[0.0, -0.0, 0.0, -0.0], [-0.0, 0.0, -0.0, 0.0]])
        if not self.flushes:
            yield "denormals", self.array([[low, -low, middle, -middle], [normal, -normal, 0.0, low]])
        yield "infinite", self.array([[1.0, 2.0, 3.0, 4.0], [INF, 0.0, 1.0, 2.0], [0.0, -INF, 1.0, -0.0]])
        yield "infinite twice", self.array([[1.0, 2.0, 3.0, 4.0], [INF, -INF, 1.0, 2.0], [-INF, 0.5, -INF, 1.0]])
        yield "NaN", self.array([[1.0, 2.0, 3.0, 4.0], [NAN, 0.0, 1.0, 2.0], [0.0, 1.0, 3.0, NAN], [NAN] * 4])
        yield "NaN and infinite", self.array([[NAN, INF, -INF, 0.0], [1.0, 0.0, -1.0, 0.5]])

    def logits(self) -> Iterator[tuple[str, Array]]:
        """Rows of logits, 4 columns or more."""
        for m, n in SHAPES:
            yield "random", 3 * self.normal(m, n)
        for scale in (1e-3, 30.0, 100.0):
            yield f"random times {scale:g}", self.array(scale * self.rng.normal(size=(9, 11)))
        yield "equal", self.array([[0.5] * 5, [-3.0] * 5, [1e4] * 5])
        yield (
            "ties",
            self.array([[2.0, 2.0, 1.0], [0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, -0.0, -1.0], [-0.0, 0.0, -1]]),
        )
        yield "large", self.array([[1e4, -1e4, 0.0, 1.0], [-1e4, -1e4, -1e4, 1e4], [0.0, 1e4, 1e4, -1e4]])
        yield "about to underflow", self.array([[0.0, -87.0, -88.5, -103.5], [0.0, -104.5, -745.0, -746.0]])
        yield "nearly equal", self.array(1.0 + self.u * self.rng.integers(0, 8, (6, 5)))
        yield "wide range", self.wide_range(8, 6)
        yield from self.specials()

    def elements(self) -> Iterator[tuple[str, Array]]:
        """Matrices for what is done element by element."""
        for m, n in (*SHAPES, (3, 0)):
            yield "random", self.normal(m, n)
        for scale in (1e-6, 0.1, 10.0, 100.0, 1e4):
            yield f"random times {scale:g}", self.array(scale * self.rng.normal(size=(9, 11)))
        yield "grid", self.array(np.linspace(-20, 20, 210).reshape(30, 7))
        yield "huge", self.array([[self.huge, -self.huge], [1.0, -1e4]])
        yield "wide range", self.wide_range(12, 9)
        yield from self.specials()

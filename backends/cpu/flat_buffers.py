"""What is done with the flat buffers around updates: sums, norms, limits, averages, penalties."""

from __future__ import annotations

from math import sqrt

import numpy

from ..typing import Array
from .blas import PIECE
from .core import NumpyCore, are_alike, host_number


class NumpyFlatBuffers(NumpyCore):
    """Operations on the parameters or the gradients of a whole network."""

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> Array:
        np = self._memory.numpy
        if beta == 0.0:
            return np.multiply(x, alpha, out=y)
        if self._blas is not None and alpha != 0.0 and are_alike(y, x):
            self._call(self._blas.axpby(alpha, x, beta, y))
            return y
        scaled = np.multiply(x, alpha, out=self._scratch("scaled", x.shape))
        np.multiply(y, beta, out=y)
        return np.add(y, scaled, out=y)

    def clip_norm(self, x: Array, limit: float, *, norm: Array | None = None) -> tuple[Array, Array]:
        norm = self._memory.numpy.empty((1,), self.wide) if norm is None else norm
        parts = [x[start : start + PIECE] for start in range(0, x.size, PIECE)]
        wide = [self._scratch("wide", part.shape, self.wide) for part in parts]
        self._call(_clip_norm, [*zip(parts, wide, strict=True)], x, limit, norm)
        return x, norm

    def clip_values(self, x: Array, limit: float) -> Array:
        return self._memory.numpy.clip(x, -limit, limit, out=x)

    def update_average(self, average: Array, x: Array, decay: float, *, number: int | Array, first: int = 1) -> Array:
        self._call(self._move_average, average, x, 1.0 - decay, number, first)
        return average

    def _move_average(self, average: Array, x: Array, fresh: float, number: int | Array, first: int) -> None:
        if host_number(number) <= first:
            numpy.copyto(average, x)
            return
        change = numpy.subtract(x, average, out=self._scratch("change", x.shape))
        numpy.multiply(change, fresh, out=change)
        numpy.add(average, change, out=average)

    def add_penalty(
        self, gradient: Array, weights: Array, *, l1: float = 0.0, l2: float = 0.0, out: Array | None = None
    ) -> Array:
        np = self._memory.numpy
        if l2 != 0.0:
            term = np.multiply(weights, l2, out=self._scratch("penalty", weights.shape))
            gradient = out = np.add(gradient, term, out=out)
        if l1 != 0.0:
            term = np.sign(weights, out=self._scratch("penalty", weights.shape))
            gradient = out = np.add(gradient, np.multiply(term, l1, out=term), out=out)
        if out is not None and gradient is not out:
            np.copyto(out, gradient)
        return gradient if out is None else out

    def sum_of_squares(self, x: Array) -> Array:
        return self._call(lambda: numpy.asarray(super(NumpyFlatBuffers, self).sum_of_squares(x)))

    def all_finite(self, x: Array) -> Array:
        return self._call(lambda: numpy.asarray(numpy.isfinite(x).all()))


def _clip_norm(parts: list[tuple[Array, Array]], x: Array, limit: float, norm: Array) -> None:
    """x times min(1, limit / (norm + 1e-6)).

    Args:
        parts: of x, each with memory for its elements in the wide dtype. They are so short that the BLAS takes one
            thread for each, or the bits would depend on their number.
    """
    total = 0.0
    for part, wide in parts:
        numpy.copyto(wide, part)
        total += float(numpy.dot(wide, wide))
    norm[0] = found = sqrt(total)
    factor = limit / (found + 1e-6)
    if not factor >= 1.0:  # NaN is not either
        numpy.multiply(x, factor, out=x)

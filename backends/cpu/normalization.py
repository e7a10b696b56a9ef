"""Normalization through NumPy: of rows, and of columns; of many rows by ``columns``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ..typing import Array
from .columns import LEAST, Columns
from .core import NumpyCore, are_plain


class NumpyNormalizations(NumpyCore):
    """Normalization of rows and columns, and the chain rule through it."""

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        running: dict[str, Array] | None = None,
        *,
        axis: int,
        epsilon: float,
        momentum: float = 0.0,
        normalized: Array | None = None,
        inverse: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        np = self._memory.numpy
        part = 1.0 / x.shape[axis]
        normalized = np.empty_like(x) if normalized is None else normalized
        inverse = np.empty(x.shape[1 - axis], x.dtype) if inverse is None else inverse
        out = np.empty_like(x) if out is None else out
        factor = inverse[:, None] if axis == 1 else inverse
        columns = self._columns(axis, x, normalized, out)
        if columns is not None:
            mean, variance = (self._scratch(f"normalize {name}", inverse.shape) for name in ("mean", "variance"))
            self._call_shared(columns.cost, self._moments, columns, x, mean, variance)
        else:
            mean = self._sum_along(axis, x, "normalize mean")
            np.multiply(mean, part, out=mean)
            np.subtract(x, mean, out=normalized)
            squares = np.multiply(normalized, normalized, out=self._scratch("product", x.shape))
            variance = self._sum_along(axis, squares, "normalize variance")
        if running is not None:
            fresh = self._scratch("normalize fresh", inverse.shape)
            for kept, values, times in (
                (running["mean"], mean, 1.0),
                (running["variance"], variance, 1.0 / (x.shape[0] - 1)),
            ):
                np.multiply(values, momentum * times, out=fresh)
                np.multiply(kept, 1.0 - momentum, out=kept)
                np.add(kept, fresh, out=kept)
        np.multiply(variance, part, out=variance)
        np.add(variance, epsilon, out=variance)
        np.sqrt(variance, out=variance)
        np.divide(1.0, variance, out=factor)
        if columns is not None:
            self._call_shared(columns.cost, self._standardize, columns, x, mean, inverse, weight, bias, normalized, out)
            return out, normalized, inverse
        np.multiply(normalized, factor, out=normalized)
        return _weigh(np, normalized, weight, bias, out), normalized, inverse

    def normalize_backward(
        self,
        dy: Array,
        normalized: Array,
        inverse: Array,
        weight: Array | None,
        *,
        axis: int,
        bias_gradient: Array | None = None,
        gain_gradient: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None, Array | None]:
        np = self._memory.numpy
        out = np.empty_like(dy) if out is None else out
        columns = self._columns(axis, dy, normalized, out)
        if columns is not None:
            results = bias_gradient, gain_gradient, out
            call = self._columns_backward, columns, dy, normalized, inverse, weight
            self._call_shared(columns.cost, *call, *results)
            return out, bias_gradient, gain_gradient
        part = 1.0 / dy.shape[axis]
        product = self._scratch("product", dy.shape)
        if gain_gradient is not None:
            self.column_sum(np.multiply(dy, normalized, out=product), out=gain_gradient)
        if bias_gradient is not None:
            self.column_sum(dy, out=bias_gradient)
        g = dy if weight is None else np.multiply(dy, weight, out=out)
        of_g = self._sum_along(axis, g, "normalize mean")
        np.multiply(of_g, part, out=of_g)
        of_both = self._sum_along(axis, np.multiply(g, normalized, out=product), "normalize variance")
        np.multiply(of_both, part, out=of_both)
        factor = inverse[:, None] if axis == 1 else inverse
        _hand_back(np, g, normalized, of_g, of_both, factor, product, out)
        return out, bias_gradient, gain_gradient

    def normalize_by(
        self,
        x: Array,
        mean: Array,
        variance: Array,
        weight: Array | None,
        bias: Array | None,
        *,
        epsilon: float,
        out: Array | None = None,
    ) -> Array:
        np = self._memory.numpy
        factor = np.add(variance, epsilon, out=self._scratch("normalize variance", variance.shape))
        np.sqrt(factor, out=factor)
        np.divide(1.0, factor, out=factor)
        out = np.empty_like(x) if out is None else out
        columns = self._columns(0, x, out)
        if columns is not None:
            if weight is not None:
                np.multiply(factor, weight, out=factor)
            self._call_shared(columns.cost, self._normalize_by, columns, x, mean, factor, bias, out)
            return out
        np.subtract(x, mean, out=out)
        np.multiply(out, factor, out=out)
        return _weigh(np, out, weight, bias, out)

    # ---- many rows ---------------------------------------------------------------------------------------------------

    def _columns(self, axis: int, x: Array, *others: Array) -> Columns | None:
        """How the columns of these arrays are normalized in blocks; None where they are not."""
        if axis == 1 or x.size < LEAST or x.ndim != 2 or not are_plain(*others) or not x.flags.c_contiguous:
            return None
        if any(other.shape != x.shape for other in others):
            return None
        m, n = x.shape
        made: Columns = self._constant("columns", (m, n), lambda: Columns(m, n, self.dtype_name))
        return made

    def _in_blocks(self, columns: Columns, work: Callable[[int, int], None]) -> None:
        self._share(columns.job, work, columns.cost, columns.prepare)

    def _moments(self, columns: Columns, x: Array, mean: Array, squares: Array) -> None:
        """The means of the columns, and the sums of the squares of what they differ by."""
        rows, rest = columns.wide(x), columns.rest(x)

        def add_up(worker: int, part: int) -> None:
            columns.clear(part)
            for block in columns.parts[part]:
                columns.add(part, 0, rows[block])

        self._in_blocks(columns, add_up)
        columns.total(0, rest, mean)
        numpy.multiply(mean, 1.0 / len(x), out=mean)
        tile = columns.tiled("mean", mean)

        def add_up_squares(worker: int, part: int) -> None:
            columns.clear(part)
            for block, centered in columns.blocks(worker, part):
                numpy.subtract(rows[block], tile, out=centered)
                columns.add(part, 1, numpy.multiply(centered, centered, out=centered))

        self._in_blocks(columns, add_up_squares)
        columns.total(1, (rest - mean) ** 2, squares)

    def _standardize(
        self,
        columns: Columns,
        x: Array,
        mean: Array,
        factor: Array,
        weight: Array | None,
        bias: Array | None,
        normalized: Array,
        out: Array,
    ) -> None:
        """normalized <- (x - mean) factor, out <- weight normalized + bias"""
        rows, standard, to = columns.wide(x), columns.wide(normalized), columns.wide(out)
        tiles = columns.tiled("mean", mean), columns.tiled("factor", factor)
        gain = None if weight is None else columns.tiled("weight", weight)
        shift = None if bias is None else columns.tiled("bias", bias)

        def standardize(worker: int, part: int) -> None:
            for block in columns.parts[part]:
                numpy.subtract(rows[block], tiles[0], out=standard[block])
                numpy.multiply(standard[block], tiles[1], out=standard[block])
                _weigh(numpy, standard[block], gain, shift, to[block])

        self._in_blocks(columns, standardize)
        rest = numpy.subtract(columns.rest(x), mean, out=columns.rest(normalized))
        numpy.multiply(rest, factor, out=rest)
        _weigh(numpy, rest, weight, bias, columns.rest(out))

    def _columns_backward(
        self,
        columns: Columns,
        dy: Array,
        normalized: Array,
        inverse: Array,
        weight: Array | None,
        bias_gradient: Array | None,
        gain_gradient: Array | None,
        out: Array,
    ) -> None:
        """With g = weight dy: out <- (g - mean of g - normalized times the mean of g normalized) inverse"""
        given, standard, to = columns.wide(dy), columns.wide(normalized), columns.wide(out)

        def add_up(worker: int, part: int) -> None:
            columns.clear(part)
            for block, product in columns.blocks(worker, part):
                columns.add(part, 0, given[block])
                columns.add(part, 1, numpy.multiply(given[block], standard[block], out=product))

        self._in_blocks(columns, add_up)
        of_g, of_both = (self._scratch(f"normalize {name}", inverse.shape) for name in ("mean", "variance"))
        rest, rest_normalized = columns.rest(dy), columns.rest(normalized)
        columns.total(0, rest, of_g)
        columns.total(1, rest * rest_normalized, of_both)
        for sums, gradient in ((of_g, bias_gradient), (of_both, gain_gradient)):
            if gradient is not None:
                numpy.copyto(gradient, sums)
            if weight is not None:
                numpy.multiply(sums, weight, out=sums)
            numpy.multiply(sums, 1.0 / len(dy), out=sums)
        tiles = columns.tiled("mean", of_g), columns.tiled("both", of_both), columns.tiled("factor", inverse)
        gain = None if weight is None else columns.tiled("weight", weight)

        def finish(worker: int, part: int) -> None:
            for block, product in columns.blocks(worker, part):
                g = given[block] if gain is None else numpy.multiply(given[block], gain, out=to[block])
                _hand_back(numpy, g, standard[block], *tiles, product, to[block])

        self._in_blocks(columns, finish)
        out, product = columns.rest(out), numpy.empty_like(rest)
        g = rest if weight is None else numpy.multiply(rest, weight, out=out)
        _hand_back(numpy, g, rest_normalized, of_g, of_both, inverse, product, out)

    def _normalize_by(
        self, columns: Columns, x: Array, mean: Array, factor: Array, bias: Array | None, out: Array
    ) -> None:
        """out <- (x - mean) factor + bias"""
        rows, to = columns.wide(x), columns.wide(out)
        tiles = columns.tiled("mean", mean), columns.tiled("factor", factor)
        shift = None if bias is None else columns.tiled("bias", bias)

        def normalize(worker: int, part: int) -> None:
            for block in columns.parts[part]:
                numpy.subtract(rows[block], tiles[0], out=to[block])
                _weigh(numpy, to[block], tiles[1], shift, to[block])

        self._in_blocks(columns, normalize)
        rest = numpy.subtract(columns.rest(x), mean, out=columns.rest(out))
        _weigh(numpy, rest, factor, bias, rest)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _sum_along(self, axis: int, x: Array, name: str) -> Array:
        """The sums of the rows, (m, 1), or of the columns, (n,), in scratch memory of that name."""
        if axis == 0:
            return self.column_sum(x, out=self._scratch(name, x.shape[1:]))
        return self._memory.numpy.add.reduce(x, 1, None, self._scratch(name, (x.shape[0], 1)), True)


def _weigh(np: Any, x: Array, weight: Array | None, bias: Array | None, out: Array) -> Array:
    """out <- weight x + bias"""
    if weight is not None:
        x = np.multiply(x, weight, out=out)
    if bias is not None:
        np.add(x, bias, out=out)
    elif x is not out:
        np.copyto(out, x)
    return out


def _hand_back(
    np: Any, g: Array, normalized: Array, of_g: Array, of_both: Array, inverse: Array, product: Array, out: Array
) -> None:
    """out <- (g - of_g - normalized of_both) inverse; ``product`` is memory in its shape. ``out`` may be g."""
    np.multiply(normalized, of_both, out=product)
    np.subtract(g, of_g, out=out)
    np.subtract(out, product, out=out)
    np.multiply(out, inverse, out=out)

"""Losses with loops that Numba compiles; with weights, smoothed labels or losses of single rows NumPy computes them."""

from __future__ import annotations

import numpy

from ..typing import Array
from . import numba_kernels as kernels
from .core import are_alike, are_plain
from .losses import NumpyLosses


class NumbaLosses(NumpyLosses):
    """The losses that are used most, each in a pass or two."""

    def softmax_cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        label_smoothing: float = 0.0,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        one_each = labels.shape == logits.shape[:1] and are_plain(labels, totals)
        by_rows = weights is not None or losses is not None
        if by_rows or label_smoothing or not logits.size or not one_each or not are_alike(logits, out):
            return super().softmax_cross_entropy(
                logits,
                labels,
                label_smoothing=label_smoothing,
                totals=totals,
                gradient=gradient,
                scale=scale,
                weights=weights,
                losses=losses,
                out=out,
            )
        np, call, m = self._memory.numpy, self._call, len(labels)
        if labels.dtype != numpy.int64:
            signed = self._scratch("labels", (m,), numpy.int64)
            np.copyto(signed, labels, casting="unsafe")
            labels = signed
        totals = self._totals(totals)
        result = self._gradient_buffer(logits, gradient, out)
        label_part = self._scratch("row_max", (m,))
        call(kernels.shift_rows, logits, labels, result, label_part, totals)
        np.exp(result, out=result)
        call(kernels.finish_rows, result, labels, label_part, self._scale(scale, m), totals)
        return totals, result if gradient else None

    def binary_cross_entropy(
        self,
        logits: Array,
        targets: Array,
        *,
        exclusive: bool = False,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        by_rows = weights is not None or losses is not None
        if by_rows or exclusive or not logits.size or not are_alike(logits, targets, out) or not are_plain(totals):
            return super().binary_cross_entropy(
                logits,
                targets,
                exclusive=exclusive,
                totals=totals,
                gradient=gradient,
                scale=scale,
                weights=weights,
                losses=losses,
                out=out,
            )
        np, call = self._memory.numpy, self._call
        totals = self._totals(totals)
        result = self._gradient_buffer(logits, gradient, out)
        tangent, logarithm = self._scratch("derivative", logits.shape), self._scratch("product", logits.shape)
        call(kernels.halves_and_negatives, logits, tangent, logarithm)
        np.tanh(tangent, out=tangent)
        np.log1p(np.exp(logarithm, out=logarithm), out=logarithm)
        factor = self._scale(scale, len(logits))
        call(kernels.finish_binary, logits, targets, tangent, logarithm, factor, result, totals)
        return totals, result if gradient else None

    def squared_error(
        self,
        outputs: Array,
        targets: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        by_rows = weights is not None or losses is not None
        if by_rows or not outputs.size or not are_alike(outputs, targets, out) or not are_plain(totals):
            return super().squared_error(
                outputs,
                targets,
                totals=totals,
                gradient=gradient,
                scale=scale,
                weights=weights,
                losses=losses,
                out=out,
            )
        totals = self._totals(totals)
        result = self._gradient_buffer(outputs, gradient, out)
        self._call(kernels.squared_error, outputs, targets, self._scale(scale, len(outputs)), result, totals)
        return totals, result if gradient else None

    def _gradient_buffer(self, like: Array, gradient: bool, out: Array | None) -> Array:
        """Where a loss computes its gradient, be it asked for or not."""
        if not gradient:
            return self._scratch("losses", like.shape)
        return numpy.empty_like(like) if out is None else out

"""Losses with their gradients on a CUDA GPU, each in one launch; what they are is said in ``backends.base``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..typing import Array
from .core import CupyCore
from .keep import keep
from .launch import ROWS_OF_LAST_BLOCK
from .source.losses import ERRORS


class LossOperations(CupyCore):
    """Sums of losses and of correct rows, and the gradient of their mean."""

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
        """Loss sum, correct rows and gradient in one launch; labels that are not int64 are converted first."""
        op = "softmax_cross_entropy"
        m, n = self._filled_matrix(op, "logits", logits)
        if isinstance(labels, self.cupy.ndarray) and labels.dtype != np.int64:
            if labels.dtype.kind not in "iu":
                raise TypeError(f"{op}: labels must be integers, not of dtype {labels.dtype}")
            labels = labels.astype(np.int64)
        labels = self._input(op, "labels", labels, (m,), np.int64)
        settings: tuple[float, ...] = ()
        if label_smoothing:
            op, settings = "smoothed_cross_entropy", (1.0 - label_smoothing, label_smoothing / n)
        of_rows = weights, losses, settings
        return self._loss(op, logits, labels, totals, gradient, self._scale(scale, m), *of_rows, out)

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
        """Loss sum, correct rows and gradient in one launch."""
        op = "binary_cross_entropy"
        m, n = self._filled_matrix(op, "logits", logits)
        targets = self._input(op, "targets", targets, (m, n))
        of_rows = weights, losses, (exclusive,)
        return self._loss(op, logits, targets, totals, gradient, self._scale(scale, m) / n, *of_rows, out)

    def sigmoid_focal(
        self,
        logits: Array,
        targets: Array,
        *,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        exclusive: bool = False,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Loss sum, correct rows and gradient in one launch."""
        op = "sigmoid_focal"
        m, n = self._filled_matrix(op, "logits", logits)
        targets = self._input(op, "targets", targets, (m, n))
        balance = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
        of_rows = weights, losses, (exclusive, gamma, *balance)
        return self._loss(op, logits, targets, totals, gradient, self._scale(scale, m) / n, *of_rows, out)

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
        """Loss sum, correct rows and gradient in one launch."""
        rest = totals, gradient, scale, weights, losses, (), out
        return self._error("squared_error", outputs, targets, *rest, slope=2.0)

    def absolute_error(
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
        """Loss sum, correct rows and gradient in one launch."""
        return self._error("absolute_error", outputs, targets, totals, gradient, scale, weights, losses, (), out)

    def huber(
        self,
        outputs: Array,
        targets: Array,
        *,
        delta: float = 1.0,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Loss sum, correct rows and gradient in one launch."""
        return self._error("huber", outputs, targets, totals, gradient, scale, weights, losses, (delta,), out)

    def _error(
        self,
        op: str,
        outputs: Array,
        targets: Array,
        totals: Array | None,
        gradient: bool,
        scale: float | None,
        *rest: Any,
        slope: float = 1.0,
    ) -> tuple[Array, Array | None]:
        """A loss of the differences; ``slope``, times what the kernel computes, is its derivative."""
        m, n = self._filled_matrix(op, "outputs", outputs)
        targets = self._input(op, "targets", targets, (m, n))
        return self._loss(op, outputs, targets, totals, gradient, slope * self._scale(scale, m) / n, *rest)

    def _loss(
        self,
        kernel: str,
        outputs: Array,
        targets: Array,
        totals: Array | None,
        gradient: bool,
        scale: float,
        weights: Array | None,
        losses: Array | None,
        settings: tuple[float, ...],
        out: Array | None,
    ) -> tuple[Array, Array | None]:
        m, n = outputs.shape
        outputs = self._input(kernel, "outputs" if kernel in ERRORS else "logits", outputs, (m, n))
        sums = self._target(kernel, totals, (2,), "totals", np.float64)
        target = self._target(kernel, out, (m, n)) if gradient else None
        weights = None if weights is None else self._input(kernel, "weights", weights, (m,))
        values = None if losses is None else self._target(kernel, losses, (m,), "losses")
        rows = self._buffer("rows", 2 * m, np.float64)
        kernels, accumulate = self._kernels, sums is totals
        ticket = kernels.ticket if m <= ROWS_OF_LAST_BLOCK else None
        as_they_are = None, None, targets, None, None, None, 0, m, m  # no bias, and nothing to gather
        kernels.rows(
            kernel,
            m,
            n,
            outputs,
            *as_they_are,
            weights,
            values,
            rows,
            *settings,
            target,
            scale,
            ticket,
            sums,
            accumulate,
        )
        if values is not None:
            self._deliver(values, losses)
        if m == 0 or ticket is None:
            kernels.one_block("add_totals", m, rows, sums, accumulate)
        if totals is not None and sums is not totals:
            totals += sums
            keep(totals, sums)
        return sums if totals is None else totals, None if target is None else self._deliver(target, out)

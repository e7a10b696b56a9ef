"""What a loss tells of its rows: their sum, and how many are correct."""

from __future__ import annotations

from math import isfinite

import numpy

from ..typing import Array
from .core import NumpyCore


class NumpyCounts(NumpyCore):
    """Loss sums and correct rows, as all losses count them."""

    def _totals(self, totals: Array | None) -> Array:
        return self.zeros((2,), self.wide) if totals is None else totals

    def _count(
        self,
        totals: Array,
        values: Array,
        correct: Array,
        weights: Array | None,
        losses: Array | None,
        columns: int,
        outputs: Array,
    ) -> None:
        """Add loss sum and correct rows to ``totals``, and write the losses of the rows.

        Args:
            values: (m,) losses of the rows; or (m, columns), of which the loss of a row is the mean. Overwritten.
            correct: (m,), as if no output were NaN. Overwritten.
            outputs: (m, n), to look for NaN in, where the loss sum says that there may be one.
        """
        wide, total, count = self.wide, numpy.add.reduce, numpy.count_nonzero

        def add() -> None:
            loss_sum = total(values, None, wide)
            if not isfinite(loss_sum):
                _take_out_nan(outputs, correct)
            totals[0] += loss_sum / columns
            totals[1] += count(correct)

        def add_weighted() -> None:
            if losses is not None:
                numpy.copyto(losses, values if values.ndim == 1 else numpy.mean(values, axis=1))
            if not isfinite(total(values, None, wide)):
                _take_out_nan(outputs, correct)
            if weights is not None:
                numpy.multiply(values.T, weights, out=values.T)
            totals[0] += total(values, None, wide) / columns
            totals[1] += count(correct) if weights is None else numpy.sum(weights * correct, dtype=wide)

        self._call(add if weights is None and losses is None else add_weighted)

    def _weighted(self, gradient: Array, weights: Array | None) -> Array:
        np = self._memory.numpy
        return gradient if weights is None else np.multiply(gradient, weights[:, None], out=gradient)

    def _answers(self, logits: Array, targets: Array, exclusive: bool) -> Array:
        """Which rows a sigmoid answers correctly, as if none were NaN."""
        if exclusive:
            return self._is_at_top(logits, targets)
        np = self._memory.numpy
        agree = np.greater(logits, 0.0, out=self._scratch("agree", logits.shape, numpy.bool_))
        is_yes = np.greater(targets, 0.5, out=self._scratch("yes", logits.shape, numpy.bool_))
        np.equal(agree, is_yes, out=agree)
        return np.logical_and.reduce(agree, 1, None, self._scratch("correct", (len(logits),), numpy.bool_))

    def _is_nearest(self, outputs: Array, targets: Array) -> Array:
        """Which rows are on the right side of 1/2 or have their largest output at the largest target, likewise."""
        m, n = outputs.shape
        if n != 1:
            return self._is_at_top(outputs, targets)
        np, correct = self._memory.numpy, self._scratch("correct", (m,), numpy.bool_)
        is_yes = np.greater(targets[:, 0], 0.5, out=self._scratch("yes", (m,), numpy.bool_))
        return np.equal(np.greater(outputs[:, 0], 0.5, out=correct), is_yes, out=correct)

    def _is_at_top(self, outputs: Array, targets: Array) -> Array:
        m = len(outputs)
        best, target = (self._scratch(name, (m,), numpy.intp) for name in ("argmax", "target"))
        self._call(outputs.argmax, 1, best)
        self._call(targets.argmax, 1, target)
        return self._memory.numpy.equal(best, target, out=self._scratch("correct", (m,), numpy.bool_))


def _take_out_nan(outputs: Array, correct: Array) -> None:
    """Rows with NaN are not correct."""
    numpy.logical_and(correct, numpy.equal(outputs, outputs).all(axis=1), out=correct)

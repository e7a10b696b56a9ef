"""Losses through NumPy: sum over the rows, count of correct rows and gradient in one operation."""

from __future__ import annotations

from typing import Any

import numpy

from ..typing import Array
from .counts import NumpyCounts

#: Fewer columns than this are narrow: see ``_SoftmaxBuffers``.
NARROW = 32


class _SoftmaxBuffers:
    """Scratch memory of ``softmax_cross_entropy`` for (m, n) logits.

    Few columns are laid out column by column, ``z`` being (n, m): reductions over a short row cost NumPy several times
    what the same sums cost along the long axis.
    """

    def __init__(self, m: int, n: int, dtype: Any) -> None:
        self.axis = 0 if n < NARROW else 1
        self.z = numpy.empty((n, m) if self.axis == 0 else (m, n), dtype)
        self.flat = self.z.reshape(-1)
        self.column_stride = m if self.axis == 0 else 1
        self.row_starts = numpy.arange(m) * (1 if self.axis == 0 else n)
        self.positions = numpy.empty(m, numpy.intp)
        self.best = numpy.empty(m, numpy.intp)
        self.correct = numpy.empty(m, numpy.bool_)
        self.label_part = numpy.empty(m, dtype)
        self.losses = numpy.empty(m, dtype)
        self.top = numpy.empty((1, m) if self.axis == 0 else (m, 1), dtype)
        self.normalizer = numpy.empty_like(self.top)


class NumpyLosses(NumpyCounts):
    """Losses, each with its sum over the rows, the count of correct rows and its gradient."""

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
        np, call = self._memory.numpy, self._call
        m, n = logits.shape
        buffers = self._softmax_buffers(m, n)
        z, axis = buffers.z, buffers.axis
        np.copyto(z, logits.T if axis == 0 else logits)
        top = np.maximum.reduce(z, axis, None, buffers.top, True)
        call(logits.argmax, 1, buffers.best)
        correct = np.equal(buffers.best, labels, out=buffers.correct)
        # The positions of the label logits in the flat array, to read and write just those.
        # (Their dtype, since uint8 labels times the stride would wrap.)
        positions = np.multiply(labels, buffers.column_stride, out=buffers.positions, dtype=np.intp, casting="unsafe")
        np.add(positions, buffers.row_starts, out=positions)
        np.subtract(z, top, out=z)
        label_part = call(buffers.flat.take, positions, None, buffers.label_part, "clip")
        rest = 1.0 - label_smoothing
        if label_smoothing:
            sums = np.add.reduce(z, axis, None, self._scratch("mean", buffers.top.shape), True)
            np.multiply(sums, label_smoothing / n, out=sums)
            np.multiply(label_part, rest, out=label_part)
            np.add(label_part, sums.reshape(m), out=label_part)
        np.exp(z, out=z)
        normalizer = np.add.reduce(z, axis, None, buffers.normalizer, True)
        values = np.log(normalizer.reshape(m), out=buffers.losses)
        values = np.subtract(values, label_part, out=values)
        totals = self._totals(totals)
        # argmax takes NaN for the largest, but a row with NaN is never correct.
        self._count(totals, values, correct, weights, losses, 1, top.reshape(m, 1))
        if not gradient:
            return totals, None
        factor: Any = self._scale(scale, m)
        if weights is None:
            np.divide(factor, normalizer, out=normalizer)
        else:
            factor = np.multiply(weights, factor, out=self._scratch("factor", (m,)))
            np.divide(factor.reshape(normalizer.shape), normalizer, out=normalizer)
        np.multiply(z, normalizer, out=z)
        if label_smoothing:
            if weights is None:
                spread, factor = factor * (label_smoothing / n), factor * rest
            else:
                spread = np.multiply(factor, label_smoothing / n, out=self._scratch("spread", (m,)))
                spread = spread.reshape(normalizer.shape)
                np.multiply(factor, rest, out=factor)
            np.subtract(z, spread, out=z)
        call(buffers.flat.take, positions, None, label_part, "clip")
        call(buffers.flat.put, positions, np.subtract(label_part, factor, out=label_part))
        out = np.empty(logits.shape, self.dtype) if out is None else out
        np.copyto(out, z.T if axis == 0 else z)
        return totals, out

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
        np = self._memory.numpy
        m, n = logits.shape
        correct = self._answers(logits, targets, exclusive)
        # max(z, 0) - z t + log(1 + exp(-|z|))
        values = np.absolute(logits, out=self._scratch("losses", logits.shape))
        np.negative(values, out=values)
        np.exp(values, out=values)
        np.log1p(values, out=values)
        linear = np.maximum(logits, 0.0, out=self._scratch("product", logits.shape))
        product = np.multiply(logits, targets, out=self._scratch("derivative", logits.shape))
        np.subtract(linear, product, out=linear)
        np.add(values, linear, out=values)
        totals = self._totals(totals)
        self._count(totals, values, correct, weights, losses, n, logits)
        if not gradient:
            return totals, None
        out = self.bias_activation(logits, None, "sigmoid", out=out)
        np.subtract(out, targets, out=out)
        np.multiply(out, self._scale(scale, m) / n, out=out)
        return totals, self._weighted(out, weights)

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
        np = self._memory.numpy
        m, n = shape = logits.shape
        names = ("losses", "product", "derivative", "larger", "smaller", "miss")
        values, factor, entropy, larger, smaller, miss = (self._scratch(name, shape) for name in names)
        correct = self._answers(logits, targets, exclusive)
        # The probabilities of the likelier answer and of the other one.
        e = np.absolute(logits, out=smaller)
        np.negative(e, out=e)
        np.exp(e, out=e)
        np.add(e, 1.0, out=larger)
        np.divide(1.0, larger, out=larger)
        # max(z, 0) - z t + log(1 + e)
        np.multiply(logits, targets, out=miss)
        np.subtract(np.maximum(logits, 0.0, out=entropy), miss, out=entropy)
        np.add(np.log1p(e, out=miss), entropy, out=entropy)
        np.multiply(e, larger, out=smaller)
        # The probability of no where that is the answer, with the other way round: p (1 - t) + (1 - p) t
        is_yes = np.greater_equal(logits, 0.0, out=self._scratch("yes", shape, numpy.bool_))
        likely, unlikely = values, factor
        np.copyto(likely, smaller)
        np.copyto(likely, larger, where=is_yes)
        np.copyto(unlikely, larger)
        np.copyto(unlikely, smaller, where=is_yes)
        if gradient:
            difference = np.subtract(likely, targets, out=self._scratch("difference", shape))
        np.subtract(1.0, targets, out=miss)
        np.multiply(likely, miss, out=miss)
        np.multiply(unlikely, targets, out=unlikely)
        np.add(miss, unlikely, out=miss)
        np.power(miss, gamma, out=factor)
        if alpha is not None:
            of_no = np.subtract(1.0, targets, out=values)
            np.multiply(of_no, 1.0 - alpha, out=of_no)
            balance = np.multiply(targets, alpha, out=self._scratch("balance", shape))
            np.add(balance, of_no, out=balance)
            np.multiply(factor, balance, out=factor)
        np.multiply(factor, entropy, out=values)
        totals = self._totals(totals)
        self._count(totals, values, correct, weights, losses, n, logits)
        if not gradient:
            return totals, None
        # factor (p - t + gamma p (1 - p) / miss (1 - 2 t) entropy)
        np.maximum(miss, numpy.finfo(self.dtype).smallest_normal, out=miss)
        np.multiply(larger, smaller, out=larger)
        share = np.divide(larger, miss, out=larger)
        np.multiply(targets, -2.0, out=smaller)
        np.add(smaller, 1.0, out=smaller)
        np.multiply(share, smaller, out=share)
        np.multiply(share, entropy, out=share)
        np.multiply(share, gamma, out=share)
        np.add(difference, share, out=difference)
        np.multiply(factor, difference, out=difference)
        out = np.multiply(difference, self._scale(scale, m) / n, out=out)
        return totals, self._weighted(out, weights)

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
        np = self._memory.numpy
        m, n = outputs.shape
        correct = self._is_nearest(outputs, targets)
        # Not into `out`, which may be the outputs, in which NaN is looked for (inf - inf is NaN, too).
        difference = np.subtract(outputs, targets, out=self._scratch("losses", outputs.shape))
        squares = np.multiply(difference, difference, out=self._scratch("product", outputs.shape))
        totals = self._totals(totals)
        self._count(totals, squares, correct, weights, losses, n, outputs)
        if not gradient:
            return totals, None
        out = np.multiply(difference, 2.0 * self._scale(scale, m) / n, out=out)
        return totals, self._weighted(out, weights)

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
        np = self._memory.numpy
        m, n = outputs.shape
        correct = self._is_nearest(outputs, targets)
        difference = np.subtract(outputs, targets, out=self._scratch("losses", outputs.shape))
        sizes = np.absolute(difference, out=self._scratch("product", outputs.shape))
        totals = self._totals(totals)
        self._count(totals, sizes, correct, weights, losses, n, outputs)
        if not gradient:
            return totals, None
        out = np.multiply(np.sign(difference, out=difference), self._scale(scale, m) / n, out=out)
        return totals, self._weighted(out, weights)

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
        np = self._memory.numpy
        m, n = outputs.shape
        correct = self._is_nearest(outputs, targets)
        difference = np.subtract(outputs, targets, out=self._scratch("losses", outputs.shape))
        near = np.minimum(difference, delta, out=self._scratch("derivative", outputs.shape))
        np.maximum(near, -delta, out=near)
        values = np.multiply(near, -0.5, out=self._scratch("product", outputs.shape))
        np.add(difference, values, out=values)
        np.multiply(near, values, out=values)
        totals = self._totals(totals)
        self._count(totals, values, correct, weights, losses, n, outputs)
        if not gradient:
            return totals, None
        out = np.multiply(near, self._scale(scale, m) / n, out=out)
        return totals, self._weighted(out, weights)

    def argmax(self, x: Array) -> Array:
        return self._call(super().argmax, x)

    def _softmax_buffers(self, m: int, n: int) -> _SoftmaxBuffers:
        key = ("softmax", m, n)
        made: _SoftmaxBuffers | None = self._memory.buffers.get(key)
        if made is None:
            made = self._keep(key, _SoftmaxBuffers(m, n, self.dtype))
        return made

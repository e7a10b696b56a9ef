"""NumPy on the CPU: the operations of ``base.Backend`` in place, through the BLAS, without temporaries.

Where an operation needs memory it uses scratch memory that belongs to the backend and the calling thread, so that a
training step allocates nothing once every shape has been seen.

A step can be recorded (``recording``). So an operation takes NumPy's functions from ``self._memory.numpy``, which notes
them then, and calls whatever else computes through ``self._call``. All that it does beside, looking at shapes for one,
is done once for all steps of a size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite, prod, sqrt
from typing import Any

import numpy

from .. import random
from ..activations import get_activation
from ..collectives import Node
from ..core import check_beta, check_z_out
from ..typing import Array
from ..updates import bias_correction, get_rule
from .blas import Blas, Cut
from .convolution import NumpyConvolutions
from .core import are_plain, host_number
from .distortion import NumpyDistortions
from .normalization import NumpyNormalizations
from .pooling import NumpyPoolings
from .threads import Alone, Product, Threads, cut_for_one_thread, depends_on_threads

#: Fewer columns than this are narrow: see ``_SoftmaxBuffers``.
NARROW = 32
#: Elements of a vector that are squared and added up at a time; OpenBLAS takes several threads above 10,000.
BLOCK = 8192


def adam_state(state: dict[str, Array]) -> tuple[Array, Array]:
    """The two arrays that Adam keeps; a ValueError where one is not there."""
    try:
        return state["mean"], state["square"]
    except KeyError:
        get_rule("adam").check_state(state, {})
        raise


def rmsprop_state(state: dict[str, Array], settings: Mapping[str, Any]) -> tuple[Array, Array | None, Array | None]:
    """The arrays that RMSProp keeps, None for those that it does without; a ValueError where one is not there."""
    square, mean, velocity = state.get("square"), state.get("mean"), state.get("velocity")
    if square is None or (mean is None and settings.get("centered")) or (velocity is None and settings.get("momentum")):
        get_rule("rmsprop").check_state(state, settings)
    assert square is not None
    return square, mean, velocity


def adagrad_state(state: dict[str, Array]) -> Array:
    """The array that Adagrad keeps; a ValueError where it is not there."""
    get_rule("adagrad").check_state(state, {})
    return state["squares"]


def are_alike(first: Array, *others: Array | None) -> bool:
    """Whether that is so and all have one shape. Neither the BLAS nor a loop looks; of others NumPy says what is
    wrong."""
    for a in others:
        if a is not None and a.shape != first.shape:
            return False
    return are_plain(first, *others)


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


class NumpyBackend(NumpyNormalizations, NumpyConvolutions, NumpyPoolings, NumpyDistortions):
    """The CPU, through NumPy."""

    # ---- arrays in and out ------------------------------------------------------------------------------------------

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        return self._call(super().asarray, x, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        array = super().zeros(shape, dtype)
        self._call(array.fill, 0)
        return array

    def copy(self, x: Array, out: Array | None = None) -> Array:
        np = self._memory.numpy
        out = np.empty(x.shape, x.dtype) if out is None else out
        np.copyto(out, x, casting="unsafe")
        return out

    # ---- products and activations -----------------------------------------------------------------------------------

    def sum_over_processes(self, own: Sequence[Array], nodes: Sequence[Node], blocks: int, out: Array) -> Array:
        if self.collectives.size == 1:
            return self._call(super().sum_over_processes, own, nodes, blocks, out)
        self._call(self.collectives.sum_nodes, own, nodes, blocks, out)
        return out

    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        out: Array | None = None,
    ) -> Array:
        np = self._memory.numpy
        if beta != 0.0:
            check_beta("matmul", beta, out)
            return self._add_product(a, b, transpose_a, transpose_b, alpha, beta, times, out)
        if alpha != 1.0 and out is not None and b.size < out.size:
            b = np.multiply(b, alpha, out=self._scratch("scaled", b.shape))
            alpha = 1.0
        out = self._product(a, b, out, transpose_a, transpose_b)
        if alpha != 1.0:
            np.multiply(out, alpha, out=out)
        self._multiply_by(out, times)
        return out

    def _multiply_by(self, product: Array, times: float | Array) -> None:
        if not isinstance(times, float) or times != 1.0:
            self._call(_multiply_by, product, times)

    def _product(
        self, a: Array, b: Array, out: Array | None, transpose_a: bool = False, transpose_b: bool = False
    ) -> Array:
        """The product of two matrices, or of a vector and a matrix, by the same function of the BLAS in both cases:
        np.dot gets there sooner, and takes a seventh of np.matmul's time where the inner dimension is 1."""
        np = self._memory.numpy
        first, second = a.T if transpose_a else a, b.T if transpose_b else b
        # np.matmul takes any `out`, and says which shape would fit.
        fits = out is None or (out.flags.c_contiguous and out.shape == (*first.shape[:-1], second.shape[1]))
        fits = fits and a.dtype == b.dtype == (a if out is None else out).dtype
        sizes = prod(first.shape[:-1]), second.shape[1], second.shape[0]
        if self._threads is None or not depends_on_threads(*sizes):
            return (np.dot if fits else np.matmul)(first, second, out=out)

        def alone(result: Array | None, threads: Threads, number: int) -> Callable[[], None] | None:
            alike = first.ndim == 2 and first.shape[1] == sizes[2] and a.dtype == b.dtype == self.dtype
            if self._blas is None or result is None or not (fits and alike and are_plain(a, b, result)):
                return None
            product = Product(*sizes, transpose_a, transpose_b, alpha=1.0, beta=0.0)
            cut = cut_for_one_thread(threads, self._blas, product, number)
            return None if cut is None else self._blas.gemm(1.0, a, transpose_a, b, transpose_b, 0.0, result, cut)

        return self._compute(sizes, alone, numpy.dot if fits else numpy.matmul, first, second, out=out)

    def _compute(
        self,
        sizes: tuple[int, int, int],
        alone: Alone,
        function: Callable[..., Any],
        *args: Any,
        out: Array | None = None,
    ) -> Any:
        """Call a function that computes a product, on the threads that the rule allows for its sizes (m, n, k); while a
        step is recorded, note it."""
        memory = self._memory
        if memory.tape is not None:
            tape = memory.tape
            with memory.noting(None):
                return tape.product(prod(sizes), alone, function, *args, **({} if out is None else {"out": out}))
        if self._threads is None:
            return function(*args) if out is None else function(*args, out=out)
        return self._threads.call(prod(sizes), alone, function, *args, out=out)

    def _add_product(
        self,
        a: Array,
        b: Array,
        transpose_a: bool,
        transpose_b: bool,
        alpha: float,
        beta: float,
        times: float | Array,
        out: Array,
    ) -> Array:
        """out = times alpha op(a) op(b) + beta out"""
        k, m = a.shape if transpose_a else a.shape[::-1]
        n, k_b = b.shape if transpose_b else b.shape[::-1]
        fits = k == k_b and out.shape == (m, n) and 0 not in (m, n, k) and are_plain(a, b, out)
        if self._blas is not None and alpha != 0.0 and fits:
            self._add_by_blas(self._blas, Product(m, n, k, transpose_a, transpose_b, alpha, beta), a, b, times, out)
            return out
        np = self._memory.numpy
        product = self._product(a, b, self._scratch("product", out.shape), transpose_a, transpose_b)
        if alpha != 1.0:
            np.multiply(product, alpha, out=product)
        self._multiply_by(product, times)
        np.multiply(out, beta, out=out)
        return np.add(out, product, out=out)

    def _add_by_blas(self, blas: Blas, product: Product, a: Array, b: Array, times: float | Array, out: Array) -> None:
        """The same, where the BLAS can do it."""
        m, n, k, transpose_a, transpose_b, alpha, beta = product
        is_plain = isinstance(times, float) and times == 1.0
        settings = alpha, a, transpose_a, b, transpose_b, beta, out
        otherwise = partial(
            super().matmul, a, b, transpose_a=transpose_a, transpose_b=transpose_b, alpha=alpha, beta=beta, out=out
        )

        def add(cut: Cut | None = None) -> Callable[[], None]:
            if is_plain:
                return blas.gemm(*settings, cut)
            return partial(_add_times, blas.gemm_times(*settings, cut), otherwise, times)

        def alone(_: Any, threads: Threads, number: int) -> Callable[[], None] | None:
            typical = product if is_plain else product._replace(alpha=0.3 * alpha)
            cut = cut_for_one_thread(threads, blas, typical, number)
            return None if cut is None else add(cut)

        if depends_on_threads(m, n, k):
            self._compute((m, n, k), alone, add())
        else:
            self._call(add())

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        activation: str = "identity",
        *,
        out: Array | None = None,
        z_out: Array | None = None,
    ) -> Array:
        np = self._memory.numpy
        known = get_activation(activation)
        if z_out is not None:
            check_z_out("bias_activation", z_out, out)
            if bias is not None:
                z = np.add(z, bias, out=z_out)
            elif z_out is not z:
                np.copyto(z_out, z)
                z = z_out
            bias = None
        if out is None:
            out = np.empty_like(z)
        if bias is not None:
            z = np.add(z, bias, out=out)
        if known.numpy_forward is None:
            self._call(_assign, out, known.forward, self.xp, z)
        elif known.recordable:
            known.numpy_forward(np, z, out)
        else:
            self._call(known.numpy_forward, numpy, z, out)
        return out

    def bias_activation_backward(
        self,
        dy: Array,
        saved: Array,
        activation: str = "identity",
        *,
        out: Array | None = None,
        bias_gradient: Array | None = None,
    ) -> tuple[Array, Array | None]:
        np = self._memory.numpy
        known = get_activation(activation)
        if known.numpy_derivative is not None:
            derivative = self._scratch("derivative", saved.shape)
            if known.recordable:
                known.numpy_derivative(np, saved, derivative)
            else:
                self._call(known.numpy_derivative, numpy, saved, derivative)
            dy = np.multiply(dy, derivative, out=out)
        elif known.derivative is not None:
            dy = np.multiply(dy, self._call(known.derivative, self.xp, saved), out=out)
        elif out is not None and out is not dy:
            np.copyto(out, dy)
            dy = out
        return dy, None if bias_gradient is None else self.column_sum(dy, out=bias_gradient)

    def column_sum(self, x: Array, *, out: Array | None = None) -> Array:
        # A product with ones runs through the BLAS, several times faster than a sum over the long axis.
        return self._product(self._ones(x.shape[0]), x, out)

    def multiply(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        return self._memory.numpy.multiply(a, b, out=out)

    def softmax(self, logits: Array, *, out: Array | None = None) -> Array:
        np = self._memory.numpy
        out = np.subtract(logits, self._row_max(logits), out=out)
        np.exp(out, out=out)
        return np.divide(out, self._row_sum(out), out=out)

    def softmax_backward(self, dy: Array, y: Array, *, out: Array | None = None) -> Array:
        np = self._memory.numpy
        inner = self._row_sum(np.multiply(dy, y, out=self._scratch("product", y.shape)))
        out = np.subtract(dy, inner, out=out)
        return np.multiply(out, y, out=out)

    def argmax(self, x: Array) -> Array:
        return self._call(super().argmax, x)

    # ---- losses -----------------------------------------------------------------------------------------------------

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

    # ---- updates and checks on flat buffers -----------------------------------------------------------------------

    def update(
        self,
        rule: str,
        params: Array,
        gradient: Array,
        state: dict[str, Array],
        *,
        learning_rate: float | Array,
        number: int | Array = 1,
        weight_decay: float = 0.0,
        n_decayed: int = 0,
        **settings: Any,
    ) -> Array:
        if rule == "sgd":
            velocity = state.get("velocity")
            return self._sgd(params, gradient, velocity, learning_rate, weight_decay, n_decayed, **settings)
        if rule == "adam":
            mean, square = adam_state(state)
            update = partial(self._adam, params, gradient, mean, square, **settings)
        elif rule == "rmsprop":
            update = partial(self._rmsprop, params, gradient, *rmsprop_state(state, settings), **settings)
        elif rule == "adagrad":
            update = partial(self._adagrad, params, gradient, adagrad_state(state), **settings)
        else:
            update = partial(self._update_by_rule, rule, params, gradient, state, **settings)
        self._call(update, learning_rate, number, weight_decay, n_decayed)
        return params

    def _update_by_rule(
        self,
        rule: str,
        params: Array,
        gradient: Array,
        state: dict[str, Array],
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        **settings: Any,
    ) -> None:
        super().update(
            rule,
            params,
            gradient,
            state,
            learning_rate=host_number(learning_rate),
            number=host_number(number),
            weight_decay=weight_decay,
            n_decayed=n_decayed,
            **settings,
        )

    def _sgd(
        self,
        params: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float | Array,
        weight_decay: float,
        n_decayed: int,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ) -> Array:
        np, fresh = self._memory.numpy, 1.0 - dampening
        direction, blas = gradient, self._blas if are_alike(params, gradient, velocity) else None
        if velocity is None:
            if momentum != 0.0:
                get_rule("sgd").check_state({}, {"momentum": momentum})
        # Where a factor is 0 the BLAS does not read the vector, and a NaN in it would be lost.
        elif blas is not None and momentum != 0.0 and fresh != 0.0:
            self._call(blas.axpby(fresh, gradient, momentum, velocity))
            direction = velocity
            if nesterov:
                self._call(blas.axpby(momentum, velocity, fresh, gradient))
                direction = gradient
        else:
            np.multiply(gradient, fresh, out=gradient)
            np.multiply(velocity, momentum, out=velocity)
            np.add(velocity, gradient, out=velocity)
            direction = velocity
            if nesterov:
                pushed = np.multiply(velocity, momentum, out=self._scratch("update", velocity.shape))
                direction = np.add(gradient, pushed, out=gradient)
        if weight_decay == 0.0:
            n_decayed = 0
        if blas is None:
            self._call(self._move, params, direction, learning_rate, weight_decay, n_decayed)
        else:
            shrink = blas.subtraction(params[:n_decayed], params[:n_decayed]) if n_decayed > 0 else None
            move = blas.subtraction(direction, params)
            otherwise = partial(self._move, params, direction)
            self._call(_move_by_blas, move, shrink, otherwise, learning_rate, weight_decay, n_decayed)
        return params

    def _move(
        self, params: Array, direction: Array, learning_rate: float | Array, weight_decay: float, n_decayed: int
    ) -> None:
        """params <- params - learning_rate (direction + weight_decay params), the decay for the first ``n_decayed``"""
        rate = float(host_number(learning_rate))
        change = numpy.multiply(direction, rate, out=self._scratch("change", params.shape))
        if n_decayed > 0 and weight_decay != 0.0:
            self._add_decay(change[:n_decayed], params[:n_decayed], rate * weight_decay)
        numpy.subtract(params, change, out=params)

    def _adam(
        self,
        params: Array,
        gradient: Array,
        mean: Array,
        square: Array,
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        epsilon_hat: bool = False,
    ) -> None:
        np, rate, t = numpy, host_number(learning_rate), host_number(number)
        scratch = np.multiply(gradient, 1.0 - beta1, out=self._scratch("update", params.shape))
        np.multiply(mean, beta1, out=mean)
        np.add(mean, scratch, out=mean)
        np.multiply(gradient, gradient, out=scratch)
        np.multiply(scratch, 1.0 - beta2, out=scratch)
        np.multiply(square, beta2, out=square)
        np.add(square, scratch, out=square)
        correction = bias_correction(np, beta2, t, self.dtype)
        np.divide(square, correction, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.add(scratch, epsilon / correction**0.5 if epsilon_hat else epsilon, out=scratch)
        change = np.divide(mean, scratch, out=gradient)
        np.multiply(change, rate / bias_correction(np, beta1, t, self.dtype), out=change)
        if weight_decay != 0.0 and n_decayed > 0:
            self._add_decay(change[:n_decayed], params[:n_decayed], rate * weight_decay)
        np.subtract(params, change, out=params)

    def _rmsprop(
        self,
        params: Array,
        gradient: Array,
        square: Array,
        mean: Array | None,
        velocity: Array | None,
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        alpha: float = 0.99,
        epsilon: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        epsilon_inside: bool = False,
    ) -> None:
        np = numpy
        scratch = np.multiply(gradient, gradient, out=self._scratch("update", params.shape))
        np.multiply(scratch, 1.0 - alpha, out=scratch)
        np.multiply(square, alpha, out=square)
        np.add(square, scratch, out=square)
        spread = square
        if mean is not None:
            np.multiply(gradient, 1.0 - alpha, out=scratch)
            np.multiply(mean, alpha, out=mean)
            np.add(mean, scratch, out=mean)
            if centered:
                np.multiply(mean, mean, out=scratch)
                spread = np.subtract(square, scratch, out=scratch)
                np.maximum(spread, 0.0, out=spread)
        direction = self._over_root(gradient, spread, epsilon, epsilon_inside)
        if velocity is not None:
            np.multiply(velocity, momentum, out=velocity)
            direction = np.add(velocity, direction, out=velocity)
        self._move(params, direction, learning_rate, weight_decay, n_decayed)

    def _adagrad(
        self,
        params: Array,
        gradient: Array,
        squares: Array,
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        epsilon: float = 1e-10,
        epsilon_inside: bool = False,
    ) -> None:
        scratch = numpy.multiply(gradient, gradient, out=self._scratch("update", params.shape))
        numpy.add(squares, scratch, out=squares)
        direction = self._over_root(gradient, squares, epsilon, epsilon_inside)
        self._move(params, direction, learning_rate, weight_decay, n_decayed)

    def _over_root(self, gradient: Array, square: Array, epsilon: float, epsilon_inside: bool) -> Array:
        """gradient <- gradient / (sqrt(square) + epsilon), or with the epsilon inside the root"""
        root = self._scratch("update", gradient.shape)
        if epsilon_inside:
            numpy.sqrt(numpy.add(square, epsilon, out=root), out=root)
        else:
            numpy.add(numpy.sqrt(square, out=root), epsilon, out=root)
        return numpy.divide(gradient, root, out=gradient)

    def _add_decay(self, change: Array, weights: Array, rate: float) -> None:
        """Not weights * (1 - rate), which would keep an infinite weight infinite where the reference has NaN."""
        numpy.add(change, numpy.multiply(weights, rate, out=self._scratch("decay", weights.shape)), out=change)

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
        parts = [x[start : start + BLOCK] for start in range(0, x.size, BLOCK)]
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
        return self._call(lambda: numpy.asarray(super(NumpyBackend, self).sum_of_squares(x)))

    def all_finite(self, x: Array) -> Array:
        return self._call(lambda: numpy.asarray(numpy.isfinite(x).all()))

    # ---- rows and masks ---------------------------------------------------------------------------------------------

    def take_rows(
        self,
        rows: Array,
        order: Array | None,
        start: int | Array,
        count: int,
        *,
        scale: float | None = None,
        shift: float = 0.0,
        out: Array | None = None,
    ) -> Array:
        np = self._memory.numpy
        shape = (count, *rows.shape[1:])
        if order is None and (isinstance(start, int) or count == len(rows)):
            first = host_number(start)
            taken = rows[first : first + count]
        else:
            same = scale is None or rows.dtype == self.dtype_name
            gathered = out if same and out is not None else self._scratch("rows", shape, rows.dtype)
            if same and out is None:
                gathered = np.empty(shape, rows.dtype)
            taken = self._call(_gather, rows, order, start, count, gathered)
        if scale is None:
            if out is not None and out is not taken:
                np.copyto(out, taken, casting="unsafe")
            return taken if out is None else out
        return self._scaled(taken, scale, shift, np.empty(shape, self.dtype) if out is None else out)

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        *,
        rate: float,
        key: tuple[int, int],
        step: int | Array,
        out: Array | None = None,
    ) -> Array:
        out = self._memory.numpy.empty(shape, self.dtype) if out is None else out
        self._call(self._mask, shape, rate, key, step, out)
        return out

    def _mask(self, shape: tuple[int, ...], rate: float, key: tuple[int, int], step: int | Array, out: Array) -> None:
        size = prod(shape)
        mixed = numpy.uint32(random.hash32((host_number(step) + key[1]) & random.UINT32))
        bits = self._scratch("bits", (size,), "u4")
        numpy.bitwise_xor(self._element_hash(size, key), mixed, out=bits)
        self._hash32_in_place(bits)
        kept = self._scratch("kept", shape, numpy.bool_)
        numpy.greater_equal(bits.reshape(shape), numpy.uint32(random.mask_threshold(rate)), out=kept)
        numpy.multiply(kept, self._number(1.0 / (1.0 - rate)), out=out)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _scaled(self, taken: Array, scale: float, shift: float, out: Array) -> Array:
        """out = taken * scale + shift"""
        np = self._memory.numpy
        if out is not taken:
            np.copyto(out, taken, casting="unsafe")
        if scale != 1.0:
            np.multiply(out, scale, out=out)
        return out if shift == 0.0 else np.add(out, shift, out=out)

    def _softmax_buffers(self, m: int, n: int) -> _SoftmaxBuffers:
        key = ("softmax", m, n)
        made: _SoftmaxBuffers | None = self._memory.buffers.get(key)
        if made is None:
            made = self._keep(key, _SoftmaxBuffers(m, n, self.dtype))
        return made

    def _row_max(self, x: Array) -> Array:
        return self._memory.numpy.maximum.reduce(x, 1, None, self._scratch("row_max", (x.shape[0], 1)), True)

    def _row_sum(self, x: Array) -> Array:
        return self._memory.numpy.add.reduce(x, 1, None, self._scratch("row_sum", (x.shape[0], 1)), True)

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


def _take_out_nan(outputs: Array, correct: Array) -> None:
    """Rows with NaN are not correct."""
    numpy.logical_and(correct, numpy.equal(outputs, outputs).all(axis=1), out=correct)


def _multiply_by(product: Array, times: float | Array) -> None:
    numpy.multiply(product, host_number(times), out=product)


def _add_times(add: Callable[[float], None], otherwise: Callable[..., Array], times: float | Array) -> None:
    factor = float(host_number(times))
    if factor == 0.0:  # matrices that the BLAS does not read
        otherwise(times=factor)
    else:
        add(factor)


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


def _assign(out: Array, function: Callable[..., Array], *args: Any) -> None:
    out[...] = function(*args)


def _gather(rows: Array, order: Array | None, start: int | Array, count: int, out: Array) -> Array:
    """The rows from position ``start`` on, of an order or of the rows themselves."""
    first = host_number(start)
    if order is None:
        numpy.copyto(out, rows[first : first + count], casting="unsafe")
        return out
    # mode="clip" lets NumPy write straight into `out`; an order is a permutation, there is nothing to clip.
    return rows.take(order[first : first + count], 0, out, "clip")


def _move_by_blas(
    move: Callable[[float], None],
    shrink: Callable[[float], None] | None,
    otherwise: Callable[..., None],
    learning_rate: float | Array,
    weight_decay: float,
    n_decayed: int,
) -> None:
    rate = float(host_number(learning_rate))
    if rate == 0.0:  # a vector that the BLAS does not read
        otherwise(rate, weight_decay, n_decayed)
        return
    if shrink is not None:
        shrink(rate * weight_decay)
    move(rate)

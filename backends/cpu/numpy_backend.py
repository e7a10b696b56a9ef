"""NumPy on the CPU: the operations of ``base.Backend`` in place, through the BLAS, without temporaries.

Where an operation needs memory it uses scratch memory that belongs to the backend and the calling thread, so that a
training step allocates nothing once every shape has been seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import isfinite, prod
from typing import Any

import numpy as np

from .. import random
from ..activations import get_activation
from ..base import Backend
from ..devices import Device
from ..typing import Array
from ..updates import bias_correction, get_rule
from .blas import numpy_blas

SCRATCH_LIMIT = 1000
#: Fewer columns than this are narrow: see ``_SoftmaxBuffers``.
NARROW = 32


_NUMBERS = (int, float)


def host_number(x: float | Array) -> Any:
    """A number that may come as an array of shape (1,), as a Python number."""
    return x if isinstance(x, _NUMBERS) else x.item()  # `int | float` takes three times as long, four times a step


def adam_state(state: dict[str, Array]) -> tuple[Array, Array]:
    """The two arrays that Adam keeps; a ValueError where one is not there."""
    try:
        return state["mean"], state["square"]
    except KeyError:
        get_rule("adam").check_state(state, {})
        raise


def are_plain(*arrays: Array | None) -> bool:
    """Whether the BLAS or a compiled loop can take these arrays as they are: C-contiguous, aligned and writeable."""
    for a in arrays:  # noqa: SIM110 (all() takes three times as long, and this is asked a dozen times a step)
        if a is not None and not a.flags.carray:
            return False
    return True


def are_alike(first: Array, *others: Array | None) -> bool:
    """Whether that is so and all have one shape. Neither the BLAS nor a loop looks; of others NumPy says what is
    wrong."""
    for a in others:
        if a is not None and a.shape != first.shape:
            return False
    return are_plain(first, *others)


class _Scratch(threading.local):
    """Memory by name, one set for each thread (``__init__`` runs anew in every thread that looks)."""

    def __init__(self) -> None:
        self.buffers: dict[Any, Any] = {}


class _SoftmaxBuffers:
    """Scratch memory of ``softmax_cross_entropy`` for (m, n) logits.

    Few columns are laid out column by column, ``z`` being (n, m): reductions over a short row cost NumPy several times
    what the same sums cost along the long axis.
    """

    def __init__(self, m: int, n: int, dtype: Any) -> None:
        self.axis = 0 if n < NARROW else 1
        self.z = np.empty((n, m) if self.axis == 0 else (m, n), dtype)
        self.flat = self.z.reshape(-1)
        self.column_stride = m if self.axis == 0 else 1
        self.row_starts = np.arange(m) * (1 if self.axis == 0 else n)
        self.positions = np.empty(m, np.intp)
        self.best = np.empty(m, np.intp)
        self.correct = np.empty(m, np.bool_)
        self.label_part = np.empty(m, dtype)
        self.losses = np.empty(m, dtype)
        self.top = np.empty((1, m) if self.axis == 0 else (m, 1), dtype)
        self.normalizer = np.empty_like(self.top)


class NumpyBackend(Backend):
    """The CPU, through NumPy."""

    fused = True

    def __init__(self, device: Device, dtype: str = "float32") -> None:
        super().__init__(device, dtype)
        self._memory = _Scratch()
        self._blas = numpy_blas(dtype)
        self.accumulates = self._blas is not None

    # ---- products and activations -----------------------------------------------------------------------------------

    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
        out: Array | None = None,
    ) -> Array:
        if beta != 0.0:
            if out is None:
                raise ValueError("matmul with beta needs the array `out` that beta scales")
            return self._add_product(a, b, transpose_a, transpose_b, alpha, beta, out)
        if transpose_a:
            a = a.T
        if transpose_b:
            b = b.T
        if alpha != 1.0 and out is not None and b.size < out.size:
            b = np.multiply(b, alpha, out=self._scratch("scaled", b.shape))
            alpha = 1.0
        # An inner dimension of 1, the gradient of one row, takes np.matmul seven times as long as np.dot.
        one = a.shape[1] == 1 and (out is None or out.flags.c_contiguous)
        out = np.dot(a, b, out=out) if one else np.matmul(a, b, out=out)
        return out if alpha == 1.0 else np.multiply(out, alpha, out=out)

    def _add_product(
        self, a: Array, b: Array, transpose_a: bool, transpose_b: bool, alpha: float, beta: float, out: Array
    ) -> Array:
        """out = alpha op(a) op(b) + beta out"""
        k, m = a.shape if transpose_a else a.shape[::-1]
        n, k_b = b.shape if transpose_b else b.shape[::-1]
        fits = k == k_b and out.shape == (m, n) and 0 not in (m, n, k) and are_plain(a, b, out)
        if self._blas is not None and alpha != 0.0 and fits:
            self._blas.gemm(alpha, a, transpose_a, b, transpose_b, beta, out)
            return out
        product = np.matmul(
            a.T if transpose_a else a, b.T if transpose_b else b, out=self._scratch("product", out.shape)
        )
        if alpha != 1.0:
            np.multiply(product, alpha, out=product)
        np.multiply(out, beta, out=out)
        return np.add(out, product, out=out)

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        activation: str = "identity",
        *,
        out: Array | None = None,
        z_out: Array | None = None,
    ) -> Array:
        known = get_activation(activation)
        if z_out is not None:
            self._check_z_out(z_out, out)
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
            out[...] = known.forward(self.xp, z)
        else:
            known.numpy_forward(np, z, out)
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
        known = get_activation(activation)
        if known.numpy_derivative is not None:
            derivative = self._scratch("derivative", saved.shape)
            known.numpy_derivative(np, saved, derivative)
            dy = np.multiply(dy, derivative, out=out)
        elif known.derivative is not None:
            dy = np.multiply(dy, known.derivative(self.xp, saved), out=out)
        elif out is not None and out is not dy:
            np.copyto(out, dy)
            dy = out
        return dy, None if bias_gradient is None else self.column_sum(dy, out=bias_gradient)

    def column_sum(self, x: Array, *, out: Array | None = None) -> Array:
        # A product with ones runs through the BLAS, several times faster than a sum over the long axis.
        return np.matmul(self._ones(x.shape[0]), x, out=out)

    def multiply(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        return np.multiply(a, b, out=out)

    def softmax(self, logits: Array, *, out: Array | None = None) -> Array:
        out = np.subtract(logits, self._row_max(logits), out=out)
        np.exp(out, out=out)
        return np.divide(out, self._row_sum(out), out=out)

    def softmax_backward(self, dy: Array, y: Array, *, out: Array | None = None) -> Array:
        inner = self._row_sum(np.multiply(dy, y, out=self._scratch("product", y.shape)))
        out = np.subtract(dy, inner, out=out)
        return np.multiply(out, y, out=out)

    # ---- losses -----------------------------------------------------------------------------------------------------

    def softmax_cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        m, n = logits.shape
        buffers = self._softmax_buffers(m, n)
        z, axis = buffers.z, buffers.axis
        np.copyto(z, logits.T if axis == 0 else logits)
        top = np.maximum.reduce(z, axis=axis, out=buffers.top, keepdims=True)
        correct = np.equal(logits.argmax(1, buffers.best), labels, out=buffers.correct)
        # The positions of the label logits in the flat array, to read and write just those.
        # (Their dtype, since uint8 labels times the stride would wrap.)
        positions = np.multiply(labels, buffers.column_stride, out=buffers.positions, dtype=np.intp, casting="unsafe")
        np.add(positions, buffers.row_starts, out=positions)
        np.subtract(z, top, out=z)
        label_part = buffers.flat.take(positions, None, buffers.label_part, "clip")
        np.exp(z, out=z)
        normalizer = np.add.reduce(z, axis=axis, out=buffers.normalizer, keepdims=True)
        values = np.log(normalizer.reshape(m), out=buffers.losses)
        loss_sum = np.subtract(values, label_part, out=values).sum(dtype=self.wide)
        if not isfinite(loss_sum):  # argmax takes NaN for the largest, but a row with NaN is never correct
            correct &= np.equal(top, top).reshape(m)
        if weights is None and losses is None:
            totals = np.zeros(2, self.wide) if totals is None else totals
            totals[0] += loss_sum
            totals[1] += np.count_nonzero(correct)
        else:
            totals = self._add_totals(totals, values, correct, weights, losses)
        if not gradient:
            return totals, None
        factor: Any = self._scale(scale, m)
        if weights is None:
            np.divide(factor, normalizer, out=normalizer)
        else:
            factor = np.multiply(weights, factor, out=self._scratch("factor", (m,)))
            np.divide(factor.reshape(normalizer.shape), normalizer, out=normalizer)
        np.multiply(z, normalizer, out=z)
        label_part = buffers.flat.take(positions, None, label_part, "clip")
        buffers.flat[positions] = np.subtract(label_part, factor, out=label_part)
        out = np.empty(logits.shape, self.dtype) if out is None else out
        np.copyto(out, z.T if axis == 0 else z)
        return totals, out

    def binary_cross_entropy(
        self,
        logits: Array,
        targets: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        m, n = logits.shape
        correct = np.greater(logits, 0.0, out=self._scratch("correct", logits.shape, np.bool_))
        other = self._scratch("valid", logits.shape, np.bool_)
        np.equal(correct, np.greater(targets, 0.5, out=other), out=correct)
        correct &= np.equal(logits, logits, out=other)
        # max(z, 0) - z t + log(1 + exp(-|z|))
        values = np.abs(logits, out=self._scratch("losses", logits.shape))
        np.negative(values, out=values)
        np.log1p(np.exp(values, out=values), out=values)
        linear = np.maximum(logits, 0.0, out=self._scratch("product", logits.shape))
        np.subtract(linear, np.multiply(logits, targets, out=self._scratch("derivative", logits.shape)), out=linear)
        np.add(values, linear, out=values)
        totals = self._add_totals(totals, self._row_mean(values), self._all_in_row(correct), weights, losses)
        if not gradient:
            return totals, None
        out = self.bias_activation(logits, None, "sigmoid", out=out)
        np.subtract(out, targets, out=out)
        np.multiply(out, self._scale(scale, m) / n, out=out)
        return totals, out if weights is None else np.multiply(out, weights[:, None], out=out)

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
        m, n = outputs.shape
        valid = self._all_in_row(np.equal(outputs, outputs, out=self._scratch("valid", outputs.shape, np.bool_)))
        correct = self._scratch("correct", (m,), np.bool_)
        if n == 1:
            np.greater(outputs[:, 0], 0.5, out=correct)
            np.equal(correct, np.greater(targets[:, 0], 0.5), out=correct)
        else:
            best = np.argmax(outputs, axis=1, out=self._scratch("argmax", (m,), np.intp))
            target = np.argmax(targets, axis=1, out=self._scratch("target", (m,), np.intp))
            np.equal(best, target, out=correct)
        correct &= valid
        difference = np.subtract(outputs, targets, out=out if gradient else self._scratch("losses", outputs.shape))
        squares = np.multiply(difference, difference, out=self._scratch("product", outputs.shape))
        totals = self._add_totals(totals, self._row_mean(squares), correct, weights, losses)
        if not gradient:
            return totals, None
        out = np.multiply(difference, 2.0 * self._scale(scale, m) / n, out=difference)
        return totals, out if weights is None else np.multiply(out, weights[:, None], out=out)

    # ---- updates ----------------------------------------------------------------------------------------------------

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
            return self._adam(
                params, gradient, mean, square, learning_rate, number, weight_decay, n_decayed, **settings
            )
        return super().update(
            rule,
            params,
            gradient,
            state,
            learning_rate=learning_rate,
            number=number,
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
        rate, fresh = float(host_number(learning_rate)), 1.0 - dampening
        decay = rate * weight_decay if n_decayed > 0 else 0.0
        direction, blas = gradient, self._blas
        if velocity is None and momentum != 0.0:
            get_rule("sgd").check_state({}, {"momentum": momentum})
        # Where a factor is 0 the BLAS does not read the vector, and a NaN in it would be lost.
        factors = (rate,) if velocity is None else (rate, momentum, fresh)
        if blas is not None and 0.0 not in factors and are_alike(params, gradient, velocity):
            if velocity is not None:
                blas.axpby(fresh, gradient, momentum, velocity)
                direction = velocity
                if nesterov:
                    blas.axpby(momentum, velocity, fresh, gradient)
                    direction = gradient
            if decay != 0.0:
                blas.axpby(-decay, params[:n_decayed], 1.0, params[:n_decayed])
            blas.axpby(-rate, direction, 1.0, params)
            return params
        if velocity is not None:
            np.multiply(gradient, fresh, out=gradient)
            np.multiply(velocity, momentum, out=velocity)
            np.add(velocity, gradient, out=velocity)
            direction = velocity
            if nesterov:
                pushed = np.multiply(velocity, momentum, out=self._scratch("update", velocity.shape))
                direction = np.add(gradient, pushed, out=gradient)
        to = self._scratch("update", params.shape) if velocity is None else gradient
        change = np.multiply(direction, rate, out=to)
        if decay != 0.0:
            self._add_decay(change[:n_decayed], params[:n_decayed], decay)
        return np.subtract(params, change, out=params)

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
    ) -> Array:
        t = host_number(number)
        scratch = np.multiply(gradient, 1.0 - beta1, out=self._scratch("update", params.shape))
        np.multiply(mean, beta1, out=mean)
        np.add(mean, scratch, out=mean)
        np.multiply(gradient, gradient, out=scratch)
        np.multiply(scratch, 1.0 - beta2, out=scratch)
        np.multiply(square, beta2, out=square)
        np.add(square, scratch, out=square)
        np.divide(square, bias_correction(np, beta2, t, self.dtype), out=scratch)
        np.sqrt(scratch, out=scratch)
        np.add(scratch, epsilon, out=scratch)
        change = np.divide(mean, scratch, out=gradient)
        np.multiply(change, learning_rate / bias_correction(np, beta1, t, self.dtype), out=change)
        if weight_decay != 0.0 and n_decayed > 0:
            self._add_decay(change[:n_decayed], params[:n_decayed], learning_rate * weight_decay)
        return np.subtract(params, change, out=params)

    def _add_decay(self, change: Array, weights: Array, rate: float | Array) -> None:
        """Not weights * (1 - rate), which would keep an infinite weight infinite where the reference has NaN."""
        np.add(change, np.multiply(weights, rate, out=self._scratch("decay", weights.shape)), out=change)

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
        first = host_number(start)
        shape = (count, *rows.shape[1:])
        if order is None:
            taken = rows[first : first + count]
        else:
            # mode="clip" lets NumPy write straight into `out`; an order is a permutation, there is nothing to clip.
            same = scale is None or rows.dtype == self.dtype_name
            gathered = out if same and out is not None else self._scratch("rows", shape, rows.dtype)
            if same and out is None:
                gathered = np.empty(shape, rows.dtype)
            taken = rows.take(order[first : first + count], 0, gathered, "clip")
        if scale is None:
            return taken if out is None or out is taken else self._result(taken, out)
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
        size = prod(shape)
        mixed = random.hash32((host_number(step) + key[1]) & random.UINT32)
        bits = np.bitwise_xor(self._element_hash(size, key), np.uint32(mixed), out=self._scratch("bits", (size,), "u4"))
        self._hash32_in_place(bits)
        kept = self._scratch("kept", shape, np.bool_)
        np.greater_equal(bits.reshape(shape), np.uint32(random.mask_threshold(rate)), out=kept)
        return np.multiply(kept, self._number(1.0 / (1.0 - rate)), out=out)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _scaled(self, taken: Array, scale: float, shift: float, out: Array) -> Array:
        """out = taken * scale + shift"""
        if out is not taken:
            np.copyto(out, taken, casting="unsafe")
        if scale != 1.0:
            np.multiply(out, scale, out=out)
        return out if shift == 0.0 else np.add(out, shift, out=out)

    def _scratch(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        """Memory of that shape for the operation that is running; ``name`` keeps two uses in one operation apart."""
        dtype = self.dtype if dtype is None else dtype
        buffers = self._memory.buffers
        key = (name, shape, dtype)
        buffer: np.ndarray | None = buffers.get(key)
        if buffer is None:
            buffer = self._keep(key, np.empty(shape, dtype))
        return buffer

    def _keep(self, key: Any, made: Any) -> Any:
        if len(self._memory.buffers) >= SCRATCH_LIMIT:  # somebody predicts with ever new numbers of rows
            self._memory.buffers.clear()
        self._memory.buffers[key] = made
        return made

    def _constant(self, name: str, size: int, make: Callable[[], Any]) -> Any:
        """Something that is made once for its name and size."""
        made = self._memory.buffers.get((name, size))
        return self._keep((name, size), make()) if made is None else made

    def _ones(self, size: int) -> Any:
        return self._constant("ones", size, lambda: np.ones(size, self.dtype))

    def _softmax_buffers(self, m: int, n: int) -> _SoftmaxBuffers:
        key = ("softmax", m, n)
        made: _SoftmaxBuffers | None = self._memory.buffers.get(key)
        if made is None:
            made = self._keep(key, _SoftmaxBuffers(m, n, self.dtype))
        return made

    def _element_hash(self, size: int, key: tuple[int, int]) -> np.ndarray:
        """The part of ``random.mask_bits`` that does not change from step to step."""

        def make() -> np.ndarray:
            return self._hash32_in_place(np.arange(size, dtype=np.uint32) + np.uint32(key[0]))

        hashed: np.ndarray = self._constant(f"element hash {key[0]}", size, make)
        return hashed

    def _hash32_in_place(self, x: np.ndarray) -> np.ndarray:
        """``random.hash32`` of a uint32 array, whose products wrap by themselves."""
        shifted = self._scratch("shifted", x.shape, np.uint32)
        for shift, multiplier in ((random.SHIFT_1, random.MULTIPLIER_1), (random.SHIFT_2, random.MULTIPLIER_2)):
            np.bitwise_xor(x, np.right_shift(x, shift, out=shifted), out=x)
            np.multiply(x, np.uint32(multiplier), out=x)
        np.bitwise_xor(x, np.right_shift(x, random.SHIFT_3, out=shifted), out=x)
        return x

    def _number(self, x: float) -> Any:
        return np.float32(x) if self.dtype_name == "float32" else x

    def _row_max(self, x: Array) -> Array:
        return np.max(x, axis=1, keepdims=True, out=self._scratch("row_max", (x.shape[0], 1)))

    def _row_sum(self, x: Array) -> Array:
        return np.sum(x, axis=1, keepdims=True, out=self._scratch("row_sum", (x.shape[0], 1)))

    def _row_mean(self, x: Array) -> Array:
        return np.mean(x, axis=1, out=self._scratch("row_mean", (x.shape[0],)))

    def _all_in_row(self, x: Array) -> Array:
        return np.all(x, axis=1, out=self._scratch("all_in_row", (x.shape[0],), np.bool_))

    def _add_totals(
        self, totals: Array | None, values: Array, correct: Array, weights: Array | None, losses: Array | None
    ) -> Array:
        if totals is None:
            totals = np.zeros(2, self.wide)
        if losses is not None:
            np.copyto(losses, values)
        if weights is not None:
            values = np.multiply(values, weights, out=values)
            totals[1] += np.sum(weights * correct, dtype=self.wide)
        else:
            totals[1] += np.count_nonzero(correct)
        totals[0] += np.sum(values, dtype=self.wide)
        return totals

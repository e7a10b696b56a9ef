"""NumPy on the CPU with loops compiled by Numba, where those are faster.

In a small network the time between the matrix products is spent in NumPy's calls, each a pass over memory and about a
microsecond. Here several become one loop. A loop needs contiguous arrays that may be written in place, which is what
layers and optimizers hand over; with any others ``NumpyBackend`` does the work.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy

from .. import random
from ..typing import Array
from ..updates import bias_correction, get_rule
from . import numba_kernels as kernels
from .core import are_alike, are_plain, host_number
from .numba_distortion import NumbaDistortions
from .numba_pooling import NumbaPoolings
from .numpy_backend import NumpyBackend
from .updates import adagrad_state, adam_state, rmsprop_state

_DERIVATIVES = {
    "identity": kernels.IDENTITY,
    "sigmoid": kernels.SIGMOID,
    "tanh": kernels.TANH,
    "relu": kernels.RELU,
}


class NumbaBackend(NumbaDistortions, NumbaPoolings, NumpyBackend):
    """The CPU, through NumPy and Numba."""

    # ---- activations ------------------------------------------------------------------------------------------------

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        activation: str = "identity",
        *,
        out: Array | None = None,
        z_out: Array | None = None,
    ) -> Array:
        plain = out is z and z_out is None and are_plain(z, bias) and activation in _DERIVATIVES
        if bias is None or bias.shape != z.shape[1:] or not plain:
            return super().bias_activation(z, bias, activation, out=out, z_out=z_out)
        np, call = self._memory.numpy, self._call
        if activation == "relu":
            call(kernels.add_bias_relu, z, bias)
            return z
        call(kernels.add_bias, z, bias, 0.5 if activation == "sigmoid" else 1.0)
        if activation != "identity":
            np.tanh(z, out=z)
        if activation == "sigmoid":
            call(kernels.half_and_half, z)
        return z

    def bias_activation_backward(
        self,
        dy: Array,
        saved: Array,
        activation: str = "identity",
        *,
        out: Array | None = None,
        bias_gradient: Array | None = None,
    ) -> tuple[Array, Array | None]:
        derivative = _DERIVATIVES.get(activation)
        plain = out is dy and are_alike(dy, saved) and are_plain(bias_gradient)
        if bias_gradient is None or bias_gradient.shape != dy.shape[1:] or derivative is None or not plain:
            return super().bias_activation_backward(dy, saved, activation, out=out, bias_gradient=bias_gradient)
        partial_sums = self._scratch("partial", bias_gradient.shape)
        self._call(kernels.backward, dy, saved, derivative, bias_gradient, partial_sums)
        return dy, bias_gradient

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

    # ---- updates and masks ------------------------------------------------------------------------------------------

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
            simple = velocity is None and weight_decay == 0.0  # one call of the BLAS, which is as fast
            if simple or not are_alike(params, gradient, velocity):
                return self._sgd(params, gradient, velocity, learning_rate, weight_decay, n_decayed, **settings)
            update = partial(_sgd, params, gradient, velocity, **settings)
            self._call(update, learning_rate, weight_decay, n_decayed)
            return params
        if rule == "adam":
            mean, square = adam_state(state)
            if are_alike(params, gradient, mean, square):
                update = partial(_adam, params, gradient, mean, square, **settings)
                self._call(update, learning_rate, number, weight_decay, n_decayed)
                return params
        if rule == "rmsprop":
            square, mean, velocity = rmsprop_state(state, settings)
            if are_alike(params, gradient, square, mean, velocity):
                update = partial(_rmsprop, params, gradient, square, mean, velocity, **settings)
                self._call(update, learning_rate, weight_decay, n_decayed)
                return params
        if rule == "adagrad":
            squares = adagrad_state(state)
            if are_alike(params, gradient, squares):
                self._call(
                    partial(_adagrad, params, gradient, squares, **settings), learning_rate, weight_decay, n_decayed
                )
                return params
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

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        *,
        rate: float,
        key: tuple[int, int],
        step: int | Array,
        out: Array | None = None,
    ) -> Array:
        if out is not None and (out.shape != shape or not are_plain(out)):
            return super().dropout_mask(shape, rate=rate, key=key, step=step, out=out)
        out = numpy.empty(shape, self.dtype) if out is None else out
        self._call(_mask, self._element_hash(prod(shape), key), rate, key, step, out.reshape(-1))
        return out

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _scaled(self, taken: Array, scale: float, shift: float, out: Array) -> Array:
        if taken.dtype != numpy.uint8 or not are_alike(taken, out):
            return super()._scaled(taken, scale, shift, out)
        self._call(kernels.scale_bytes, taken.reshape(-1), scale, shift, out.reshape(-1))
        return out

    def _gradient_buffer(self, like: Array, gradient: bool, out: Array | None) -> Array:
        """Where a loss computes its gradient, be it asked for or not."""
        if not gradient:
            return self._scratch("losses", like.shape)
        return numpy.empty_like(like) if out is None else out


def _mask(element_hash: Array, rate: float, key: tuple[int, int], step: int | Array, out: Array) -> None:
    of_step = random.hash32((host_number(step) + key[1]) & random.UINT32)
    kernels.dropout_mask(element_hash, of_step, random.mask_threshold(rate), 1.0 / (1.0 - rate), out)


def _sgd(
    params: Array,
    gradient: Array,
    velocity: Array | None,
    learning_rate: float | Array,
    weight_decay: float,
    n_decayed: int,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> None:
    rate = float(host_number(learning_rate))
    decay, n_decayed = rate * weight_decay, n_decayed if weight_decay != 0.0 else 0
    if velocity is None:
        get_rule("sgd").check_state({}, {"momentum": momentum})
        kernels.plain_update(params, gradient, rate, decay, n_decayed)
    else:
        fresh = 1.0 - dampening
        kernels.momentum_update(params, gradient, velocity, rate, momentum, fresh, nesterov, decay, n_decayed)


def _adam(
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
    t, rate = host_number(number), float(host_number(learning_rate))
    corrected = rate / bias_correction(numpy, beta1, t, params.dtype)
    correction = bias_correction(numpy, beta2, t, params.dtype)
    epsilon = epsilon / correction**0.5 if epsilon_hat else epsilon
    decay, n_decayed = rate * weight_decay, n_decayed if weight_decay != 0.0 else 0
    kernels.adam_update(params, gradient, mean, square, corrected, beta1, beta2, correction, epsilon, decay, n_decayed)


def _rmsprop(
    params: Array,
    gradient: Array,
    square: Array,
    mean: Array | None,
    velocity: Array | None,
    learning_rate: float | Array,
    weight_decay: float,
    n_decayed: int,
    alpha: float = 0.99,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    epsilon_inside: bool = False,
) -> None:
    rate = float(host_number(learning_rate))
    decay, n_decayed = rate * weight_decay, n_decayed if weight_decay != 0.0 else 0
    none = square[:0]  # one type of argument, so that Numba compiles one function
    kernels.rmsprop_update(
        params, gradient, square, none if mean is None else mean, none if velocity is None else velocity, rate, alpha,
        1.0 - alpha, epsilon, momentum, centered, epsilon_inside, decay, n_decayed,
    )  # fmt: skip


def _adagrad(
    params: Array,
    gradient: Array,
    squares: Array,
    learning_rate: float | Array,
    weight_decay: float,
    n_decayed: int,
    epsilon: float = 1e-10,
    epsilon_inside: bool = False,
) -> None:
    rate = float(host_number(learning_rate))
    decay, n_decayed = rate * weight_decay, n_decayed if weight_decay != 0.0 else 0
    kernels.adagrad_update(params, gradient, squares, rate, epsilon, epsilon_inside, decay, n_decayed)

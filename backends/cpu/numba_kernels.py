"""The loops of ``numba_backend``, compiled by Numba: each does in one pass what takes NumPy several.

They take C-contiguous arrays of one float dtype, which is also the one they compute in, and do not look at shapes. What
can be is computed in place: where an array that is written overlaps another, LLVM does not use vectors. There is no
fastmath, so that NaN, infinities and the order of sums are as written, and no threads, of which the BLAS has some
already. exp, tanh and log1p are left to NumPy, whose SIMD functions are several times faster than those of Numba.

Compiled code is kept beside this file, or where ``NUMBA_CACHE_DIR`` says: the first run takes seconds longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from ..random import MULTIPLIER_1, MULTIPLIER_2, SHIFT_1, SHIFT_2, SHIFT_3
from ..typing import Array

Function = TypeVar("Function", bound=Callable[..., Any])

#: Which derivative ``backward`` multiplies by.
IDENTITY, SIGMOID, TANH, RELU = range(4)
#: Rows are summed in groups, and then the sums of the groups: the error grows with m / GROUP + GROUP, not with m.
GROUP = 128


def compiled(function: Function) -> Function:
    """The function, to be compiled when it is first called with arguments of some types."""
    compiler: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
    result: Function = compiler(function)
    return result


# ---- activations -----------------------------------------------------------------------------------------------------


@compiled
def add_bias(z: Array, bias: Array, factor: float) -> None:
    """z <- factor (z + bias)"""
    scale = z.dtype.type(factor)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = scale * (z[i, j] + bias[j])


@compiled
def add_bias_relu(z: Array, bias: Array) -> None:
    """z <- max(z + bias, 0), NaN where there is one"""
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            shifted = z[i, j] + bias[j]
            z[i, j] = zero if shifted <= zero else shifted


@compiled
def half_and_half(z: Array) -> None:
    """z <- 1/2 + z / 2"""
    half, flat = z.dtype.type(0.5), z.reshape(-1)
    for i in range(flat.shape[0]):
        flat[i] = half + half * flat[i]


@compiled
def backward(dy: Array, y: Array, derivative: int, sums: Array, partial: Array) -> None:
    """dy <- dy f'(z), sums <- its column sums; ``partial`` is memory for those of a group of rows."""
    one, zero = dy.dtype.type(1), dy.dtype.type(0)
    m, n = dy.shape
    sums[:] = zero
    for start in range(0, m, GROUP):
        partial[:] = zero
        for i in range(start, min(start + GROUP, m)):
            if derivative == SIGMOID:
                for j in range(n):
                    dz = dy[i, j] * (y[i, j] * (one - y[i, j]))
                    dy[i, j] = dz
                    partial[j] += dz
            elif derivative == TANH:
                for j in range(n):
                    dz = dy[i, j] * (one - y[i, j] * y[i, j])
                    dy[i, j] = dz
                    partial[j] += dz
            elif derivative == RELU:
                for j in range(n):
                    dz = dy[i, j] * (one if y[i, j] > zero else zero)
                    dy[i, j] = dz
                    partial[j] += dz
            else:
                for j in range(n):
                    partial[j] += dy[i, j]
        for j in range(n):
            sums[j] += partial[j]


# ---- losses ----------------------------------------------------------------------------------------------------------


@compiled
def shift_rows(logits: Array, labels: Array, out: Array, label_part: Array, totals: Array) -> None:
    """out <- logits - the largest of the row, ``label_part`` what that is at the label; count the correct rows."""
    m, n = logits.shape
    for i in range(m):
        top, best = logits[i, 0], 0
        for j in range(1, n):
            if logits[i, j] > top:
                top, best = logits[i, j], j
        label = labels[i]
        if best == label:
            valid = True
            for j in range(n):
                valid &= logits[i, j] == logits[i, j]
            totals[1] += valid
        for j in range(n):
            out[i, j] = logits[i, j] - top
        label_part[i] = out[i, label] if 0 <= label < n else 0.0


@compiled
def finish_rows(e: Array, labels: Array, label_part: Array, scale: float, totals: Array) -> None:
    """From e = exp(logits - largest): add up the losses; e <- the gradient."""
    m, n = e.shape
    of_all = e.dtype.type(scale)
    loss_sum = 0.0
    for i in range(m):
        normalizer = e.dtype.type(0)
        for j in range(n):
            normalizer += e[i, j]
        loss_sum += math.log(normalizer) - label_part[i]
        of_row = of_all / normalizer
        for j in range(n):
            e[i, j] *= of_row
        if 0 <= labels[i] < n:
            e[i, labels[i]] -= of_all
    totals[0] += loss_sum


@compiled
def halves_and_negatives(z: Array, half: Array, negative: Array) -> None:
    """half <- z / 2, negative <- -|z|"""
    factor = z.dtype.type(0.5)
    z, half, negative = z.reshape(-1), half.reshape(-1), negative.reshape(-1)
    for i in range(z.shape[0]):
        half[i] = factor * z[i]
        negative[i] = -abs(z[i])


@compiled
def finish_binary(
    logits: Array, targets: Array, tangent: Array, logarithm: Array, scale: float, out: Array, totals: Array
) -> None:
    """From tanh(z / 2) and log(1 + exp(-|z|)): add up losses and correct rows; out <- the gradient."""
    m, n = logits.shape
    zero, half = logits.dtype.type(0), logits.dtype.type(0.5)
    factor, size = logits.dtype.type(scale / n), logits.dtype.type(n)
    loss_sum, correct = 0.0, 0
    for i in range(m):
        row, all_correct = zero, True
        for j in range(n):
            z, t = logits[i, j], targets[i, j]
            row += (zero if z <= zero else z) - z * t + logarithm[i, j]
            all_correct &= ((z > zero) == (t > half)) & (z == z)
            out[i, j] = (half + half * tangent[i, j] - t) * factor
        loss_sum += row / size
        correct += all_correct
    totals[0] += loss_sum
    totals[1] += correct


@compiled
def index_of_largest(row: Array) -> int:
    """The first of equal ones, 0 in a row with NaN."""
    best = 0
    for j in range(row.shape[0]):
        if row[j] != row[j]:
            return 0
        if row[j] > row[best]:
            best = j
    return best


@compiled
def squared_error(outputs: Array, targets: Array, scale: float, out: Array, totals: Array) -> None:
    """Add up losses and correct rows; out <- the gradient."""
    m, n = outputs.shape
    zero, half = outputs.dtype.type(0), outputs.dtype.type(0.5)
    factor, size = outputs.dtype.type(2.0 * scale / n), outputs.dtype.type(n)
    loss_sum, correct = 0.0, 0
    for i in range(m):
        if n == 1:
            is_correct = (outputs[i, 0] > half) == (targets[i, 0] > half)
        else:
            is_correct = index_of_largest(outputs[i]) == index_of_largest(targets[i])
        row = zero
        for j in range(n):
            is_correct &= outputs[i, j] == outputs[i, j]
            difference = outputs[i, j] - targets[i, j]
            row += difference * difference
            out[i, j] = difference * factor
        loss_sum += row / size
        correct += is_correct
    totals[0] += loss_sum
    totals[1] += correct


# ---- updates and masks -----------------------------------------------------------------------------------------------


@compiled
def shrink(params: Array, decay: float, n_decayed: int) -> None:
    """p <- p - decay p, for the first ``n_decayed``"""
    for i in range(n_decayed):
        params[i] -= decay * params[i]


@compiled
def plain_update(params: Array, direction: Array, rate: float, decay: float, n_decayed: int) -> None:
    """p <- p - (rate direction + decay p), the decay for the first ``n_decayed``"""
    real = params.dtype.type
    rate, decay = real(rate), real(decay)
    shrink(params, decay, n_decayed)
    for i in range(params.shape[0]):
        params[i] -= rate * direction[i]


@compiled
def momentum_update(
    params: Array, gradient: Array, velocity: Array, rate: float, kept: float, fresh: float, nesterov: bool,
    decay: float, n_decayed: int,
) -> None:  # fmt: skip
    """v <- kept v + fresh g;  p <- p - (rate direction + decay p), the decay for the first ``n_decayed``"""
    real = params.dtype.type
    rate, kept, fresh, decay = real(rate), real(kept), real(fresh), real(decay)
    shrink(params, decay, n_decayed)
    for i in range(params.shape[0]):
        pushed = fresh * gradient[i]
        pace = kept * velocity[i] + pushed
        velocity[i] = pace
        params[i] -= rate * (pushed + kept * pace if nesterov else pace)


@compiled
def adam_update(
    params: Array, gradient: Array, mean: Array, square: Array, rate: float, beta1: float, beta2: float,
    correction: float, epsilon: float, decay: float, n_decayed: int,
) -> None:  # fmt: skip
    """p <- p - (rate mean / (sqrt(square / correction) + epsilon) + decay p), the decay for the first ``n_decayed``"""
    real = params.dtype.type
    fresh1, fresh2, inverse = real(1.0 - beta1), real(1.0 - beta2), real(1.0 / correction)
    rate, beta1, beta2, epsilon, decay = real(rate), real(beta1), real(beta2), real(epsilon), real(decay)
    shrink(params, decay, n_decayed)
    for i in range(params.shape[0]):
        g = gradient[i]
        mean[i] = beta1 * mean[i] + fresh1 * g
        square[i] = beta2 * square[i] + fresh2 * (g * g)
        params[i] -= rate * (mean[i] / (np.sqrt(square[i] * inverse) + epsilon))


@compiled
def rmsprop_update(
    params: Array, gradient: Array, square: Array, mean: Array, velocity: Array, rate: float, alpha: float,
    fresh: float, epsilon: float, momentum: float, centered: bool, epsilon_inside: bool, decay: float, n_decayed: int,
) -> None:  # fmt: skip
    """p <- p - (rate direction + decay p), the decay for the first ``n_decayed``; empty arrays are not kept"""
    real = params.dtype.type
    rate, alpha, fresh, decay = real(rate), real(alpha), real(fresh), real(decay)
    epsilon, momentum = real(epsilon), real(momentum)
    has_mean, has_velocity = mean.shape[0] > 0, velocity.shape[0] > 0
    shrink(params, decay, n_decayed)
    for i in range(params.shape[0]):
        g = gradient[i]
        square[i] = alpha * square[i] + fresh * (g * g)
        spread = square[i]
        if has_mean:
            mean[i] = alpha * mean[i] + fresh * g
            if centered:
                spread -= mean[i] * mean[i]
                if spread < 0:
                    spread = real(0)
        direction = g / (np.sqrt(spread + epsilon) if epsilon_inside else np.sqrt(spread) + epsilon)
        if has_velocity:
            direction += momentum * velocity[i]
            velocity[i] = direction
        params[i] -= rate * direction


@compiled
def adagrad_update(
    params: Array, gradient: Array, squares: Array, rate: float, epsilon: float, epsilon_inside: bool, decay: float,
    n_decayed: int,
) -> None:  # fmt: skip
    """p <- p - (rate g / (sqrt(squares) + epsilon) + decay p), the decay for the first ``n_decayed``"""
    real = params.dtype.type
    rate, epsilon, decay = real(rate), real(epsilon), real(decay)
    shrink(params, decay, n_decayed)
    for i in range(params.shape[0]):
        squares[i] += gradient[i] * gradient[i]
        root = np.sqrt(squares[i] + epsilon) if epsilon_inside else np.sqrt(squares[i]) + epsilon
        params[i] -= rate * (gradient[i] / root)


@compiled
def dropout_mask(element_hash: Array, of_step: int, threshold: int, kept: float, out: Array) -> None:
    """out <- kept where the hash of element and step reaches the threshold, else 0"""
    zero, value = out.dtype.type(0), out.dtype.type(kept)
    mixed, least = np.uint32(of_step), np.uint32(threshold)
    for i in range(out.shape[0]):
        x = np.uint32(element_hash[i] ^ mixed)
        x = np.uint32(x ^ (x >> np.uint32(SHIFT_1)))
        x = np.uint32(x * np.uint32(MULTIPLIER_1))
        x = np.uint32(x ^ (x >> np.uint32(SHIFT_2)))
        x = np.uint32(x * np.uint32(MULTIPLIER_2))
        x = np.uint32(x ^ (x >> np.uint32(SHIFT_3)))
        out[i] = value if x >= least else zero


@compiled
def scale_bytes(x: Array, scale: float, shift: float, out: Array) -> None:
    """out <- x * scale + shift"""
    real = out.dtype.type
    factor, term = real(scale), real(shift)
    for i in range(out.shape[0]):
        out[i] = real(x[i]) * factor + term

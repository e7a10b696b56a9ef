"""NumPy on the CPU with loops compiled by Numba, where those are faster.

In a small network the time between the matrix products is spent in NumPy's calls, each a pass over memory and about a
microsecond. Here several become one loop. A loop needs contiguous arrays that may be written in place, which is what
layers and optimizers hand over; with any others ``NumpyBackend`` does the work.
"""

from __future__ import annotations

from math import prod

import numpy

from .. import random
from ..typing import Array
from . import numba_kernels as kernels
from .core import are_alike, are_plain, host_number
from .numba_distortion import NumbaDistortions
from .numba_losses import NumbaLosses
from .numba_pooling import NumbaPoolings
from .numba_updates import NumbaUpdates
from .numpy_backend import NumpyBackend

_DERIVATIVES = {
    "identity": kernels.IDENTITY,
    "sigmoid": kernels.SIGMOID,
    "tanh": kernels.TANH,
    "relu": kernels.RELU,
}


class NumbaBackend(NumbaLosses, NumbaUpdates, NumbaPoolings, NumbaDistortions, NumpyBackend):
    """The CPU, through NumPy and Numba: what is overridden here and in the files of its base classes."""

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

    def _scaled(self, taken: Array, scale: float, shift: float, out: Array) -> Array:
        if taken.dtype != numpy.uint8 or not are_alike(taken, out):
            return super()._scaled(taken, scale, shift, out)
        self._call(kernels.scale_bytes, taken.reshape(-1), scale, shift, out.reshape(-1))
        return out


def _mask(element_hash: Array, rate: float, key: tuple[int, int], step: int | Array, out: Array) -> None:
    of_step = random.hash32((host_number(step) + key[1]) & random.UINT32)
    kernels.dropout_mask(element_hash, of_step, random.mask_threshold(rate), 1.0 / (1.0 - rate), out)

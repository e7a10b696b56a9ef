"""Activations through NumPy, and the chain rule through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ..activations import get_activation
from ..core import check_z_out
from ..typing import Array
from .core import NumpyCore


class NumpyActivations(NumpyCore):
    """Functions of each number, and of the rows."""

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

    def _row_max(self, x: Array) -> Array:
        return self._memory.numpy.maximum.reduce(x, 1, None, self._scratch("row_max", (x.shape[0], 1)), True)

    def _row_sum(self, x: Array) -> Array:
        return self._memory.numpy.add.reduce(x, 1, None, self._scratch("row_sum", (x.shape[0], 1)), True)


def _assign(out: Array, function: Callable[..., Array], *args: Any) -> None:
    out[...] = function(*args)

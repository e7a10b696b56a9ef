"""Convolutions through NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..base import Backend
from ..pictures.convolution import check_convolution
from ..pictures.windows import Pair
from ..typing import Array
from .core import NumpyCore


class NumpyConvolutions(NumpyCore):
    """Convolution of pictures, and the chain rule through it: one noted call each."""

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        activation: str = "identity",
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        alpha: float = 1.0,
        z_out: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        windows = check_convolution("conv2d", x.shape, weight.shape, stride, padding, groups)
        out = self.empty((x.shape[0], *windows.grid, weight.shape[3])) if out is None else out
        placed: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
        operation = partial(Backend.conv2d, self, alpha=alpha, z_out=z_out, out=out, **placed)
        return self._call(operation, x, weight, bias, activation)

    def conv2d_backward(
        self,
        dy: Array,
        saved: Array,
        x: Array,
        weight: Array,
        activation: str = "identity",
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        needs_dx: bool = True,
        bias_gradient: Array | None = None,
        weight_gradient: Array | None = None,
        dz: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array | None, Array, Array, Array | None]:
        check_convolution("conv2d_backward", x.shape, weight.shape, stride, padding, groups)
        if needs_dx and out is None:
            out = self.empty(x.shape)
        dz = self.empty(dy.shape) if dz is None else dz
        if weight_gradient is None and beta == 0.0:
            weight_gradient = self.empty(weight.shape)
        placed: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups, "needs_dx": needs_dx}
        sink: dict[str, Any] = {"alpha": alpha, "beta": beta, "times": times, "weight_gradient": weight_gradient}
        operation = partial(
            Backend.conv2d_backward, self, bias_gradient=bias_gradient, dz=dz, out=out, **placed, **sink
        )
        results: tuple[Array | None, Array, Array, Array | None] = self._call(
            operation, dy, saved, x, weight, activation
        )
        return results

"""``CupyBackend``: the operations of ``Backend`` as few launches of fused kernels on a CUDA GPU.

What each operation does is said in ``backends.base``; the kernels are in ``source``. Calls belong inside
``with backend.use()``, which makes the device and its stream the current ones. Nothing here waits for the device or
copies to the host, and where ``out`` is given and arrays are C-contiguous nothing is allocated after the first call of
a size.
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..activations import get_activation
from ..core import check_beta, check_z_out
from ..typing import Array
from .distortion import DistortionOperations
from .flat import FlatOperations
from .launch import row_blocks
from .losses import LossOperations
from .normalization import NormalizeOperations
from .pictures import PictureOperations
from .processes import ProcessOperations
from .source.sizes import GATHERED, SCALED

#: Adding to a velocity instead of writing a gradient spares one number moved for each weight, and an H200 moves so many
#: (float32, at 4.8 TB/s) while it makes the one launch more that an update in two parts takes (est.: 2 us).
ACCUMULATES_FROM = 1 << 21


class CupyBackend(
    LossOperations, FlatOperations, NormalizeOperations, PictureOperations, DistortionOperations, ProcessOperations
):
    """The backend of a CUDA GPU: products by cuBLAS, everything else by kernels of its own. ``CupyCore`` says what the
    arguments and attributes are. Products, activations, softmax and the rows of batches are here; the other modules are
    named for what they hold."""

    accumulates_from = ACCUMULATES_FROM

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
        times: float | Array = 1.0,
        out: Array | None = None,
    ) -> Array:
        """times alpha op(a) op(b) + beta out, by cuBLAS; a number that only the device knows multiplies the product."""
        if isinstance(times, float):
            alpha *= times
        else:
            product = self.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, alpha=alpha) * times
            return self._result(product if out is None or beta == 0.0 else product + beta * out, out)
        k, m = self._matrix("matmul", "a", a) if transpose_a else self._matrix("matmul", "a", a)[::-1]
        n, k_b = self._matrix("matmul", "b", b) if transpose_b else self._matrix("matmul", "b", b)[::-1]
        if k != k_b:
            raise ValueError(f"matmul: op(a) has {k} columns but op(b) has {k_b} rows")
        if out is None:
            check_beta("matmul", beta, out)
            out = self.empty((m, n))
        else:
            self._require("matmul", "out", out, (m, n))
        if m == 0 or n == 0:
            return out
        if k == 0:  # cuBLAS takes no leading dimension of 0
            return self._result(beta * out if beta != 0.0 else 0.0, out)
        if self.cupy.may_share_memory(out, a) or self.cupy.may_share_memory(out, b):
            raise ValueError("matmul: out must not overlap a or b")
        contiguous = self.cupy.ascontiguousarray
        a, b = (x if x.flags.c_contiguous or x.flags.f_contiguous else contiguous(x) for x in (a, b))
        target = out if out.flags.c_contiguous else contiguous(out)
        self._multiply(a, b, target, transpose_a, transpose_b, float(alpha), float(beta))
        return self._deliver(target, out)

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        activation: str = "identity",
        *,
        out: Array | None = None,
        z_out: Array | None = None,
    ) -> Array:
        """y = f(z + bias) in one launch, for an activation that has CUDA expressions."""
        op = "bias_activation"
        known = get_activation(activation)
        m, n = self._matrix(op, "z", z)
        if bias is None and z_out is None and known.name == "identity":
            return z if out is None or out is z else self._result(z, out)
        check_z_out("bias_activation", z_out, out)
        if not known.has_cuda:
            return super().bias_activation(z, bias, activation, out=out, z_out=z_out)
        z = self._input(op, "z", z, (m, n))
        if bias is not None:
            bias = self._input(op, "bias", bias, (n,))
        target = self._target(op, out, (m, n))
        z_target = None if z_out is None else self._target(op, z_out, (m, n), "z_out")
        kernels = self._kernels
        kernels.elements(f"bias_activation_{kernels.activation(known)}", m * n, z, bias, target, z_target, n)
        if z_target is not None:
            self._deliver(z_target, z_out)
        return self._deliver(target, out)

    def bias_activation_backward(
        self,
        dy: Array,
        saved: Array,
        activation: str = "identity",
        *,
        out: Array | None = None,
        bias_gradient: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """dz = dy f'(z + bias) and its column sums in one launch, or two for many rows."""
        op = "bias_activation_backward"
        known = get_activation(activation)
        same = known.derivative is None and (out is None or out is dy)
        if same and bias_gradient is None:
            return dy, None
        m, n = self._matrix(op, "dy", dy)
        if not known.has_cuda:
            return super().bias_activation_backward(dy, saved, activation, out=out, bias_gradient=bias_gradient)
        given = dy
        dy = self._input(op, "dy", dy, (m, n))
        saved = self._input(op, "saved", saved, (m, n))
        target = None if same else self._target(op, out, (m, n))
        sums = None if bias_gradient is None else self._target(op, bias_gradient, (n,), "bias_gradient")
        self._columns(f"activation_backward_{self._kernels.activation(known)}", dy, saved, target, sums)
        dz = given if target is None else self._deliver(target, out)
        return dz, None if sums is None else self._deliver(sums, bias_gradient)

    def column_sum(self, x: Array, *, out: Array | None = None) -> Array:
        """The sum of the rows, in a fixed order."""
        m, n = self._matrix("column_sum", "x", x)
        x = self._input("column_sum", "x", x, (m, n))
        target = self._target("column_sum", out, (n,))
        self._columns("activation_backward_identity", x, x, None, target)
        return self._deliver(target, out)

    def multiply(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """The elementwise product."""
        a = self._input("multiply", "a", a)
        b = self._input("multiply", "b", b, a.shape)
        target = self._target("multiply", out, a.shape)
        self._kernels.elements("multiply", a.size, a, b, target)
        return self._deliver(target, out)

    def softmax(self, logits: Array, *, out: Array | None = None) -> Array:
        """Softmax of each row in one launch."""
        m, n = self._filled_matrix("softmax", "logits", logits)
        logits = self._input("softmax", "logits", logits, (m, n))
        target = self._target("softmax", out, (m, n))
        self._kernels.rows("softmax", m, n, logits, target)
        return self._deliver(target, out)

    def softmax_backward(self, dy: Array, y: Array, *, out: Array | None = None) -> Array:
        """The chain rule through softmax in one launch."""
        m, n = self._matrix("softmax_backward", "dy", dy)
        dy = self._input("softmax_backward", "dy", dy, (m, n))
        y = self._input("softmax_backward", "y", y, (m, n))
        target = self._target("softmax_backward", out, (m, n))
        self._kernels.rows("softmax_backward", m, n, dy, y, target)
        return self._deliver(target, out)

    def argmax(self, x: Array) -> Array:
        """The column of the largest element of each row."""
        m, n = self._filled_matrix("argmax", "x", x)
        x = self._input("argmax", "x", x, (m, n))
        result = self.empty((m,), np.int64)
        self._kernels.rows("argmax", m, n, x, result)
        return result

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
        """A batch, gathered and scaled in one launch; all rows as they are, without ``out``, are ``rows`` itself.

        Positions that only the device knows are not checked; those out of range give the nearest row.
        """
        op = "take_rows"
        kind = f"uint{8 * rows.dtype.itemsize}" if scale is None else str(rows.dtype)
        if kind not in (GATHERED if scale is None else SCALED):
            return super().take_rows(rows, order, start, count, scale=scale, shift=shift, out=out)
        dtype = rows.dtype if scale is None else self.dtype
        rows = self._input(op, "rows", rows, dtype=rows.dtype)
        if order is not None:
            order = self._input(op, "order", order, dtype=np.int64)
        positions = rows.shape[0] if order is None else order.size
        start_at, start = self._number(op, "start", start, np.int64)
        if start < 0 or start + count > positions:
            raise ValueError(f"take_rows: there are no rows {start} to {start + count} among {positions}")
        if count == rows.shape[0] and order is None and scale is None and out is None:
            return rows
        shape = (count, *rows.shape[1:])
        target = self._target(op, out, shape, dtype=dtype)
        size = math.prod(shape)
        if size > 0 and rows.shape[0] == 0:
            raise ValueError("take_rows: there are no rows to take from")
        if scale is None:
            name, source, written, scale = f"take_rows_{kind}", rows.view(kind), target.view(kind), 0.0
        else:
            name, source, written = f"take_rows_scaled_{kind}", rows, target
        width = size // max(count, 1)
        self._kernels.elements(
            name, size, source, order, start_at, start, scale, shift, written, positions, rows.shape[0], width
        )
        return self._deliver(target, out)

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        *,
        rate: float,
        key: tuple[int, int],
        step: int | Array,
        out: Array | None = None,
    ) -> Array:
        """The mask of inverted dropout in one launch, bit for bit that of every other backend."""
        target = self._target("dropout_mask", out, shape)
        self._kernels.elements(
            "dropout_mask",
            math.prod(shape),
            target,
            *key,
            *self._number("dropout_mask", "step", step, np.int64),
            random.mask_threshold(rate),
            1.0 / (1.0 - rate),
        )
        return self._deliver(target, out)

    # ---- inside: operations of several launches ----------------------------------------------------------------------

    def _columns(self, kernel: str, dy: Array, saved: Array, dz: Array | None, sums: Array | None) -> None:
        """dz = dy f'(saved) and its column sums: those of groups of rows first, where the rows are many."""
        m, n = dy.shape
        groups = row_blocks(m)
        if sums is None or groups == 1:
            self._kernels.columns(kernel, m, n, groups, dy, saved, dz, sums)
            return
        partial = self._buffer("columns", groups * n, self.dtype)
        self._kernels.columns(kernel, m, n, groups, dy, saved, dz, partial)
        self._kernels.columns("activation_backward_identity", groups, n, 1, partial, partial, None, sums)

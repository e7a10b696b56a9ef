"""``CupyBackend``: the operations of ``Backend`` as few launches of fused kernels on a CUDA GPU.

What each operation does is said in ``backends.base``; the kernels are in ``source``. Calls belong inside
``with backend.use()``, which makes the device and its stream the current ones. Nothing here waits for the device or
copies to the host, and where ``out`` is given and arrays are C-contiguous nothing is allocated after the first call of
a size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..activations import get_activation
from ..core import check_beta, check_z_out
from ..typing import Array
from ..updates import BUILT_IN, get_rule
from .distortion import DistortionOperations
from .keep import keep
from .launch import ROWS_OF_LAST_BLOCK, element_blocks, partial_blocks, row_blocks
from .pictures import PictureOperations
from .processes import ProcessOperations
from .source.losses import ERRORS
from .source.sizes import GATHERED, SCALED
from .source.updates import update_kernel

#: Adding to a velocity instead of writing a gradient spares one number moved for each weight, and an H200 moves so many
#: (float32, at 4.8 TB/s) while it makes the one launch more that an update in two parts takes (est.: 2 us).
ACCUMULATES_FROM = 1 << 21


class CupyBackend(PictureOperations, DistortionOperations, ProcessOperations):
    """The backend of a CUDA GPU: products by cuBLAS, everything else by kernels of its own. ``CupyCore`` says what the
    arguments and attributes are; the operations on pictures are in ``pictures`` and ``distortion``, sums over processes
    in ``processes``."""

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

    # ---- normalization ----------------------------------------------------------------------------------------------

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        running: dict[str, Array] | None = None,
        *,
        axis: int,
        epsilon: float,
        momentum: float = 0.0,
        normalized: Array | None = None,
        inverse: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """All of it in one launch; of columns with many rows in three."""
        op = "normalize"
        m, n = self._filled_matrix(op, "x", x)
        x = self._input(op, "x", x, (m, n))
        weight, bias = (None if v is None else self._input(op, "weight or bias", v, (n,)) for v in (weight, bias))
        standard = self._target(op, normalized, (m, n), "normalized")
        factor = self._target(op, inverse, (m if axis == 1 else n,), "inverse")
        target = self._target(op, out, (m, n))
        if axis == 1:
            self._kernels.rows("normalize_rows", m, n, x, weight, bias, standard, factor, target, epsilon)
        else:
            moved = {} if running is None else {name: self._input(op, name, v, (n,)) for name, v in running.items()}
            of_batch = moved.get("mean"), moved.get("variance"), 1.0 - momentum, momentum
            arguments = weight, bias, *of_batch, standard, factor, target, epsilon
            self._normalize_columns(x, *arguments)
            for name, new in moved.items():
                assert running is not None
                self._deliver(new, running[name])
        results = (standard, normalized), (factor, inverse)
        return self._deliver(target, out), *(self._deliver(*pair) for pair in results)

    def normalize_backward(
        self,
        dy: Array,
        normalized: Array,
        inverse: Array,
        weight: Array | None,
        *,
        axis: int,
        bias_gradient: Array | None = None,
        gain_gradient: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None, Array | None]:
        """dx and the gradients of bias and weight; of columns in one launch; of rows, or many, in two."""
        op = "normalize_backward"
        m, n = self._filled_matrix(op, "dy", dy)
        dy = self._input(op, "dy", dy, (m, n))
        normalized = self._input(op, "normalized", normalized, (m, n))
        inverse = self._input(op, "inverse", inverse, (m if axis == 1 else n,))
        weight = None if weight is None else self._input(op, "weight", weight, (n,))
        sums = [
            None if x is None else self._target(op, x, (n,), name)
            for x, name in ((bias_gradient, "bias_gradient"), (gain_gradient, "gain_gradient"))
        ]
        target = self._target(op, out, (m, n))
        kernels = self._kernels
        if axis == 0:
            self._columns_backward(dy, normalized, inverse, weight, *sums, target)
        else:
            if any(x is not None for x in sums):
                self._columns_backward(dy, normalized, None, None, *sums, None)
            kernels.rows("normalize_rows_backward", m, n, dy, normalized, inverse, weight, target)
        gradients = zip(sums, (bias_gradient, gain_gradient), strict=True)
        bias_gradient, gain_gradient = (None if new is None else self._deliver(new, x) for new, x in gradients)
        return self._deliver(target, out), bias_gradient, gain_gradient

    def _normalize_columns(self, x: Array, *arguments: Any) -> None:
        """One launch, or, where rows are many, sums of groups of rows, those of squares, and the rest."""
        (m, n), kernels = x.shape, self._kernels
        groups = row_blocks(m)
        if groups == 1:
            kernels.columns("normalize_columns", m, n, 1, x, *arguments)
            return
        sums, squares = (self._buffer(name, groups * n, self.dtype) for name in ("columns", "squares"))
        kernels.columns("activation_backward_identity", m, n, groups, x, x, None, sums)
        kernels.columns("squares_of_groups", m, n, groups, x, sums, squares)
        kernels.columns("normalize_groups", m, n, groups, x, sums, squares, *arguments)

    def _columns_backward(
        self, dy: Array, normalized: Array, inverse: Array | None, weight: Array | None, *results: Array | None
    ) -> None:
        """The chain rule through normalized columns; what is None of the results is left out."""
        (m, n), kernels = dy.shape, self._kernels
        groups = row_blocks(m)
        if groups == 1:
            kernels.columns("normalize_columns_backward", m, n, 1, dy, normalized, inverse, weight, *results)
            return
        parts = [self._buffer(name, groups * n, self.dtype) for name in ("columns", "squares")]
        kernels.columns("products_of_groups", m, n, groups, dy, normalized, *parts)
        arguments = dy, normalized, inverse, weight, *parts, *results
        kernels.columns("normalize_groups_backward", m, n, groups, *arguments)

    def normalize_by(
        self,
        x: Array,
        mean: Array,
        variance: Array,
        weight: Array | None,
        bias: Array | None,
        *,
        epsilon: float,
        out: Array | None = None,
    ) -> Array:
        """In one launch."""
        op = "normalize_by"
        m, n = self._matrix(op, "x", x)
        x = self._input(op, "x", x, (m, n))
        mean, variance = (self._input(op, "mean or variance", v, (n,)) for v in (mean, variance))
        weight, bias = (None if v is None else self._input(op, "weight or bias", v, (n,)) for v in (weight, bias))
        target = self._target(op, out, (m, n))
        self._kernels.elements("normalize_by", m * n, x, mean, variance, weight, bias, epsilon, target, n)
        return self._deliver(target, out)

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
        """Loss sum, correct rows and gradient in one launch; labels that are not int64 are converted first."""
        op = "softmax_cross_entropy"
        m, n = self._filled_matrix(op, "logits", logits)
        if isinstance(labels, self.cupy.ndarray) and labels.dtype != np.int64:
            if labels.dtype.kind not in "iu":
                raise TypeError(f"{op}: labels must be integers, not of dtype {labels.dtype}")
            labels = labels.astype(np.int64)
        labels = self._input(op, "labels", labels, (m,), np.int64)
        settings: tuple[float, ...] = ()
        if label_smoothing:
            op, settings = "smoothed_cross_entropy", (1.0 - label_smoothing, label_smoothing / n)
        of_rows = weights, losses, settings
        return self._loss(op, logits, labels, totals, gradient, self._scale(scale, m), *of_rows, out)

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
        """Loss sum, correct rows and gradient in one launch."""
        op = "binary_cross_entropy"
        m, n = self._filled_matrix(op, "logits", logits)
        targets = self._input(op, "targets", targets, (m, n))
        of_rows = weights, losses, (exclusive,)
        return self._loss(op, logits, targets, totals, gradient, self._scale(scale, m) / n, *of_rows, out)

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
        """Loss sum, correct rows and gradient in one launch."""
        op = "sigmoid_focal"
        m, n = self._filled_matrix(op, "logits", logits)
        targets = self._input(op, "targets", targets, (m, n))
        balance = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
        of_rows = weights, losses, (exclusive, gamma, *balance)
        return self._loss(op, logits, targets, totals, gradient, self._scale(scale, m) / n, *of_rows, out)

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
        """Loss sum, correct rows and gradient in one launch."""
        rest = totals, gradient, scale, weights, losses, (), out
        return self._error("squared_error", outputs, targets, *rest, slope=2.0)

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
        """Loss sum, correct rows and gradient in one launch."""
        return self._error("absolute_error", outputs, targets, totals, gradient, scale, weights, losses, (), out)

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
        """Loss sum, correct rows and gradient in one launch."""
        return self._error("huber", outputs, targets, totals, gradient, scale, weights, losses, (delta,), out)

    def argmax(self, x: Array) -> Array:
        """The column of the largest element of each row."""
        m, n = self._filled_matrix("argmax", "x", x)
        x = self._input("argmax", "x", x, (m, n))
        result = self.empty((m,), np.int64)
        self._kernels.rows("argmax", m, n, x, result)
        return result

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
        """The whole update in one launch over the flat buffers, for a rule with a CUDA text."""
        known = get_rule(rule)
        if rule not in BUILT_IN and not known.cuda:
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
        op = "update"
        known.check_state(state, settings)
        new_params = self._input(op, "params", params)
        shape, size = new_params.shape, new_params.size
        gradient = self._input(op, "gradient", gradient, shape)
        kept = [state.get(name) for name in known.state]
        new_state = [
            None if x is None else self._input(op, name, x, shape) for name, x in zip(known.state, kept, strict=True)
        ]
        rate = self._number(op, "learning_rate", learning_rate, self.dtype)
        at = self._number(op, "number", number, np.int64)
        decay = weight_decay, 0 if weight_decay == 0.0 else n_decayed
        numbers = known.with_defaults(settings)
        launch = self._kernels.elements
        if rule == "sgd":
            launch("sgd_update", size, new_params, gradient, *new_state, *rate, *_of_sgd(**numbers), *decay)
        elif rule == "adam":
            launch("adam_update", size, new_params, gradient, *new_state, *at, *rate, *_of_adam(**numbers), *decay)
        else:
            name = update_kernel(rule) if rule in BUILT_IN else self._kernels.rule(known)
            launch(name, size, new_params, gradient, *new_state, *at, *rate, *numbers.values(), *decay)
        for new, x in zip(new_state, kept, strict=True):
            if new is not None:
                self._deliver(new, x)
        return self._deliver(new_params, params)

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> Array:
        """alpha x + beta y in one launch."""
        target = self._input("axpby", "y", y)
        x = self._input("axpby", "x", x, target.shape)
        self._kernels.elements("axpby", target.size, alpha, x, beta, target)
        return self._deliver(target, y)

    def clip_norm(self, x: Array, limit: float, *, norm: Array | None = None) -> tuple[Array, Array]:
        """The norm, in float64 and in a fixed order, and the product, in two launches."""
        op, size = "clip_norm", x.size
        target = self._input(op, "x", x)
        found = self._target(op, norm, (1,), "norm", np.float64)
        parts = partial_blocks(size)
        partial = self._buffer("partial", parts, np.float64)
        self._kernels.blocks("partial_squares", size, parts, target, partial)
        self._kernels.blocks("clip_norm", size, element_blocks(size), target, partial, found, limit, parts)
        return self._deliver(target, x), self._deliver(found, norm)

    def clip_values(self, x: Array, limit: float) -> Array:
        """Each element in one launch."""
        target = self._input("clip_values", "x", x)
        self._kernels.elements("clip_values", target.size, target, limit)
        return self._deliver(target, x)

    def update_average(self, average: Array, x: Array, decay: float, *, number: int | Array, first: int = 1) -> Array:
        """The whole average in one launch."""
        op = "update_average"
        target = self._input(op, "average", average)
        x = self._input(op, "x", x, target.shape)
        at = self._number(op, "number", number, np.int64)
        self._kernels.elements(op, target.size, target, x, 1.0 - decay, *at, first)
        return self._deliver(target, average)

    def add_penalty(
        self, gradient: Array, weights: Array, *, l1: float = 0.0, l2: float = 0.0, out: Array | None = None
    ) -> Array:
        """The gradient of a penalty on the weights added, in one launch."""
        op = "add_penalty"
        gradient = self._input(op, "gradient", gradient)
        weights = self._input(op, "weights", weights, gradient.shape)
        target = self._target(op, out, gradient.shape)
        self._kernels.elements(op, gradient.size, gradient, weights, l1, l2, target)
        return self._deliver(target, out)

    def sum_of_squares(self, x: Array) -> Array:
        """The sum of the squares of all elements, in float64 and in a fixed order."""
        return self._reduce("partial_squares", "sum_of_partial", x, self.empty((), np.float64))

    def all_finite(self, x: Array) -> Array:
        """Whether no element is NaN or infinite."""
        return self._reduce("partial_nonfinite", "none_of_partial", x, self.empty((), np.bool_))

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

    def _error(
        self,
        op: str,
        outputs: Array,
        targets: Array,
        totals: Array | None,
        gradient: bool,
        scale: float | None,
        *rest: Any,
        slope: float = 1.0,
    ) -> tuple[Array, Array | None]:
        """A loss of the differences; ``slope``, times what the kernel computes, is its derivative."""
        m, n = self._filled_matrix(op, "outputs", outputs)
        targets = self._input(op, "targets", targets, (m, n))
        return self._loss(op, outputs, targets, totals, gradient, slope * self._scale(scale, m) / n, *rest)

    def _loss(
        self,
        kernel: str,
        outputs: Array,
        targets: Array,
        totals: Array | None,
        gradient: bool,
        scale: float,
        weights: Array | None,
        losses: Array | None,
        settings: tuple[float, ...],
        out: Array | None,
    ) -> tuple[Array, Array | None]:
        m, n = outputs.shape
        outputs = self._input(kernel, "outputs" if kernel in ERRORS else "logits", outputs, (m, n))
        sums = self._target(kernel, totals, (2,), "totals", np.float64)
        target = self._target(kernel, out, (m, n)) if gradient else None
        weights = None if weights is None else self._input(kernel, "weights", weights, (m,))
        values = None if losses is None else self._target(kernel, losses, (m,), "losses")
        rows = self._buffer("rows", 2 * m, np.float64)
        kernels, accumulate = self._kernels, sums is totals
        ticket = kernels.ticket if m <= ROWS_OF_LAST_BLOCK else None
        as_they_are = None, None, targets, None, None, None, 0, m, m  # no bias, and nothing to gather
        kernels.rows(
            kernel,
            m,
            n,
            outputs,
            *as_they_are,
            weights,
            values,
            rows,
            *settings,
            target,
            scale,
            ticket,
            sums,
            accumulate,
        )
        if values is not None:
            self._deliver(values, losses)
        if m == 0 or ticket is None:
            kernels.one_block("add_totals", m, rows, sums, accumulate)
        if totals is not None and sums is not totals:
            totals += sums
            keep(totals, sums)
        return sums if totals is None else totals, None if target is None else self._deliver(target, out)

    def _reduce(self, first: str, second: str, x: Array, result: Array) -> Array:
        """Sums of parts of ``x``, and what a second launch makes of them."""
        x = self._input(first, "x", x, x.shape)
        blocks = partial_blocks(x.size)
        partial = self._buffer("partial", blocks, np.float64)
        self._kernels.blocks(first, x.size, blocks, x, partial)
        self._kernels.one_block(second, blocks, partial, result)
        return result


def _of_sgd(momentum: float, dampening: float, nesterov: bool) -> tuple[float, ...]:
    """The numbers that the kernel takes."""
    return momentum, 1.0 - dampening, nesterov


def _of_adam(beta1: float, beta2: float, epsilon: float, epsilon_hat: bool) -> tuple[float, ...]:
    """The numbers that the kernel takes."""
    of_each = ((beta, 1.0 - beta, math.log(beta) if beta > 0.0 else -math.inf) for beta in (beta1, beta2))
    return *(x for numbers in of_each for x in numbers), epsilon, epsilon_hat

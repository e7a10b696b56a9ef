"""Normalization of rows and columns on a CUDA GPU; what each operation does is said in ``backends.base``."""

from __future__ import annotations

from typing import Any

from ..typing import Array
from .core import CupyCore
from .launch import row_blocks


class NormalizeOperations(CupyCore):
    """Rows and columns of mean 0 and variance 1."""

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

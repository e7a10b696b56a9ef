"""Updates of flat buffers and checks on them, on a CUDA GPU; what each operation does is said in ``backends.base``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..typing import Array
from ..updates import BUILT_IN, get_rule
from .core import CupyCore
from .launch import element_blocks, partial_blocks
from .source.updates import update_kernel


class FlatOperations(CupyCore):
    """What is done with all parameters, or all gradients, at once."""

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

"""Rules of optimizers, each in one loop that Numba compiles."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from ..typing import Array
from ..updates import bias_correction, get_rule
from . import numba_kernels as kernels
from .core import are_alike, host_number
from .updates import NumpyUpdates, adagrad_state, adam_state, rmsprop_state


class NumbaUpdates(NumpyUpdates):
    """An update of the parameters in one pass over them."""

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

"""Rules of optimizers through NumPy: what ``backends.updates`` has in formulas, in place on the flat buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy

from ..typing import Array
from ..updates import bias_correction, get_rule
from .core import NumpyCore, are_alike, host_number


def adam_state(state: dict[str, Array]) -> tuple[Array, Array]:
    """The two arrays that Adam keeps; a ValueError where one is not there."""
    try:
        return state["mean"], state["square"]
    except KeyError:
        get_rule("adam").check_state(state, {})
        raise


def rmsprop_state(state: dict[str, Array], settings: Mapping[str, Any]) -> tuple[Array, Array | None, Array | None]:
    """The arrays that RMSProp keeps, None for those that it does without; a ValueError where one is not there."""
    square, mean, velocity = state.get("square"), state.get("mean"), state.get("velocity")
    if square is None or (mean is None and settings.get("centered")) or (velocity is None and settings.get("momentum")):
        get_rule("rmsprop").check_state(state, settings)
    assert square is not None
    return square, mean, velocity


def adagrad_state(state: dict[str, Array]) -> Array:
    """The array that Adagrad keeps; a ValueError where it is not there."""
    get_rule("adagrad").check_state(state, {})
    return state["squares"]


class NumpyUpdates(NumpyCore):
    """An update of the parameters by the rule of an optimizer."""

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
            return self._sgd(params, gradient, velocity, learning_rate, weight_decay, n_decayed, **settings)
        if rule == "adam":
            mean, square = adam_state(state)
            update = partial(self._adam, params, gradient, mean, square, **settings)
        elif rule == "rmsprop":
            update = partial(self._rmsprop, params, gradient, *rmsprop_state(state, settings), **settings)
        elif rule == "adagrad":
            update = partial(self._adagrad, params, gradient, adagrad_state(state), **settings)
        else:
            update = partial(self._update_by_rule, rule, params, gradient, state, **settings)
        self._call(update, learning_rate, number, weight_decay, n_decayed)
        return params

    def _update_by_rule(
        self,
        rule: str,
        params: Array,
        gradient: Array,
        state: dict[str, Array],
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        **settings: Any,
    ) -> None:
        super().update(
            rule,
            params,
            gradient,
            state,
            learning_rate=host_number(learning_rate),
            number=host_number(number),
            weight_decay=weight_decay,
            n_decayed=n_decayed,
            **settings,
        )

    def _sgd(
        self,
        params: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float | Array,
        weight_decay: float,
        n_decayed: int,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ) -> Array:
        np, fresh = self._memory.numpy, 1.0 - dampening
        direction, blas = gradient, self._blas if are_alike(params, gradient, velocity) else None
        if velocity is None:
            if momentum != 0.0:
                get_rule("sgd").check_state({}, {"momentum": momentum})
        # Where a factor is 0 the BLAS does not read the vector, and a NaN in it would be lost.
        elif blas is not None and momentum != 0.0 and fresh != 0.0:
            self._call(blas.axpby(fresh, gradient, momentum, velocity))
            direction = velocity
            if nesterov:
                self._call(blas.axpby(momentum, velocity, fresh, gradient))
                direction = gradient
        else:
            np.multiply(gradient, fresh, out=gradient)
            np.multiply(velocity, momentum, out=velocity)
            np.add(velocity, gradient, out=velocity)
            direction = velocity
            if nesterov:
                pushed = np.multiply(velocity, momentum, out=self._scratch("update", velocity.shape))
                direction = np.add(gradient, pushed, out=gradient)
        if weight_decay == 0.0:
            n_decayed = 0
        if blas is None:
            self._call(self._move, params, direction, learning_rate, weight_decay, n_decayed)
        else:
            tape = self._memory.tape
            threads, parts = (0, []) if tape is None else (tape.number, tape.halved)
            shrink = blas.subtraction(params[:n_decayed], params[:n_decayed], threads) if n_decayed > 0 else None
            move = blas.subtraction(direction, params, threads, parts)
            otherwise = partial(self._move, params, direction)
            self._call(_move_by_blas, move, shrink, otherwise, learning_rate, weight_decay, n_decayed)
        return params

    def _adam(
        self,
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
        np, rate, t = numpy, host_number(learning_rate), host_number(number)
        scratch = np.multiply(gradient, 1.0 - beta1, out=self._scratch("update", params.shape))
        np.multiply(mean, beta1, out=mean)
        np.add(mean, scratch, out=mean)
        np.multiply(gradient, gradient, out=scratch)
        np.multiply(scratch, 1.0 - beta2, out=scratch)
        np.multiply(square, beta2, out=square)
        np.add(square, scratch, out=square)
        correction = bias_correction(np, beta2, t, self.dtype)
        np.divide(square, correction, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.add(scratch, epsilon / correction**0.5 if epsilon_hat else epsilon, out=scratch)
        change = np.divide(mean, scratch, out=gradient)
        np.multiply(change, rate / bias_correction(np, beta1, t, self.dtype), out=change)
        if weight_decay != 0.0 and n_decayed > 0:
            self._add_decay(change[:n_decayed], params[:n_decayed], rate * weight_decay)
        np.subtract(params, change, out=params)

    def _rmsprop(
        self,
        params: Array,
        gradient: Array,
        square: Array,
        mean: Array | None,
        velocity: Array | None,
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        alpha: float = 0.99,
        epsilon: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        epsilon_inside: bool = False,
    ) -> None:
        np = numpy
        scratch = np.multiply(gradient, gradient, out=self._scratch("update", params.shape))
        np.multiply(scratch, 1.0 - alpha, out=scratch)
        np.multiply(square, alpha, out=square)
        np.add(square, scratch, out=square)
        spread = square
        if mean is not None:
            np.multiply(gradient, 1.0 - alpha, out=scratch)
            np.multiply(mean, alpha, out=mean)
            np.add(mean, scratch, out=mean)
            if centered:
                np.multiply(mean, mean, out=scratch)
                spread = np.subtract(square, scratch, out=scratch)
                np.maximum(spread, 0.0, out=spread)
        direction = self._over_root(gradient, spread, epsilon, epsilon_inside)
        if velocity is not None:
            np.multiply(velocity, momentum, out=velocity)
            direction = np.add(velocity, direction, out=velocity)
        self._move(params, direction, learning_rate, weight_decay, n_decayed)

    def _adagrad(
        self,
        params: Array,
        gradient: Array,
        squares: Array,
        learning_rate: float | Array,
        number: int | Array,
        weight_decay: float,
        n_decayed: int,
        epsilon: float = 1e-10,
        epsilon_inside: bool = False,
    ) -> None:
        scratch = numpy.multiply(gradient, gradient, out=self._scratch("update", params.shape))
        numpy.add(squares, scratch, out=squares)
        direction = self._over_root(gradient, squares, epsilon, epsilon_inside)
        self._move(params, direction, learning_rate, weight_decay, n_decayed)

    def _over_root(self, gradient: Array, square: Array, epsilon: float, epsilon_inside: bool) -> Array:
        """gradient <- gradient / (sqrt(square) + epsilon), or with the epsilon inside the root"""
        root = self._scratch("update", gradient.shape)
        if epsilon_inside:
            numpy.sqrt(numpy.add(square, epsilon, out=root), out=root)
        else:
            numpy.add(numpy.sqrt(square, out=root), epsilon, out=root)
        return numpy.divide(gradient, root, out=gradient)

    def _move(
        self, params: Array, direction: Array, learning_rate: float | Array, weight_decay: float, n_decayed: int
    ) -> None:
        """params <- params - learning_rate (direction + weight_decay params), the decay for the first ``n_decayed``"""
        rate = float(host_number(learning_rate))
        change = numpy.multiply(direction, rate, out=self._scratch("change", params.shape))
        if n_decayed > 0 and weight_decay != 0.0:
            self._add_decay(change[:n_decayed], params[:n_decayed], rate * weight_decay)
        numpy.subtract(params, change, out=params)

    def _add_decay(self, change: Array, weights: Array, rate: float) -> None:
        """Not weights * (1 - rate), which would keep an infinite weight infinite where the reference has NaN."""
        numpy.add(change, numpy.multiply(weights, rate, out=self._scratch("decay", weights.shape)), out=change)


def _move_by_blas(
    move: Callable[[float], None],
    shrink: Callable[[float], None] | None,
    otherwise: Callable[..., None],
    learning_rate: float | Array,
    weight_decay: float,
    n_decayed: int,
) -> None:
    rate = float(host_number(learning_rate))
    if rate == 0.0:  # a vector that the BLAS does not read
        otherwise(rate, weight_decay, n_decayed)
        return
    if shrink is not None:
        shrink(rate * weight_decay)
    move(rate)

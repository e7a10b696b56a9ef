"""The rules with the settings that make them Keras's: its formulas once more, element by element."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from nn.optimizers import Adagrad, Adam, Optimizer, RMSProp
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(5)
START, GRADIENTS = RNG.normal(size=5), RNG.normal(size=(20, 5)) * [1.0, 1e-4, 30.0, 0.0, 1.0]
RATE, EPSILON = 0.001, 1e-7


def rmsprop(momentum: float, centered: bool) -> list[float]:
    """keras.optimizers.RMSprop: rho 0.9, the learning rate inside the velocity."""
    result = []
    for p, gradients in zip(START.tolist(), GRADIENTS.T.tolist(), strict=True):
        square = mean = velocity = 0.0
        for g in gradients:
            square = 0.9 * square + (1 - 0.9) * g * g
            mean = 0.9 * mean + (1 - 0.9) * g
            increment = RATE * g / sqrt((square - mean * mean if centered else square) + EPSILON)
            velocity = momentum * velocity + increment
            p -= velocity
        result.append(p)
    return result


def adagrad() -> list[float]:
    """keras.optimizers.Adagrad: the sums start at 0.1."""
    result = []
    for p, gradients in zip(START.tolist(), GRADIENTS.T.tolist(), strict=True):
        squares = 0.1
        for g in gradients:
            squares += g * g
            p -= RATE * g / sqrt(squares + EPSILON)
        result.append(p)
    return result


def adam() -> list[float]:
    """keras.optimizers.Adam, and scikit-learn's: epsilon is added to the root before its correction."""
    result = []
    for p, gradients in zip(START.tolist(), GRADIENTS.T.tolist(), strict=True):
        mean = square = 0.0
        for t, g in enumerate(gradients, 1):
            mean += (1 - 0.9) * (g - mean)
            square += (1 - 0.99) * (g * g - square)
            p -= RATE * sqrt(1 - 0.99**t) / (1 - 0.9**t) * mean / (sqrt(square) + EPSILON)
        result.append(p)
    return result


def moved_by(optimizer: Optimizer, which: tuple[str, bool]) -> Any:
    backend = made(which, "float64")
    with backend.use():
        params, gradient = backend.asarray(START.copy()), backend.empty(START.shape)
        state = optimizer.new_state(backend, START.shape)
        update = optimizer.update_of(backend, params, gradient, state, n_decayed=3)
        for number, values in enumerate(GRADIENTS, 1):
            gradient[...] = backend.asarray(values.copy())
            update(number=number, learning_rate=optimizer.rate(number))
        return backend.to_numpy(params)


@pytest.mark.parametrize("which", WITH_EMULATED)
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(which: tuple[str, bool], momentum: float, centered: bool) -> None:
    ours = RMSProp(RATE, alpha=0.9, epsilon=EPSILON, epsilon_inside=True, momentum=momentum, centered=centered)
    np.testing.assert_allclose(moved_by(ours, which), rmsprop(momentum, centered), 1e-12, 1e-12)


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_adam(which: tuple[str, bool]) -> None:
    for epsilon_hat in (True, False):
        ours = Adam(RATE, beta2=0.99, epsilon=EPSILON, epsilon_hat=epsilon_hat)
        assert np.allclose(moved_by(ours, which), adam(), 1e-12, 1e-12) == epsilon_hat


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_adagrad(which: tuple[str, bool]) -> None:
    ours = Adagrad(RATE, initial_accumulator_value=0.1, epsilon=EPSILON, epsilon_inside=True)
    np.testing.assert_allclose(moved_by(ours, which), adagrad(), 1e-12, 1e-12)

"""Every optimizer against its loop written out; weights decay, and biases do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import SGD, Adagrad, Adam, AdamW, Linear, RMSProp, Sequential, Softmax, Trainer
from nn.optimizers import OPTIMIZERS
from tests.helpers.classification import CLASSIFICATION, network, same

RNG = np.random.default_rng(0)


def test_weight_decay_shrinks_weights_and_spares_biases() -> None:
    model = Sequential(Linear(4, 3, bias_init=1.0), Softmax(), backend="cpu", dtype="float64")
    before = model.state_dict()
    Trainer(model, optimizer=SGD(0.5, weight_decay=0.1)).fit((np.zeros((3, 4)), [0, 1, 2]), 1, None)
    after = model.state_dict()
    np.testing.assert_allclose(after["0.weight"], before["0.weight"] * (1 - 0.5 * 0.1), rtol=1e-14)
    np.testing.assert_allclose(after["0.bias"], 1.0, rtol=1e-14)


def loop_of_sgd(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    v = np.zeros_like(w)
    for g in gradients:
        v = 0.9 * v + (1 - 0.3) * g
        w = w - 0.05 * (v + 0.01 * w)
    return w


def loop_of_adam(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * g
        square = 0.99 * square + 0.01 * g * g
        w = w - 0.05 * (mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.99**t)) + 1e-8) + 0.01 * w)
    return w


def loop_of_rmsprop(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    mean, square, v = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for g in gradients:
        g = g + 0.01 * w
        mean = 0.8 * mean + 0.2 * g
        square = 0.8 * square + 0.2 * g * g
        v = 0.9 * v + g / (np.sqrt(square - mean * mean) + 1e-8)
        w = w - 0.05 * v
    return w


def loop_of_adagrad(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    total = np.full_like(w, 0.5)
    for t, g in enumerate(gradients):
        total = total + g * g
        w = w - 0.05 / (1 + 0.1 * t) * (g / (np.sqrt(total) + 1e-10) + 0.01 * w)
    return w


OPTIMIZER_LOOPS: dict[str, Any] = {
    "sgd": (lambda: SGD(0.05, momentum=0.9, dampening=0.3, weight_decay=0.01), loop_of_sgd),
    "adam": (lambda: Adam(0.05, beta2=0.99, weight_decay=0.01), loop_of_adam),
    "adamw": (lambda: AdamW(0.05, beta2=0.99), loop_of_adam),
    "rmsprop": (
        lambda: RMSProp(0.05, alpha=0.8, momentum=0.9, centered=True, weight_decay=0.01, decoupled=False),
        loop_of_rmsprop,
    ),
    "adagrad": (
        lambda: Adagrad(0.05, lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.01),
        loop_of_adagrad,
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_its_loop_written_out(name: str) -> None:
    make, loop = OPTIMIZER_LOOPS[name]
    model = Sequential(Linear(4, 3, bias=False), backend="cpu", dtype="float64")
    start = model.state_dict()["0.weight"]
    optimizer = make()
    optimizer.bind(model.store)
    gradients = [RNG.normal(size=(4, 3)) for _ in range(7)]
    for gradient in gradients:
        model.store.gradients["0.weight"][...] = gradient
        optimizer.step(model)
    np.testing.assert_allclose(model.state_dict()["0.weight"], loop(start, gradients), rtol=1e-12)
    assert optimizer.steps == 7


@pytest.mark.parametrize("weight_decay", [0.0, 0.5, 1.0, 2.0])
def test_weights_decay_and_biases_do_not(weight_decay: float) -> None:
    model = Sequential(Linear(4, 3, bias_init=2.0), backend="cpu", dtype="float64")
    start = model.state_dict()
    optimizer = SGD(0.25, weight_decay=weight_decay)
    for gradient in model.store.gradients.values():
        gradient[...] = 0.5
    optimizer.step(model)
    moved = model.state_dict()
    np.testing.assert_allclose(moved["0.weight"], start["0.weight"] - 0.25 * (0.5 + weight_decay * start["0.weight"]))
    np.testing.assert_allclose(moved["0.bias"], start["0.bias"] - 0.125)


def test_without_momentum_a_velocity_of_earlier_epochs_takes_no_part() -> None:
    """The dampening belongs to the velocity: what is left of one must not make the steps smaller."""
    model, optimizer = network(), SGD(0.1, momentum=0.9, dampening=0.9)
    trainer = Trainer(model, optimizer=optimizer)
    trainer.fit(CLASSIFICATION, 1, 10)
    plain = network()
    plain.load_state_dict(model.state_dict())
    optimizer.momentum = 0.0
    trainer.fit(CLASSIFICATION, 1, None)
    Trainer(plain, optimizer=SGD(0.1)).fit(CLASSIFICATION, 1, None)
    assert same(model, plain)

"""By which rule a run trains."""

from __future__ import annotations

from typing import Any

import numpy as np

import train
from nn import SGD, Adam
from nn.optimizers import Adagrad, AdamW, RMSProp
from tests.cli.settings.runs import ONE_STEP, Tools, optimizer_of, parameters, prepared, trained


def by_hand(run: train.Run, steps: int, rate: float, **sgd: Any) -> dict[str, np.ndarray]:
    """The parameters after so many steps of SGD on all rows, from those of ``run``; the formulas of SGD once more."""
    momentum, dampening = sgd.get("momentum", 0.0), sgd.get("dampening", 0.0)
    values = parameters(run)
    velocity = {name: np.zeros_like(value) for name, value in values.items()}
    for _ in range(steps):
        run.trainer.model.load_state_dict(values)
        for name, gradient in run.trainer.gradients(run.training).items():
            pushed = (1 - dampening) * gradient
            velocity[name] = momentum * velocity[name] + pushed
            step = pushed + momentum * velocity[name] if sgd.get("nesterov") else velocity[name]
            shrunk = sgd.get("weight_decay", 0.0) * values[name] if "weight" in name else 0.0
            values[name] = values[name] - rate * (step + shrunk)
    return values


def assert_sgd(flags: list[str], steps: int, rate: float, **sgd: Any) -> None:
    """Training with these flags is ``steps`` steps of SGD with these settings, and not of plain SGD with that rate."""
    flags = [*ONE_STEP, "--epochs", str(steps), *flags]
    found, wanted = parameters(trained(*flags)), by_hand(prepared(*flags), steps, rate, **sgd)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-10, atol=1e-13)


def test_optimizer(tools: Tools) -> None:
    run = trained("--optimizer", "adam", *ONE_STEP)
    assert isinstance(run.trainer.optimizer, Adam)
    start = prepared("--optimizer", "adam", *ONE_STEP)
    gradients = start.trainer.gradients(start.training)
    for name, values in parameters(start).items():  # the first step of Adam: rate * g / (|g| + epsilon)
        step = 0.001 * gradients[name] / (np.abs(gradients[name]) + 1e-8)
        np.testing.assert_allclose(parameters(run)[name], values - step, rtol=1e-9, atol=1e-12)
    assert isinstance(prepared().trainer.optimizer, SGD)


def test_learning_rate(tools: Tools) -> None:
    for flags, rate in ([], 0.1), (["--lr", "0.7"], 0.7), (["--learning-rate", "0.2"], 0.2):
        assert_sgd(flags, 1, rate)
    assert prepared("--optimizer", "adam", "--lr", "0.02").trainer.optimizer.learning_rate == 0.02


def test_momentum(tools: Tools) -> None:
    """That of PyTorch: not dampened."""
    for flags, value in ([], 0.9), (["--momentum", "0.5"], 0.5), (["--beta", "0.3"], 0.3), (["--momentum", "0"], 0.0):
        assert_sgd(flags, 3, 0.1, momentum=value)


def test_dampening(tools: Tools) -> None:
    assert_sgd(["--momentum", "0.5", "--dampening", "0.75"], 3, 0.1, momentum=0.5, dampening=0.75)


def test_nesterov(tools: Tools) -> None:
    assert_sgd(["--nesterov"], 3, 0.1, momentum=0.9, nesterov=True)


def test_weight_decay(tools: Tools) -> None:
    """Weights shrink, biases do not; with Adam too, beside its step."""
    assert_sgd(["--weight-decay", "0.5", "--bias-init", "1"], 2, 0.1, momentum=0.9, weight_decay=0.5)
    flags = ["--optimizer", "adam", "--bias-init", "1", *ONE_STEP]
    start, plain, decayed = prepared(*flags), trained(*flags), trained(*flags, "--weight-decay", "0.5")
    for name, values in parameters(start).items():
        shrunk = 0.001 * 0.5 * values if "weight" in name else np.zeros_like(values)
        difference = parameters(plain)[name] - parameters(decayed)[name]
        np.testing.assert_allclose(difference, shrunk, atol=1e-12)


def test_decoupled(tools: Tools) -> None:
    """Twice the decay, added to the gradient: it passes through the velocity."""
    flags = ["--weight-decay", "0.5", "--no-decoupled", "--bias-init", "1"]
    run, start = trained(*ONE_STEP, "--epochs", "2", *flags), prepared(*ONE_STEP, *flags)
    values = parameters(start)
    velocity = {name: np.zeros_like(value) for name, value in values.items()}
    for _ in range(2):
        start.trainer.model.load_state_dict(values)
        for name, gradient in start.trainer.gradients(start.training).items():
            decay = 0.5 * values[name] if "weight" in name else 0.0
            velocity[name] = 0.9 * velocity[name] + gradient + decay
            values[name] = values[name] - 0.1 * velocity[name]
    for name, wanted in values.items():
        np.testing.assert_allclose(parameters(run)[name], wanted, rtol=1e-10, atol=1e-13)


def test_l1(tools: Tools) -> None:
    flags = [*ONE_STEP, "--momentum", "0"]
    start, plain, pulled = prepared(*flags), trained(*flags), trained(*flags, "--l1", "0.25")
    for name, values in parameters(start).items():
        moved = 0.1 * 0.25 * np.sign(values) if "weight" in name else np.zeros_like(values)
        np.testing.assert_allclose(parameters(plain)[name] - parameters(pulled)[name], moved, atol=1e-12)


def test_alpha(tools: Tools) -> None:
    """The first step of RMSProp: rate * g / (sqrt(1 - alpha) |g| + epsilon)."""
    flags = ["--optimizer", "rmsprop", *ONE_STEP]
    start, run = prepared(*flags), trained(*flags, "--alpha", "0.75", "--eps", "1")
    for name, gradient in start.trainer.gradients(start.training).items():
        step = 0.01 * gradient / (0.5 * np.abs(gradient) + 1.0)
        np.testing.assert_allclose(parameters(run)[name], parameters(start)[name] - step, rtol=1e-9, atol=1e-12)
    assert optimizer_of("--optimizer", "rmsprop") == RMSProp()
    assert optimizer_of("--optimizer", "rmsprop", "--momentum", "0.5", "--rho", "0.9") == RMSProp(
        alpha=0.9, momentum=0.5
    )


def test_beta1(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adam", "--beta1", "0.5") == Adam(beta1=0.5)
    assert optimizer_of("--optimizer", "adamw") == AdamW()


def test_beta2(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adamw", "--beta2", "0.5") == AdamW(beta2=0.5)


def test_epsilon(tools: Tools) -> None:
    for flag in ("--epsilon", "--eps"):
        assert optimizer_of("--optimizer", "adam", flag, "0.5") == Adam(epsilon=0.5)
    assert optimizer_of("--optimizer", "adagrad", "--epsilon", "0") == Adagrad(epsilon=0.0)


def test_epsilon_inside(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adagrad", "--epsilon-inside") == Adagrad(epsilon_inside=True)


def test_epsilon_hat(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adam", "--epsilon-hat") == Adam(epsilon_hat=True)


def test_centered(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "rmsprop", "--centered") == RMSProp(centered=True)


def test_lr_decay(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adagrad", "--lr-decay", "0.5") == Adagrad(lr_decay=0.5)


def test_initial_accumulator_value(tools: Tools) -> None:
    flags = ["--optimizer", "adagrad", "--initial-accumulator-value", "0.25"]
    assert optimizer_of(*flags) == Adagrad(initial_accumulator_value=0.25)
    np.testing.assert_array_equal(optimizer_of(*flags).state["squares"], np.float32(0.25))

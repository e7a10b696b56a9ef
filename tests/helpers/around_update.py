"""Rows and networks for what is done around updates, and the steps written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends import Backend
from nn import SGD, Adam, Context, Dataset, Layer, Linear, Optimizer, Sequential, Sigmoid, Softmax, Trainer

RNG = np.random.default_rng(8)
DATA = Dataset(RNG.integers(0, 256, (70, 12), dtype=np.uint8), RNG.integers(0, 5, 70), scale=1 / 255)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "plain": lambda: SGD(0.3),
    "momentum": lambda: SGD(0.2, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.02, weight_decay=0.01),
}
#: All of it together.
EVERYTHING: dict[str, Any] = {"clip_norm": 0.3, "clip_value": 0.02, "accumulate": 3, "average": 0.9}


def network(backend: Backend | str = "cpu", *middle: Layer) -> Sequential:
    layers = [Linear(12, 8), Sigmoid(), *middle, Linear(8, 5), Softmax()]
    return Sequential(layers, backend=backend, dtype="float64", seed=5)


def flat(arrays: dict[str, Any]) -> Any:
    """All of a network's parameters or gradients, one after the other."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def agree(found: dict[str, Any], expected: dict[str, Any], rtol: float = 1e-9, atol: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, atol=atol, err_msg=name)


def are_equal(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(np.array_equal(found[name], values, equal_nan=True) for name, values in expected.items())


class Recorded(Layer):
    """Computes nothing."""

    recordable = True

    def forward(self, x: Any, ctx: Context) -> Any:
        return x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy


class Unrecorded(Recorded):
    """Lets the steps run as they are written."""

    recordable = False


class ByHand:
    """SGD with momentum on ``network``, its gradients clipped, written out; gradients are asked for batch by batch."""

    def __init__(self, size: int, epochs: int, clip: Callable[[Any], Any]) -> None:
        model = network()
        self.trainer, self.norms = Trainer(model), list[float]()
        velocity = 0.0
        for _ in range(epochs):
            for start in range(0, len(DATA), size):
                gradients = self.trainer.gradients(DATA[start : start + size])
                self.norms.append(float(np.sqrt(sum(np.sum(g * g) for g in gradients.values()))))
                velocity = 0.9 * velocity + clip(flat(gradients))
                moved, at = {}, 0
                for name in sorted(gradients):
                    values = model.state_dict()[name]
                    moved[name] = values - 0.2 * velocity[at : at + values.size].reshape(values.shape)
                    at += values.size
                model.load_state_dict(moved)
        self.parameters = model.state_dict()

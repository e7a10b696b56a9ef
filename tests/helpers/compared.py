"""Trainings that are compared on several devices: networks, optimizers, a GPU that is emulated, and faults to plant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends import Backend
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from nn import (
    SGD,
    Adagrad,
    Adam,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Loss,
    Optimizer,
    ReLU,
    RMSProp,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    load_data,
)
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice

DATA = load_data("digits", limit=150).train
EVERYTHING: list[Layer] = [
    Linear(64, 20), ReLU(), Dropout(0.2), Linear(20, 18), Tanh(), Flatten(), Linear(18, 17, bias=False), Sigmoid(),
    Sigmoid(), Linear(17, 10),
]  # fmt: skip
#: Losses with an end of the network and targets: in float64, so that pixels may be compared with outputs.
TASKS: dict[str, tuple[Layer, Any]] = {
    "softmax_cross_entropy": (Softmax(), DATA.y),
    "binary_cross_entropy": (Sigmoid(), DATA.features()[:, :10]),
    "mean_squared_error": (Softmax(), DATA.y),
}
Make = Callable[[Backend], Trainer]


def making(
    *layers: Layer, loss: str | Loss = "softmax_cross_entropy", optimizer: Callable[[], Optimizer] = SGD
) -> Make:
    chosen = layers or (Linear(64, 20), ReLU(), Dropout(0.2), Linear(20, 12), Sigmoid(), Linear(12, 10), Softmax())
    return lambda backend: Trainer(Sequential(*chosen, backend=backend, seed=5), loss, optimizer())


def momentum() -> Optimizer:
    return SGD(0.3, momentum=0.9, dampening=0.5, nesterov=True, weight_decay=1e-3)


def adam() -> Optimizer:
    return Adam(0.01, weight_decay=1e-2)


def penalties() -> Optimizer:
    return SGD(0.3, momentum=0.9, weight_decay=1e-2, decoupled=False, l1=1e-3)


def rmsprop() -> Optimizer:
    return RMSProp(0.001, momentum=0.5, centered=True, epsilon=1e-2, weight_decay=1e-2)


def adagrad() -> Optimizer:
    return Adagrad(0.01, lr_decay=0.1, initial_accumulator_value=0.1, weight_decay=1e-2, decoupled=False)


def emulated() -> Backend:
    if not HAS_COMPILER:
        pytest.skip("no g++ to compile the CUDA text for the CPU")
    return CupyBackend(EmulatedCudaDevice(max_threads=1))


def plant(
    monkeypatch: pytest.MonkeyPatch, operation: str, fault: Callable[..., Any], when: Callable[..., bool] | None = None
) -> None:
    """After the true operation, let ``fault(result, *arguments)`` change what it wrote."""
    original = getattr(NumpyBackend, operation)

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        arguments = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
        result = original(self, *args, **kwargs)
        if when is None or when(*args, **kwargs):
            fault(result, *arguments)
        return result

    monkeypatch.setattr(NumpyBackend, operation, faulty)


def enlarge(result: Any, *_: Any) -> None:
    result *= result.dtype.type(1.01)


def of_shape(*shape: int, **flags: bool) -> Callable[..., bool]:
    """Whether a product is the one with an operand b and these flags."""
    return lambda a, b, **kwargs: b.shape == shape and all(kwargs.get(flag) for flag in flags)


def slow_update(result: Any, rule: str, params: Any, gradient: Any, state: Any) -> None:
    result[...] *= np.float32(1.001)

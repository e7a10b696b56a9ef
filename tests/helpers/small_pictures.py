"""Small pictures, and a network of all layers for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from backends import Backend
from backends.core import Core
from nn import (
    SGD,
    Adam,
    AvgPool2d,
    BatchNorm2d,
    Callback,
    ChannelsLast,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    Optimizer,
    ReLU,
    Reshape,
    Softmax,
    Tanh,
)

RNG = np.random.default_rng(14)
PIXELS = RNG.integers(0, 256, size=(30, 6, 6), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 30)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "plain": lambda: SGD(0.2),
    "momentum": lambda: SGD(0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.02),
}


def small() -> list[Layer]:
    """A network of all layers, for pictures of 6 x 6 with one channel."""
    return [
        Reshape(1, 6, 6), ChannelsLast(), Conv2d(1, 4, 3, padding="same"), ReLU(), MaxPool2d(2),
        Conv2d(4, 6, 2, bias=False, groups=2), BatchNorm2d(6), Tanh(), AvgPool2d(2, stride=1, padding=1),
        Dropout(0.2), Conv2d(6, 5, 2, activation="gelu"), Flatten(), Linear(20, 3), Softmax(),
    ]  # fmt: skip


class Reads(Callback):
    """Reads the gradients of each batch, so that they are kept."""

    def on_batch_end(self, *_: Any) -> None:
        pass


def eager(backend: Backend) -> Backend:
    """A backend that records nothing."""
    backend.record = partial(Core.record, backend)  # type: ignore[method-assign]
    return backend

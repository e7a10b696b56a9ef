"""Training runs on the emulated GPU, their steps recorded as graphs or launched one by one, to be held against each
other bit by bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from backends import RecordedStep, Step
from backends.base import Backend
from backends.cuda import launch
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.joined import Joined
from nn import (
    SGD,
    Adagrad,
    Adam,
    Callback,
    Context,
    Dropout,
    Layer,
    Linear,
    Optimizer,
    ReLU,
    RMSProp,
    Sequential,
    Softmax,
    Trainer,
)
from nn.data import Dataset
from tests.helpers.emulated_cuda import EmulatedCudaDevice

RNG = np.random.default_rng(5)
ROWS = Dataset(RNG.integers(0, 256, (70, 12), dtype=np.uint8), RNG.integers(0, 5, 70), scale=1 / 255)
MORE_ROWS = Dataset(RNG.integers(0, 256, (90, 12), dtype=np.uint8), RNG.integers(0, 5, 90), scale=1 / 255)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(0.2, momentum=0.9, dampening=0.5, weight_decay=1e-3),
    "adam": lambda: Adam(0.02),
    "rmsprop": lambda: RMSProp(0.01, momentum=0.5, centered=True, epsilon=1e-3, weight_decay=1e-3, decoupled=False),
    "adagrad": lambda: Adagrad(0.05, lr_decay=0.1, initial_accumulator_value=0.1, l1=1e-4),
    "penalties": lambda: SGD(0.2, momentum=0.9, weight_decay=1e-3, decoupled=False, l1=1e-4),
}


class Eager(CupyBackend):
    """The same device, its steps launched one by one, joined alike."""

    def record(self, step: Step, *, only_operations: bool = True) -> RecordedStep:
        kernels = launch.kernels(self.cupy, self.index, "float" if self.dtype_name == "float32" else "double")
        joined = Joined(self.cupy, kernels, self.rules if only_operations else (), self.device.nodes_of)
        return Backend.record(self, lambda numbers, count: joined(partial(step, numbers, count)))


class SlowsDown(Callback):
    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        if epoch > 1:
            trainer.optimizer.learning_rate *= 0.7


class Counts(Layer):
    """Counts how often the Python code of a training step runs, by the number of rows; computes nothing."""

    def __init__(self) -> None:
        self.ran: Counter[int] = Counter()

    def forward(self, x: Any, ctx: Context) -> Any:
        if ctx.training:
            self.ran[x.shape[0]] += 1
        return x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy


class Allocates(Counts):
    """What a recorded step must not do."""

    def forward(self, x: Any, ctx: Context) -> Any:
        ctx.backend.column_sum(x)
        return super().forward(x, ctx)


def make_trainer(
    backend: Backend, optimizer: str = "sgd", width: int = 9, counts: type[Counts] = Counts
) -> tuple[Trainer, Counter[int]]:
    """A trainer, and how often the Python code of its steps ran."""
    layer = counts()
    layers = [Linear(12, width), ReLU(), Dropout(0.3), layer, Linear(width, 5), Softmax()]
    model = Sequential(layers, backend=backend, seed=3)
    return Trainer(model, optimizer=OPTIMIZERS[optimizer](), callbacks=[SlowsDown()]), layer.ran


@dataclass
class Outcome:
    """Everything that a run leaves behind."""

    trainer: Trainer
    arrays: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        trainer, down = self.trainer, self.trainer.backend.to_numpy
        self.arrays = trainer.model.state_dict() | {name: down(x) for name, x in trainer.optimizer.state.items()}
        for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
            if column in trainer.history[0]:
                self.arrays[column] = np.array(trainer.history[column])

    def is_that_of(self, other: Outcome) -> None:
        assert self.arrays.keys() == other.arrays.keys()
        for name, values in self.arrays.items():
            np.testing.assert_array_equal(values, other.arrays[name], err_msg=name, strict=True)


def train(backend: Backend, optimizer: str = "sgd", batch_size: int | None = 16, shuffle: bool = True) -> Outcome:
    """Two fits; the rows for validation come as one batch, larger than those of training."""
    trainer, _ = make_trainer(backend, optimizer)
    trainer.fit(ROWS, 4, batch_size, shuffle=shuffle, validation=MORE_ROWS)
    trainer.fit(ROWS, 2, batch_size, shuffle=shuffle)
    return Outcome(trainer)


def recorded(dtype: str = "float32") -> CupyBackend:
    return CupyBackend(EmulatedCudaDevice(), dtype)


def eager(dtype: str = "float32") -> CupyBackend:
    return Eager(EmulatedCudaDevice(), dtype)

"""Runs with all that a run may have, to be interrupted and resumed, and what two of them have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends import get_backend
from backends.cuda.cupy_backend import CupyBackend
from nn import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Dropout,
    EarlyStopping,
    LearningRateSchedule,
    Linear,
    ReduceOnPlateau,
    ReLU,
    RMSProp,
    Sequential,
    Softmax,
    Trainer,
)
from nn.optimizers import CosineDecay, LinearWarmup
from tests.helpers.emulated_cuda import EmulatedCudaDevice

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype(np.float32)
Y = (X[:, 0] + 0.5 * RNG.standard_normal(50) > 0).astype(np.int64)
HELD_OUT = (X[:15], Y[:15])
TIMES = ("seconds", "rows_per_second")


class Killed(BaseException):
    """What a kill is to the trainer: nothing of it runs any more but what unwinds the stack."""


class Kill(Callback):
    """Ends the process, as it were, when so many batches have been trained on in it, or epochs have ended."""

    def __init__(self, batches: int = 0, epochs: int = 0) -> None:
        self.batches, self.epochs = batches, epochs

    reads_gradients = False
    comes_last = True

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.batches -= 1
        if self.batches == 0:
            raise Killed

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.epochs -= 1
        if self.epochs == 0:
            raise Killed


class Counts(Callback):
    """A callback of one's own with a memory: it counts what it sees."""

    def __init__(self) -> None:
        self.seen = {"on_epoch_begin": 0, "on_batch_end": 0, "on_epoch_end": 0}

    reads_gradients = False

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self.seen["on_epoch_begin"] += 1

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.seen["on_batch_end"] += 1

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.seen["on_epoch_end"] += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": dict(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def model(backend: str = "cpu", seed: int = 3) -> Sequential:
    layers = (Linear(6, 12), BatchNorm(12), ReLU(), Dropout(0.3), Linear(12, 2), Softmax())
    if backend == "emulated":
        return Sequential(*layers, backend=CupyBackend(EmulatedCudaDevice()), seed=seed)
    return Sequential(*layers, backend=get_backend(backend.partition("/")[0], fused="/" not in backend), seed=seed)


#: Trainers with all that a run may have; each with the callbacks that have a memory.
RUNS: dict[str, Callable[[str], Trainer]] = {
    "momentum": lambda on: Trainer(model(on), optimizer=SGD(0.1, momentum=0.9, weight_decay=1e-3), clip_norm=0.5),
    "adam and a schedule": lambda on: Trainer(
        model(on),
        optimizer=Adam(LinearWarmup(CosineDecay(0.02, length=30), length=5)),
        average=0.9,
        metrics=["macro_f1"],
    ),
    "early stopping": lambda on: Trainer(
        model(on), optimizer=RMSProp(0.01, momentum=0.5), callbacks=[EarlyStopping(patience=2)], average=0.95
    ),
    "accumulation": lambda on: Trainer(
        model(on), optimizer=SGD(0.1, momentum=0.9), accumulate=3, clip_value=0.1, callbacks=[Counts()]
    ),
    "plateau": lambda on: Trainer(
        model(on), optimizer=SGD(0.3), callbacks=[ReduceOnPlateau("loss", patience=0, factor=0.5)], train_metrics=True
    ),
    "rates by epoch": lambda on: Trainer(
        model(on), optimizer=SGD(0.3), callbacks=[LearningRateSchedule(lambda epoch: 0.3 / epoch)]
    ),
}
EPOCHS = 6


def fit(trainer: Trainer, *callbacks: Callback, epochs: int = EPOCHS, **changed: Any) -> None:
    trainer.fit(X, Y, **{"epochs": epochs, "batch_size": 8, "validation": HELD_OUT, "validation_every": 2} | changed,
                callbacks=callbacks)  # fmt: skip


def outcome(trainer: Trainer) -> dict[str, Any]:
    """All that two runs have in common if they are the same one."""
    history, optimizer = trainer.history, trainer.optimizer
    arrays = trainer.model.state_dict() | {
        f"optimizer.{name}": trainer.backend.to_numpy(array) for name, array in optimizer.state.items()
    }
    return {
        "arrays": {name: array.tobytes() for name, array in arrays.items()},
        "records": [{key: value for key, value in record.items() if key not in TIMES} for record in history],
        "history": (history.stopped, history.best_epoch, history.monitor, history.best_is_kept),
        "counters": (trainer.epoch, trainer.model.step, optimizer.steps, str(optimizer.learning_rate)),
        "callbacks": [callback.state_dict() for callback in trainer.callbacks],
        "learnt": (trainer.model.units, trainer.model.task, trainer.model.loss_name),
    }

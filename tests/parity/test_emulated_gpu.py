"""Whole training runs through ``CupyBackend`` and its kernels where there is no GPU: launches and CUDA text on the CPU.

The emulated device refuses everything that would make the host wait, and fills fresh memory with NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import Backend
from backends.cuda.cupy_backend import CupyBackend
from nn import (
    SGD,
    Adagrad,
    Adam,
    Callback,
    Dropout,
    History,
    Layer,
    Linear,
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
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler

pytestmark = needs_compiler

DATA = load_data("digits", limit=100).train
LOSSES: dict[str, tuple[Layer, object]] = {
    "softmax_cross_entropy": (Softmax(), DATA.y),
    "binary_cross_entropy": (Sigmoid(), DATA.features()[:, :10]),
    "mean_squared_error": (Softmax(), DATA.y),
    "focal": (Sigmoid(), DATA.y),
    "huber": (Tanh(), DATA.y),
}


def optimizers() -> list[Optimizer]:
    return [
        SGD(0.3, momentum=0.9, dampening=0.5, nesterov=True, weight_decay=1e-3),
        Adam(0.01, weight_decay=1e-2),
        # A small epsilon makes much of the rounding of gradients that are almost 0.
        RMSProp(0.01, momentum=0.5, epsilon=1e-2, weight_decay=1e-3, decoupled=False),
        Adagrad(0.05, initial_accumulator_value=0.1, weight_decay=1e-2, l1=1e-4),
        # Between the products of the gradients and the update, which are joined without it.
        SGD(0.3, weight_decay=1e-2, decoupled=False, l1=1e-3),
    ]


#: What is done beside an update: nothing, or all that there is.
AROUND_UPDATE: dict[str, dict[str, Any]] = {
    "": {},
    "around": {"clip_norm": 0.5, "clip_value": 0.1, "accumulate": 3, "average": 0.9},
}


def run(backend: Backend, loss: str, optimizer: Optimizer, around: str) -> tuple[Sequential, History]:
    end, targets = LOSSES[loss]
    model = Sequential(
        Linear(64, 20), Sigmoid(), Dropout(0.2), Linear(20, 18), ReLU(), Linear(18, 17), Tanh(), Linear(17, 10), end,
        backend=backend, seed=7,
    )  # fmt: skip
    data = (DATA.x, targets)
    history = Trainer(model, loss, optimizer, **AROUND_UPDATE[around]).fit(data, 4, 32, validation=data)
    return model, history


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("number", range(5), ids=["sgd", "adam", "rmsprop", "adagrad", "penalties"])
@pytest.mark.parametrize("around", AROUND_UPDATE)
def test_a_run_on_the_emulated_gpu_is_the_run_on_the_cpu(loss: str, number: int, around: str) -> None:
    emulated = CupyBackend(EmulatedCudaDevice(max_threads=1), "float64")
    model, history = run(emulated, loss, optimizers()[number], around)
    expected_model, expected = run(make_backend(("cpu", False), "float64"), loss, optimizers()[number], around)
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(history[column], expected[column], rtol=1e-9)
    if loss != "binary_cross_entropy":
        assert history["val_accuracy"] == expected["val_accuracy"]
    for name, values in expected_model.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], values, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("number", range(5), ids=["sgd", "adam", "rmsprop", "adagrad", "penalties"])
@pytest.mark.parametrize("around", AROUND_UPDATE)
def test_after_the_first_epoch_a_step_on_the_emulated_gpu_allocates_nothing(
    loss: str, number: int, around: str
) -> None:
    device = EmulatedCudaDevice(max_threads=1)
    end, targets = LOSSES[loss]
    model = Sequential(Linear(64, 20), Sigmoid(), Dropout(0.2), Linear(20, 10), end, backend=CupyBackend(device))
    made: list[tuple[int, int]] = []

    class Watch(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            made.append((trainer.epoch, device.cupy.allocate.count))

    before = device.cupy.allocate.count
    trainer = Trainer(model, loss, optimizers()[number], callbacks=[Watch()], **AROUND_UPDATE[around])
    trainer.fit((DATA.x, targets), 3, 32)
    assert made[0][1] > before
    for epoch in (2, 3):
        assert len({count for of, count in made if of == epoch}) == 1

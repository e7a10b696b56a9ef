"""A snapshot holds all that training moves: a run that goes on from it makes the same steps again, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import SGD, Adam, Dropout, Linear, Sequential, Softmax, Tanh, Trainer
from nn.snapshot import Snapshot
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
DATA = X, (X @ RNG.normal(size=(4, 3))).argmax(axis=1)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


def trainer_on(backend: Any, optimizer: Any) -> Trainer:
    layers = [Linear(4, 8), Tanh(), Dropout(0.25), Linear(8, 3), Softmax()]
    return Trainer(Sequential(layers, backend=backend), optimizer=optimizer)


def moved(trainer: Trainer) -> dict[str, Any]:
    """Whatever training moves, read from the trainer itself."""
    flat = {"parameters": trainer.model.flat_parameters, **trainer.optimizer.state}
    arrays = {name: trainer.backend.to_numpy(array).tolist() for name, array in flat.items()}
    return {**arrays, "counted": (trainer.epoch, trainer.model.step, trainer.optimizer.steps)}


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.2, momentum=0.9), lambda: Adam(0.01)], ids=["sgd", "adam"])
def test_a_restored_run_makes_the_same_steps_again(backend: Backend, optimizer: Any) -> None:
    trainer = trainer_on(backend, optimizer())
    trainer.fit(DATA, 2, 16)
    snapshot, before = Snapshot.of(trainer), moved(trainer)
    losses = trainer.fit(DATA, 3, 16)["loss"][2:]
    after = moved(trainer)
    assert after != before
    snapshot.restore(trainer)
    assert moved(trainer) == before
    assert trainer.fit(DATA, 3, 16)["loss"][5:] == losses
    assert moved(trainer) == after


def test_a_snapshot_names_its_arrays_and_its_numbers(backend: Backend) -> None:
    trainer = trainer_on(backend, Adam(0.01))
    trainer.fit(DATA, 2, 16)
    snapshot = Snapshot.of(trainer)
    sizes = {name: array.shape for name, array in snapshot.arrays().items()}
    assert sizes.pop("state") == trainer.model.store.flat_state.shape
    assert {"parameters", *(f"optimizer.{name}" for name in trainer.optimizer.state)} == set(sizes)
    assert set(sizes.values()) == {trainer.model.flat_parameters.shape}
    assert snapshot.numbers() == {
        "trainer.epoch": 2, "model.step": 6, "optimizer.steps": 6, "optimizer.learning_rate": 0.01
    }  # fmt: skip


def test_a_snapshot_is_renewed_in_its_own_memory(backend: Backend) -> None:
    trainer = trainer_on(backend, SGD(0.2, momentum=0.9))
    first = Snapshot.of(trainer)
    memory = first.arrays()["parameters"]
    trainer.fit(DATA, 1, 16)
    renewed = first.renew(trainer)
    now = moved(trainer)
    trainer.fit(DATA, 1, 16)
    renewed.restore(trainer)
    assert moved(trainer) == now
    assert renewed.arrays()["parameters"] is memory


def test_a_rate_that_a_callback_sets_comes_back_and_a_schedule_stays() -> None:
    trainer = trainer_on("cpu", SGD(0.5))
    snapshot = Snapshot.of(trainer)
    trainer.optimizer.learning_rate = 0.1
    snapshot.restore(trainer)
    assert trainer.optimizer.learning_rate == 0.5
    trainer.optimizer.learning_rate = schedule = lambda update: 1.0 / update
    snapshot = Snapshot.of(trainer)
    assert "optimizer.learning_rate" not in snapshot.numbers()
    snapshot.restore(trainer)
    assert trainer.optimizer.learning_rate is schedule


def test_an_array_that_the_optimizer_began_to_keep_later_begins_again_with_zeros() -> None:
    optimizer = SGD(0.2)
    trainer = trainer_on("cpu", optimizer)
    snapshot = Snapshot.of(trainer)
    optimizer.momentum = 0.9
    trainer.fit(DATA, 1, 16)
    assert np.any(trainer.optimizer.state["velocity"])
    snapshot.restore(trainer)
    assert not np.any(trainer.optimizer.state["velocity"])


def test_the_average_of_the_weights_comes_back(backend: Backend) -> None:
    def averaged(trainer: Trainer) -> Any:
        with trainer.averaged():
            return trainer.model(X).tolist()

    trainer = trainer_on(backend, SGD(0.2))
    without = Snapshot.of(trainer)
    trainer.average = 0.9
    trainer.fit(DATA, 2, 16)
    snapshot, before = Snapshot.of(trainer), averaged(trainer)
    assert snapshot.numbers()["average.from"] == 1
    trainer.fit(DATA, 2, 16)
    after = averaged(trainer)
    assert before != after
    snapshot.restore(trainer)
    assert averaged(trainer) == before
    trainer.fit(DATA, 2, 16)
    assert averaged(trainer) == after
    without.restore(trainer)  # the average begins again
    trainer.fit(DATA, 2, 16)
    assert averaged(trainer) == before


def test_a_snapshot_of_another_run_is_refused_and_changes_nothing() -> None:
    snapshot = Snapshot.of(trainer_on("cpu", SGD(0.2, momentum=0.9)))
    other = Trainer(Sequential(Linear(4, 3), backend="cpu"), optimizer=SGD(0.2, momentum=0.9))
    other.fit(DATA, 1)
    before = moved(other)
    with pytest.raises(ValueError, match=r"another training run: it has parameters of shape \(\d+,\), the trainer has"):
        snapshot.restore(other)
    adam = trainer_on("cpu", Adam())
    with pytest.raises(ValueError, match=r"it has optimizer.velocity of shape \(\d+,\), the trainer has none"):
        snapshot.restore(adam)
    assert moved(other) == before

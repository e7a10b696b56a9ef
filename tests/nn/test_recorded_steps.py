"""Recorded steps: what a product adds to the velocity, who scales pixels, and when steps are recorded again."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from backends import Backend
from backends.updates import RULES, Rule, register_rule
from nn import SGD, Callback, Dataset, Flatten, Linear, Optimizer, Sequential, Sigmoid, Softmax, Trainer
from nn.optimizers import OPTIMIZERS
from nn.plan import Plan
from nn.sinks import takes_input_scale
from tests.helpers.classification import CLASSIFICATION, network, same

PIXELS = np.random.default_rng(0).integers(0, 256, size=(90, 12), dtype=np.uint8)
FOUR_CLASSES = np.arange(90) % 4


def plan_of(trainer: Trainer, **options: Any) -> Plan:
    return trainer.plan(trainer.upload(ROWS), optimizer=trainer.optimizer, **options)


ROWS = Dataset(PIXELS, FOUR_CLASSES, scale=1 / 255)


class Reader(Callback):
    """Somebody who reads the gradients of each step."""

    reads_gradients = True


def trained(optimizer: SGD, *, folds: bool = True, epochs: int = 4) -> Trainer:
    model = Sequential(Linear(12, 8), Sigmoid(), Linear(8, 4), Softmax(), backend="cpu", dtype="float64", seed=5)
    trainer = Trainer(model, optimizer=optimizer, callbacks=[] if folds else [Reader()])
    trainer.fit(ROWS, epochs, 20)
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.9},
        {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
        {},
    ],
)
def test_gradients_added_to_the_velocity_by_the_product_train_the_same_network(settings: dict[str, Any]) -> None:
    at_once, apart = (trained(SGD(0.3, **settings), folds=one) for one in (True, False))
    folds = at_once.backend.accumulates and settings.get("nesterov", False) is False and "momentum" in settings
    assert any(section.folded for section in plan_of(at_once).sections) == folds
    assert not any(section.folded for section in plan_of(apart, keep=True).sections)
    np.testing.assert_allclose(at_once.model.flat_parameters, apart.model.flat_parameters, rtol=1e-11)
    for name, state in apart.optimizer.state.items():
        np.testing.assert_allclose(at_once.optimizer.state[name], state, rtol=1e-9, atol=1e-14)


def test_asking_for_gradients_between_steps_leaves_the_velocity_alone() -> None:
    asking, other = (trained(SGD(0.3, momentum=0.9), epochs=1) for _ in range(2))
    asking.gradients(ROWS)
    for trainer in (asking, other):
        trainer.fit(ROWS, 1, 20)
    np.testing.assert_array_equal(asking.model.flat_parameters, other.model.flat_parameters)


def test_a_velocity_that_is_put_in_place_of_the_first_is_used() -> None:
    first, other = (trained(SGD(0.3, momentum=0.9), epochs=1) for _ in range(2))
    first.optimizer.state["velocity"] = first.optimizer.state["velocity"].copy()
    for trainer in (first, other):
        trainer.fit(ROWS, 1, 20)
    np.testing.assert_array_equal(first.model.flat_parameters, other.model.flat_parameters)


@pytest.mark.parametrize("layers", [(), (Flatten(),)], ids=["linear first", "flatten first"])
@pytest.mark.parametrize("shift", [0.0, -0.5])
def test_pixels_are_scaled_whoever_does_it(layers: tuple[Any, ...], shift: float) -> None:
    """The first product takes the scale; rows with a shift, and those of other first layers, are scaled before."""
    data = Dataset(PIXELS, FOUR_CLASSES, scale=1 / 255, shift=shift)
    runs = []
    for rows in (data, (data.features("float64"), FOUR_CLASSES)):
        model = Sequential(*layers, Linear(12, 4), Softmax(), backend="cpu", dtype="float64", seed=5)
        trainer = Trainer(model, optimizer=SGD(0.3, momentum=0.9))
        trainer.fit(rows, 3, 20, validation=rows)
        runs.append((trainer.history["val_loss"], trainer.gradients(rows)[f"{len(layers)}.weight"]))
    assert takes_input_scale(trainer.model.layers)
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-12)
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-10, atol=1e-15)


def test_an_update_is_recorded_again_where_a_setting_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recording holds on to: everything but the learning rate, which is a number of each step."""
    trainer = trained(SGD(0.3, momentum=0.9), epochs=1)
    recorded: list[Any] = []

    def record(step: Any, **_: Any) -> Any:
        recorded.append(step)
        return Backend.record(trainer.backend, step)

    monkeypatch.setattr(trainer.backend, "record", record)
    rows = trainer.upload(Dataset(PIXELS, FOUR_CLASSES, scale=1 / 255))

    class Change(Callback):
        def on_epoch_end(self, trainer: Trainer, record: Any) -> None:
            trainer.optimizer.learning_rate *= 0.5
            if trainer.epoch == 3:
                trainer.optimizer.momentum = 0.5  # type: ignore[attr-defined]

    trainer.fit(rows, 2, 20, callbacks=[Change()])
    assert len(recorded) == 1
    trainer.fit(rows, 1, 20)
    assert len(recorded) == 2
    trainer.fit(rows, 2, 20, shuffle=False)
    assert len(recorded) == 3
    trainer.model.reset(8)
    trainer.fit(rows, 2, 20, shuffle=False)
    assert len(recorded) == 4
    velocity = trainer.optimizer.state["velocity"]
    trainer.optimizer.state["velocity"] = velocity.copy()
    trainer.fit(rows, 2, 20, shuffle=False)
    assert len(recorded) == 5


def test_what_was_recorded_for_other_settings_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured graphs and their buffers are large, and a momentum may change in every epoch."""
    trainer = Trainer(network(), optimizer=SGD(0.1, momentum=0.5))
    steps: list[Any] = []

    def record(step: Any, **_: Any) -> Any:
        recorded = Backend.record(trainer.backend, step)
        steps.append(weakref.ref(recorded))
        return recorded

    monkeypatch.setattr(trainer.backend, "record", record)

    class Change(Callback):
        def on_epoch_end(self, trainer: Trainer, record: Any) -> None:
            trainer.optimizer.momentum += 0.05  # type: ignore[attr-defined]

    rows = trainer.upload(trainer.model.dataset(CLASSIFICATION))
    trainer.fit(rows, 5, 20, callbacks=[Change()])
    gc.collect()
    assert [step() is None for step in steps] == [True] * 4 + [False]


def test_an_optimizer_that_takes_the_place_of_another_is_used() -> None:
    """Even where it has the settings of the other one, and no state by which to tell them apart."""

    def against(xp: Any, gradient: Any, state: Any, number: Any) -> Any:
        return -gradient, {}

    register_rule(Rule("against", against))
    register_rule(Rule("along", lambda xp, gradient, state, number: (gradient, {})))

    @dataclass
    class Along(Optimizer):
        rule: ClassVar[str] = "along"
        learning_rate: Any = 0.1

    @dataclass
    class Against(Along):
        rule: ClassVar[str] = "against"

    try:
        trainer = Trainer(network(), optimizer=Along())
        rows = trainer.upload(trainer.model.dataset(CLASSIFICATION))
        before = network()
        trainer.fit(rows, 1, None)
        trainer.optimizer = Against()
        trainer.fit(rows, 1, None)
        assert not same(trainer.model, before)
        for name, values in trainer.model.state_dict().items():
            np.testing.assert_allclose(values, before.state_dict()[name], atol=0.01)
        assert trainer.history[1]["loss"] < trainer.history[0]["loss"]
        assert trainer.evaluate(CLASSIFICATION)["loss"] > trainer.history[1]["loss"]
    finally:
        for name in ("along", "against"):
            del RULES[name], OPTIMIZERS[name]

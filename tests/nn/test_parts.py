"""An epoch is launched in parts of several steps each, and is the same as one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from typing import Any

import numpy as np
import pytest

from backends import Backend, RecordedStep, Step, StepNumbers
from nn import SGD, Adam, Callback, Context, Dropout, Layer, Linear, Optimizer, ReLU, Sequential, Softmax, Trainer
from nn import steps as steps_module
from nn.steps import MOST_STEPS

RNG = np.random.default_rng(4)
DATA = RNG.standard_normal((203, 6)), RNG.integers(0, 3, 203)


def in_turns(update: int) -> float:
    """A schedule that changes now in every step and now in none."""
    return 0.1 / update if update % 60 < 30 else 0.01


def make_trainer(optimizer: Optimizer, *layers: Layer, callbacks: tuple[Callback, ...] = ()) -> Trainer:
    layers = (Linear(6, 8), ReLU(), Dropout(0.4), *layers, Linear(8, 3), Softmax())
    return Trainer(Sequential(*layers, backend="cpu", seed=2), optimizer=optimizer, callbacks=callbacks)


def parts_of(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The calls of the trainer's steps, as first row, rows of each step and steps."""
    parts: list[tuple[int, int, int]] = []
    original = type(trainer.backend).record

    def record(self: Backend, step: Step, **options: Any) -> RecordedStep:
        recorded = original(self, step, **options)

        def called(numbers: StepNumbers, count: int, times: int = 1) -> None:
            parts.append((int(numbers.start), count, times))
            recorded(numbers, count, times)

        return called

    monkeypatch.setattr(type(trainer.backend), "record", record)
    return parts


@pytest.mark.parametrize("rate", [0.05, in_turns], ids=["fixed", "scheduled"])
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_parts_are_the_same_run_as_single_steps(
    kind: Any, rate: float | Callable[[int], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(most: int) -> Trainer:
        monkeypatch.setattr(steps_module, "MOST_STEPS", most)
        trainer = make_trainer(kind(rate))
        trainer.fit(DATA, 3, 10)
        trainer.fit(DATA, 2, 1, shuffle=False)
        return trainer

    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)
    one, other = run(1), run(MOST_STEPS)
    assert one.history["loss"] == other.history["loss"]
    assert one.history["learning_rate"] == other.history["learning_rate"]
    assert (one.model.step, one.optimizer.steps) == (other.model.step, other.optimizer.steps) == (3 * 21 + 2 * 203,) * 2
    for name, values in one.model.state_dict().items():
        np.testing.assert_array_equal(values, other.model.state_dict()[name])


def test_a_part_has_as_many_steps_as_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(SGD())
    parts = parts_of(trainer, monkeypatch)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)
    trainer.fit(DATA, 2, 2, shuffle=False)
    first = [(0, 2, 1), (2, 2, MOST_STEPS), (98, 2, MOST_STEPS), (194, 2, 4), (202, 1, 1)]
    assert parts == [*first, (0, 2, MOST_STEPS), (96, 2, MOST_STEPS), (192, 2, 5), (202, 1, 1)]

    class Slow(Layer):
        def forward(self, x: Any, ctx: Context) -> Any:
            sleep(0.002)
            return x

        def backward(self, dy: Any, ctx: Context) -> Any:
            return dy

    monkeypatch.undo()
    slow = make_trainer(SGD(), Slow())
    parts = parts_of(slow, monkeypatch)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 0.02)
    slow.fit(DATA, 1, 2)
    most = max(times for _, _, times in parts)
    assert most <= 0.02 / 0.002 + 1
    monkeypatch.setattr(steps_module, "PART_SECONDS", 0.001)
    parts.clear()
    slow.fit(DATA, 1, 2)
    assert {times for _, _, times in parts[1:]} == {1}


@pytest.mark.parametrize("takes_parts", [False, True])
def test_callbacks_of_batches_are_called_for_each_unless_they_take_parts(
    takes_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    class Look(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.append((rows, trainer.model.step))

    Look.takes_parts = takes_parts
    trainer = make_trainer(SGD(), callbacks=(Look(),))
    parts = parts_of(trainer, monkeypatch)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)
    trainer.fit(DATA, 1, 10)
    if takes_parts:
        assert parts == [(0, 10, 1), (10, 10, 19), (200, 3, 1)]
        assert seen == [(10, 1), (190, 20), (3, 21)]
    else:
        assert [times for _, _, times in parts] == [1] * 21
        assert seen == [*((10, step) for step in range(1, 21)), (3, 21)]


@pytest.mark.parametrize("error", [ValueError, StopIteration, ZeroDivisionError])
@pytest.mark.parametrize("last", [1, 2, 17, 49, 60])
def test_a_schedule_that_fails_leaves_the_steps_before_it(
    error: type[Exception], last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the part, too, and their count."""

    def rate(update: int) -> float:
        if update > last:
            raise error
        return 0.1 / update

    def run(most: int) -> Trainer:
        monkeypatch.setattr(steps_module, "MOST_STEPS", most)
        trainer = make_trainer(SGD(rate))
        with pytest.raises(error):
            trainer.fit(DATA, 1, 2)
        assert trainer.model.step == trainer.optimizer.steps == last
        return trainer

    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)
    one, other = run(1), run(MOST_STEPS)
    for name, values in one.model.state_dict().items():
        np.testing.assert_array_equal(values, other.model.state_dict()[name])

"""Which targets a trainer takes, at every way in; and that rows held out for validation are never trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nn import SGD, DataError, Dataset, Linear, Sequential, Sigmoid, Softmax, Trainer
from tests.helpers.layers import Spy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
GOOD = RNG.uniform(size=(30, 2))


def with_value(value: float) -> np.ndarray:
    y = GOOD.copy()
    y[17, 1] = value
    return y


WAYS_IN: dict[str, Callable[[Trainer, Any], Any]] = {
    "fit": lambda trainer, data: trainer.fit(data),
    "validation": lambda trainer, data: trainer.fit((X, GOOD), validation=data),
    "evaluate": lambda trainer, data: trainer.evaluate(data),
    "gradients": lambda trainer, data: trainer.gradients(data),
}


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("end", [[], [Sigmoid()]], ids=["logits", "sigmoid"])
@pytest.mark.parametrize("value", [-0.01, 1.01, 2.0, -1.0, np.nextafter(1.0, 2.0), -5e-324])
def test_binary_cross_entropy_needs_targets_from_0_to_1(way_in: str, end: list[Any], value: float) -> None:
    """Of a target outside, the loss has no lowest value: training would drive the outputs to infinity."""
    model = Sequential(Linear(4, 2), *end, backend="cpu")
    before = model.state_dict()
    for data in ((X, with_value(value)), Dataset(X, with_value(value))):
        with pytest.raises(DataError, match=r"y\[17\] is .*, but this loss needs targets from 0 to 1; rescale them"):
            WAYS_IN[way_in](Trainer(model, "binary_cross_entropy"), data)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_the_ends_of_the_interval_are_inside(way_in: str) -> None:
    for value in (0.0, 1.0):
        WAYS_IN[way_in](Trainer(Sequential(Linear(4, 2), backend="cpu"), "bce"), (X, with_value(value)))


def test_one_output_needs_them_too() -> None:
    trainer = Trainer(Sequential(Linear(4, 1), Sigmoid(), backend="cpu"), "bce")
    with pytest.raises(DataError, match=r"y\[3\] is 1\.5, but this loss needs targets from 0 to 1"):
        trainer.fit((X, np.where(np.arange(30) == 3, 1.5, 0.5)))
    with pytest.raises(DataError, match=r"y\[3\] is 2"):
        trainer.fit((X, np.where(np.arange(30) == 3, 2, 0)))


def test_squared_error_takes_any_values() -> None:
    trainer = Trainer(Sequential(Linear(4, 2), backend="cpu"), "mse", SGD(0.01))
    assert np.isfinite(trainer.fit((X, with_value(-7.0)), 2)["loss"]).all()


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_rows_held_out_for_validation_are_never_trained_on(fraction: float) -> None:
    x, y = np.arange(100.0).reshape(100, 1), np.arange(100) % 4
    spy = Spy()
    trainer = Trainer(Sequential(spy, Linear(1, 4), Softmax(), backend="cpu", dtype="float64"), optimizer=SGD(1e-9))
    history = trainer.fit((x, y), 3, 7, validation=fraction)
    seen = spy.seen[1:]  # the first is a look at what the layer gives
    trained_on = set(np.concatenate(seen).ravel().tolist())
    assert {*spy.seen[0].ravel()} <= trained_on
    assert len(trained_on) == 100 - 100 * fraction
    assert sum(len(batch) for batch in seen) == 3 * len(trained_on)  # each row once an epoch
    held_out = np.array([row not in trained_on for row in x[:, 0]])
    assert np.bincount(y[held_out]).tolist() == pytest.approx([25 * fraction] * 4, abs=1)
    expected = trainer.evaluate((x[held_out], y[held_out]))
    assert history[-1]["val_loss"] == pytest.approx(expected["loss"], rel=1e-12)

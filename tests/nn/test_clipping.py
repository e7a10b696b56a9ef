"""Gradients that are clipped before an update, by value and by the norm of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import SGD, Adam, Callback, Dropout, Trainer
from nn.divergence import TrainingDiverged
from tests.helpers.around_update import DATA, OPTIMIZERS, ByHand, agree, are_equal, flat, network
from tests.helpers.with_emulated import WITH_EMULATED, made


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


@pytest.mark.parametrize("limit", [0.05, 0.4, 100.0])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(backend: Backend, limit: float) -> None:
    by_hand = ByHand(20, 3, lambda g: g * min(1.0, limit / (np.sqrt(np.sum(g * g)) + 1e-6)))
    clipped = sum(norm > limit for norm in by_hand.norms)
    assert clipped == {0.05: 12, 100.0: 0}.get(limit, clipped)
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(0.2, momentum=0.9), clip_norm=limit)
    assert trainer.gradient_norm == 0.0
    trainer.fit(DATA, 3, 20, shuffle=False)
    agree(model.state_dict(), by_hand.parameters)
    assert trainer.gradient_norm == pytest.approx(by_hand.norms[-1], rel=1e-9)


def test_gradients_are_clipped_by_value(backend: Backend) -> None:
    by_hand = ByHand(20, 3, lambda g: np.clip(g, -0.01, 0.01))
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(0.2, momentum=0.9), clip_value=0.01)
    trainer.fit(DATA, 3, 20, shuffle=False)
    agree(model.state_dict(), by_hand.parameters)
    assert trainer.gradient_norm is None


def test_the_norm_is_that_of_gradients_clipped_by_value(backend: Backend) -> None:
    def clip(gradient: Any) -> Any:
        gradient = np.clip(gradient, -0.01, 0.01)
        return gradient * min(1.0, 0.05 / (np.sqrt(np.sum(gradient * gradient)) + 1e-6))

    model = network(backend)
    Trainer(model, optimizer=SGD(0.2, momentum=0.9), clip_value=0.01, clip_norm=0.05).fit(DATA, 2, 20, shuffle=False)
    agree(model.state_dict(), ByHand(20, 2, clip).parameters)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_limits_that_no_gradient_reaches_change_nothing(backend: Backend, optimizer: str) -> None:
    runs = []
    every: tuple[dict[str, Any], ...] = ({}, {"clip_norm": 1e6, "clip_value": 1e6})
    for limits in every:
        model = network(backend, Dropout(0.3))
        Trainer(model, optimizer=OPTIMIZERS[optimizer](), **limits).fit(DATA, 2, 20)
        runs.append(model.state_dict())
    agree(runs[1], runs[0])


@pytest.mark.parametrize(
    "settings", [{"clip_norm": 1.0}, {"clip_value": 1.0}, {"clip_norm": 1.0, "accumulate": 3, "average": 0.9}]
)
@pytest.mark.parametrize("device", ["cpu", "numba", "emulated"])
def test_clipping_hides_no_divergence(device: str, settings: dict[str, Any]) -> None:
    """It is told with the step, and the model and its average are as they were before the epoch."""
    model = network(made((device, True), "float64"))
    trainer = Trainer(model, optimizer=SGD(lambda update: 1e308 if update >= 5 else 0.1), **settings)
    batches = settings.get("accumulate", 1)
    trainer.fit(DATA, 1, 20 // batches)
    before = model.state_dict()
    with trainer.averaged():
        average = model.state_dict()
    with pytest.raises(TrainingDiverged, match=r"training diverged in step \d+ \(epoch 2\)"):
        trainer.fit(DATA, 1, 20 // batches)
    assert are_equal(model.state_dict(), before)
    with trainer.averaged():
        assert are_equal(model.state_dict(), average)


def test_callbacks_read_gradients_as_they_were_used(backend: Backend) -> None:
    norms = []

    class Reads(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            gradients = {name: backend.to_numpy(g) for name, g in trainer.model.gradients.items()}
            norms.append((float(np.linalg.norm(flat(gradients))), trainer.gradient_norm))

    Trainer(network(backend), optimizer=Adam(0.01), clip_norm=0.05, callbacks=[Reads()]).fit(DATA, 2, 20)
    assert len(norms) == 8
    for found, before in norms:
        assert before is not None
        assert before > 0.05
        assert found == pytest.approx(0.05 * before / (before + 1e-6), rel=1e-9)

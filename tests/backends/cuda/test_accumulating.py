"""Products on an emulated GPU that add gradients to a velocity at once, against gradients that are written first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import Backend
from backends.cuda import graphs
from backends.cuda.cupy_backend import ACCUMULATES_FROM, CupyBackend
from nn import SGD, Callback, Trainer
from nn import steps as steps_module
from nn.plan import Plan
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import launched, needs_compiler
from tests.helpers.recorded_runs import ROWS, Outcome, eager, make_trainer, recorded

pytestmark = needs_compiler

#: Of the network of ``make_trainer``.
WEIGHTS, BIASES = 12 * 9 + 9 * 5, 9 + 5


def adding(backend: Backend) -> Backend:
    """The backend, adding in however small a network."""
    backend.accumulates_from = 0
    return backend


def plan_of(trainer: Trainer, keep: bool = False) -> Plan:
    return trainer.plan(trainer.upload(ROWS), optimizer=trainer.optimizer, keep=keep)


@pytest.mark.parametrize("least", [0, WEIGHTS, WEIGHTS + 1, ACCUMULATES_FROM])
def test_products_add_where_that_is_worth_an_update_in_two_parts(least: int) -> None:
    backend = recorded()
    assert backend.accumulates_from == ACCUMULATES_FROM
    backend.accumulates_from = least
    trainer, _ = make_trainer(backend)
    adds = least <= WEIGHTS
    assert [section.folded for section in plan_of(trainer).sections] == ([True, False] if adds else [False])
    assert [section.folded for section in plan_of(trainer, keep=True).sections] == [False]
    launched.names.clear()
    trainer.fit(ROWS, 1, None)
    assert launched.count("sgd_update") == (2 if adds else 1)
    assert not trainer.model.store.gradients_are_kept


@pytest.mark.parametrize("dampening", [0.0, 0.9])
def test_a_run_that_adds_is_the_run_on_the_cpu(dampening: float) -> None:
    def run(backend: Backend) -> Outcome:
        trainer, _ = make_trainer(backend)
        trainer.callbacks = []
        trainer.optimizer = SGD(0.2, momentum=0.9, dampening=dampening, weight_decay=1e-3)
        trainer.fit(ROWS, 5, 16)
        return Outcome(trainer)

    found, expected = run(adding(recorded("float64"))), run(make_backend(("cpu", False), "float64"))
    apart = run(recorded("float64"))
    for name, values in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(found.arrays[name], apart.arrays[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_recorded_run_that_adds_is_the_eager_one(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphs of several steps, gradients that are read for a while, and evaluations between."""
    monkeypatch.setattr(graphs, "PATIENCE", 0)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)

    class Reads(Callback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            self.seen.append(trainer.backend.to_numpy(trainer.model.gradients["0.weight"]))

    def run(backend: CupyBackend) -> tuple[Outcome, list[Any]]:
        trainer, _ = make_trainer(adding(backend))
        rows, reads = trainer.upload(ROWS), Reads()
        trainer.fit(rows, 3, 4, validation=ROWS)
        trainer.fit(rows, 1, 4, callbacks=[reads])
        trainer.gradients(ROWS)
        trainer.fit(rows, 2, 4)
        return Outcome(trainer), reads.seen

    backend = recorded(dtype)
    (found, seen), (expected, expected_seen) = run(backend), run(eager(dtype))
    assert backend.why_eager == ""
    found.is_that_of(expected)
    assert len(seen) == 18
    np.testing.assert_array_equal(seen, expected_seen)
    assert sum(np.abs(gradient).max() > 0 for gradient in seen) > 12  # in a batch of 4 no unit may be left that learns

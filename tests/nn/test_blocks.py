"""Training on blocks of rows: the same bits for any number of processes, and the gradient of the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import get_backend
from backends.collectives import Collectives
from nn import Callback, Checkpoint, Dataset, Linear, ReLU, Sequential, Trainer
from tests.helpers.parts import PARTS, X, Y
from tests.helpers.processes import together

RNG = np.random.default_rng(1)


def trainer_of(collectives: Collectives, part: str, **arguments: Any) -> Trainer:
    backend = get_backend("cpu")
    backend.collectives = collectives
    layers, optimizer, settings = PARTS[part]
    model = Sequential(Linear(12, 16), *layers, ReLU(), Linear(16, 3), backend=backend, seed=3)
    return Trainer(model, "softmax_cross_entropy", type(optimizer)(**optimizer.settings()), **settings, **arguments)


def bits(trainer: Trainer) -> bytes:
    state = trainer.model.state_dict()
    return b"".join(state[name].tobytes() for name in sorted(state))


def trained(
    collectives: Collectives, part: str, blocks: int, weights: Any = None, batch_size: int = 32
) -> tuple[bytes, list[float]]:
    trainer = trainer_of(collectives, part, blocks=blocks)
    rows = Dataset(X, Y, image_shape=(3, 4))
    history = trainer.fit(rows, epochs=2, batch_size=batch_size, validation=0.25, sample_weight=weights)
    return bits(trainer), [record[name] for record in history for name in ("loss", "accuracy", "val_loss")]


@pytest.mark.parametrize("part", PARTS)
def test_the_same_blocks_give_the_same_bits_on_any_number_of_processes(part: str) -> None:
    alone = trained(Collectives(), part, 8)
    for size in (2, 4, 8):
        for found in together(size, lambda collectives: trained(collectives, part, 8)):
            assert found == alone, size


def test_sample_weights_and_uneven_blocks_too() -> None:
    weights = RNG.uniform(0.5, 2.0, len(X))
    alone = trained(Collectives(), "momentum", 6, weights, 50)
    for size in (2, 3, 6):
        assert together(size, lambda collectives: trained(collectives, "momentum", 6, weights, 50)) == [alone] * size


@pytest.mark.parametrize("part", ["momentum", "Adam", "clipping", "accumulate", "average"])
def test_blocks_make_the_step_of_the_whole_batch_within_rounding(part: str) -> None:
    whole, in_blocks = (trainer_of(Collectives(), part, blocks=count) for count in (1, 5))
    for trainer in (whole, in_blocks):
        trainer.fit(X, Y, epochs=1, batch_size=40)
    ours, theirs = in_blocks.model.state_dict(), whole.model.state_dict()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=2e-5)
    assert in_blocks.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-5)


def test_batches_with_fewer_rows_than_blocks() -> None:
    rows, labels = X[:11], Y[:11]

    def work(collectives: Collectives) -> bytes:
        trainer = trainer_of(collectives, "momentum", blocks=8)
        trainer.fit(rows, labels, epochs=2, batch_size=5)
        return bits(trainer)

    assert together(4, work) == [work(Collectives())] * 4


class Interrupts(Callback):
    """Interrupts training after so many steps; of all processes, on one of them."""

    takes_parts = True
    reads_gradients = False

    def __init__(self, step: int, rank: int) -> None:
        self.step, self.rank = step, rank

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if trainer.model.step >= self.step and trainer.backend.collectives.rank == self.rank:
            trainer.interrupt("a test")


def test_a_run_on_four_processes_goes_on_on_two_and_then_alone(tmp_path: Path) -> None:
    def run(collectives: Collectives, step: int, rank: int) -> tuple[bytes, int]:
        trainer = trainer_of(collectives, "BatchNorm", **({"blocks": 4} if collectives.size == 4 else {}))
        trainer.resume(tmp_path, missing_ok=True)
        callbacks = [Checkpoint(tmp_path, epochs=1), *([Interrupts(step, rank)] if step else [])]
        trainer.fit(X, Y, epochs=4, batch_size=8, callbacks=callbacks)
        return bits(trainer), trainer.model.step

    expected = trained_at_once()
    first = together(4, lambda collectives: run(collectives, 40, 2))
    assert {step for _, step in first} == {48}
    second = together(2, lambda collectives: run(collectives, 70, 1))
    assert {step for _, step in second} == {80}
    assert run(Collectives(), 0, 0) == (expected, 128)


@pytest.mark.parametrize("call", ["any", "gather"])
def test_a_signal_that_comes_while_processes_agree_takes_effect_on_all_the_next_time(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def work(collectives: Collectives) -> tuple[int, str, bytes]:
        trainer = trainer_of(collectives, "momentum")
        agree = getattr(collectives, call)

        def late(value: Any) -> Any:
            found = agree(value)
            if trainer.seen and trainer.model.step >= 40 and (collectives.rank == 1 or call == "gather"):
                trainer.interrupt("late")  # as a handler of a signal does at any line
            return found

        monkeypatch.setattr(collectives, call, late)
        callbacks = [Interrupts(40, 0)] if call == "gather" else []  # this is called where one of them asks
        trainer.fit(X, Y, epochs=4, batch_size=8, callbacks=callbacks)
        return trainer.model.step, trainer.stopping, bits(trainer)

    found = together(2, work)
    assert found[0] == found[1]
    assert found[0][:2] == ((48, "a test") if call == "gather" else (64, "late"))


def test_blocks_that_are_too_small_for_a_layer_are_refused_before_training() -> None:
    trainer = trainer_of(Collectives(), "BatchNorm", blocks=8)
    with pytest.raises(ValueError, match="in 8 blocks") as refused:
        trainer.fit(X, Y, batch_size=9)
    assert "BatchNorm" in str(refused.value)
    assert trainer.model.step == 0


def trained_at_once() -> bytes:
    trainer = trainer_of(Collectives(), "BatchNorm", blocks=4)
    trainer.fit(X, Y, epochs=4, batch_size=8)
    return bits(trainer)

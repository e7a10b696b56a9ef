"""Several batches that make an update together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend
from nn import SGD, Callback, Context, Layer, Trainer
from nn.around_update import Share
from tests.helpers.around_update import DATA, OPTIMIZERS, agree, are_equal, flat, network
from tests.helpers.with_emulated import WITH_EMULATED, made


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


#: How gradients are added up knows nothing of optimizers: each of these meets some of the sizes, and each size some of
#: them, on every backend. The rest is slow.
SIZES = [(10, 2), (10, 3), (20, 2), (9, 4), (16, 10)]
CASES = [
    pytest.param(optimizer, *size, marks=[pytest.mark.slow] if (row + 2 * column) % 3 else [])
    for row, optimizer in enumerate(OPTIMIZERS)
    for column, size in enumerate(SIZES)
]


@pytest.mark.parametrize(("optimizer", "size", "batches"), CASES)
def test_batches_that_share_an_update_are_one_large_batch(
    backend: Backend, optimizer: str, size: int, batches: int
) -> None:
    """To rounding, the last ones of an epoch too, of which there are fewer, and the last one shorter."""
    runs = []
    both: tuple[tuple[dict[str, Any], int], ...] = (({}, size * batches), ({"accumulate": batches}, size))
    for settings, batch_size in both:
        model = network(backend)
        trainer = Trainer(model, optimizer=OPTIMIZERS[optimizer](), **settings)
        # As many rows as a large batch has are not shuffled: their order changes nothing.
        trainer.fit(DATA, 3, batch_size, shuffle=size * batches < len(DATA))
        runs.append((model.state_dict(), trainer))
    agree(runs[1][0], runs[0][0])
    large, small = (trainer for _, trainer in runs)
    assert small.history["loss"] == pytest.approx(large.history["loss"], rel=1e-9)
    assert small.optimizer.steps == large.optimizer.steps == 3 * -(-70 // (size * batches))
    assert small.model.step == 3 * -(-70 // size)


def test_rows_count_by_their_weights(backend: Backend) -> None:
    weights = np.random.default_rng(1).uniform(0.2, 3.0, 70)
    runs = []
    both: tuple[tuple[dict[str, Any], int], ...] = (({}, 30), ({"accumulate": 3}, 10))
    for settings, size in both:
        model = network(backend)
        Trainer(model, optimizer=SGD(0.2, momentum=0.9), **settings).fit(DATA, 2, size, sample_weight=weights)
        runs.append(model.state_dict())
    agree(runs[1], runs[0])


def test_a_callback_reads_the_gradients_of_each_batch_and_then_those_of_the_update(backend: Backend) -> None:
    seen: list[Any] = []

    class Reads(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.append(flat({name: backend.to_numpy(g) for name, g in trainer.model.gradients.items()}))

    trainer = Trainer(network(backend), optimizer=SGD(0.2), accumulate=3, clip_norm=0.05, callbacks=[Reads()])
    batches = [flat(trainer.gradients(DATA[i : i + 10])) for i in (0, 10, 20)]
    trainer.fit(DATA[:30], 1, 10, shuffle=False)
    mean = sum(batches) / 3
    for found, expected in zip(seen, [*batches[:2], mean * 0.05 / (np.linalg.norm(mean) + 1e-6)], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_a_schedule_counts_updates_and_layers_count_batches() -> None:
    asked, seen = [], []

    class Sees(Layer):
        def forward(self, x: Any, ctx: Context) -> Any:
            if ctx.training:
                seen.append(int(ctx.step))
            return x

        def backward(self, dy: Any, ctx: Context) -> Any:
            return dy

    def rate(update: int) -> float:
        asked.append(update)
        return 0.1 / update

    trainer = Trainer(network("cpu", Sees()), optimizer=SGD(rate), accumulate=3)
    history = trainer.fit(DATA, 2, 10)
    assert sorted({*asked}) == [1, 2, 3, 4, 5, 6]
    assert seen[-14:] == [*range(14)]  # before them the layer has been tried
    assert history["learning_rate"] == [0.1 / 3, 0.1 / 6]


def test_batches_that_are_left_when_training_is_stopped_make_no_update() -> None:
    """And the next update has nothing of them."""

    class Stops(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 5:
                trainer.stop("enough")

    runs = []
    both: tuple[list[Callback], ...] = ([Stops()], [])
    for callbacks in both:
        model = network()
        trainer = Trainer(model, optimizer=SGD(0.2), accumulate=4)
        trainer.fit(DATA[:40], 1, 10, shuffle=False)
        assert trainer.optimizer.steps == 1
        if callbacks:
            trainer.fit(DATA, 1, 10, shuffle=False, callbacks=callbacks)
            assert (trainer.optimizer.steps, model.step) == (1, 5)
        trainer.fit(DATA, 1, 10, shuffle=False)
        runs.append(model.state_dict())
    assert are_equal(runs[0], runs[1])


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 7))
def test_shares_are_those_of_an_epoch(rows: int, size: int, batches: int) -> None:
    """Written out: each batch, the group it is in, and how many follow that are in the middle, too."""
    starts = [*range(0, rows, size)]
    groups = [starts[i : i + batches] for i in range(0, len(starts), batches)]
    for group in groups:
        end = min(group[0] + size * batches, rows)
        for i, start in enumerate(group):
            share = Share.of(start, min(size, rows - start), size, batches, rows)
            in_the_middle = 0 < i < len(group) - 1
            expected = Share(end - group[0], i == 0, i == len(group) - 1, len(group) - 1 - i if in_the_middle else 1)
            assert share == expected

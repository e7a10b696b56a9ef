"""Training: the loop against one written out in NumPy, what it tells, and who is called when."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest

from backends.random import permutation
from nn import SGD, Callback, Context, Dropout, Layer, Linear, ReLU, Sequential, Softmax, Trainer, TrainingDiverged
from tests.helpers.backends import make_backend
from tests.helpers.classification import CLASSIFICATION, LABELS, X, network, same

PIXELS = np.random.default_rng(0).integers(0, 256, size=(90, 12), dtype=np.uint8)
FOUR_CLASSES = np.arange(90) % 4


def reference_run(
    x: np.ndarray, labels: np.ndarray, weights: list[np.ndarray], epochs: int, size: int, lr: float, beta: float
) -> tuple[list[np.ndarray], list[float]]:
    """A softmax network with one tanh layer and dampened momentum, written out in NumPy float64."""
    w1, b1, w2, b2 = (w.copy() for w in weights)
    velocity = [np.zeros_like(w) for w in (w1, b1, w2, b2)]
    losses = []
    for epoch in range(1, epochs + 1):
        order = permutation(len(x), 0, epoch) if size < len(x) else np.arange(len(x))
        total = 0.0
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            a, t = x[rows], np.eye(3)[labels[rows]]
            h = np.tanh(a @ w1 + b1)
            z = h @ w2 + b2
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            total -= np.log((p * t).sum(axis=1)).sum()
            dz2 = (p - t) / len(rows)
            dz1 = dz2 @ w2.T * (1 - h * h)
            gradients = [a.T @ dz1, dz1.sum(axis=0), h.T @ dz2, dz2.sum(axis=0)]
            for w, v, g in zip((w1, b1, w2, b2), velocity, gradients, strict=True):
                v *= beta
                v += (1 - beta) * g
                w -= lr * v
        losses.append(total / len(x))
    return [w1, b1, w2, b2], losses


@pytest.mark.parametrize("size", [1, 7, 50, None])
def test_training_is_the_textbook_loop(size: int | None) -> None:
    """One by one, mini-batches with a short last one, all at once: against a loop written out in NumPy."""
    model = network(dtype="float64")
    start = list(model.state_dict().values())
    history = Trainer(model, optimizer=SGD(0.5, momentum=0.9, dampening=0.9)).fit(CLASSIFICATION, 3, size)
    weights, losses = reference_run(X, LABELS, start, 3, size or 50, 0.5, 0.9)
    for ours, expected in zip(model.state_dict().values(), weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)


def test_without_shuffling_rows_come_in_order() -> None:
    a, b = network(), network()
    Trainer(a).fit(CLASSIFICATION, 2, 10, shuffle=False)
    trainer = Trainer(b)
    for _ in range(2):
        for start in range(0, 50, 10):
            trainer.fit((X[start : start + 10], LABELS[start : start + 10]), 1, None)
    assert same(a, b)


def test_every_row_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    class Count(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.append(rows)

    Trainer(network()).fit(CLASSIFICATION, 2, 16, callbacks=[Count()])
    assert seen == [16, 16, 16, 2] * 2


def test_the_seed_decides_and_two_fits_are_one() -> None:
    once, twice, other = network(), network(), network(seed=1)
    Trainer(once).fit(CLASSIFICATION, 5, 8)
    trainer = Trainer(twice)
    trainer.fit(CLASSIFICATION, 3, 8)
    history = trainer.fit(CLASSIFICATION, 2, 8)
    assert same(once, twice)
    assert history["epoch"] == [1, 2, 3, 4, 5]
    Trainer(other).fit(CLASSIFICATION, 5, 8)
    assert not same(once, other)


def test_evaluating_and_watching_change_nothing() -> None:
    plain, watched = network(), network()
    Trainer(plain).fit(CLASSIFICATION, 3, 8)

    class Look(Callback):
        reads_gradients = False  # which are rounded apart from what is added to them

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            trainer.evaluate(CLASSIFICATION, batch_size=9)
            trainer.predict(X)

    Trainer(watched, callbacks=[Look()]).fit(CLASSIFICATION, 3, 8, validation=CLASSIFICATION)
    assert same(plain, watched)


def test_history_and_evaluation() -> None:
    model = network()
    trainer = Trainer(model, optimizer=SGD(0.3))
    history = trainer.fit(CLASSIFICATION, 40, 10, validation=(X[:20], LABELS[:20]))
    assert list(history[0]) == [
        "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "rows_per_second"
    ]  # fmt: skip
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    result = trainer.evaluate((X[:20], LABELS[:20]))
    assert result == {"loss": history[-1]["val_loss"], "accuracy": history[-1]["val_accuracy"]}
    p = trainer.predict_proba(X[:20])
    assert result["loss"] == pytest.approx(-np.log(p[np.arange(20), LABELS[:20]]).mean(), rel=1e-5)
    assert result["accuracy"] == pytest.approx((trainer.predict(X[:20]) == LABELS[:20]).mean())
    assert trainer.evaluate(CLASSIFICATION, batch_size=7)["loss"] == pytest.approx(
        trainer.evaluate(CLASSIFICATION)["loss"], rel=1e-6
    )


class Lengths(Layer):
    """Keeps how many rows each call had."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def forward(self, x: Any, ctx: Context) -> Any:
        self.seen.append(x.shape[0])
        return x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy


@pytest.mark.parametrize(
    "method", ["evaluate", "losses", "predict", "predict_proba", "model.predict", "model.predict_proba", "model"]
)
def test_rows_are_computed_so_many_at_a_time(method: str) -> None:
    """1024 unless something else is asked for; as many as are left at the end."""
    lengths = Lengths()
    trainer = Trainer(Sequential(lengths, Linear(1, 2), Softmax(), backend="cpu"))
    of, _, name = method.rpartition(".")
    call: Any = trainer.model if method == "model" else getattr(trainer.model if of else trainer, name)
    x, y = np.zeros((1030, 1)), np.arange(1030) % 2
    call((x, y) if method in ("evaluate", "losses") else x)  # at its first use a layer of one's own is looked at
    for options, expected in (({}, [1024, 6]), ({"batch_size": 400}, [400, 400, 230]), ({"batch_size": 5000}, [1030])):
        lengths.seen.clear()
        call((x, y) if method in ("evaluate", "losses") else x, **options)
        assert lengths.seen == expected


@pytest.mark.parametrize(
    "method", ["evaluate", "losses", "predict", "predict_proba", "model.predict", "model.predict_proba", "model"]
)
def test_a_number_of_rows_that_is_none_is_refused_by_name(method: str) -> None:
    trainer = Trainer(network())
    of, _, name = method.rpartition(".")
    call: Any = trainer.model if method == "model" else getattr(trainer.model if of else trainer, name)
    for bad in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f"^batch_size must be a whole number of at least 1, not {bad}$"):
            call(CLASSIFICATION if method in ("evaluate", "losses") else X, batch_size=bad)


def test_rows_are_evaluated_every_so_many_epochs_and_after_the_first_and_the_last() -> None:
    trainer = Trainer(network())
    history = trainer.fit(CLASSIFICATION, 7, 25, validation=CLASSIFICATION, validation_every=3)
    assert [loss is not None for loss in history["val_loss"]] == [True, False, True, False, False, True, True]
    assert all(("val_accuracy" in record) == ("val_loss" in record) for record in history)
    with pytest.raises(ValueError, match="validation_every must be a whole number of at least 1, not 0"):
        trainer.fit(CLASSIFICATION, 1, validation=CLASSIFICATION, validation_every=0)


def test_one_epoch_of_batches_of_32_unless_said_otherwise() -> None:
    lengths = Lengths()
    trainer = Trainer(Sequential(Linear(4, 3), lengths, Softmax(), backend="cpu"))
    trainer.fit(CLASSIFICATION)
    assert lengths.seen == [2, 32, 18]  # two rows first, to look at what a layer of one's own gives


def test_gradients_are_those_of_a_training_step() -> None:
    """With the dropout mask of the step that would come next; asking moves nothing on."""
    layers = Linear(4, 8), Dropout(0.5), Linear(8, 3), Softmax()
    model = Sequential(*layers, backend="cpu", dtype="float64", seed=3)
    trainer = Trainer(model, optimizer=SGD(1.0))
    trainer.fit(CLASSIFICATION, 1, None)
    before, gradients = model.state_dict(), trainer.gradients(CLASSIFICATION)
    assert model.step == trainer.optimizer.steps == 1
    trainer.fit(CLASSIFICATION, 1, None)
    for name, values in model.state_dict().items():
        np.testing.assert_allclose(values, before[name] - gradients[name], rtol=1e-12, atol=1e-15)


def test_seconds_are_those_of_training_and_rows_are_counted_by_them() -> None:
    started = perf_counter()
    history = Trainer(network()).fit(CLASSIFICATION, 3, 8)
    passed = perf_counter() - started
    assert all(0.0 < record["seconds"] < passed for record in history)
    assert sum(history["seconds"]) < passed
    for record in history:
        assert record["rows_per_second"] == pytest.approx(50 / record["seconds"])


def test_dropout_trains_and_is_off_at_prediction() -> None:
    model = Sequential(Linear(4, 30), ReLU(), Dropout(0.5), Linear(30, 3), Softmax(), backend="cpu")
    history = Trainer(model, optimizer=SGD(0.2)).fit(CLASSIFICATION, 60, 10)
    assert history[-1]["loss"] < history[0]["loss"]
    np.testing.assert_array_equal(model(X), model(X))


def test_divergence_is_told_with_the_epoch_and_a_remedy() -> None:
    model = Sequential(Linear(4, 1), backend="cpu")
    trainer = Trainer(model, "mse", SGD(1e6))
    with pytest.raises(TrainingDiverged, match=r"step \d+ .epoch \d+.: the loss became .* was 1e\+06"):
        trainer.fit((X, X[:, 0]), 50, 10)  # NumPy's warnings of overflow would be errors here


def test_stop_ends_after_the_batch_and_keeps_what_was_learned() -> None:
    class StopSoon(Callback):
        batches = 0

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            self.batches += 1
            if self.batches == 7:
                trainer.stop("the test")

    model = network()
    trainer = Trainer(model)
    history = trainer.fit(CLASSIFICATION, 10, 10, callbacks=[StopSoon()])
    assert history.stopped == "the test"
    assert history["epoch"] == [1, 2]
    assert model.step == 7
    assert trainer.fit(CLASSIFICATION, 1, 10).stopped == ""


def test_an_epoch_in_which_training_is_stopped_is_the_last_and_evaluated() -> None:
    class Stops(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.epoch == 3:
                trainer.stop("the test")

    trainer = Trainer(network())
    history = trainer.fit(CLASSIFICATION, 10, 10, validation=CLASSIFICATION, validation_every=5, callbacks=[Stops()])
    assert [value is not None for value in history["val_loss"]] == [True, False, True]
    assert history[-1]["val_loss"] == trainer.evaluate(CLASSIFICATION)["loss"]


def test_callbacks_are_called_in_order_and_closed_after_an_error() -> None:
    calls: list[str] = []

    class Log(Callback):
        def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
            calls.append(f"fit {rows} {epochs}")

        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            calls.append(f"epoch {epoch}")

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            calls.append(f"batch {rows}")

        def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
            calls.append(f"end {record['epoch']}")
            raise RuntimeError("from a callback")

        def on_fit_end(self, trainer: Trainer) -> None:
            calls.append("done")

    with pytest.raises(RuntimeError, match="from a callback"):
        Trainer(network(), callbacks=[Log()]).fit(CLASSIFICATION, 2, 40)
    assert calls == ["fit 50 2", "epoch 1", "batch 40", "batch 10", "end 1", "done"]


def test_callbacks_that_began_are_closed_where_one_after_them_cannot_begin() -> None:
    calls: list[str] = []

    class Log(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
            calls.append(f"begin {self.name}")
            if self.name == "second":
                raise OSError("no such folder")

        def on_fit_end(self, trainer: Trainer) -> None:
            calls.append(f"end {self.name}")

    with pytest.raises(OSError, match="no such folder"):
        Trainer(network(), callbacks=[Log("first"), Log("second")]).fit(CLASSIFICATION)
    assert calls == ["begin first", "begin second", "end first"]


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error", "binary_cross_entropy"])
def test_the_losses_of_the_rows_have_the_loss_as_their_mean(which_backend: tuple[str, bool], loss: str) -> None:
    backend = make_backend(which_backend, "float64")
    model = Sequential(Linear(12, 4), backend=backend, seed=2)
    trainer = Trainer(model, loss)
    data = (PIXELS / 255, np.eye(4)[FOUR_CLASSES] if loss == "binary_cross_entropy" else FOUR_CLASSES)
    losses = trainer.losses(data, batch_size=40)
    assert losses.shape == (90,)
    assert losses.mean() == pytest.approx(trainer.evaluate(data)["loss"], rel=1e-12)
    np.testing.assert_allclose(losses[7], trainer.evaluate((data[0][7:8], data[1][7:8]))["loss"], rtol=1e-12)

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import pytest

from backends import Backend
from backends.random import permutation
from backends.updates import RULES, Rule, register_rule
from nn import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Callback,
    Context,
    Data,
    DataError,
    Dataset,
    Dropout,
    Flatten,
    History,
    Layer,
    Linear,
    Metric,
    Optimizer,
    ReLU,
    RMSProp,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    TrainingDiverged,
    load_data,
)
from nn.data import as_dataset
from nn.losses import MeanSquaredError, get_loss
from nn.optimizers import OPTIMIZERS, get_optimizer
from nn.plan import Plan
from nn.sinks import takes_input_scale
from tests.helpers.backends import make_backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
LABELS = (X @ RNG.normal(size=(4, 3))).argmax(axis=1)
CLASSIFICATION = (X, LABELS)


def network(seed: int = 0, **kwargs: Any) -> Sequential:
    return Sequential(Linear(4, 8), Tanh(), Linear(8, 3), Softmax(), backend="cpu", seed=seed, **kwargs)


def same(a: Sequential, b: Sequential) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


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


def test_validation_can_be_a_fraction() -> None:
    history = Trainer(network()).fit(CLASSIFICATION, 1, 8, validation=0.2)
    assert "val_loss" in history[0]


def test_regression() -> None:
    y = X @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.3
    model = Sequential(Linear(4, 1), backend="cpu")
    trainer = Trainer(model, "mean_squared_error", SGD(0.1))
    history = trainer.fit((X, y), 200, 10)
    assert "accuracy" not in history[0]
    assert history[-1]["loss"] < 1e-6
    np.testing.assert_allclose(trainer.predict(X), y, atol=1e-2)


@pytest.mark.parametrize(("shape", "expected"), [((50,), (50,)), ((50, 1), (50, 1))])
def test_values_are_predicted_in_the_shape_of_the_targets(shape: Any, expected: Any) -> None:
    trainer = Trainer(Sequential(Linear(4, 1), backend="cpu"), "mse")
    assert trainer.predict(X).shape == (50, 1)
    trainer.fit(X, X[:, 0].reshape(shape))
    assert trainer.predict(X).shape == expected
    assert trainer.model(X).shape == (50, 1)


def test_a_model_goes_on_with_the_loss_that_it_was_trained_with() -> None:
    model = Sequential(Linear(4, 1), backend="cpu")
    assert Trainer(model).loss.name == "softmax_cross_entropy"
    Trainer(model, "mse").fit(X, X[:, 0])
    assert Trainer(model).loss.name == "mean_squared_error"
    assert Trainer(model, "bce").loss.name == "binary_cross_entropy"


def test_values_fitted_by_a_sigmoid_are_predicted_as_values() -> None:
    y = 1 / (1 + np.exp(-X[:, 0]))
    model = Sequential(Linear(4, 1), Sigmoid(), backend="cpu")
    trainer = Trainer(model, "mse", SGD(2.0))
    trainer.fit((X, y), 200, 10)
    np.testing.assert_allclose(trainer.predict(X), y, atol=0.05)


def test_two_classes_with_one_output() -> None:
    y = (X[:, 0] > 0).astype(int)
    for loss in ("binary_cross_entropy", "mean_squared_error"):
        model = Sequential(Linear(4, 1), Sigmoid(), backend="cpu")
        trainer = Trainer(model, loss, SGD(1.0, momentum=0.5))
        assert trainer.fit((X, y), 60, 10)[-1]["accuracy"] > 0.9
        assert (trainer.predict(X) == y).mean() > 0.9


def test_classes_by_squared_error_are_the_largest_outputs() -> None:
    model = Sequential(Linear(4, 3), Sigmoid(), backend="cpu")
    trainer = Trainer(model, "mse", SGD(2.0))
    trainer.fit(CLASSIFICATION, 50, 10)
    accuracy = trainer.evaluate(CLASSIFICATION)["accuracy"]
    assert accuracy > 0.8
    assert (trainer.predict(X) == LABELS).mean() == pytest.approx(accuracy)


def test_binary_cross_entropy_of_several_outputs_tells_classes_apart() -> None:
    """An output for each class, one of them a yes; the answer is the largest."""
    model = Sequential(Linear(4, 3), Sigmoid(), backend="cpu")
    trainer = Trainer(model, "bce", SGD(2.0))
    trainer.fit(CLASSIFICATION, 50, 10)
    accuracy = trainer.evaluate(CLASSIFICATION)["accuracy"]
    assert accuracy > 0.8
    assert model.task == "classes"
    np.testing.assert_array_equal(trainer.predict(X), model(X).argmax(axis=1))
    assert (trainer.predict(X) == LABELS).mean() == pytest.approx(accuracy)


def test_labels_beyond_the_outputs_are_refused_by_binary_cross_entropy() -> None:
    model = Sequential(Linear(4, 2), Sigmoid(), backend="cpu")
    with pytest.raises(ValueError, match=r"y\[\d+\] is 2, outside the classes 0 to 1 \(the network has 2 outputs\)"):
        Trainer(model, "bce").fit(CLASSIFICATION)


def test_several_yes_or_no_outputs() -> None:
    y = (X[:, :3] > 0).astype("f4")
    model = Sequential(Linear(4, 3), Sigmoid(), backend="cpu")
    trainer = Trainer(model, "bce", SGD(1.0))
    trainer.fit((X, y), 100, 10)
    assert (trainer.predict(X) == y).mean() > 0.95


def test_pixels_train_as_the_numbers_they_stand_for() -> None:
    pixels = RNG.integers(0, 256, size=(50, 4), dtype=np.uint8)
    a, b = network(), network()
    Trainer(a).fit(Dataset(pixels, LABELS, scale=1 / 255, shift=-0.5), 3, 8)
    Trainer(b).fit((pixels * np.float32(1 / 255) - np.float32(0.5), LABELS), 3, 8)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_weight_decay_shrinks_weights_and_spares_biases() -> None:
    model = Sequential(Linear(4, 3, bias_init=1.0), Softmax(), backend="cpu", dtype="float64")
    before = model.state_dict()
    Trainer(model, optimizer=SGD(0.5, weight_decay=0.1)).fit((np.zeros((3, 4)), [0, 1, 2]), 1, None)
    after = model.state_dict()
    np.testing.assert_allclose(after["0.weight"], before["0.weight"] * (1 - 0.5 * 0.1), rtol=1e-14)
    np.testing.assert_allclose(after["0.bias"], 1.0, rtol=1e-14)


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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t: t.fit((X, np.maximum(2 * LABELS - 1, 0))),
            DataError,
            r"y\[\d+\] is 3, outside the classes 0 to 2 \(the network has 3",
        ),
        (lambda t: t.fit((X[:, :3], LABELS)), ValueError, r"of shape \(3,\), do not fit: Linear\(4, 8\)"),
        (lambda t: t.fit((X, LABELS[:9])), DataError, "x has 50 rows but y has 9"),
        (lambda t: t.fit((X,)), DataError, "these rows have no targets"),
        (lambda t: t.fit(X), TypeError, r"a tuple \(x, y\)"),
        (lambda t: t.fit(CLASSIFICATION, 1, 0), ValueError, "batch_size must be a whole number of at least 1, not 0"),
        (lambda t: t.fit(CLASSIFICATION, 1, 2.5), ValueError, "batch_size must be a whole number"),
        (lambda t: t.fit(CLASSIFICATION, -1), ValueError, "epochs must be a whole number of at least 0"),
        (lambda t: t.fit(CLASSIFICATION, validation=2.0), DataError, "between 0 and 1"),
        (lambda t: t.fit(CLASSIFICATION, validation=True), TypeError, "validation is rows, or the fraction or number"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(call: Any, error: type[Exception], message: str) -> None:
    model = network()
    with pytest.raises(error, match=message):
        call(Trainer(model))
    assert same(model, network())


@pytest.mark.parametrize(
    ("end", "loss"),
    [(Sigmoid(), "softmax_cross_entropy"), (Softmax(), "binary_cross_entropy"), (ReLU(), "softmax_cross_entropy")],
)
def test_a_loss_refuses_a_network_that_ends_otherwise(end: Any, loss: str) -> None:
    model = Sequential(Linear(4, 3), end, backend="cpu")
    with pytest.raises(ValueError, match=r"but the network ends in .*; let it end in a Linear layer, or in"):
        Trainer(model, loss)


@pytest.mark.parametrize("after", [[], [Flatten()], [Flatten(), Flatten()]], ids=len)
@pytest.mark.parametrize("joined", [False, True])
def test_an_output_activation_is_computed_once_whatever_changes_shapes_after_it(after: Any, joined: bool) -> None:
    rng = np.random.default_rng(4)
    x, t = rng.normal(size=(20, 4)), rng.uniform(size=(20, 3))
    end = [Linear(4, 3, activation="sigmoid")] if joined else [Linear(4, 3), Sigmoid()]
    model = Sequential(*end, *after, backend="cpu", dtype="float64")
    trainer = Trainer(model, "binary_cross_entropy", SGD(0.5))
    p = 1 / (1 + np.exp(-(x @ model.state_dict()["0.weight"] + model.state_dict()["0.bias"])))
    assert (model.output_activation, model.task) == ("sigmoid", "labels")
    np.testing.assert_allclose(model(x), p, rtol=1e-14)
    np.testing.assert_allclose(model.predict_proba(x), p, rtol=1e-14)
    assert (model.predict(x) == (p > 0.5)).all()
    losses = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(trainer.losses((x, t)), losses, rtol=1e-13)
    weight = x.T @ (p - t) / t.size
    np.testing.assert_allclose(trainer.gradients((x, t))["0.weight"], weight, rtol=1e-12, atol=1e-16)
    before = model.state_dict()["0.weight"]
    assert trainer.fit((x, t), 1, None)["loss"] == [pytest.approx(losses.mean(), rel=1e-13)]
    np.testing.assert_allclose(model.state_dict()["0.weight"], before - 0.5 * weight, rtol=1e-12)


def test_a_loss_refuses_dropout_of_probabilities() -> None:
    for end in ([Dropout(0.2)], [Flatten(), Dropout(0.2), Flatten()]):
        model = Sequential(Linear(4, 3), Sigmoid(), *end, backend="cpu")
        message = r"before sigmoid, but Dropout\(rate=0.2\) comes after it; put it before the last Linear layer$"
        with pytest.raises(ValueError, match=message):
            Trainer(model, "binary_cross_entropy")
        Trainer(model, "mse")
    Trainer(Sequential(Linear(4, 3), Dropout(0.2), backend="cpu"), "binary_cross_entropy")


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known are softmax_cross_entropy"):
        Trainer(network(), "hinge")
    with pytest.raises(ValueError, match="unknown optimizer 'lbfgs'; known are adagrad, adam, adamw, rmsprop, sgd"):
        Trainer(network(), optimizer="lbfgs")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0, .*, not inf"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        ({"dampening": -0.1}, "dampening must be at least 0 and below 1"),
        ({"dampening": 1.0}, "dampening"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"nesterov": True}, "nesterov needs a momentum"),
        ({"learning_rate": "0.1"}, "learning_rate must be above 0, or a function of the update's number, not '0.1'"),
        ({"learning_rate": None}, "learning_rate must be above 0, .*, not None"),
        ({"momentum": "high"}, "momentum must be at least 0 and below 1, not 'high'"),
    ],
)
def test_settings_of_sgd_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"SGD: {message}"):
        SGD(**settings)


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), None, "0.1"])
def test_a_schedule_that_gives_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"learning_rate\(1\) must give a number of at least 0, not "):
        Trainer(network(), optimizer=SGD(lambda update: rate)).fit(CLASSIFICATION)


def test_a_schedule_may_end_at_0_and_give_numbers_of_numpy() -> None:
    trainer = Trainer(network(), optimizer=SGD(lambda update: np.float32(0.0)))
    before = trainer.model.state_dict()
    trainer.fit(CLASSIFICATION)
    for name, values in trainer.model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": SGD}, r"an optimizer is a name or an Optimizer, not .*; write SGD\(\)"),
        ({"optimizer": 3}, "an optimizer is a name or an Optimizer, not 3$"),
        ({"metrics": "f1"}, r"metrics are a list, as in metrics=\['f1'\]"),
        ({"metrics": len}, "metrics are a list, as in "),
        ({"callbacks": Callback()}, "callbacks are a list, as in "),
        ({"callbacks": [Callback]}, r"a callback is a Callback, not .*; write Callback\(\)"),
        ({"callbacks": [3]}, "a callback is a Callback, not 3$"),
    ],
)
def test_arguments_of_another_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Trainer(network(), **settings)


@pytest.mark.parametrize("value", [None, np.ones(2), "good"])
def test_a_metric_that_gives_no_number_is_refused(value: Any) -> None:
    trainer = Trainer(network(), metrics=[Metric("mine", lambda targets, found: value)])
    with pytest.raises(TypeError, match="metric mine: its function must give a number, not "):
        trainer.evaluate(CLASSIFICATION)


def test_what_load_data_gives_has_two_sets_of_rows() -> None:
    with pytest.raises(TypeError, match=r"data must be a Dataset, .*; say which rows of it: data.train or data.test$"):
        Trainer(network()).fit(Data("mine", as_dataset(CLASSIFICATION), None))
    for other in ([1.0], (1, 2, 3), (), None):
        with pytest.raises(TypeError, match=r"data must be a Dataset, .* rows without targets$"):
            Trainer(network()).fit(other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be above 0"),
        ({"beta1": 1.0}, "beta1 must be at least 0 and below 1"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
        ({"beta1": -0.1}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"epsilon": -1e-9}, "epsilon must be at least 0, not -1e-09"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
    ],
)
def test_settings_of_adam_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Adam: {message}"):
        Adam(**settings)


def test_settings_at_the_ends_of_their_ranges_are_taken() -> None:
    SGD(1e-300, momentum=0.0, dampening=0.0, weight_decay=0.0)
    SGD(1e300, momentum=0.5, dampening=0.0, nesterov=True)
    SGD(0.1, weight_decay=2.0)  # no fraction
    Adam(beta1=0.0, beta2=0.0, epsilon=0.0)
    Adam(epsilon=3.0, weight_decay=3.0)


def test_optimizers_begin_with_the_usual_settings() -> None:
    decay = {"decoupled": True, "l1": 0.0}
    plain = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}
    assert SGD().settings() == {"learning_rate": 0.1, **plain, **decay}
    # Kingma and Ba, ICLR 2015, algorithm 1
    assert Adam().settings() == {
        "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "epsilon_hat": False,
        "weight_decay": 0.0, **decay
    }  # fmt: skip
    assert SGD(0.2, 0.9, 0.8, True, 0.1).settings() == {
        "learning_rate": 0.2, "momentum": 0.9, "dampening": 0.8, "nesterov": True, "weight_decay": 0.1, **decay
    }  # fmt: skip


def loop_of_sgd(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    v = np.zeros_like(w)
    for g in gradients:
        v = 0.9 * v + (1 - 0.3) * g
        w = w - 0.05 * (v + 0.01 * w)
    return w


def loop_of_adam(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * g
        square = 0.99 * square + 0.01 * g * g
        w = w - 0.05 * (mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.99**t)) + 1e-8) + 0.01 * w)
    return w


def loop_of_rmsprop(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    mean, square, v = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for g in gradients:
        g = g + 0.01 * w
        mean = 0.8 * mean + 0.2 * g
        square = 0.8 * square + 0.2 * g * g
        v = 0.9 * v + g / (np.sqrt(square - mean * mean) + 1e-8)
        w = w - 0.05 * v
    return w


def loop_of_adagrad(w: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    total = np.full_like(w, 0.5)
    for t, g in enumerate(gradients):
        total = total + g * g
        w = w - 0.05 / (1 + 0.1 * t) * (g / (np.sqrt(total) + 1e-10) + 0.01 * w)
    return w


OPTIMIZER_LOOPS: dict[str, Any] = {
    "sgd": (lambda: SGD(0.05, momentum=0.9, dampening=0.3, weight_decay=0.01), loop_of_sgd),
    "adam": (lambda: Adam(0.05, beta2=0.99, weight_decay=0.01), loop_of_adam),
    "adamw": (lambda: AdamW(0.05, beta2=0.99), loop_of_adam),
    "rmsprop": (
        lambda: RMSProp(0.05, alpha=0.8, momentum=0.9, centered=True, weight_decay=0.01, decoupled=False),
        loop_of_rmsprop,
    ),
    "adagrad": (
        lambda: Adagrad(0.05, lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.01),
        loop_of_adagrad,
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_its_loop_written_out(name: str) -> None:
    make, loop = OPTIMIZER_LOOPS[name]
    model = Sequential(Linear(4, 3, bias=False), backend="cpu", dtype="float64")
    start = model.state_dict()["0.weight"]
    optimizer = make()
    optimizer.bind(model.store)
    gradients = [RNG.normal(size=(4, 3)) for _ in range(7)]
    for gradient in gradients:
        model.store.gradients["0.weight"][...] = gradient
        optimizer.step(model)
    np.testing.assert_allclose(model.state_dict()["0.weight"], loop(start, gradients), rtol=1e-12)
    assert optimizer.steps == 7


@pytest.mark.parametrize("weight_decay", [0.0, 0.5, 1.0, 2.0])
def test_weights_decay_and_biases_do_not(weight_decay: float) -> None:
    model = Sequential(Linear(4, 3, bias_init=2.0), backend="cpu", dtype="float64")
    start = model.state_dict()
    optimizer = SGD(0.25, weight_decay=weight_decay)
    for gradient in model.store.gradients.values():
        gradient[...] = 0.5
    optimizer.step(model)
    moved = model.state_dict()
    np.testing.assert_allclose(moved["0.weight"], start["0.weight"] - 0.25 * (0.5 + weight_decay * start["0.weight"]))
    np.testing.assert_allclose(moved["0.bias"], start["0.bias"] - 0.125)


def test_an_optimizer_is_named_or_given() -> None:
    adam = Adam()
    assert get_optimizer(adam) is adam
    assert get_optimizer("adam", beta1=0.5) == Adam(beta1=0.5)
    assert Trainer(network()).optimizer == SGD()
    assert Trainer(network()).loss is get_loss("softmax_cross_entropy")
    assert Trainer(network(), optimizer="adam").optimizer == Adam()


def test_an_optimizer_serves_one_model() -> None:
    optimizer = SGD(0.1, momentum=0.9)
    model = network()
    Trainer(model, optimizer=optimizer)
    Trainer(model, optimizer=optimizer)
    with pytest.raises(ValueError, match="belongs to another model"):
        Trainer(network(), optimizer=optimizer)


def test_without_momentum_a_velocity_of_earlier_epochs_takes_no_part() -> None:
    """The dampening belongs to the velocity: what is left of one must not make the steps smaller."""
    model, optimizer = network(), SGD(0.1, momentum=0.9, dampening=0.9)
    trainer = Trainer(model, optimizer=optimizer)
    trainer.fit(CLASSIFICATION, 1, 10)
    plain = network()
    plain.load_state_dict(model.state_dict())
    optimizer.momentum = 0.0
    trainer.fit(CLASSIFICATION, 1, None)
    Trainer(plain, optimizer=SGD(0.1)).fit(CLASSIFICATION, 1, None)
    assert same(model, plain)


def test_history_reads_by_row_and_by_column_and_survives_a_file(tmp_path: Any) -> None:
    history = Trainer(network()).fit(CLASSIFICATION, 3)
    assert history["loss"] == [record["loss"] for record in history]
    assert len(history) == 3
    with pytest.raises(KeyError, match="has no 'val_loss'; it has epoch, loss"):
        history["val_loss"]
    history.save(tmp_path / "history.jsonl")
    assert History.load(tmp_path / "history.jsonl").records == history.records


def test_rows_that_are_on_the_device_train_as_their_data_do() -> None:
    data = load_data("digits", limit=300).train
    trainers = [Trainer(Sequential(Linear(64, 10), Softmax(), backend="cpu", seed=3)) for _ in range(2)]
    rows = trainers[0].upload(data)
    for _ in range(2):
        trainers[0].fit(rows, 1, 32)
        trainers[1].fit(data, 1, 32)
    assert trainers[0].history["loss"] == trainers[1].history["loss"]
    np.testing.assert_array_equal(trainers[0].model.flat_parameters, trainers[1].model.flat_parameters)
    with pytest.raises(ValueError, match="split their Dataset before upload"):
        trainers[0].fit(rows, 1, 32, validation=0.2)
    with pytest.raises(ValueError, match="another Trainer"):
        trainers[1].fit(rows)


def plan_of(trainer: Trainer, **options: Any) -> Plan:
    return trainer.plan(trainer.upload(ROWS), optimizer=trainer.optimizer, **options)


PIXELS = np.random.default_rng(0).integers(0, 256, size=(90, 12), dtype=np.uint8)
FOUR_CLASSES = np.arange(90) % 4
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


def test_validation_rows_may_be_on_the_device_too() -> None:
    losses = []
    for upload in (True, False):
        trainer = Trainer(network())
        data = trainer.model.dataset(CLASSIFICATION)
        validation = trainer.upload(data) if upload else CLASSIFICATION
        losses.append(trainer.fit(CLASSIFICATION, 2, 10, validation=validation)["val_loss"])
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="uploaded by another Trainer"):
        Trainer(network()).fit(CLASSIFICATION, validation=trainer.upload(data))


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


def test_weights_of_rows_count_in_loss_gradient_and_accuracy(which_backend: tuple[str, bool]) -> None:
    """A row of weight 2 is that row twice, one of weight 0 is none."""
    backend = make_backend(which_backend, "float64")
    loss = get_loss("cross_entropy")
    with backend.use():
        z, labels = RNG.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
        weights = np.array([1.0, 2.0, 0.0, 1.0, 1.0])
        twice = [0, 1, 1, 3, 4]
        totals, gradient = loss(backend, backend.asarray(z), backend.asarray(labels), weights=backend.asarray(weights))
        expected, by_row = loss(backend, backend.asarray(z[twice]), backend.asarray(labels[twice]))
        np.testing.assert_allclose(backend.to_numpy(totals), backend.to_numpy(expected), rtol=1e-12)
        rows = backend.to_numpy(by_row)
        together = np.stack([rows[0], rows[1] + rows[2], np.zeros(3), rows[3], rows[4]])
        np.testing.assert_allclose(backend.to_numpy(gradient), together, rtol=1e-12, atol=1e-15)


def test_a_fraction_for_validation_may_be_a_number_of_numpy() -> None:
    runs = []
    for fraction in (0.5, np.float32(0.5), 25, np.int64(25)):
        runs.append(Trainer(network()).fit(CLASSIFICATION, 1, 10, validation=fraction)[-1]["val_loss"])
    assert runs == [runs[0]] * 4


def test_what_is_set_later_may_be_given_as_to_the_constructor() -> None:
    trainer: Any = Trainer(network(), optimizer=SGD(0.1))
    trainer.fit(CLASSIFICATION, 1)
    given: dict[str, Any] = {"optimizer": "adam", "loss": "mse", "metrics": ("auc",), "callbacks": ()}
    for name, value in given.items():
        setattr(trainer, name, value)
    wanted = Trainer(network(), optimizer=SGD(0.1))
    wanted.fit(CLASSIFICATION, 1)
    wanted.optimizer, wanted.loss = Adam(), MeanSquaredError()
    assert trainer.fit(CLASSIFICATION, 2)["loss"] == wanted.fit(CLASSIFICATION, 2)["loss"]
    assert same(trainer.model, wanted.model)
    assert "auc" in trainer.evaluate(CLASSIFICATION)


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("optimizer", "adm", ValueError, "unknown optimizer"),
        ("loss", "mean", ValueError, "unknown loss"),
        ("loss", "bce", ValueError, "computed from the values before sigmoid"),
        ("metrics", "auc", TypeError, "metrics are a list"),
        ("callbacks", [print], TypeError, "a callback is a Callback"),
    ],
)
def test_what_is_set_later_is_checked(name: str, value: Any, error: type[Exception], text: str) -> None:
    trainer = Trainer(network())
    before = getattr(trainer, name)
    with pytest.raises(error, match=text):
        setattr(trainer, name, value)
    assert getattr(trainer, name) is before


def test_a_setting_that_is_misspelt_is_refused_and_a_note_of_ones_own_is_not() -> None:
    trainer: Any = Trainer(network())
    with pytest.raises(AttributeError, match="a Trainer has no clipnorm; did you mean clip_norm"):
        trainer.clipnorm = 2.0
    trainer.my_note = "kept"
    assert trainer.my_note == "kept"

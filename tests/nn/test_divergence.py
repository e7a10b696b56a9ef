"""A run that diverges ends at once, is told where that began, and leaves the last good weights in the model."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nn.divergence
from backends import Backend
from nn import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Context,
    Dropout,
    Layer,
    Linear,
    ReLU,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    TrainingDiverged,
)
from nn.divergence import exploded_text
from tests.helpers.with_emulated import WITH_EMULATED, made

# The device of array-api-strict lets NumPy's warnings through, and so does the cast of a rate of 1e39.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
VALUES = X, X @ RNG.normal(size=(4, 1))
CLASSES = X, (X @ RNG.normal(size=(4, 3))).argmax(axis=1)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


def rate_at(update: int, rate: float) -> Callable[[int], float]:
    """0.05, but for one update."""
    return lambda number: rate if number == update else 0.05


def regression(backend: Any, optimizer: Any, **settings: Any) -> Trainer:
    layers = [Linear(4, 8), ReLU(), Linear(8, 1)]
    return Trainer(Sequential(layers, backend=backend), "mse", optimizer, **settings)


def diverges(trainer: Trainer, data: Any = VALUES, epochs: int = 9, **settings: Any) -> TrainingDiverged:
    with pytest.raises(TrainingDiverged) as raised:
        trainer.fit(data, epochs, 10, **settings)
    return raised.value


def same_weights(a: Trainer, b: Trainer) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_weights_that_grew_are_noticed_in_the_output_of_a_layer(backend: Backend) -> None:
    """Update 15 makes the weights so large that the second product of step 16 is too large for float32."""
    error = diverges(regression(backend, SGD(rate_at(15, 1e32))))
    assert (error.epoch, error.step, error.layer, error.tensor) == (3, 16, 2, "output")
    assert error.learning_rate == 0.05
    assert re.match(
        r"training diverged in step 16 \(epoch 3\): the output of layer 2 \(Linear\(8, 1\)\) became (infinite|NaN); "
        "the learning rate was 0.05: use a smaller one, 0.005 for instance, ",
        str(error),
    )


def test_the_last_good_weights_are_back_and_training_can_go_on(backend: Backend) -> None:
    trainer, twin = regression(backend, SGD(rate_at(15, 1e32))), regression(backend, SGD(0.05))
    error = diverges(trainer)
    twin.fit(VALUES, 2, 10)
    assert error.weights_of == 2
    assert str(error).endswith("; the model has the weights of epoch 2 again")
    assert same_weights(trainer, twin)
    assert trainer.history["loss"] == twin.history["loss"]
    assert (trainer.epoch, trainer.model.step, trainer.optimizer.steps) == (2, 12, 12)
    assert trainer.history.stopped == "divergence in epoch 3"
    trainer.optimizer.learning_rate = 0.05
    trainer.fit(VALUES, 2, 10)
    twin.fit(VALUES, 2, 10)
    assert same_weights(trainer, twin)
    assert trainer.history["epoch"] == [1, 2, 3, 4]


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_parameters_are_looked_at_where_the_loss_says_nothing(backend: Backend, optimizer: Any) -> None:
    """Update 12 is the last of epoch 2, so that no loss of that epoch was computed from what it leaves."""
    error = diverges(regression(backend, optimizer(rate_at(12, 1e39))))
    assert (error.epoch, error.step, error.tensor) == (2, 12, "weight")
    assert error.layer in (0, 2)
    assert f"step 12 (epoch 2): layer {error.layer}'s weight (Linear(" in str(error)
    assert "the learning rate was 1e+39: use a smaller one, 0.1 for instance" in str(error)
    assert error.weights_of == 1


def test_in_the_first_epoch_the_weights_are_those_from_before(backend: Backend) -> None:
    trainer = regression(backend, SGD(1e6))
    before = trainer.model.state_dict()
    error = diverges(trainer)
    assert str(error).endswith("; the model has the weights from before training again")
    assert error.weights_of == 0
    for name, values in trainer.model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    assert len(trainer.history) == 0


class Steep(Layer):
    """The identity, whose gradient is so large that it is infinite in float32 where the rows are 2."""

    recordable = False

    def forward(self, x: Any, ctx: Context) -> Any:
        ctx.saved = x
        return x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy * ctx.saved * 1e38 * 1e38 if ctx.backend.item(ctx.saved[:1, 0]) == 2.0 else dy


def test_the_gradient_that_became_infinite_first_is_named(backend: Backend) -> None:
    """Layer 1 hands back a gradient that is too large, and so layer 0 comes after it."""
    x = np.ones((6, 1))
    x[4:] = 2.0
    model = Sequential(Linear(1, 1, weight_init=1.0), Steep(), Linear(1, 1), backend=backend)
    trainer = Trainer(model, "mse", SGD(1e-9))
    with pytest.raises(TrainingDiverged, match=r"step 3 .*: the gradient of the input of layer 1 \(Steep") as raised:
        trainer.fit((x, np.zeros((6, 1))), 2, 2, shuffle=False)
    assert (raised.value.layer, raised.value.tensor) == (1, "gradient of the input")


def test_the_loss_of_the_validation_rows_counts_too(backend: Backend) -> None:
    trainer, twin = regression(backend, SGD(0.05)), regression(backend, SGD(0.05))
    rows = np.full((5, 4), 3e38), np.zeros((5, 1))
    error = diverges(trainer, validation=rows)
    assert (error.epoch, error.step, error.learning_rate) == (1, None, 0.05)
    assert "after epoch 1 the loss of the validation rows is " in str(error)
    assert error.layer in (0, 2)
    assert f"as the output of layer {error.layer} (Linear(" in str(error)
    assert len(trainer.history) == 0
    assert same_weights(trainer, twin)


def test_a_run_ends_where_it_diverges_and_not_with_its_epoch() -> None:
    """Where the loss can be read at any time, no step is made after the one whose loss is bad."""

    class Count(Callback):
        batches = 0

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            self.batches += 1

    count = Count()
    error = diverges(regression("cpu", SGD(rate_at(14, 1e32)), callbacks=[count]))
    assert error.step == count.batches == 15  # of 18


def test_a_device_that_works_by_itself_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    class Count(Callback):
        batches = 0

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            self.batches += 1

    for seconds, batches in ((0.0, 15), (1e9, 18)):
        monkeypatch.setattr(nn.divergence, "LOOK_SECONDS", seconds)
        count = Count()
        backend = made(("emulated", True), "float32")
        error = diverges(regression(backend, SGD(rate_at(14, 1e32)), callbacks=[count]))
        assert (error.step, count.batches) == (15, batches)


def test_what_a_callback_did_to_the_weights_is_told_without_a_step() -> None:
    class Spoil(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 8:
                trainer.model.parameters["2.bias"][...] = np.nan

    error = diverges(regression("cpu", SGD(0.05), callbacks=[Spoil()]))
    assert str(error).startswith("training diverged: the loss became nan in epoch 2; the learning rate was 0.05")
    assert (error.epoch, error.step, error.layer, error.tensor) == (2, None, None, "")


@pytest.mark.parametrize("around", [{"accumulate": 3}, {"clip_norm": 1.0}, {"average": 0.5}], ids=str)
def test_what_is_done_around_updates_changes_nothing_about_it(backend: Backend, around: dict[str, Any]) -> None:
    """Epochs of 6 batches: of 2 updates where 3 batches make one."""
    updates = 2 if "accumulate" in around else 6
    trainer = regression(backend, SGD(rate_at(2 * updates + 1, 1e39)), **around)
    twin = regression(backend, SGD(0.05), **around)
    error = diverges(trainer)
    twin.fit(VALUES, 2, 10)
    assert (error.epoch, error.step, error.tensor) == (3, 15 if "accumulate" in around else 13, "weight")
    assert ("clip_norm=1.0" in str(error)) == ("clip_norm" not in around)
    assert same_weights(trainer, twin)
    trainer.optimizer.learning_rate = 0.05
    trainer.fit(VALUES, 1, 10)
    twin.fit(VALUES, 1, 10)
    assert same_weights(trainer, twin)
    with trainer.averaged(), twin.averaged():
        assert same_weights(trainer, twin)


def test_everything_that_training_moves_is_back(backend: Backend) -> None:
    """Running statistics of layers, masks of dropout, the state of Adam, with weights of rows."""

    def made_trainer(rate: Any) -> Trainer:
        layers = [Linear(4, 8), BatchNorm(8), Tanh(), Dropout(0.25), Linear(8, 3), Softmax()]
        return Trainer(Sequential(layers, backend=backend), optimizer=Adam(rate))

    settings: dict[str, Any] = {"sample_weight": np.linspace(0.5, 2.0, 60), "validation": 0.3}
    trainer, twin = made_trainer(rate_at(13, 1e39)), made_trainer(rate_at(99, 0.05))
    error = diverges(trainer, CLASSES, **settings)  # epochs of 5 batches
    twin.fit(CLASSES, 2, 10, **settings)
    assert (error.epoch, error.step, error.weights_of) == (3, 13, 2)
    assert same_weights(trainer, twin)
    trainer.optimizer.learning_rate = twin.optimizer.learning_rate
    trainer.fit(CLASSES, 2, 10, **settings)
    twin.fit(CLASSES, 2, 10, **settings)
    assert same_weights(trainer, twin)
    assert trainer.history["val_loss"] == twin.history["val_loss"]


def test_callbacks_see_the_divergence_when_training_ends() -> None:
    seen: list[Any] = []

    class Look(Callback):
        def on_fit_end(self, trainer: Trainer) -> None:
            seen.append((trainer.diverged, trainer.history.stopped))

    error = diverges(regression("cpu", SGD(1e6), callbacks=[Look()]))
    assert seen == [(error, "divergence in epoch 1")]


def test_classes_diverge_as_values_do(backend: Backend) -> None:
    model = Sequential(Linear(4, 8), Tanh(), Linear(8, 3), Softmax(), backend=backend)
    error = diverges(Trainer(model, optimizer=SGD(rate_at(9, 1e39))), CLASSES)
    assert (error.epoch, error.step, error.weights_of) == (2, 9, 1)


def test_the_error_survives_a_pickle() -> None:
    error = diverges(regression("cpu", SGD(1e6)))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.step, again.weights_of) == (str(error), error.step, error.weights_of)


def test_a_loss_that_is_huge_and_finite_is_told_where_nothing_was_learnt() -> None:
    record = {"loss": 1.6e9, "accuracy": 0.1, "learning_rate": 1e9}
    assert exploded_text(record, 10).startswith(
        "the loss became 1.6e+09 and the answers are no better than chance: use"
    )
    changes: list[dict[str, Any]] = [{"accuracy": 0.9}, {"loss": 2.3}]
    for good in changes:
        assert exploded_text({**record, **good}, 10) == ""
    assert exploded_text({"loss": 1e30, "learning_rate": 1.0}, 0) == ""

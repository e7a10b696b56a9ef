"""Early stopping, on every backend: when it ends training, what it keeps, and what it refuses beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend
from nn import (
    SGD,
    Adam,
    Callback,
    EarlyStopping,
    LambdaCallback,
    Linear,
    Metric,
    Sequential,
    Softmax,
    Trainer,
    TrainingDiverged,
)
from nn.callbacks import CallbackError
from tests.helpers.with_emulated import WITH_EMULATED, made

# The device of array-api-strict lets NumPy's warnings through, and so does the cast of a rate of 1e39.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
DATA = X, (X @ RNG.normal(size=(4, 3))).argmax(axis=1)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


def trainer_on(backend: Any, *callbacks: Callback, **settings: Any) -> Trainer:
    model = Sequential(Linear(4, 3), Softmax(), backend=backend)
    return Trainer(model, optimizer=settings.pop("optimizer", Adam(0.01)), callbacks=callbacks, **settings)


def scores(*values: float, name: str = "score") -> Metric:
    """A metric with these values, one for each evaluation."""
    left = list(values)
    return Metric(name, lambda targets, found: left.pop(0), larger_is_better=True)


def weights(trainer: Trainer) -> list[Any]:
    return [values.tolist() for values in trainer.model.state_dict().values()]


def test_training_ends_after_so_many_epochs_without_a_better_one(backend: Backend) -> None:
    stop = EarlyStopping("val_score", patience=3)
    trainer = trainer_on(backend, stop, metrics=[scores(0.1, 0.5, 0.4, 0.5, 0.3, 0.9)])
    history = trainer.fit(DATA, 9, 8, validation=DATA)
    assert history["epoch"] == [1, 2, 3, 4, 5]
    assert history.stopped == "early stopping: val_score has not become better for 3 epochs"
    assert (history.best_epoch, history.monitor, history.best_is_kept) == (2, "val_score", True)
    assert history.best_text == "best epoch 2, val_score 0.5; its weights are in the model"


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.2, momentum=0.9), lambda: Adam(0.01)], ids=["sgd", "adam"])
def test_the_model_gets_the_best_weights_and_goes_on_from_there(backend: Backend, optimizer: Any) -> None:
    stop = EarlyStopping("val_score", patience=2)
    trainer = trainer_on(backend, stop, metrics=[scores(1, 2, 0, 0)], optimizer=optimizer())
    twin = trainer_on(backend, optimizer=optimizer())
    trainer.fit(DATA, 9, 8, validation=DATA)
    twin.fit(DATA, 2, 8)
    assert weights(trainer) == weights(twin)
    assert (trainer.model.step, trainer.optimizer.steps) == (twin.model.step, twin.optimizer.steps)
    trainer.callbacks, trainer.metrics, twin.epoch = [], [], trainer.epoch
    trainer.fit(DATA, 1, 8)
    twin.fit(DATA, 1, 8)
    assert weights(trainer) == weights(twin)
    assert trainer.history["epoch"] == [1, 2, 3, 4, 5]


def test_the_best_weights_are_kept_in_a_run_that_is_not_stopped(backend: Backend) -> None:
    trainer = trainer_on(backend, EarlyStopping("val_score"), metrics=[scores(1, 3, 2)])
    twin = trainer_on(backend)
    assert trainer.fit(DATA, 3, 8, validation=DATA).stopped == ""
    twin.fit(DATA, 2, 8)
    assert weights(trainer) == weights(twin)


def test_the_last_weights_stay_where_the_best_are_not_wanted() -> None:
    trainer = trainer_on("cpu", EarlyStopping("val_score", 1, restore_best=False), metrics=[scores(1, 3, 2)])
    twin = trainer_on("cpu")
    history = trainer.fit(DATA, 9, 8, validation=DATA)
    twin.fit(DATA, 3, 8)
    assert weights(trainer) == weights(twin)
    assert history.best_text == "best epoch 2, val_score 3"


def test_a_loss_is_better_where_it_is_less_and_an_accuracy_where_it_is_more() -> None:
    for column, best in (("loss", min), ("accuracy", max), ("val_loss", min), ("val_accuracy", max)):
        trainer = trainer_on("cpu", EarlyStopping(column, patience=99), optimizer=SGD(3.0))
        history = trainer.fit(DATA, 8, 8, validation=0.25)
        values = history[column]
        assert history.best_epoch == 1 + values.index(best(values)), column


def test_the_mode_may_be_said() -> None:
    trainer = trainer_on("cpu", EarlyStopping("val_score", mode="min"), metrics=[scores(3, 1, 2)])
    assert trainer.fit(DATA, 3, 8, validation=DATA).best_epoch == 2


def test_a_little_better_is_not_better() -> None:
    stop = EarlyStopping("val_score", patience=2, min_delta=0.1)
    trainer = trainer_on("cpu", stop, metrics=[scores(1.0, 1.05, 1.09, 2.0)])
    history = trainer.fit(DATA, 9, 8, validation=DATA)
    assert (len(history), history.best_epoch) == (3, 1)


def test_nan_is_never_better() -> None:
    for values, best, epochs in (((math.nan, 1, math.nan, 0.5), 2, 4), ((math.nan, math.nan, math.nan), None, 2)):
        trainer = trainer_on("cpu", EarlyStopping("val_score", patience=2), metrics=[scores(*values)])
        history = trainer.fit(DATA, 9, 8, validation=DATA)
        assert (history.best_epoch, len(history)) == (best, epochs)


def test_epochs_at_the_beginning_can_be_passed_over() -> None:
    stop = EarlyStopping("val_score", patience=2, start_from_epoch=3)
    trainer = trainer_on("cpu", stop, metrics=[scores(9, 8, 7, 1, 2, 1, 1, 5)])
    history = trainer.fit(DATA, 9, 8, validation=DATA)
    assert (history.best_epoch, len(history)) == (5, 7)


def test_patience_counts_epochs_where_rows_are_evaluated_every_few_only() -> None:
    stop = EarlyStopping("val_score", patience=4)
    trainer = trainer_on("cpu", stop, metrics=[scores(1, 5, 2, 3, 4)])
    history = trainer.fit(DATA, 20, 8, validation=DATA, validation_every=3)  # epochs 1, 3, 6, 9
    assert (history.best_epoch, len(history)) == (3, 9)
    assert history.stopped.endswith("for 6 epochs")


def test_each_fit_begins_anew() -> None:
    trainer = trainer_on("cpu", EarlyStopping("val_score", patience=1), metrics=[scores(5, 1, 2, 1)])
    trainer.fit(DATA, 5, 8, validation=DATA)
    assert (trainer.history.best_epoch, trainer.epoch) == (1, 2)
    trainer.fit(DATA, 5, 8, validation=DATA)
    assert (trainer.history.best_epoch, trainer.epoch) == (3, 4)
    trainer.callbacks, trainer.metrics = [], []
    assert trainer.fit(DATA, 1, 8).best_epoch is None


def test_a_run_that_diverges_ends_with_the_best_weights(backend: Backend) -> None:
    stop = EarlyStopping("val_score")
    rate = lambda update: 0.05 if update < 17 else 1e39  # noqa: E731 (epoch 4)
    trainer = trainer_on(backend, stop, metrics=[scores(1, 9, 8)], optimizer=SGD(rate))
    twin = trainer_on(backend, optimizer=SGD(0.05))
    with pytest.raises(TrainingDiverged, match=r"; the model has the weights of epoch 2 again$") as raised:
        trainer.fit(DATA, 9, 8, validation=DATA)
    twin.fit(DATA, 2, 8)
    assert (raised.value.weights_of, raised.value.epoch) == (2, 4)
    assert weights(trainer) == weights(twin)
    assert trainer.history["epoch"] == [1, 2, 3]


def test_the_best_weights_come_back_after_an_error_too() -> None:
    def fails(trainer: Trainer, record: dict[str, Any]) -> None:
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    trainer = trainer_on("cpu", EarlyStopping("val_score"), LambdaCallback(on_epoch_end=fails),
                         metrics=[scores(1, 3, 2)])  # fmt: skip
    twin = trainer_on("cpu")
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(DATA, 9, 8, validation=DATA)
    twin.fit(DATA, 2, 8)
    assert weights(trainer) == weights(twin)


@pytest.mark.parametrize(
    ("monitor", "validation", "message"),
    [
        ("val_los", DATA, r"no 'val_los' to monitor \(there are loss, accuracy, val_loss, val_accuracy, val_score, "),
        ("val_loss", None, r"no 'val_loss' to monitor, as there are no validation rows; give some, as in validation=0"),
        ("val_auc", DATA, r"no 'val_auc' to monitor; ask for that metric, as in metrics=\['auc'\] \(there are loss"),
        ("score", DATA, r"no 'score' to monitor \(there are loss, accuracy, val_loss"),
        ("learning_rate", None, r"""say whether more of 'learning_rate' is better: mode="max", or "min" where"""),
        ("epoch", None, "no 'epoch' to monitor"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_trained(monitor: str, validation: Any, message: str) -> None:
    trainer = trainer_on("cpu", EarlyStopping(monitor), metrics=[scores()])
    with pytest.raises(CallbackError, match=message):
        trainer.fit(DATA, 3, validation=validation)
    assert (trainer.model.step, len(trainer.history)) == (0, 0)


def test_a_metric_of_ones_own_needs_a_mode() -> None:
    def mine(targets: Any, found: Any) -> float:
        return 1.0

    with pytest.raises(CallbackError, match="say whether more of 'val_mine' is better"):
        trainer_on("cpu", EarlyStopping("val_mine"), metrics=[mine]).fit(DATA, 2, validation=DATA)
    trainer_on("cpu", EarlyStopping("val_mine", mode="max"), metrics=[mine]).fit(DATA, 2, validation=DATA)


def stops(values: list[float | None], patience: int, min_delta: float, more: bool, start: int) -> tuple[Any, int]:
    """The best epoch, and the last, as one reads the rules."""
    best, value_of_best = None, math.nan
    for epoch, value in enumerate(values, start=1):
        if epoch <= start or value is None:
            continue
        gain = value - value_of_best if more else value_of_best - value
        if not math.isnan(value) and (best is None or gain > min_delta):
            best, value_of_best = epoch, value
        elif epoch - (best or start) >= patience:
            return best, epoch
    return best, len(values)


@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan, None]), min_size=1, max_size=12),
    patience=st.integers(0, 4),
    min_delta=st.sampled_from([0.0, 0.25, 0.3]),
    more=st.booleans(),
    start=st.integers(0, 3),
)
def test_epochs_are_chosen_by_the_rules_whatever_the_values(
    values: list[float | None], patience: int, min_delta: float, more: bool, start: int
) -> None:
    def tell(trainer: Trainer, record: dict[str, Any]) -> None:
        value = values[record["epoch"] - 1]
        record.pop("val_loss")
        if value is not None:
            record["val_loss"] = value

    stop = EarlyStopping("val_loss", patience, min_delta, "max" if more else "min", start_from_epoch=start)
    trainer = trainer_on("cpu", LambdaCallback(on_epoch_end=tell), stop)
    rows = DATA[0][:4], DATA[1][:4]
    history = trainer.fit(rows, len(values), None, validation=rows)
    assert (history.best_epoch, len(history)) == stops(values, patience, min_delta, more, start)
    twin = trainer_on("cpu")
    twin.fit(rows, history.best_epoch or len(history), None)
    assert weights(trainer) == weights(twin)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": -1}, "patience must be a whole number of at least 0, not -1"),
        ({"patience": 2.5}, "patience must be a whole number of at least 0, not 2.5"),
        ({"patience": True}, "patience must be a whole number of at least 0, not True"),
        ({"start_from_epoch": -2}, "start_from_epoch must be a whole number of at least 0, not -2"),
        ({"mode": "best"}, "mode must be 'auto', 'min' or 'max', not 'best'"),
        ({"min_delta": -0.1}, "min_delta must be a number of at least 0, not -0.1"),
        ({"min_delta": math.nan}, "min_delta must be a number of at least 0, not nan"),
    ],
)
def test_settings_of_early_stopping_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**settings)

"""ReduceOnPlateau: PyTorch's scheduler of that kind, and what is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import SGD, Callback, Linear, Sequential, Softmax, Trainer
from nn.callbacks import ReduceOnPlateau

X = np.random.default_rng(0).normal(size=(30, 4))
LABELS = (X[:, 0] > 0).astype(int)


class Pretends(Callback):
    """Makes the history say what a test wants it to; stands before the callback that reads it."""

    def __init__(self, column: str, values: list[float]) -> None:
        self.column, self.values = column, values

    def on_epoch_end(self, trainer: Any, record: Any) -> None:
        record[self.column] = self.values[record["epoch"] - 1]


def trainer_of(rate: Any = 1.0) -> Trainer:
    return Trainer(Sequential(Linear(4, 2), Softmax(), backend="cpu"), optimizer=SGD(rate))


def rates(callback: ReduceOnPlateau, values: list[float], fits: tuple[int, ...] = ()) -> list[float]:
    """The learning rate after each epoch."""
    trainer, found = trainer_of(), list[float]()

    class Notes(Callback):
        def on_epoch_end(self, trainer: Any, record: Any) -> None:
            found.append(trainer.optimizer.learning_rate)

    for epochs in fits or (len(values),):
        callbacks = [Pretends(callback.monitor, values), callback, Notes()]
        trainer.fit((X, LABELS), epochs, None, validation=(X, LABELS), callbacks=callbacks)
    return found


def test_by_hand() -> None:
    losses = [1.0, 0.5, 0.6, 0.5, 0.6, 0.7, 0.4, 0.4, 0.4, 0.4]
    #   best   ^    ^                   ^    then three epochs without a better one
    expected = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert rates(ReduceOnPlateau("loss", 0.5, patience=2), losses) == expected
    assert rates(ReduceOnPlateau("loss", 0.5, patience=2), losses, fits=(4, 6)) == expected
    assert rates(ReduceOnPlateau("loss", 0.5, patience=2, min_lr=0.5), losses)[-1] == 0.5
    after_a_rest = rates(ReduceOnPlateau("loss", 0.5, patience=0, cooldown=3), [1.0] * 10)
    assert after_a_rest == [1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125]


@given(
    st.lists(st.sampled_from([0.1, 0.5, 0.500001, 0.51, 1.0, -0.3, 7.0, math.nan, math.inf]), min_size=1, max_size=20),
    st.sampled_from(["min", "max"]), st.sampled_from([0.1, 0.5]), st.integers(0, 3), st.sampled_from([0.0, 1e-4, 0.1]),
    st.booleans(), st.integers(0, 3), st.sampled_from([0.0, 0.2]),
)  # fmt: skip
def test_the_rates_are_those_of_pytorch(
    values: list[float],
    mode: Any,
    factor: float,
    patience: int,
    delta: float,
    relative: bool,
    cooldown: int,
    least: float,
) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor, patience, delta, "rel" if relative else "abs", cooldown, least
    )
    ours = ReduceOnPlateau(
        "loss", factor, patience, delta, relative=relative, mode=mode, cooldown=cooldown, min_lr=least
    )
    trainer = trainer_of()
    trainer.columns = ("epoch", "loss")
    ours.on_fit_begin(trainer, 30, len(values))
    for epoch, value in enumerate(values, 1):
        theirs.step(value)
        ours.on_epoch_end(trainer, {"epoch": epoch, "loss": value})
        ours = pickle.loads(pickle.dumps(ours))  # it goes on from what its attributes say
        assert trainer.optimizer.learning_rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-15)


def test_more_of_an_accuracy_is_better_and_epochs_without_an_evaluation_are_not_counted() -> None:
    callback = ReduceOnPlateau("val_accuracy", 0.5, patience=0, min_delta=0.0)
    assert rates(callback, [0.1, 0.2, 0.3, 0.3]) == [1.0, 1.0, 1.0, 0.5]
    assert (callback.best, callback.bad_epochs) == (0.3, 0)
    trainer = trainer_of()
    patient = ReduceOnPlateau(patience=2, min_delta=10.0, relative=False)
    trainer.fit((X, LABELS), 8, None, validation=(X, LABELS), validation_every=4, callbacks=[patient])
    assert patient.bad_epochs == 2  # epochs 1, 4 and 8 are looked at


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"factor": 1.0}, "factor must be a number above 0 and below 1, not 1.0"),
        ({"factor": "0.1"}, "factor must be a number above 0 and below 1, not '0.1'"),
        ({"patience": 2.5}, "patience must be a whole number of at least 0, not 2.5"),
        ({"cooldown": -1}, "cooldown must be a whole number of at least 0, not -1"),
        ({"min_delta": -1e-4}, "min_delta must be a number of at least 0, not -0.0001"),
        ({"min_lr": math.nan}, "min_lr must be a number of at least 0, not nan"),
        ({"mode": "less"}, "mode must be 'auto', 'min' or 'max', not 'less'"),
        ({"monitor": 3}, "monitor must be the name of a column, not 3"),
    ],
)
def test_what_cannot_be_used_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="ReduceOnPlateau") as error:
        ReduceOnPlateau(**settings)
    assert str(error.value) == f"ReduceOnPlateau: {complaint}"


def test_numbers_of_numpy_are_numbers() -> None:
    settings: dict[str, Any] = {"factor": np.float32(0.5), "patience": np.int64(0), "min_delta": np.float32(0.0)}
    numpys = ReduceOnPlateau(**settings)
    pythons = ReduceOnPlateau(factor=0.5, patience=0, min_delta=0.0)
    losses = [3.0, 4.0, 2.0, 2.0]
    assert rates(numpys, losses) == rates(pythons, losses) == [1.0, 0.5, 0.5, 0.25]


def test_a_column_that_there_is_not_and_a_schedule_are_refused_before_training() -> None:
    trainer = trainer_of()
    with pytest.raises(ValueError, match=r"^there is no 'val_loss' to monitor, as there are no validation rows; "):
        trainer.fit((X, LABELS), epochs=2, callbacks=[ReduceOnPlateau()])
    with pytest.raises(ValueError, match=r"^there is no 'val_los' to monitor \(there are loss, "):
        trainer.fit((X, LABELS), epochs=2, validation=(X, LABELS), callbacks=[ReduceOnPlateau("val_los")])
    with pytest.raises(ValueError, match=r"^say whether more of 'seconds' is better: "):
        trainer.fit((X, LABELS), epochs=2, callbacks=[ReduceOnPlateau("seconds")])
    assert trainer.epoch == 0
    with pytest.raises(ValueError, match=r"lowers a learning rate that is a number, but it is the schedule <function "):
        trainer_of(lambda update: 0.1).fit((X, LABELS), 2, callbacks=[ReduceOnPlateau("loss")])

"""Rows and targets as two arguments: what works with one tuple works with both apart, and nothing is guessed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nn import SGD, Dataset, Linear, Sequential, Softmax, Tanh, Trainer
from nn.data.checks import DataTypeError

RNG = np.random.default_rng(4)
X = RNG.normal(size=(30, 4))
Y = RNG.integers(0, 3, 30)


def trainer() -> Trainer:
    model = Sequential(Linear(4, 6), Tanh(), Linear(6, 3), Softmax(), backend="cpu", dtype="float64", seed=2)
    return Trainer(model, optimizer=SGD(0.1, momentum=0.9))


def trained(call: Callable[[Trainer], Any]) -> tuple[list[float], bytes]:
    """The losses of a run, and the bytes of its parameters."""
    run = trainer()
    call(run)
    return run.history["loss"], np.asarray(run.model.flat_parameters).tobytes()


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.fit((X, Y), 3, 8),
        lambda t: t.fit(X, Y, 3, 8),
        lambda t: t.fit(X, Y, epochs=3, batch_size=8),
        lambda t: t.fit(X, y=Y, epochs=3, batch_size=8),
        lambda t: t.fit(train=X, y=Y, epochs=3, batch_size=8),
        lambda t: t.fit(train=(X, Y), epochs=3, batch_size=8),
        lambda t: t.fit((X, Y), None, 3, 8),
        lambda t: t.fit(X.tolist(), Y.tolist(), np.int64(3), 8),
        lambda t: t.fit((X, Y), np.int64(3), batch_size=8),
        lambda t: t.fit(Dataset(X, Y), 3, 8),
    ],
)
def test_fit_takes_rows_and_targets_in_one_or_in_two(call: Callable[[Trainer], Any]) -> None:
    assert trained(call) == trained(lambda t: t.fit(Dataset(X, Y), epochs=3, batch_size=8))


def test_rows_that_are_on_the_device_take_epochs_in_second_position() -> None:
    assert trained(lambda t: t.fit(t.upload(Dataset(X, Y)), 3, 8)) == trained(lambda t: t.fit(X, Y, 3, 8))


@pytest.mark.parametrize("method", ["evaluate", "losses", "gradients"])
def test_rows_and_targets_apart_are_measured_as_together(method: str) -> None:
    call: Callable[..., Any] = getattr(trainer(), method)
    expected = call((X, Y))
    for found in (call(X, Y), call(X, y=Y), call(data=X, y=Y)):
        np.testing.assert_equal(found, expected)
    if method != "gradients":  # all rows at once
        np.testing.assert_equal(call((X, Y), 7), call(X, Y, batch_size=7))
        np.testing.assert_equal(call(X, Y, 7), call(X, Y, batch_size=7))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.fit(), TypeError, r"fit needs rows and targets, as in fit\(x, y\)"),
        (lambda t: t.fit(X), DataTypeError, r"rows alone: pass their targets too, as in fit\(x, y\)"),
        (lambda t: t.fit(X.tolist()), DataTypeError, r"rows alone: pass their targets too"),
        (lambda t: t.fit(X, 3), DataTypeError, r"rows alone: pass their targets too"),
        (lambda t: t.fit(X, Y, validation=X), DataTypeError, r"validation=\(x, y\)"),
        (lambda t: t.evaluate(X), DataTypeError, r"rows alone: pass their targets too"),
        (lambda t: t.fit((X, Y), Y), DataTypeError, r"^fit: a tuple \(x, y\) has its targets already"),
        (lambda t: t.fit((X,), Y), DataTypeError, r"^fit: a tuple \(x, y\) has its targets already"),
        (lambda t: t.evaluate(Dataset(X, Y), Y), DataTypeError, "^evaluate: a Dataset has its targets already"),
        (lambda t: t.fit(t.upload(Dataset(X, Y)), Y), DataTypeError, "^fit: a Rows has its targets already"),
        (lambda t: t.losses(X, Y, y=Y), DataTypeError, "^losses: the targets are given twice"),
        (lambda t: t.fit(X, "species"), DataTypeError, "^fit: y must be targets, one for each row, not the text"),
        (lambda t: t.fit(X, Y[:9]), ValueError, "x has 30 rows but y has 9"),
        (lambda t: t.fit((X, Y), 3, epochs=4), TypeError, "multiple values for argument 'epochs'"),
        (lambda t: t.fit(X, Y, 3, epochs=4), TypeError, "multiple values for argument 'epochs'"),
        (lambda t: t.evaluate((X, Y), 3, batch_size=4), TypeError, "multiple values for argument 'batch_size'"),
        (lambda t: t.fit((X, Y), 2.5), ValueError, "epochs must be a whole number of at least 0, not 2.5"),
        (lambda t: t.fit((X, Y), True), ValueError, "epochs must be a whole number of at least 0, not True"),
    ],
)
def test_what_is_missing_or_given_twice_is_said(call: Any, error: type[Exception], message: str) -> None:
    untrained = trainer()
    with pytest.raises(error, match=message):
        call(untrained)
    assert untrained.epoch == 0


def test_help_shows_where_the_targets_go() -> None:
    assert [*inspect.signature(Trainer.fit).parameters][:5] == ["self", "train", "y", "epochs", "batch_size"]
    assert [*inspect.signature(Trainer.evaluate).parameters][:4] == ["self", "data", "y", "batch_size"]

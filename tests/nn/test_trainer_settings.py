"""What a trainer is made with: names and objects, what is refused, and what is set later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import SGD, Adam, Callback, Linear, Metric, Sequential, Trainer
from nn.losses import MeanSquaredError, get_loss
from nn.optimizers import get_optimizer
from tests.helpers.classification import CLASSIFICATION, X, network, same


def test_a_model_goes_on_with_the_loss_that_it_was_trained_with() -> None:
    model = Sequential(Linear(4, 1), backend="cpu")
    assert Trainer(model).loss.name == "softmax_cross_entropy"
    Trainer(model, "mse").fit(X, X[:, 0])
    assert Trainer(model).loss.name == "mean_squared_error"
    assert Trainer(model, "bce").loss.name == "binary_cross_entropy"


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known are softmax_cross_entropy"):
        Trainer(network(), "hinge")
    with pytest.raises(ValueError, match="unknown optimizer 'lbfgs'; known are adagrad, adam, adamw, rmsprop, sgd"):
        Trainer(network(), optimizer="lbfgs")


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

"""What networks are trained for, by their ends, losses and targets: classes, yes or no, values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import SGD, Dropout, Flatten, Linear, ReLU, Sequential, Sigmoid, Softmax, Trainer
from tests.helpers.classification import CLASSIFICATION, LABELS, X


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

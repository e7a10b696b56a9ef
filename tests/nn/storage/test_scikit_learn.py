"""Networks to and from scikit-learn: the same outputs, both ways."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import (
    BatchNorm,
    Dataset,
    Dropout,
    LeakyReLU,
    Linear,
    MLPClassifier,
    ReLU,
    Sequential,
    SiLU,
    Softmax,
    Tanh,
    Trainer,
    from_sklearn,
    to_sklearn,
)
from nn.layers import Layer
from tests.helpers.exchanged import SEEDS, same
from tests.helpers.networks import networks, rows_for

RNG = np.random.default_rng(0)


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(["sigmoid", "tanh", "relu", "identity"]), seed=SEEDS)
def test_random_networks_to_scikit_learn_and_back(data: Any, name: str, seed: int) -> None:
    parts = ("standardize", "dropout", "flatten", "units")
    model = data.draw(networks(parts, activations=[Dropout(0.1)], names=[name]))
    x = rows_for(model, 7, seed)
    estimator = to_sklearn(model)
    back = from_sklearn(estimator, "cpu")
    assert back.backend.dtype_name == model.backend.dtype_name
    assert back.task == model.task
    if model.task == "values":
        expected = model(x)
        same(np.reshape(estimator.predict(x), expected.shape), expected)
        same(back(x), expected)
        return
    probabilities = model.predict_proba(x)
    if model.task == "classes" and probabilities.shape[1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    same(estimator.predict_proba(x), probabilities)
    np.testing.assert_array_equal(estimator.predict(x), model.predict(x))
    np.testing.assert_array_equal(back.predict(x), model.predict(x))


@pytest.mark.parametrize("names", [("no", "yes"), ("a", "b", "c"), ("0", "1", "2")])
def test_names_of_classes_go_both_ways(names: tuple[str, ...]) -> None:
    x, y = RNG.normal(size=(30, 4)).astype("float32"), np.arange(30) % len(names)
    model = Sequential(Linear(4, 5), ReLU(), Linear(5, len(names)), backend="cpu")
    Trainer(model).fit(Dataset(x, y, class_names=names))
    estimator = to_sklearn(model)
    assert estimator.predict(x).astype(str).tolist() == model.predict_names(x)
    assert estimator.classes_.dtype.kind == ("i" if names[0] == "0" else "U")
    back = from_sklearn(estimator, "cpu")
    assert back.class_names == names
    assert back.predict_names(x) == model.predict_names(x)


def test_a_network_goes_on_training_in_scikit_learn_and_here() -> None:
    x = RNG.normal(size=(200, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    model = Sequential(Linear(4, 16), Tanh(), Linear(16, 3), Softmax(), backend="cpu", dtype="float64")
    Trainer(model).fit(x, y, epochs=2)
    estimator = to_sklearn(model)
    before, coef = estimator.score(x, y), estimator.coefs_[0].copy()
    estimator.partial_fit(x, y)
    assert np.abs(estimator.coefs_[0] - coef).max() == pytest.approx(0.001, rel=1e-3)  # the first step of Adam
    for _ in range(40):
        estimator.partial_fit(x, y)
    assert estimator.score(x, y) > before
    back = from_sklearn(estimator, "cpu")
    Trainer(back).fit(x, y, epochs=30)
    assert back.loss_name == "softmax_cross_entropy"
    assert (back.predict(x) == y).mean() >= estimator.score(x, y) - 0.02


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("targets", ["two classes", "three classes", "labels", "a value", "values"])
def test_estimators_of_scikit_learn(activation: str, targets: str) -> None:
    from sklearn.neural_network import MLPClassifier as Classifier
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = 5 + RNG.normal(size=(40, 4))
    y = {
        "two classes": np.array(["no", "yes"])[np.arange(40) % 2],
        "three classes": np.arange(40) % 3 + 1,
        "labels": RNG.integers(0, 2, (40, 3)),
        "a value": x[:, 0],
        "values": x[:, :2],
    }[targets]
    kind = MLPRegressor if "value" in targets else Classifier
    settings = {"hidden_layer_sizes": (6, 5), "activation": activation, "max_iter": 5, "random_state": 0}
    estimator = make_pipeline(
        StandardScaler(with_mean=False),
        "passthrough",
        StandardScaler(),
        StandardScaler(with_std=False),
        kind(**settings),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        estimator.fit(x, y)
    model = from_sklearn(estimator, "cpu")
    if "value" in targets:
        same(model.predict(x), estimator.predict(x))
        return
    probabilities = estimator.predict_proba(x)
    same(model.predict_proba(x), probabilities[:, 1:] if targets == "two classes" else probabilities)
    if targets == "labels":
        np.testing.assert_array_equal(model.predict(x), estimator.predict(x))
    else:
        assert model.predict_names(x) == estimator.predict(x).astype(str).tolist()


@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", LeakyReLU(0.2)])
def test_estimators_of_xpnet(activation: Any) -> None:
    x = RNG.normal(size=(40, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        estimator = MLPClassifier((6, 5), activation=activation, max_iter=5, device="cpu").fit(x, np.arange(40) % 3 + 1)
    model = from_sklearn(estimator, "cpu")
    same(model.predict_proba(x), estimator.predict_proba(x))
    assert model.class_names == ("1", "2", "3")


def test_estimators_that_are_refused() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    x = RNG.uniform(size=(20, 2))
    with pytest.raises(TypeError, match="ends in one, not LogisticRegression"):
        from_sklearn(LogisticRegression())
    with pytest.raises(ValueError, match="this MLPRegressor is not fitted yet; call its fit first"):
        from_sklearn(MLPRegressor())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = make_pipeline(MinMaxScaler(), MLPRegressor(max_iter=2)).fit(x, x[:, 0])
    with pytest.raises(TypeError, match="step 'minmaxscaler', MinMaxScaler, cannot be expressed in xpnet"):
        from_sklearn(fitted)


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ([Linear(4, 3), SiLU(), Linear(3, 2)], r"layer 1, SiLU\(\), cannot be expressed in scikit-learn: it has id"),
        ([Linear(4, 3), BatchNorm(3), Linear(3, 2)], r"layer 1, BatchNorm\(3\), cannot be expressed in scikit-learn"),
        ([Linear(4, 3), ReLU(), Linear(3, 3), Tanh(), Linear(3, 2)], "different activations, relu, tanh"),
        ([Linear(4, 3), ReLU(), Tanh(), Linear(3, 2)], r"layer 2, Tanh\(\), cannot .* follows a linear layer"),
        ([Linear(4, 2), ReLU()], "it ends in the activation relu"),
    ],
)  # fmt: skip
def test_networks_that_scikit_learn_has_not(layers: list[Layer], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        to_sklearn(Sequential(layers, backend="cpu"))

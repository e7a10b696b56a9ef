"""The metrics that have names give what scikit-learn gives, in evaluate and in the history, on every backend."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning

from backends import Backend
from nn import METRICS, SGD, Adam, Dataset, EarlyStopping, Linear, Metric, Sequential, Sigmoid, Softmax, TopK, Trainer
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 5))
LABELS = (X @ RNG.normal(size=(5, 4)) + RNG.normal(size=(60, 4))).argmax(axis=1)
VALUES = X @ RNG.normal(size=5) + RNG.normal(size=60)
WEIGHTS = RNG.uniform(0.1, 3.0, size=60)
OF_CLASSES = ["balanced_accuracy", "macro_f1", "auc", "top2_accuracy", "top3_accuracy"]
OF_VALUES = ["mae", "rmse", "r2"]


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


def of_classes(y: Any, guess: Any, p: Any, w: Any = None) -> dict[str, float]:
    """What scikit-learn says of classes."""
    labels = range(p.shape[1])
    return {
        "balanced_accuracy": sk.balanced_accuracy_score(y, guess, sample_weight=w),
        "macro_f1": sk.f1_score(y, guess, average="macro", sample_weight=w),
        "auc": sk.roc_auc_score(y, p, multi_class="ovr", average="macro", labels=labels, sample_weight=w),
        "top2_accuracy": sk.top_k_accuracy_score(y, p, k=2, labels=labels, sample_weight=w),
        "top3_accuracy": sk.top_k_accuracy_score(y, p, k=3, labels=labels, sample_weight=w),
    }


def of_values(y: Any, found: Any, w: Any = None) -> dict[str, float]:
    return {
        "mae": sk.mean_absolute_error(y, found, sample_weight=w),
        "rmse": sk.root_mean_squared_error(y, found, sample_weight=w),
        "r2": sk.r2_score(y, found, sample_weight=w),
    }


def without_loss(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if name not in ("loss", "accuracy")}


def classifier(backend: Any, n: int = 4, **settings: Any) -> Trainer:
    model = Sequential(Linear(5, n), Softmax(), backend=backend, seed=1)
    return Trainer(model, optimizer=SGD(0.2), **settings)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["rows alike", "rows with weights"])
def test_metrics_of_classes_are_those_of_scikit_learn(backend: Backend, weights: Any) -> None:
    trainer = classifier(backend, metrics=OF_CLASSES)
    data = Dataset(X, LABELS, weights=weights)
    history = trainer.fit((X, LABELS), 3, 16, validation=data)
    found = trainer.evaluate(data)
    assert list(found) == ["loss", "accuracy", *OF_CLASSES]
    expected = of_classes(LABELS, trainer.predict(X), trainer.predict_proba(X), weights)
    assert without_loss(found) == pytest.approx(expected)
    assert found == {name.removeprefix("val_"): v for name, v in history[-1].items() if name.startswith("val_")}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(LABELS, trainer.predict(X), sample_weight=weights))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["rows alike", "rows with weights"])
def test_metrics_of_values_are_those_of_scikit_learn(backend: Backend, weights: Any) -> None:
    trainer = Trainer(Sequential(Linear(5, 1), backend=backend), "mse", SGD(0.05), metrics=OF_VALUES)
    data = Dataset(X, VALUES, weights=weights)
    history = trainer.fit((X, VALUES), 3, 16, validation=data)
    found = trainer.evaluate(data)
    assert list(found) == ["loss", *OF_VALUES]
    assert trainer.predict(X).shape == VALUES.shape
    assert without_loss(found) == pytest.approx(of_values(VALUES, trainer.predict(X), weights), rel=1e-5)
    assert history[-1]["val_r2"] == found["r2"]


def test_several_targets_are_averaged_as_scikit_learn_does() -> None:
    y = np.stack([VALUES, VALUES**2], axis=1)
    trainer = Trainer(Sequential(Linear(5, 2), backend="cpu"), "mse", SGD(0.01), metrics=OF_VALUES)
    trainer.fit((X, y), 3)
    assert without_loss(trainer.evaluate((X, y))) == pytest.approx(of_values(y, trainer.predict(X)), rel=1e-5)


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_two_classes_have_one_curve(end: str) -> None:
    y = (LABELS > 1).astype(int)
    layers = [Linear(5, 2), Softmax()] if end == "softmax" else [Linear(5, 1), Sigmoid()]
    loss = "softmax_cross_entropy" if end == "softmax" else "binary_cross_entropy"
    trainer = Trainer(Sequential(layers, backend="cpu"), loss, SGD(0.1), metrics=["auc", "macro_f1"])
    trainer.fit((X, y), 2)
    p = trainer.predict_proba(X)[:, -1]
    expected = {"auc": sk.roc_auc_score(y, p), "macro_f1": sk.f1_score(y, trainer.predict(X), average="macro")}
    assert without_loss(trainer.evaluate((X, y))) == pytest.approx(expected)


def test_one_hot_rows_are_classes_for_a_loss_of_classes() -> None:
    trainer = classifier("cpu", metrics=OF_CLASSES)
    trainer.fit((X, LABELS), 1)
    one_hot = np.eye(4, dtype=np.float32)[LABELS]
    assert trainer.evaluate((X, one_hot)) == pytest.approx(trainer.evaluate((X, LABELS)))


def test_yes_or_no_questions_have_metrics_of_classes() -> None:
    y = (X[:, :3] + RNG.normal(size=(60, 3)) > 0).astype(np.float32)
    model = Sequential(Linear(5, 3), Sigmoid(), backend="cpu")
    trainer = Trainer(model, "binary_cross_entropy", SGD(0.1), metrics=["auc", "macro_f1"])
    trainer.fit((X, y), 3)
    expected = {
        "auc": sk.roc_auc_score(y, trainer.predict_proba(X)),
        "macro_f1": sk.f1_score(y, trainer.predict(X), average="macro"),
    }
    assert without_loss(trainer.evaluate((X, y))) == pytest.approx(expected)


def test_classes_by_squared_error_are_ranked_by_their_outputs() -> None:
    trainer = Trainer(Sequential(Linear(5, 4), backend="cpu"), "mse", SGD(0.05), metrics=["auc", "top2_accuracy"])
    trainer.fit((X, LABELS), 3)
    outputs = trainer.model(X)
    areas = [sk.roc_auc_score(k == LABELS, outputs[:, k]) for k in range(4)]
    found = trainer.evaluate((X, LABELS))
    assert found["auc"] == pytest.approx(np.mean(areas))
    assert found["top2_accuracy"] == pytest.approx(sk.top_k_accuracy_score(LABELS, outputs, k=2))


def test_training_rows_are_told_of_on_request() -> None:
    metric = ["macro_f1"]
    plain = classifier("cpu", metrics=metric).fit((X, LABELS), 3, validation=0.25, validation_every=2)
    asked = classifier("cpu", metrics=metric, train_metrics=True)
    history = asked.fit((X, LABELS), 3, validation=0.25, validation_every=2)
    assert "macro_f1" not in plain[0]
    assert list(history[0])[:5] == ["epoch", "loss", "accuracy", "macro_f1", "val_loss"]
    assert [value is not None for value in history["macro_f1"]] == [True, True, True]
    rest, _ = asked.model.dataset((X, LABELS)).split(0.25, seed=1)
    assert history[-1]["macro_f1"] == pytest.approx(sk.f1_score(rest.y, asked.predict(rest), average="macro"))
    assert plain["val_macro_f1"] == history["val_macro_f1"]
    assert plain["loss"] == history["loss"]  # asking changes nothing


def test_evaluate_takes_other_metrics() -> None:
    trainer = classifier("cpu", metrics=["auc"])
    assert list(trainer.evaluate((X, LABELS), metrics=["macro_f1"])) == ["loss", "accuracy", "macro_f1"]
    assert list(trainer.evaluate((X, LABELS), metrics=[])) == ["loss", "accuracy"]
    assert list(trainer.evaluate((X, LABELS))) == ["loss", "accuracy", "auc"]


def test_loss_and_accuracy_may_be_asked_for_by_name() -> None:
    trainer = classifier("cpu", metrics=["accuracy", "loss", "auc"])
    assert list(trainer.evaluate((X, LABELS))) == ["loss", "accuracy", "auc"]


def test_an_area_without_one_of_the_classes_is_undefined() -> None:
    trainer = classifier("cpu", metrics=["auc"])
    rows = LABELS != 2
    with pytest.warns(UndefinedMetricWarning, match=r"auc is undefined \(NaN\), as there are no rows of class 2"):
        assert math.isnan(trainer.evaluate((X[rows], LABELS[rows]))["auc"])
    two = Trainer(Sequential(Linear(5, 1), Sigmoid(), backend="cpu"), "binary_cross_entropy", metrics=["auc"])
    with pytest.warns(UndefinedMetricWarning, match="only rows of class 1"):
        assert math.isnan(two.evaluate((X, np.ones(60, dtype=int)))["auc"])


def test_an_undefined_metric_stops_no_training() -> None:
    trainer = classifier("cpu", metrics=["auc"], callbacks=[EarlyStopping("val_auc", patience=2)])
    with pytest.warns(UndefinedMetricWarning):
        history = trainer.fit((X, LABELS), 9, validation=(X[:1], LABELS[:1]))
    assert all(map(math.isnan, history["val_auc"]))
    assert history.stopped.startswith("early stopping: val_auc")


@pytest.mark.parametrize(
    ("trainer", "data", "message"),
    [
        (
            lambda: classifier("cpu", metrics=["r2"]),
            (X, LABELS),
            "the metric r2 is one of values, but these targets are classes, of which there are auc, balanced_acc",
        ),
        (
            lambda: Trainer(Sequential(Linear(5, 1), backend="cpu"), "mse", metrics=["auc"]),
            (X, VALUES),
            "the metric auc is one of classes, but these targets are values, of which there are mae, rmse, r2",
        ),
        (
            lambda: classifier("cpu", metrics=["top4_accuracy"]),
            (X, LABELS),
            "top4_accuracy says nothing of a network with 4 outputs; it needs at least 5",
        ),
    ],
)
def test_a_metric_of_other_targets_is_refused_before_training(trainer: Any, data: Any, message: str) -> None:
    one = trainer()
    with pytest.raises(ValueError, match=message):
        one.fit(data)
    assert one.model.step == 0
    with pytest.raises(ValueError, match=message):
        one.evaluate(data)


def test_what_a_function_cannot_compute_is_told_with_its_name() -> None:
    with pytest.raises(ValueError, match=r"^metric mean_squared_log_error: "):
        Trainer(Sequential(Linear(5, 1), backend="cpu"), "mse", metrics=[sk.mean_squared_log_error]).evaluate(
            (X, -np.abs(VALUES))
        )


def test_names_of_functions_say_what_is_better_as_scikit_learn_has_it() -> None:
    for function, best in ((sk.max_error, min), (sk.explained_variance_score, max), (sk.mean_pinball_loss, min)):
        column = f"val_{function.__name__}"
        model = Sequential(Linear(5, 1), backend="cpu")
        trainer = Trainer(model, "mse", Adam(0.3), metrics=[function], callbacks=[EarlyStopping(column, patience=99)])
        history = trainer.fit((X, VALUES), 9, validation=0.3)
        values = history[column]
        assert history.best_epoch == 1 + values.index(best(values)), column


@pytest.mark.parametrize("k", [0, 1, -2, 2.0, True, "3"])
def test_the_k_of_top_k_is_a_number(k: Any) -> None:
    with pytest.raises(ValueError, match="the k of a top-k accuracy must be a whole number of at least 2, not "):
        TopK(k)


def test_names_of_top_k() -> None:
    trainer = classifier("cpu", metrics=[TopK(2), "top3_accuracy"])
    assert [metric.name for metric in trainer.metrics] == ["top2_accuracy", "top3_accuracy"]
    for bad in ("top0_accuracy", "top1_accuracy", "top02_accuracy", "topk_accuracy", "top3"):
        with pytest.raises(ValueError, match=r"unknown metric .* top<k>_accuracy, or give"):
            classifier("cpu", metrics=[bad])
    again = pickle.loads(pickle.dumps(TopK(2)))
    assert again.name == "top2_accuracy"
    assert again.value(np.array([0, 1]), np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 2.5]])) == 0.5


def test_what_a_metric_needs_is_checked() -> None:
    with pytest.raises(ValueError, match="metric m: `needs` must be '', 'classes' or 'values', not 'luck'"):
        Metric("m", max, needs="luck")


@given(
    labels=st.lists(st.integers(0, 2), min_size=2, max_size=30),
    seed=st.integers(0, 99),
    ties=st.booleans(),
)
def test_areas_are_those_of_scikit_learn_or_undefined(labels: list[int], seed: int, ties: bool) -> None:
    y, rng = np.array(labels), np.random.default_rng(seed)
    p = rng.integers(1, 4, size=(len(y), 3)) if ties else rng.uniform(0.1, 1.0, size=(len(y), 3))
    p = p / p.sum(axis=1, keepdims=True)
    if len({*labels}) == 3:
        assert METRICS["auc"].value(y, p) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
    else:
        with pytest.warns(UndefinedMetricWarning):
            assert math.isnan(METRICS["auc"].value(y, p))

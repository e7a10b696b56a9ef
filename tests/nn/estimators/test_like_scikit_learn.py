"""What the parameters mean: held against scikit-learn's MLP, from the same initial weights, in float64."""

from __future__ import annotations

import warnings
from copy import deepcopy
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

import nn as ours

pytest.importorskip("sklearn", "1.9", reason="the MLP of an older scikit-learn has fewer parameters")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ["binary", "multiclass", "multilabel", "values", "several values", "poisson"]


def rows_of(kind: str, n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 5))
    score = x @ random.normal(size=(5, 3)) + 0.3 * random.normal(size=(n, 3))
    targets = {
        "binary": (score[:, 0] > 0).astype(int),
        "multiclass": score.argmax(axis=1),
        "multilabel": (score > 0).astype(int),
        "values": score[:, 0],
        "several values": score,
        "poisson": random.poisson(np.exp(0.3 * score[:, 0])).astype(float),
    }
    return x, targets[kind]


def pair(kind: str, **settings: Any) -> list[Any]:
    """The same estimator, scikit-learn's and ours."""
    settings = {"hidden_layer_sizes": (7, 4), "random_state": 3, **settings}
    if kind == "poisson":
        settings["loss"] = "poisson"
    name = "MLPClassifier" if kind in ("binary", "multiclass", "multilabel") else "MLPRegressor"
    return [getattr(theirs, name)(**settings), getattr(ours, name)(**settings)]


def assert_equal_weights(their: Any, our: Any, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    for a, b in zip(their.coefs_ + their.intercepts_, our.coefs_ + our.intercepts_, strict=True):
        np.testing.assert_allclose(b, a, rtol, atol)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_initial_values(kind: str) -> None:
    for activation in ("relu", "logistic"):
        their, our = pair(kind, activation=activation, learning_rate_init=1e-12, max_iter=1)
        x, y = rows_of(kind)
        assert_equal_weights(their.fit(x, y), our.fit(x, y))
        assert (their.n_layers_, their.n_outputs_, their.out_activation_) == (
            our.n_layers_,
            our.n_outputs_,
            our.out_activation_,
        )


@given(
    kind=st.sampled_from(KINDS),
    activation=st.sampled_from(["identity", "logistic", "tanh", "relu"]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    alpha=st.sampled_from([0.0, 1e-4, 0.5]),
    weighted=st.booleans(),
    learning_rate=st.sampled_from(["constant", "invscaling", "adaptive"]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60)
def test_steps_of_sgd_on_all_rows_are_those_of_scikit_learn(
    kind: str,
    activation: str,
    momentum: float,
    nesterov: bool,
    alpha: float,
    weighted: bool,
    learning_rate: str,
    seed: int,
) -> None:
    x, y = rows_of(kind, seed=seed)
    weights = np.random.default_rng(seed).uniform(0.1, 3.0, len(x)) if weighted else None
    estimators = pair(
        kind, solver="sgd", activation=activation, momentum=momentum, nesterovs_momentum=nesterov, alpha=alpha,
        learning_rate=learning_rate, learning_rate_init=0.02, max_iter=12, n_iter_no_change=2, tol=0.02,
    )  # fmt: skip
    their, our = (estimator.fit(x, y, sample_weight=weights) for estimator in estimators)
    assert_equal_weights(their, our, 1e-8, 1e-8)
    assert (our.n_iter_, our.t_) == (their.n_iter_, their.t_)
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, 1e-9)
    np.testing.assert_allclose(our.best_loss_, their.best_loss_, 1e-9)
    assert np.array_equal(our.predict(x), their.predict(x)) or kind in ("values", "several values", "poisson")
    if kind in ("binary", "multiclass", "multilabel"):
        np.testing.assert_allclose(our.predict_proba(x), their.predict_proba(x), 1e-7, 1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_goes_on_from_weights_that_were_set(kind: str, solver: str) -> None:
    x, y = rows_of(kind)
    their, our = pair(kind, solver=solver)
    labels = {"binary": np.arange(2), "multiclass": np.arange(3), "multilabel": np.arange(3)}
    classes = {"classes": labels[kind]} if kind in labels else {}
    for estimator in (their, our):
        estimator.partial_fit(x, y, **classes)
    other = pair(kind, solver=solver, random_state=9)[0].partial_fit(x, y, **classes)
    for estimator in (their, our):
        for i in range(3):
            estimator.coefs_[i] = other.coefs_[i].copy()
            estimator.intercepts_[i] = other.intercepts_[i].copy()
        estimator.partial_fit(x, y)
    assert_equal_weights(their, our)
    assert len(our.loss_curve_) == len(their.loss_curve_) == 2
    assert (our.n_iter_, our.t_) == (their.n_iter_, their.t_) == (1, 120)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_several_fits_after_each_other(solver: str, learning_rate: str, warm: bool) -> None:
    """What goes on: counts, records, learning rate and velocity by partial_fit; a warm start begins these two anew."""
    x, y = rows_of("multiclass", 40)
    settings = {"solver": solver, "learning_rate": learning_rate, "learning_rate_init": 0.1, "n_iter_no_change": 1}
    their, our = pair("multiclass", warm_start=warm, max_iter=4, tol=0.5, **settings)
    for estimator in (their, our):
        estimator.fit(x, y).fit(x, y)
        for _ in range(6):
            estimator.partial_fit(x, y)
    assert_equal_weights(their, our, 1e-8, 1e-8)
    assert (our.n_iter_, our.t_, len(our.loss_curve_)) == (their.n_iter_, their.t_, len(their.loss_curve_))
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, 1e-8)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "values", "poisson"])
def test_lbfgs_comes_to_the_same_weights(kind: str, weighted: bool) -> None:
    x, y = rows_of(kind)
    weights = np.random.default_rng(1).uniform(0.1, 3.0, len(x)) if weighted else None
    estimators = pair(kind, solver="lbfgs", activation="tanh", alpha=0.1, max_iter=15)
    their, our = (estimator.fit(x, y, sample_weight=weights) for estimator in estimators)
    assert our.n_iter_ == their.n_iter_
    assert our.loss_ == pytest.approx(their.loss_, rel=1e-7)
    assert_equal_weights(their, our, 1e-4, 1e-5)


@pytest.mark.parametrize("kind", ["multiclass", "values"])
def test_lbfgs_goes_on_after_adam(kind: str) -> None:
    x, y = rows_of(kind)
    their, our = pair(kind, solver="adam", max_iter=3, warm_start=True)
    for estimator in (their, our):
        estimator.fit(x, y).set_params(solver="lbfgs", max_iter=10).fit(x, y)
    assert_equal_weights(their, our, 1e-5, 1e-6)


@pytest.mark.parametrize("settings", [{"max_fun": 7}, {"tol": 0.05}, {"max_iter": 1}])
def test_lbfgs_ends_where_that_of_scikit_learn_does(settings: dict[str, Any]) -> None:
    x, y = rows_of("multiclass")
    their, our = (estimator.fit(x, y) for estimator in pair("multiclass", solver="lbfgs", **settings))
    assert 0 < our.n_iter_ == their.n_iter_ < 20
    assert our.loss_ == pytest.approx(their.loss_, rel=1e-6)


def test_lbfgs_makes_the_sum_over_several_values_small() -> None:
    """scikit-learn hands the mean over the values and the gradient of their sum to it."""
    x, y = rows_of("several values")
    losses = []
    for most in (1, 10, 100, 1000):
        _, our = pair("several values", solver="lbfgs", alpha=0.0, max_iter=most)
        losses.append(our.fit(x, y).loss_)
        assert our.loss_ == pytest.approx(0.5 * np.mean((our.predict(x) - y) ** 2))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_digits_are_learnt_as_well(solver: str) -> None:
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16, y, random_state=0)
    settings = {"solver": solver, "max_iter": 30, "random_state": 0, "learning_rate_init": 0.01}
    scores = [module.MLPClassifier(**settings).fit(x, y).score(x_test, y_test) for module in (theirs, ours)]
    assert min(scores) > 0.92
    assert abs(scores[0] - scores[1]) < 0.025


def test_early_stopping_holds_out_the_same_rows_and_keeps_the_best_weights() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x / 16, y
    settings: dict[str, Any] = {"early_stopping": True, "random_state": 0, "n_iter_no_change": 3, "tol": 0.01}
    their, our = (module.MLPClassifier(**settings).fit(x, y) for module in (theirs, ours))
    _, x_held, _, y_held = _split_after_initial_values(x, y)
    for estimator in (their, our):
        assert estimator.best_validation_score_ == max(estimator.validation_scores_)
        assert estimator.score(x_held, y_held) == pytest.approx(estimator.best_validation_score_)
        assert estimator.best_loss_ is None
        assert len(estimator.validation_scores_) == estimator.n_iter_
    assert abs(our.n_iter_ - their.n_iter_) < 15


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "values"])
def test_early_stopping_is_equal_where_the_rows_are_in_their_order(kind: str, solver: str) -> None:
    """The same held-out rows, in proportion for two classes; of epochs with the same score the first one is kept."""
    x, y = rows_of(kind, 100)
    y = np.where(np.arange(100) % 10 == 0, 1, 0) if kind == "binary" else y
    settings: dict[str, Any] = {"shuffle": False, "batch_size": 16, "max_iter": 40, "learning_rate_init": 0.02}
    estimators = pair(kind, solver=solver, early_stopping=True, validation_fraction=0.2, **settings)
    their, our = (estimator.fit(x, y) for estimator in estimators)
    np.testing.assert_allclose(our.validation_scores_, their.validation_scores_, 1e-8)
    assert len(set(our.validation_scores_)) < our.n_iter_ or kind == "values"
    assert_equal_weights(their, our, 1e-8, 1e-8)


def _split_after_initial_values(x: np.ndarray, y: np.ndarray) -> Any:
    """The rows that an MLP with 100 hidden units and seed 0 holds out."""
    random = np.random.RandomState(0)
    random.uniform(size=64 * 100 + 100 + 100 * 10 + 10)
    return train_test_split(x, y, random_state=random, test_size=0.1)


def test_early_stopping_of_values_goes_by_r2() -> None:
    x, y = load_diabetes(return_X_y=True)
    x, y = x * 20, (y - y.mean()) / y.std()
    settings: dict[str, Any] = {"early_stopping": True, "random_state": 2, "batch_size": 1000, "max_iter": 300}
    with pytest.warns(UserWarning, match="It is going to be clipped"):
        their, our = (module.MLPRegressor(**settings).fit(x, y) for module in (theirs, ours))
    np.testing.assert_allclose(our.validation_scores_[:20], their.validation_scores_[:20], atol=1e-4)
    assert our.n_iter_ == their.n_iter_


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_fits_are_equal_where_the_rows_are_in_their_order(kind: str, solver: str) -> None:
    """Only the penalty in the loss is told of the epoch's beginning and end, and not of each step."""
    x, y = rows_of(kind, 200)
    settings: dict[str, Any] = {"alpha": 1.0, "batch_size": 20, "shuffle": False, "max_iter": 20, "solver": solver}
    their, our = (estimator.fit(x, y) for estimator in pair(kind, **settings))
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, rtol=2e-3)
    assert_equal_weights(their, our, 1e-8, 1e-8)


class Shuffles(np.random.RandomState):
    """Keeps the orders that scikit-learn draws from it."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drawn: list[np.ndarray] = []

    def shuffle(self, x: Any) -> None:
        super().shuffle(x)
        self.drawn.append(np.array(x))

    def orders(self, epochs: int) -> list[np.ndarray]:
        """The order of the rows in each of so many last epochs: scikit-learn shuffles that of the epoch before. What
        was drawn before these has held rows out."""
        return list(accumulate(self.drawn[-epochs:], lambda before, drawn: before[drawn]))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_fits_are_equal_in_the_orders_that_scikit_learn_draws(
    kind: str, solver: str, early_stopping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the order of the rows is all in which fits differ whose batches are full."""
    x, y = rows_of(kind, 200)
    settings = {"batch_size": 20, "max_iter": 25, "solver": solver, "early_stopping": early_stopping}
    their, our = pair(kind, learning_rate_init=0.02, **settings)
    shuffles = Shuffles(3)
    their.set_params(random_state=shuffles).fit(x, y)
    orders = shuffles.orders(their.n_iter_)
    assert len(orders) > 10
    assert any((one != other).any() for one, other in pairwise(orders))
    monkeypatch.setattr("nn.feed.permutation", lambda n, seed, epoch: orders[min(epoch, len(orders)) - 1])
    our.fit(x, y)
    assert (our.n_iter_, our.t_) == (their.n_iter_, their.t_)
    assert_equal_weights(their, our, 1e-8, 1e-8)
    if early_stopping:
        np.testing.assert_allclose(our.validation_scores_, their.validation_scores_, 1e-8)


@pytest.mark.filterwarnings("default")
def test_too_few_iterations_are_told_as_by_scikit_learn() -> None:
    x, y = rows_of("multiclass")
    texts = []
    for estimator in pair("multiclass", max_iter=3):
        with pytest.warns(ConvergenceWarning) as caught:
            estimator.fit(x, y)
        texts.append(str(caught[0].message))
    assert texts[0] == texts[1]
    with pytest.warns(ConvergenceWarning, match=r"lbfgs failed to converge after 2 iteration\(s\) \(status=1\)"):
        pair("multiclass", max_iter=2, solver="lbfgs")[1].fit(x, y)


@pytest.mark.parametrize(
    "settings",
    [
        {"verbose": True, "tol": 1.0, "n_iter_no_change": 1},
        {"verbose": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 9.0, "n_iter_no_change": 1},
    ],
)
def test_verbose_prints_what_scikit_learn_prints(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    x, y = rows_of("multiclass")
    texts = []
    for estimator in pair("multiclass", max_iter=15, **settings):
        estimator.fit(x, y)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "Training loss did not improve more than tol=" in texts[0]


@cache
def predictors() -> list[Any]:
    return [estimator.fit(*rows_of("multiclass")) for estimator in pair("multiclass", shuffle=False, max_iter=3)]


def answer(estimator: Any, method: str, x: Any) -> Any:
    """What it gives for these rows, or the error, with the warnings."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            found: Any = getattr(estimator, method)(x)
        except (ValueError, TypeError) as error:
            found = type(error).__name__, str(error).partition("[")[0]  # an array follows, which has been converted
    return found, [str(warning.message) for warning in caught if warning.category is UserWarning]


@given(
    shape=st.sampled_from([(1, 5), (3, 5), (2, 4), (2, 6), (0, 5), (3, 0), (5,), (2, 5, 1)]),
    dtype=st.sampled_from(["f8", "f4", "f2", "i8", "u1", "?", "c16", "O"]),
    special=st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e300, 3e38]),
    form=st.sampled_from([np.ascontiguousarray, np.asfortranarray, scipy.sparse.csr_matrix]),
    named=st.booleans(),
    method=st.sampled_from(["predict", "predict_proba"]),
)
@settings(max_examples=300)
def test_rows_to_predict_are_taken_and_refused_as_by_scikit_learn(
    shape: tuple[int, ...], dtype: str, special: float, form: Any, named: bool, method: str
) -> None:
    """Also where those of NumPy in order do not go through its validation."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = np.random.default_rng(0).normal(size=shape)
        x[..., -1:] = special or x[..., -1:]
        x = x.astype(dtype) if special == 0 or dtype in ("f8", "f4", "O") else x
    try:
        rows = form(x)
    except (ValueError, TypeError):  # it has no such rows
        return
    found = []
    for estimator in predictors():
        predictor = deepcopy(estimator)
        if named:
            predictor.feature_names_in_ = np.array([f"column {number}" for number in range(5)], dtype=object)
        found.append(answer(predictor, method, rows))
    (their, their_warnings), (our, our_warnings) = found
    assert our_warnings == their_warnings
    if isinstance(their, tuple):
        assert our == their
    elif special in (0.0, 3e38) and method == "predict_proba":
        np.testing.assert_allclose(our, their, 1e-3 if dtype == "f4" else 1e-6, 1e-9)
    else:
        assert our.shape == their.shape

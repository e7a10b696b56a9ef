"""What MLPRegressor takes and gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import mean_poisson_deviance

from nn import MLPRegressor
from nn.losses import Huber

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 4))
Y = np.tanh(X @ RANDOM.normal(size=(4, 2)))


def made(**settings: Any) -> MLPRegressor:
    return MLPRegressor(**{"hidden_layer_sizes": 16, "random_state": 0, "learning_rate_init": 0.02, **settings})


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_values_are_learnt(solver: str) -> None:
    for y in (Y[:, 0], Y):
        found = made(solver=solver).fit(X, y)
        assert found.predict(X).shape == y.shape
        assert found.score(X, y) > 0.9
        assert found.out_activation_ == "identity"


def test_a_column_of_values_is_told_as_by_scikit_learn() -> None:
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        found = made(max_iter=2).fit(X, Y[:, :1])
    assert found.predict(X).shape == (len(X),)


def test_counts_by_the_poisson_loss() -> None:
    expected = np.exp(1.0 + X[:, 0])
    y = RANDOM.poisson(expected)
    found = made(loss="poisson", solver="lbfgs", alpha=1.0).fit(X, y)
    assert found.out_activation_ == "exp"
    assert (found.predict(X) > 0).all()
    assert mean_poisson_deviance(y, found.predict(X)) < 1.5 * mean_poisson_deviance(y, expected)
    with pytest.raises(ValueError, match="loss='poisson' needs values of at least 0 in y"):
        made(loss="poisson").fit(X, y - 1)


@pytest.mark.parametrize("loss", ["huber", "mae", Huber(delta=0.1)])
def test_other_losses_do_not_follow_rows_that_are_far_off(loss: Any) -> None:
    y = Y[:, 0].copy()
    y[::10] += 100.0
    found = made(loss=loss).fit(X, y)
    rest = np.arange(len(X)) % 10 != 0
    assert found.score(X[rest], y[rest]) > 0.5
    assert made().fit(X, y).score(X[rest], y[rest]) < 0.0
    with pytest.raises(ValueError, match="the loss focal is one of classes"):
        made(loss="focal").fit(X, y)


def test_partial_fit_goes_on_with_as_many_values() -> None:
    found = made()
    for _ in range(60):
        for part in (slice(0, 60), slice(60, None)):
            found.partial_fit(X[part], Y[part])
    assert found.score(X, Y) > 0.8
    with pytest.raises(ValueError, match="y has 1 values a row, but the network to go on with has 2 outputs"):
        found.partial_fit(X, Y[:, 0])


def test_sparse_rows_own_validation_rows_and_dropout() -> None:
    found = made(validation_data=(X[:20], Y[:20]), dropout=0.1, max_iter=20)
    found.fit(scipy.sparse.csr_array(X[20:]), Y[20:])
    assert found.validation_scores_[-1] == pytest.approx(found.score(X[:20], Y[:20]))
    half = 0.5 * ((found.predict(X[:20]) - Y[:20]) ** 2).mean()
    assert found.validation_loss_curve_[-1] == pytest.approx(half)

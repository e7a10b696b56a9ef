"""Which loss is trained, and what rows count in it."""

from __future__ import annotations

import numpy as np
import pytest

from nn.cli import UsageError
from nn.losses import Focal, Huber, SoftmaxCrossEntropy
from tests.cli.settings.runs import Tools, prepared, trained


def test_loss(tools: Tools) -> None:
    run = prepared("--loss", "mse", "--dtype", "float64")
    outputs, targets = run.trainer.model(run.training), np.eye(10)[run.training.y]
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(np.mean((outputs - targets) ** 2))
    run = prepared("--loss", "bce", "--positive", "3", "--dtype", "float64")
    p = run.trainer.model(run.training)[:, 0]
    cross_entropy = -np.mean(np.where(run.training.y, np.log(p), np.log(1 - p)))
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(cross_entropy)
    run = trained("--loss", "bce", "--epochs", "5", "--dtype", "float64")  # ten questions, of which one is answered yes
    p, yes = run.trainer.predict_proba(run.training), np.eye(10)[run.training.y]
    assert p.shape == (120, 10)
    found = run.trainer.evaluate(run.training)
    assert found["loss"] == pytest.approx(-np.mean(np.log(np.where(yes, p, 1 - p))))
    assert found["accuracy"] == np.mean(run.trainer.predict(run.training) == run.training.y)
    run = prepared("--dtype", "float64")
    p = run.trainer.model(run.training)[np.arange(120), run.training.y]
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(-np.mean(np.log(p)))


def test_label_smoothing(tools: Tools) -> None:
    run = prepared("--label-smoothing", "0.2", "--dtype", "float64")
    assert run.trainer.loss == SoftmaxCrossEntropy(0.2)
    targets = 0.8 * np.eye(10)[run.training.y] + 0.02
    wanted = -(targets * np.log(run.trainer.predict_proba(run.training))).sum(axis=1).mean()
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(wanted)


def test_delta(tools: Tools) -> None:
    run = prepared("--loss", "huber", "--delta", "0.25")
    assert run.trainer.loss == Huber(0.25)
    assert prepared("--loss", "huber").trainer.loss == Huber(1.0)
    far = np.abs(np.asarray(run.trainer.model(run.training)) - np.eye(10)[run.training.y])
    wanted = np.where(far <= 0.25, far**2 / 2, 0.25 * (far - 0.125)).mean()
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(wanted, rel=1e-5)


def test_gamma(tools: Tools) -> None:
    run = prepared("--loss", "focal", "--gamma", "1.5")
    assert run.trainer.loss == Focal(1.5)
    assert prepared("--loss", "focal").trainer.loss == Focal(2.0)
    p, yes = run.trainer.predict_proba(run.training), np.eye(10)[run.training.y] == 1
    p = np.where(yes, p, 1 - p)
    wanted = (np.where(yes, 0.25, 0.75) * (1 - p) ** 1.5 * -np.log(p)).mean()
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(wanted, rel=1e-5)


def test_focal_alpha(tools: Tools) -> None:
    assert prepared("--loss", "focal", "--focal-alpha", "0.75").trainer.loss == Focal(alpha=0.75)
    # --alpha is of RMSProp, and leaves that of the loss alone
    run = prepared("--loss", "focal", "--optimizer", "rmsprop", "--alpha", "0.9")
    assert run.trainer.loss == Focal()
    assert run.trainer.optimizer.settings()["alpha"] == 0.9


def test_class_weight(tools: Tools) -> None:
    run = prepared("--class-weight", "0=5", "7=0", "--validation", "0.2")
    weights = np.where(run.training.y == 0, 5.0, np.where(run.training.y == 7, 0.0, 1.0))
    np.testing.assert_array_equal(run.training.weights, weights)
    assert run.validation is not None
    assert run.validation.weights is None
    for text in ('["0=5", "7=0"]', "{0 = 5, 7 = 0.0}"):  # the two forms of a recipe
        recipe = tools.recipe(f"[data]\nvalidation = 0.2\n[training]\nclass_weight = {text}\n")
        np.testing.assert_array_equal(prepared(*recipe).training.weights, weights)
    found = prepared("--class-weight", "balanced").training
    alone = prepared(*tools.recipe('[training]\nclass_weight = "balanced"\n')).training
    np.testing.assert_array_equal(alone.weights, found.weights)
    each = [found.weights[found.y == label].sum() for label in range(10)]  # type: ignore[index]
    np.testing.assert_allclose(each, len(found) / 10)
    for words, message in (
        (["0=1", "balanced"], "`balanced` alone, or CLASS=WEIGHT for some classes, not both"),
        (["0=1", "0=2"], "class 0 is named twice"),
        (["0=x"], "must be balanced or a list of CLASS=WEIGHT"),
        (["=1"], "must be balanced or a list of CLASS=WEIGHT"),
        (["12=1"], "there is no class 12"),
        (["1=-1"], r"class_weight\[1\] is -1.0, but a weight is a finite number of at least 0"),
    ):
        with pytest.raises(UsageError, match=message):
            prepared("--class-weight", *words)

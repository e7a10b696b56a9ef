"""What MLPClassifier takes and gives: labels of any kind, weights, losses, and parameters of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from nn import (
    Augment,
    Dataset,
    LambdaCallback,
    LeakyReLU,
    MLPClassifier,
    MLPRegressor,
    load_data,
    load_model,
    save_model,
)
from nn.losses import Focal, SoftmaxCrossEntropy
from nn.report.distorted import distorted

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 4))
SCORES = X @ RANDOM.normal(size=(4, 3))
TWO, THREE, SEVERAL = (SCORES[:, 0] > 0).astype(int), SCORES.argmax(axis=1), (SCORES > 0).astype(int)


#: NumPy's texts lose zeros at their end.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


def made(**settings: Any) -> MLPClassifier:
    return MLPClassifier(
        **{"hidden_layer_sizes": 8, "max_iter": 30, "random_state": 0, "learning_rate_init": 0.02, **settings}
    )


def test_a_path_is_refused_with_what_to_do() -> None:
    fitted = made(max_iter=2).fit(X, TWO)
    calls: list[Callable[[], Any]] = [
        lambda: made().fit("x.npy", TWO),
        lambda: made().fit(X, "x.npy"),
        lambda: fitted.predict("x.npy"),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"an estimator takes arrays, not 'x\.npy'; load the file first"):
            call()


@given(
    labels=st.lists(st.one_of(st.integers(-(10**6), 10**6), TEXTS), min_size=2, max_size=5, unique_by=str),
    as_text=st.booleans(),
)
@settings(max_examples=25)
def test_labels_of_any_kind_come_back(labels: list[Any], as_text: bool) -> None:
    kept = [str(label) for label in labels] if as_text else [label for label in labels if isinstance(label, int)]
    if len(kept) < 2:
        return
    values = np.array(kept)
    y = np.concatenate([values, values[THREE % len(values)]])[: len(X)]
    found = made(max_iter=2).fit(X, y)
    assert list(found.classes_) == sorted(kept)
    predicted = found.predict(X)
    assert predicted.dtype.kind == y.dtype.kind
    assert set(predicted) <= set(kept)
    assert np.array_equal(predicted, found.classes_[found.predict_proba(X).argmax(axis=1)])


@pytest.mark.parametrize("y", [TWO.astype(bool), np.array(["no", "yes"], dtype=object)[TWO], TWO * 2.0 - 1.0])
def test_two_classes_have_one_output(y: Any) -> None:
    found = made().fit(X, y)
    assert (found.n_outputs_, found.out_activation_) == (1, "logistic")
    assert found.score(X, y) > 0.9
    probabilities = found.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.exp(found.predict_log_proba(X)), probabilities)


def test_one_class_is_always_given() -> None:
    found = made(max_iter=2).fit(X, ["only"] * len(X))
    assert set(found.predict(X)) == {"only"}
    assert np.array_equal(found.predict_proba(X), np.ones((len(X), 1)))


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.csr_matrix])
def test_several_labels_a_row(form: Any) -> None:
    y = form(SEVERAL)
    found = made(max_iter=200).fit(X, y)
    predicted = found.predict(X)
    assert type(predicted) is type(y)
    assert accuracy_score(y, predicted) == found.score(X, y) > 0.9
    assert found.predict_proba(X).shape == (len(X), 3)
    again = made().partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    assert again.t_ == len(X)
    assert again.out_activation_ == "logistic"


def test_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        made().fit(X, SCORES[:, 0])
    with pytest.raises(ValueError, match="several labels a row must be columns of 0 and 1"):
        made().fit(X, SEVERAL * 3 + THREE[:, None])
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        made().partial_fit(X, THREE)
    found = made().partial_fit(X, TWO, classes=[0, 1])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        found.partial_fit(X, THREE)
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        found.partial_fit(X, TWO, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
        made(warm_start=True).fit(X, TWO).fit(X, THREE)


def test_partial_fit_needs_no_row_of_each_class() -> None:
    found = made()
    for _ in range(30):
        for label in range(3):
            found.partial_fit(X[label == THREE], THREE[label == THREE], classes=[0, 1, 2])
    assert found.score(X, THREE) > 0.6
    assert found.n_outputs_ == 3


def test_weights_are_as_rows_that_are_there_several_times() -> None:
    times = np.arange(len(X)) % 3
    again = np.repeat(np.arange(len(X)), times)
    settings: dict[str, Any] = {"shuffle": False, "batch_size": 200, "max_iter": 20}
    one, other = made(**settings), made(**settings)
    with pytest.warns(UserWarning, match="batch_size"):
        one.fit(X, THREE, sample_weight=times)
    with pytest.warns(UserWarning, match="batch_size"):
        other.fit(X[again], THREE[again])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), 1e-8)
    assert one.loss_ == pytest.approx(other.loss_)


def test_class_weights_are_weights_of_rows() -> None:
    given = made(class_weight={0: 5.0, 2: 0.5}).fit(X, THREE)
    by_hand = made().fit(X, THREE, sample_weight=np.array([5.0, 1.0, 0.5])[THREE])
    assert np.array_equal(given.coefs_[0], by_hand.coefs_[0])
    few = np.concatenate([np.flatnonzero(TWO == 1)[:6], np.flatnonzero(TWO == 0)])
    plain, balanced = (made(class_weight=kind, max_iter=8).fit(X[few], TWO[few]) for kind in (None, "balanced"))
    assert balanced.predict(X).mean() > plain.predict(X).mean()
    of_each = [{0: 1.0, 1: 50.0}] * 3
    assert made(class_weight=of_each).fit(X, SEVERAL).predict(X).mean() > made().fit(X, SEVERAL).predict(X).mean()
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial_fit"):
        made(class_weight="balanced").partial_fit(X, TWO, classes=[0, 1])


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        ("focal", (1, 3, 3)),
        (Focal(gamma=1.0), (1, 3, 3)),
        ("mean_squared_error", (1, 3, 3)),
        (SoftmaxCrossEntropy(label_smoothing=0.1), (2, 3, None)),
    ],
)
def test_other_losses(loss: Any, outputs: tuple[int | None, ...]) -> None:
    for y, expected in zip((TWO, THREE, SEVERAL), outputs, strict=True):
        found = made(loss=loss, max_iter=60)
        if expected is None:
            with pytest.raises(ValueError, match="is for one class a row, but these rows have several labels"):
                found.fit(X, y)
            continue
        assert found.fit(X, y).n_outputs_ == expected
        assert found.score(X, y) > 0.75
        if y.ndim == 1:
            np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1.0)
    with pytest.raises(ValueError, match="unknown loss 'nope'; known are"):
        made(loss="nope").fit(X, TWO)


def test_answers_that_are_all_no_are_no_class_more_than_another() -> None:
    found = made(loss="focal", max_iter=2).fit(X, THREE)
    found.intercepts_[-1] = np.full(3, -1e4)
    np.testing.assert_allclose(found.predict_proba(X), 1 / 3)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_rows_are_taken_as_they_are(solver: str) -> None:
    """Without the advice that nn gives on columns of different sizes, and without a scale for pixels."""
    found = made(solver=solver, max_iter=3).fit(X * [1.0, 1e5, 1e-5, 1.0], THREE)
    assert found.model_.units.scale == 1.0
    pixels = np.arange(90 * 4).reshape(90, 4) % 256
    assert made(solver=solver, max_iter=3).fit(pixels, THREE).model_.units.high == 255.0


def test_a_loss_that_is_a_function() -> None:
    def brier(xp: Any, outputs: Any, targets: Any) -> Any:
        return xp.sum((outputs - targets) ** 2, axis=1), 2 * (outputs - targets)

    found = made(loss=brier).fit(X, THREE)
    assert found.score(X, THREE) > 0.8
    assert found.loss_curve_[-1] < found.loss_curve_[0]


def test_a_network_may_have_no_hidden_layer() -> None:
    found = made(hidden_layer_sizes=(), max_iter=100).fit(X, THREE)
    assert found.score(X, THREE) > 0.8
    assert [array.shape for array in found.coefs_] == [(4, 3)]
    found.set_params(warm_start=True).fit(X, THREE)


@pytest.mark.parametrize("activation", ["gelu", "silu", "elu", "leaky_relu", "softplus", LeakyReLU(0.3)])
def test_other_activations(activation: Any) -> None:
    found = made(activation=activation, max_iter=60).fit(X, THREE)
    assert found.score(X, THREE) > 0.8
    expected = "leaky_relu(0.3)" if isinstance(activation, LeakyReLU) else activation
    assert found.model_[0].activation == expected


def test_dropout_is_of_hidden_units_in_training() -> None:
    found = made(hidden_layer_sizes=(16, 8), dropout=0.25).fit(X, THREE)
    assert [type(layer).__name__ for layer in found.model_] == ["Linear", "Dropout"] * 2 + ["Linear", "Softmax"]
    assert np.array_equal(found.predict_proba(X), found.predict_proba(X))
    assert not np.allclose(found.coefs_[0], made(hidden_layer_sizes=(16, 8)).fit(X, THREE).coefs_[0])
    assert len(found.coefs_) == len(found.intercepts_) == 3


def test_training_pictures_are_distorted_as_a_trainer_distorts_them() -> None:
    """A step on them is that on rows which were distorted before; what is evaluated is as it was given."""
    digits, augment = load_data("digits").train[:200], Augment(shift=1, rotation=20, fill=1)
    rows, once = digits.x / 16, {"shuffle": False, "max_iter": 1, "batch_size": 50}
    found = made(augment=augment, validation_data=(rows, digits.y), **once).fit(rows, digits.y)
    seen = distorted(Dataset(rows, digits.y, image_shape=(8, 8)), augment, 1, found.model_.seed)[0]
    wanted = made(validation_data=(rows, digits.y), **once).fit(seen.reshape(200, 64), digits.y)
    for coefs, others in zip(found.coefs_, wanted.coefs_, strict=True):
        np.testing.assert_allclose(coefs, others, rtol=1e-12, atol=1e-15)
    assert found.validation_scores_ == wanted.validation_scores_
    assert not np.allclose(found.coefs_[0], made(**once).fit(rows, digits.y).coefs_[0])
    again = made(augment=augment, **once).fit(np.repeat(rows, 3, axis=1), digits.y)  # (8, 8, 3), channels last
    assert again.model_.units is not None
    assert again.model_.units.row_shape == (8, 8, 3)
    with pytest.raises(ValueError, match="rows of 60 columns are no square ones; nn"):
        made(augment=augment).fit(rows[:, :60], digits.y)


def test_own_validation_rows_and_their_loss() -> None:
    held = X[:30], THREE[:30]
    found = made(validation_data=held).fit(X[30:], THREE[30:])
    assert found.best_validation_score_ is None
    assert found.validation_scores_[-1] == pytest.approx(found.score(*held))
    mean = -np.log(found.predict_proba(held[0])[np.arange(30), held[1]]).mean()
    assert found.validation_loss_curve_[-1] == pytest.approx(mean)
    assert len(found.validation_loss_curve_) == found.n_iter_
    early = made(validation_data=held, early_stopping=True, max_iter=300, n_iter_no_change=3, tol=0.01)
    early.fit(X[30:], THREE[30:])
    assert early.n_iter_ < 300
    assert early.score(*held) == pytest.approx(max(early.validation_scores_))
    assert early.t_ == early.n_iter_ * 60
    weights = np.linspace(0.1, 1.0, 30)
    weighted = made(validation_data=(*held, weights)).fit(X[30:], THREE[30:])
    assert weighted.validation_scores_[-1] == pytest.approx(weighted.score(*held, sample_weight=weights))
    several = made(validation_data=(X[:30], SEVERAL[:30])).fit(X[30:], SEVERAL[30:])
    assert several.validation_scores_[-1] == pytest.approx(several.score(X[:30], SEVERAL[:30]))
    with pytest.raises(ValueError, match="a label of validation_data is none of the classes"):
        made(validation_data=held).fit(X, TWO)
    with pytest.raises(ValueError, match="validation_data must be"):
        made(validation_data=(X,)).fit(X, TWO)


def test_callbacks_of_nn_are_called() -> None:
    seen = []
    show = LambdaCallback(on_epoch_end=lambda trainer, record: seen.append(record["loss"]))
    found = made(callbacks=[show], alpha=0.0).fit(X, THREE)
    assert seen == pytest.approx(found.loss_curve_)
    stop = LambdaCallback(on_epoch_end=lambda trainer, record: trainer.stop("enough"))
    assert made(callbacks=[stop]).fit(X, THREE).n_iter_ == 1


def test_float32_is_asked_for_or_comes_with_the_rows() -> None:
    for found in (made(dtype="float32").fit(X, THREE), made().fit(X.astype(np.float32), THREE)):
        assert found.coefs_[0].dtype == found.predict_proba(X).dtype == np.float32
    assert made().fit(X, THREE).coefs_[0].dtype == np.float64
    assert made(dtype="float64").fit(X.astype(np.float32), THREE).coefs_[0].dtype == np.float64


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_rows_are_as_dense_ones(form: str, solver: str) -> None:
    kept = np.where(np.abs(X) > 0.7, X, 0.0)
    dense, sparse = made(solver=solver), made(solver=solver)
    dense.fit(kept, THREE)
    sparse.fit(scipy.sparse.csr_array(kept).asformat(form), THREE)
    np.testing.assert_array_equal(dense.coefs_[0], sparse.coefs_[0])
    many = np.tile(kept, (100, 1))
    np.testing.assert_allclose(dense.predict_proba(many), sparse.predict_proba(scipy.sparse.csr_matrix(many)))


def test_a_sparse_matrix_that_would_fill_the_memory_is_refused() -> None:
    wide = scipy.sparse.csr_array((60_000, 10_000))
    with pytest.raises(ValueError, match=r"would take 4\.5 GiB when it is dense.*call partial_fit with parts"):
        made().fit(wide, np.arange(60_000) % 2)


def test_weights_may_be_set_and_changed_in_place() -> None:
    found = made().fit(X, THREE)
    before = found.predict_proba(X)
    found.coefs_[1][...] = 0.0
    found.intercepts_[1][...] = [0.0, 0.0, 5.0]
    assert set(found.predict(X)) == {2}
    found.intercepts_[1] = np.array([0.0, 7.0, 0.0])
    assert set(found.predict(X)) == {1}
    other = made(random_state=0).fit(X, THREE)
    found.coefs_, found.intercepts_ = other.coefs_, other.intercepts_
    np.testing.assert_array_equal(found.predict_proba(X), before)
    found.coefs_ = other.coefs_[:1]
    with pytest.raises(ValueError, match="have 3 arrays, but the network takes 4"):
        found.predict(X)


def test_a_warm_start_goes_on() -> None:
    found = made(warm_start=True, max_iter=10).fit(X, THREE)
    first = found.loss_
    assert found.fit(X, THREE).loss_ < first
    assert (found.n_iter_, len(found.loss_curve_), found.t_) == (10, 20, 20 * len(X))
    found.set_params(solver="lbfgs").fit(X, THREE)
    assert found.loss_ < found.loss_curve_[-1]
    with pytest.raises(ValueError, match=r"hidden layers of \[8\], but hidden_layer_sizes says \[9\]"):
        found.set_params(hidden_layer_sizes=9).fit(X, THREE)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"alpha": -1}, r"The 'alpha' parameter of MLPClassifier must be a float in the range \[0.0, inf\). Got -1"),
        ({"activation": "no"}, "The 'activation' parameter of MLPClassifier must be a str among"),
        ({"momentum": 1.0}, r"The 'momentum' parameter of MLPClassifier must be a float in the range \[0.0, 1.0\)"),
        ({"hidden_layer_sizes": (3.5,)}, r"hidden_layer_sizes must be whole numbers, got \[3\.5\]"),
        ({"hidden_layer_sizes": (3, -1)}, r"hidden_layer_sizes must be > 0, got \[3, -1\]"),
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout has no meaning for solver='lbfgs'"),
        ({"solver": "lbfgs", "augment": Augment(shift=1)}, "augment has no meaning for solver='lbfgs'"),
        ({"augment": "shift"}, "The 'augment' parameter of MLPClassifier must be an instance of"),
        ({"solver": "lbfgs", "callbacks": [LambdaCallback()]}, "callbacks has no meaning for solver='lbfgs'"),
        ({"solver": "lbfgs", "validation_data": (X, THREE)}, "validation_data has no meaning for solver='lbfgs'"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "The validation set is too small"),
        ({"device": "no such device"}, "no such device"),
        ({"dtype": "float16"}, "The 'dtype' parameter of MLPClassifier must be"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        made(**settings).fit(X, THREE)


def test_partial_fit_is_refused_where_it_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        made(early_stopping=True).partial_fit(X, TWO, classes=[0, 1])
    assert not hasattr(made(solver="lbfgs"), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        made(solver="lbfgs").partial_fit(X, TWO)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_divergence_is_the_error_of_scikit_learn(solver: str) -> None:
    found = MLPRegressor(solver=solver, learning_rate_init=1e30)
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"), np.errstate(all="ignore"):
        found.fit(X * 1e200, THREE)


def test_an_interrupt_keeps_what_was_learnt() -> None:
    def interrupt(trainer: Any, record: Any) -> None:
        if record["epoch"] == 5:
            raise KeyboardInterrupt

    found = made(callbacks=[LambdaCallback(on_epoch_end=interrupt)])
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        found.fit(X, THREE)
    assert found.n_iter_ == 5
    assert found.predict(X).shape == THREE.shape


def test_an_interrupt_before_the_first_epoch_has_ended() -> None:
    def interrupt(trainer: Any, epoch: int) -> None:
        raise KeyboardInterrupt

    found = made(callbacks=[LambdaCallback(on_epoch_begin=interrupt)])
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        found.fit(X, THREE)
    assert (found.n_iter_, found.loss_curve_) == (0, [])
    assert not hasattr(found, "loss_")


def test_the_network_can_be_saved(tmp_path: Any) -> None:
    names = np.array(["a", "b", "c"])
    found = made().fit(X, names[THREE])
    save_model(found.model_, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", backend="cpu")
    assert model.predict_names(X) == list(found.predict(X))

"""Weights of rows: a row of weight 2 is trained on as that row twice, and equal weights are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error
from sklearn.utils.class_weight import compute_sample_weight

from backends import Backend, get_backend
from nn import SGD, Adam, DataError, Dataset, Linear, Metric, ReLU, Sequential, Softmax, Trainer, compare_backends
from nn.data import as_dataset
from nn.losses import get_loss
from nn.verify import check_gradients
from tests.helpers.backends import make_backend
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(3)
X = RNG.normal(size=(24, 4))
LABELS = np.arange(24) % 3
VALUES = RNG.normal(size=(24, 3))
YES_OR_NO = RNG.integers(0, 2, (24, 3)).astype(float)
WEIGHTS = RNG.integers(0, 4, 24).astype(float)
TWICE = np.repeat(np.arange(24), WEIGHTS.astype(int))
TARGETS = {"softmax_cross_entropy": LABELS, "binary_cross_entropy": YES_OR_NO, "mean_squared_error": VALUES}


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float64")


def trainer_on(backend: Any, loss: str = "cross_entropy", optimizer: Any = None, **options: Any) -> Trainer:
    end = [Softmax()] if loss in ("cross_entropy", "softmax_cross_entropy") else []
    model = Sequential(Linear(4, 6), ReLU(), Linear(6, 3), *end, backend=backend, dtype="float64", seed=1)
    return Trainer(model, loss, optimizer or Adam(0.01), **options)


def assert_same(a: Trainer, b: Trainer, rtol: float = 0.0, atol: float = 0.0) -> None:
    for name, values in a.model.state_dict().items():
        np.testing.assert_allclose(values, b.model.state_dict()[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("loss", TARGETS)
def test_a_row_of_weight_2_is_that_row_twice(backend: Backend, loss: str) -> None:
    weighted, twice = trainer_on(backend, loss), trainer_on(backend, loss)
    y = TARGETS[loss]
    one = weighted.fit(X, y, epochs=4, batch_size=None, sample_weight=WEIGHTS)
    other = twice.fit(X[TWICE], y[TWICE], epochs=4, batch_size=None)
    assert_same(weighted, twice, rtol=1e-9, atol=1e-12)
    assert one[-1]["loss"] == pytest.approx(other[-1]["loss"], rel=1e-10)
    found, expected = weighted.evaluate(X, y, 7, sample_weight=WEIGHTS), twice.evaluate(X[TWICE], y[TWICE])
    assert found == pytest.approx(expected, rel=1e-9)
    data = Dataset(X, y, weights=WEIGHTS)
    for name, gradient in weighted.gradients(data).items():
        np.testing.assert_allclose(gradient, twice.gradients(X[TWICE], y[TWICE])[name], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(weighted.losses(data), weighted.losses(X, y), rtol=1e-12)


@pytest.mark.parametrize("weights", [np.full(24, 2.0), np.ones(24, np.int64), np.full(24, 1e300)])
def test_equal_weights_are_none(backend: Backend, weights: np.ndarray) -> None:
    plain, equal = trainer_on(backend), trainer_on(backend)
    plain.fit(X, LABELS, epochs=2, batch_size=7)
    equal.fit(X, LABELS, epochs=2, batch_size=7, sample_weight=weights)
    assert_same(plain, equal)
    assert plain.evaluate(X, LABELS) == equal.evaluate(X, LABELS, sample_weight=weights)


def test_only_ratios_of_weights_matter() -> None:
    runs = [trainer_on("cpu") for _ in range(3)]
    for run, factor in zip(runs, (1.0, 1024.0, 2.0**-40), strict=True):
        run.fit(X, LABELS, epochs=2, batch_size=7, sample_weight=WEIGHTS * factor)
        assert_same(run, runs[0])


def test_recorded_steps_take_the_weights_of_their_own_rows(backend: Backend) -> None:
    """Shuffled batches, the last one shorter, beside a loop that asks for each batch by itself."""
    trainer, by_hand = trainer_on(backend, optimizer=SGD(0.1)), trainer_on(backend, optimizer=SGD(0.1))
    data = Dataset(X, LABELS, weights=WEIGHTS)
    trainer.fit(data, 3, 7)
    with backend.use():
        rows = by_hand.upload(data)
        feed, plan = by_hand.feed(rows, shuffled=True), by_hand.plan(rows, optimizer=by_hand.optimizer)
        totals, number = backend.zeros((2,), backend.wide), 0
        for epoch in (1, 2, 3):
            feed.begin_epoch(epoch)
            for start in range(0, 24, 7):
                x, y, weights = feed.batch(start, min(7, 24 - start), number)
                plan.train(x, y, totals, step=number, update=number + 1, learning_rate=0.1, weights=weights)
                number += 1
    assert_same(trainer, by_hand, rtol=1e-12, atol=1e-14)
    unweighted = trainer_on(backend, optimizer=SGD(0.1))
    unweighted.fit(X, LABELS, epochs=3, batch_size=7)
    with pytest.raises(AssertionError):
        assert_same(trainer, unweighted, rtol=1e-3)


@pytest.mark.parametrize("way", ["sample_weight", "data set"])
def test_rows_that_are_held_out_keep_their_weights(way: str) -> None:
    data = as_dataset((X, LABELS))
    weighted = Dataset(data.x, data.y, weights=WEIGHTS)
    trainer = trainer_on("cpu")
    if way == "sample_weight":
        history = trainer.fit(X, LABELS, validation=0.25, sample_weight=WEIGHTS)
    else:
        history = trainer.fit(weighted, validation=0.25)
    rest, held_out = weighted.split(0.25, seed=1)
    assert held_out.weights is not None
    assert sorted([*rest.weights, *held_out.weights]) == sorted(WEIGHTS)  # type: ignore[misc]
    assert history[-1]["val_loss"] == trainer.evaluate(held_out)["loss"]
    losses = trainer.losses(held_out)
    assert history[-1]["val_loss"] == pytest.approx((losses * held_out.weights).sum() / held_out.weights.sum())
    wrong = trainer.evaluate(Dataset(held_out.x, held_out.y))["loss"]
    assert history[-1]["val_loss"] != pytest.approx(wrong)


def test_weights_follow_their_rows() -> None:
    data = Dataset(X, LABELS, weights=WEIGHTS)
    for part, rows in (
        (data[3:9], np.arange(3, 9)),
        (data[[5, 1]], np.array([5, 1])),
        (data.only([2, 0]), np.flatnonzero(LABELS != 1)),
        (data.one_against_rest(1), np.arange(24)),
    ):
        assert part.weights is not None
        np.testing.assert_array_equal(part.weights, WEIGHTS[rows])


# ---- weights of classes ----------------------------------------------------------------------------------------------

UNBALANCED = np.repeat([0, 1, 2], [16, 6, 2])


@given(st.lists(st.integers(0, 2), min_size=2, max_size=24))
def test_balanced_is_the_formula_of_scikit_learn(labels: list[int]) -> None:
    y = np.array(labels)
    balanced, expected = trainer_on("cpu"), trainer_on("cpu")
    data = Dataset(X[: len(y)], y, class_names=("a", "b", "c"))
    balanced.fit(data, 1, None, class_weight="balanced")
    expected.fit(data, 1, None, sample_weight=compute_sample_weight("balanced", y))
    assert_same(balanced, expected)


@pytest.mark.parametrize("mapping", [{2: 3.0, 0: 0.5}, {"two": 3.0, "zero": 0.5}, {np.int64(2): 3, "zero": 0.5}])
def test_classes_are_weighed_by_number_or_name(mapping: dict[Any, float]) -> None:
    data = Dataset(X, UNBALANCED, class_names=("zero", "one", "two"))
    by_class, by_row = trainer_on("cpu"), trainer_on("cpu")
    by_class.fit(data, 2, 5, class_weight=mapping)
    by_row.fit(data, 2, 5, sample_weight=np.array([0.5, 1.0, 3.0])[UNBALANCED])
    assert_same(by_class, by_row)


def test_weights_of_classes_multiply_those_of_rows_and_leave_held_out_rows_alone() -> None:
    both, by_row = trainer_on("cpu"), trainer_on("cpu")
    of_class = np.array([0.5, 1.0, 3.0])[LABELS]
    history = both.fit(X, LABELS, sample_weight=WEIGHTS, class_weight={0: 0.5, 2: 3.0})
    by_row.fit(X, LABELS, sample_weight=WEIGHTS * of_class)
    assert_same(both, by_row)
    history = both.fit(X, LABELS, class_weight={0: 100.0}, validation=0.25)
    _, held_out = as_dataset((X, LABELS)).split(0.25, seed=1)
    assert history[-1]["val_loss"] == both.evaluate(held_out)["loss"]


def test_labels_that_are_floats_have_classes_for_a_loss_of_classes() -> None:
    as_floats, as_integers = trainer_on("cpu"), trainer_on("cpu")
    as_floats.fit(X, UNBALANCED.astype(float), class_weight={1: 4.0, "2": 9.0})
    as_integers.fit(X, UNBALANCED, class_weight={1: 4.0, "2": 9.0})
    assert_same(as_floats, as_integers)


def test_balanced_weights_find_a_rare_class() -> None:
    """5 % of the rows are of a class that overlaps the other: without weights nearly all rows are called the other."""
    rng = np.random.default_rng(0)
    y = (np.arange(1000) % 20 == 0).astype(int)
    x = rng.normal(size=(1000, 2)) + 1.5 * y[:, None]
    found = {}
    for class_weight in (None, "balanced"):
        model = Sequential(Linear(2, 2), backend="cpu", seed=0)
        trainer = Trainer(model, "cross_entropy", Adam(0.05))
        trainer.fit(x, y, epochs=20, batch_size=50, class_weight=class_weight)
        found[class_weight] = balanced_accuracy_score(y, trainer.predict(x))
    assert found["balanced"] > 0.8
    assert found["balanced"] > found[None] + 0.1


# ---- metrics, checks -------------------------------------------------------------------------------------------------


def test_metrics_that_take_weights_get_them() -> None:
    def plain(targets: np.ndarray, found: np.ndarray) -> float:
        return float(np.abs(targets - found).mean())

    trainer = trainer_on("cpu", "mse", metrics=[mean_absolute_error, Metric("plain", plain)])
    found = trainer.evaluate(X, VALUES, sample_weight=WEIGHTS)
    outputs = trainer.predict(X)
    assert found["mean_absolute_error"] == mean_absolute_error(VALUES, outputs, sample_weight=WEIGHTS)
    assert found["plain"] == plain(VALUES, outputs)
    assert trainer.evaluate(X, VALUES)["mean_absolute_error"] == mean_absolute_error(VALUES, outputs)


def test_the_gradient_check_takes_weights() -> None:
    model = trainer_on("cpu").model
    assert check_gradients(model, "cross_entropy", X, LABELS, sample_weight=WEIGHTS).checked == 10


def test_weighted_steps_are_compared_in_lockstep(backend: Backend) -> None:
    data = Dataset(X, LABELS, weights=RNG.uniform(0.1, 3.0, 24))
    comparison = compare_backends(trainer_on, {"cpu": get_backend("cpu", "float64"), "other": backend}, data, 2, 7)
    assert comparison.agrees, str(comparison)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(24) == 5, np.nan, 1.0), r"sample_weight\[5\] is nan, but a weight is a finite number of"),
        (np.where(np.arange(24) == 7, -1, 1), r"sample_weight\[7\] is -1.0, but"),
        (np.where(np.arange(24) == 2, np.inf, 1.0), r"sample_weight\[2\] is inf"),
        (np.ones(23), r"sample_weight has shape \(23,\), but each of the 24 rows needs one weight: \(24,\)"),
        (np.ones((24, 2)), r"shape \(24, 2\)"),
        (2.0, r"shape \(\)"),
        (np.zeros(24), "the weights of all rows are 0; at least one must count"),
        (["a"] * 24, "sample_weight has text in it"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_before_anything_is_trained(weights: Any, message: str) -> None:
    for call in ("fit", "evaluate"):
        trainer = trainer_on("cpu")
        before = trainer.model.state_dict()
        with pytest.raises(DataError, match=message):
            getattr(trainer, call)(X, LABELS, sample_weight=weights)
        assert trainer.epoch == 0
        for name, values in trainer.model.state_dict().items():
            np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ("even", "\"balanced\" or a mapping from classes to weights, not 'even'"),
        ([1.0, 2.0, 3.0], "a mapping from classes to weights"),
        ({3: 1.0}, "there is no class 3; the classes are 0, 1, 2"),
        ({-1: 1.0}, "there is no class -1"),
        ({"x": 1.0}, "there is no class 'x'"),
        ({1.0: 1.0}, "there is no class 1.0"),
        ({1: 1.0, "1": 2.0}, "names class 1 twice"),
        ({1: -2.0}, r"class_weight\[1\] is -2.0, but a weight is"),
        ({0: 0, 1: 0, 2: 0}, "the weights of all rows are 0"),
    ],
)
def test_weights_of_classes_that_cannot_be_used_are_refused(class_weight: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        trainer_on("cpu").fit(X, LABELS, class_weight=class_weight)


def test_where_weights_do_not_belong() -> None:
    trainer = trainer_on("cpu")
    with pytest.raises(DataError, match="has weights of its own already"):
        trainer.fit(Dataset(X, LABELS, weights=WEIGHTS), sample_weight=WEIGHTS)
    rows = trainer.upload(Dataset(X, LABELS, weights=WEIGHTS))
    with pytest.raises(ValueError, match="rows that are on the device take no other weights"):
        trainer.fit(rows, class_weight="balanced")
    with pytest.raises(DataError, match="class_weight needs class labels, but these targets are values"):
        trainer_on("cpu", "mse").fit(X, VALUES, class_weight="balanced")


def test_weights_of_rows_count_in_loss_gradient_and_accuracy(which_backend: tuple[str, bool]) -> None:
    """A row of weight 2 is that row twice, one of weight 0 is none."""
    backend = make_backend(which_backend, "float64")
    loss = get_loss("cross_entropy")
    with backend.use():
        z, labels = RNG.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
        weights = np.array([1.0, 2.0, 0.0, 1.0, 1.0])
        twice = [0, 1, 1, 3, 4]
        totals, gradient = loss(backend, backend.asarray(z), backend.asarray(labels), weights=backend.asarray(weights))
        expected, by_row = loss(backend, backend.asarray(z[twice]), backend.asarray(labels[twice]))
        np.testing.assert_allclose(backend.to_numpy(totals), backend.to_numpy(expected), rtol=1e-12)
        rows = backend.to_numpy(by_row)
        together = np.stack([rows[0], rows[1] + rows[2], np.zeros(3), rows[3], rows[4]])
        np.testing.assert_allclose(backend.to_numpy(gradient), together, rtol=1e-12, atol=1e-15)

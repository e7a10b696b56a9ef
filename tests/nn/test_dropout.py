"""Dropout in a network: on in training steps only, a mask of its own for each layer and step, decided by the seed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from backends import Backend
from nn import SGD, Dataset, Dropout, Linear, ReLU, Sequential, Softmax, Trainer
from tests.helpers.backends import make_backend
from tests.helpers.layers import Spy

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(60, 4)), RNG.integers(0, 3, 60)


def network(backend: str | Backend = "cpu", seed: int = 0, rate: float = 0.5) -> Sequential:
    layers = [Linear(4, 20), ReLU(), Dropout(rate), Linear(20, 20), ReLU(), Dropout(rate), Linear(20, 3), Softmax()]
    return Sequential(layers, backend=backend, seed=seed)


def test_what_is_evaluated_or_predicted_has_no_dropout(which_backend: tuple[str, bool]) -> None:
    """Not even just after training steps, whose settings a layer may have kept."""
    backend = make_backend(which_backend, "float64")
    model, plain = network(backend), network(backend, rate=0.0)
    trainer = Trainer(model)
    history = trainer.fit((X, LABELS), 2, 16, validation=(X, LABELS))
    plain.load_state_dict(model.state_dict())
    expected = Trainer(plain).evaluate((X, LABELS))
    assert trainer.evaluate((X, LABELS)) == pytest.approx(expected, rel=1e-12)
    assert history[-1]["val_loss"] == pytest.approx(expected["loss"], rel=1e-12)
    assert history[-1]["val_accuracy"] == expected["accuracy"]
    np.testing.assert_allclose(model(X), plain(X), rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), rtol=1e-12)


def kept(steps: int, seed: int = 0) -> list[list[np.ndarray]]:
    """What two layers of dropout, each given nothing but ones, keep in each step: (16, 500) booleans by layer, step."""
    spies = [Spy(), Spy()]
    layers = [layer for spy in spies for layer in (Linear(1, 500, weight_init=0.0, bias_init=1.0), Dropout(0.5), spy)]
    model = Sequential(*layers[:3], Linear(500, 1), *layers[3:], Linear(500, 1), backend="cpu", seed=seed)
    # A learning rate so small that in float32 nothing moves: each step sees the same ones.
    Trainer(model, "mean_squared_error", SGD(1e-30)).fit((np.ones((16, 1)), np.zeros(16)), steps, None)
    return [[seen > 0 for seen in spy.seen[1:]] for spy in spies]  # the first is a look before the first step


def test_every_layer_and_every_step_has_a_mask_of_its_own() -> None:
    masks = [mask for layer in kept(3) for mask in layer]
    assert len(masks) == 6
    for mask in masks:
        assert 0.45 < mask.mean() < 0.55
    for one, other in combinations(masks, 2):  # independent: they agree in one half of the elements
        assert 0.45 < (one == other).mean() < 0.55


def test_another_seed_gives_other_masks() -> None:
    for one, other in zip(kept(1, seed=1), kept(1, seed=2), strict=True):
        assert 0.45 < (one[0] == other[0]).mean() < 0.55


def trained(model: Sequential) -> dict[str, np.ndarray]:
    Trainer(model, optimizer=SGD(0.2)).fit((X, LABELS), 3, 16)
    return model.state_dict()


@pytest.mark.parametrize("seed", [None, 5])
def test_a_model_that_is_reset_trains_as_a_new_one(which_backend: tuple[str, bool], seed: int | None) -> None:
    """Initial values, shuffles and masks: all are those of the seed, however the model was used before."""
    backend = make_backend(which_backend)
    model = network(backend, seed=3)
    trained(model)
    model.reset(seed)
    assert (model.seed, model.step) == (3 if seed is None else seed, 0)
    expected = trained(network(backend, seed=model.seed))
    for name, values in trained(model).items():
        np.testing.assert_array_equal(values, expected[name])
    other = trained(network(backend, seed=4))
    assert any(not np.array_equal(other[name], values) for name, values in expected.items())


def test_a_trainer_that_has_trained_uses_the_masks_of_a_new_seed(which_backend: tuple[str, bool]) -> None:
    """Rows in order: what a trainer has compiled or recorded before the reset must not keep the old masks."""
    backend = make_backend(which_backend)
    used, new = network(backend, seed=3), network(backend, seed=5)
    trainer = Trainer(used, optimizer=SGD(0.2))
    kept = trainer.upload(Dataset(X, LABELS))
    trainer.fit(kept, 2, 16, shuffle=False)
    used.reset(5)
    trainer.fit(kept, 2, 16, shuffle=False)
    Trainer(new, optimizer=SGD(0.2)).fit((X, LABELS), 2, 16, shuffle=False)
    for name, values in new.state_dict().items():
        np.testing.assert_array_equal(used.state_dict()[name], values)


def test_the_seed_decides_the_masks_where_nothing_else_depends_on_it() -> None:
    """Equal initial values, rows in order: what differs between two seeds is dropout alone."""

    def run(model: Sequential, rate: float) -> dict[str, np.ndarray]:
        model.load_state_dict(network(rate=rate).state_dict())
        Trainer(model, optimizer=SGD(0.2)).fit((X, LABELS), 3, 16, shuffle=False)
        return model.state_dict()

    reset = network(seed=1)
    reset.reset(2)
    found, expected, other = (run(model, 0.5) for model in (reset, network(seed=2), network(seed=1)))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
        assert not np.array_equal(other[name], values)
    first, second = (run(network(seed=seed, rate=0.0), 0.0) for seed in (1, 2))
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)


def test_forward_has_dropout_in_training_alone() -> None:
    """For training loops of one's own."""
    model = Sequential(Linear(3, 200, weight_init=np.ones((3, 200)).tolist()), Dropout(0.5), backend="cpu", seed=1)
    x = np.ones((4, 3), "f")
    with model.backend.use():
        assert (np.array(model.forward(x)) == 3.0).all()
        outputs = np.array(model.forward(x, training=True))
        assert (np.array(model.forward(x)) == 3.0).all()
    assert set(np.unique(outputs)) == {0.0, 6.0}
    assert 0.3 < (outputs == 0.0).mean() < 0.7

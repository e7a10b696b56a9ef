"""What ``fit`` is given: rows, uploaded rows, a fraction to hold out; mistakes are named before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import Data, DataError, Dataset, Linear, Sequential, Softmax, Trainer, load_data
from nn.data import as_dataset
from tests.helpers.classification import CLASSIFICATION, LABELS, X, network, same

RNG = np.random.default_rng(0)


def test_validation_can_be_a_fraction() -> None:
    history = Trainer(network()).fit(CLASSIFICATION, 1, 8, validation=0.2)
    assert "val_loss" in history[0]


def test_pixels_train_as_the_numbers_they_stand_for() -> None:
    pixels = RNG.integers(0, 256, size=(50, 4), dtype=np.uint8)
    a, b = network(), network()
    Trainer(a).fit(Dataset(pixels, LABELS, scale=1 / 255, shift=-0.5), 3, 8)
    Trainer(b).fit((pixels * np.float32(1 / 255) - np.float32(0.5), LABELS), 3, 8)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t: t.fit((X, np.maximum(2 * LABELS - 1, 0))),
            DataError,
            r"y\[\d+\] is 3, outside the classes 0 to 2 \(the network has 3",
        ),
        (lambda t: t.fit((X[:, :3], LABELS)), ValueError, r"of shape \(3,\), do not fit: Linear\(4, 8\)"),
        (lambda t: t.fit((X, LABELS[:9])), DataError, "x has 50 rows but y has 9"),
        (lambda t: t.fit((X,)), DataError, "these rows have no targets"),
        (lambda t: t.fit(X), TypeError, r"a tuple \(x, y\)"),
        (lambda t: t.fit(CLASSIFICATION, 1, 0), ValueError, "batch_size must be a whole number of at least 1, not 0"),
        (lambda t: t.fit(CLASSIFICATION, 1, 2.5), ValueError, "batch_size must be a whole number"),
        (lambda t: t.fit(CLASSIFICATION, -1), ValueError, "epochs must be a whole number of at least 0"),
        (lambda t: t.fit(CLASSIFICATION, validation=2.0), DataError, "between 0 and 1"),
        (lambda t: t.fit(CLASSIFICATION, validation=True), TypeError, "validation is rows, or the fraction or number"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(call: Any, error: type[Exception], message: str) -> None:
    model = network()
    with pytest.raises(error, match=message):
        call(Trainer(model))
    assert same(model, network())


def test_what_load_data_gives_has_two_sets_of_rows() -> None:
    with pytest.raises(TypeError, match=r"data must be a Dataset, .*; say which rows of it: data.train or data.test$"):
        Trainer(network()).fit(Data("mine", as_dataset(CLASSIFICATION), None))
    for other in ([1.0], (1, 2, 3), (), None):
        with pytest.raises(TypeError, match=r"data must be a Dataset, .* rows without targets$"):
            Trainer(network()).fit(other)


def test_rows_that_are_on_the_device_train_as_their_data_do() -> None:
    data = load_data("digits", limit=300).train
    trainers = [Trainer(Sequential(Linear(64, 10), Softmax(), backend="cpu", seed=3)) for _ in range(2)]
    rows = trainers[0].upload(data)
    for _ in range(2):
        trainers[0].fit(rows, 1, 32)
        trainers[1].fit(data, 1, 32)
    assert trainers[0].history["loss"] == trainers[1].history["loss"]
    np.testing.assert_array_equal(trainers[0].model.flat_parameters, trainers[1].model.flat_parameters)
    with pytest.raises(ValueError, match="split their Dataset before upload"):
        trainers[0].fit(rows, 1, 32, validation=0.2)
    with pytest.raises(ValueError, match="another Trainer"):
        trainers[1].fit(rows)


def test_validation_rows_may_be_on_the_device_too() -> None:
    losses = []
    for upload in (True, False):
        trainer = Trainer(network())
        data = trainer.model.dataset(CLASSIFICATION)
        validation = trainer.upload(data) if upload else CLASSIFICATION
        losses.append(trainer.fit(CLASSIFICATION, 2, 10, validation=validation)["val_loss"])
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="uploaded by another Trainer"):
        Trainer(network()).fit(CLASSIFICATION, validation=trainer.upload(data))


def test_a_fraction_for_validation_may_be_a_number_of_numpy() -> None:
    runs = []
    for fraction in (0.5, np.float32(0.5), 25, np.int64(25)):
        runs.append(Trainer(network()).fit(CLASSIFICATION, 1, 10, validation=fraction)[-1]["val_loss"])
    assert runs == [runs[0]] * 4

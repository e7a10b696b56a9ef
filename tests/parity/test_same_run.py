"""What xpnet is for: the same seed gives the same run on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from backends import Backend, RecordedStep, Step, StepNumbers
from nn import SGD, Dropout, History, Linear, ReLU, Sequential, Sigmoid, Softmax, Trainer, load_data
from tests.helpers.backends import make_backend

DATA = load_data("digits", limit=600)


def run(
    backend: tuple[str, bool], dtype: str, epochs: int = 11, batch_size: int | None = 32
) -> tuple[Sequential, History]:
    model = Sequential(
        Linear(64, 32), Sigmoid(), Dropout(0.2), Linear(32, 24), ReLU(), Linear(24, 10), Softmax(),
        backend=make_backend(backend, dtype), seed=7,
    )  # fmt: skip
    optimizer = SGD(0.3, momentum=0.9, dampening=0.5, nesterov=True, weight_decay=1e-4)
    assert DATA.test is not None
    return model, Trainer(model, optimizer=optimizer).fit(DATA.train, epochs, batch_size, validation=DATA.test)


def test_float64_runs_agree_to_1e_9_over_200_steps(which_backend: tuple[str, bool]) -> None:
    model, history = run(which_backend, "float64")
    expected_model, expected = run(("cpu", False), "float64")
    assert model.step == 11 * 19 > 200
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(history[column], expected[column], rtol=1e-9)
    for column in ("accuracy", "val_accuracy"):
        assert history[column] == expected[column]
    for name, values in expected_model.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], values, rtol=1e-8, atol=1e-11)


def test_float32_runs_end_with_the_same_accuracy(which_backend: tuple[str, bool]) -> None:
    _, history = run(which_backend, "float32")
    _, expected = run(("cpu", True), "float32")
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=2e-3)
    assert history[-1]["val_accuracy"] == pytest.approx(expected[-1]["val_accuracy"], abs=0.004)
    assert expected[-1]["val_accuracy"] > 0.85


def test_a_repeated_run_is_equal_bit_for_bit(which_backend: tuple[str, bool]) -> None:
    first, first_history = run(which_backend, "float32", epochs=3)
    second, second_history = run(which_backend, "float32", epochs=3)
    for name, values in first.state_dict().items():
        np.testing.assert_array_equal(values, second.state_dict()[name])
    assert first_history["loss"] == second_history["loss"]


def test_two_models_on_two_backends_take_turns() -> None:
    data = (DATA.train.features(), DATA.train.y)
    trainers = [
        Trainer(Sequential(Linear(64, 10), Softmax(), backend=name, dtype="float64"))
        for name in ("cpu", "array_api_strict:device1")
    ]
    for _ in range(3):
        for trainer in trainers:
            trainer.fit(data, 1, 50)
    a, b = (trainer.history["loss"] for trainer in trainers)
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_numbers_that_only_the_device_knows_give_the_same_run(
    which_backend: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a recorded step reads: position, step and learning rate as arrays on the device."""
    _, expected = run(which_backend, "float64", epochs=2)
    backend, loop = make_backend(which_backend, "float64"), Backend.record

    def on_device(step: Step) -> RecordedStep:
        def called(numbers: StepNumbers, count: int) -> None:
            start, of_step, of_update = (backend.asarray(np.array([number], np.int64)) for number in numbers[:3])
            step(StepNumbers(start, of_step, of_update, backend.asarray([numbers.learning_rate])), count)

        return loop(backend, called)

    monkeypatch.setattr(type(backend), "record", lambda _, step, **__: on_device(step))
    _, history = run(which_backend, "float64", epochs=2)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-13)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-13)

"""A step recorded on the CPU: what is repeated is the step, bit for bit. (``tests/backends/test_operations.py`` records
every operation.)"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backends import Backend, StepNumbers, get_backend
from backends.activations import ACTIVATIONS, Activation, register_activation
from backends.cpu.recording import Tape
from nn import (
    SGD,
    Adagrad,
    Adam,
    Callback,
    Context,
    Dropout,
    Flatten,
    Layer,
    Linear,
    ReLU,
    RMSProp,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
)
from tests.helpers.backends import make_backend

Array = Any
LOSSES: dict[str, list[Layer]] = {
    "softmax_cross_entropy": [Softmax()],
    "binary_cross_entropy": [Sigmoid()],
    "mean_squared_error": [Sigmoid()],
    "focal": [Sigmoid()],
    "mean_absolute_error": [Sigmoid()],
    "huber": [Sigmoid()],
}


@pytest.fixture(params=["cpu", "numba"])
def which(request: pytest.FixtureRequest) -> tuple[str, bool]:
    device: str = request.param
    return device, True


class Run:
    """A network trained for some epochs: its parameters and its history."""

    def __init__(self, which: tuple[str, bool], loss: str, optimizer: Any, *, eagerly: bool, **settings: Any) -> None:
        self.backend = backend = make_backend(which, settings.pop("dtype", "float32"))
        if eagerly:
            backend.record = lambda step, **_: Backend.record(backend, step)  # type: ignore[method-assign]
        hidden = settings.pop("hidden", (Flatten(), Linear(12, 9), Sigmoid(), Dropout(0.2), Linear(9, 8), Tanh()))
        rng = np.random.default_rng(5)
        pixels = rng.integers(0, 256, (47, 3, 4), dtype=np.uint8)
        targets = rng.integers(0, 3, 47) if loss == "softmax_cross_entropy" else rng.uniform(size=(47, 3))
        model = Sequential(*hidden, Linear(8, 3), *LOSSES[loss], backend=backend, seed=3)
        trainer = Trainer(model, loss, optimizer)
        trainer.fit((pixels, targets), settings.pop("epochs", 4), settings.pop("batch_size", 10), **settings)
        self.parameters = {name: np.array(x) for name, x in model.parameters.items()}
        self.losses = trainer.history["loss"], trainer.history.records[-1].get("accuracy")


OPTIMIZERS: dict[str, Any] = {
    "plain": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9, dampening=0.5),
    "nesterov and decay": lambda: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "a schedule that passes 0": lambda: SGD(lambda update: 0.1 * (update % 3), momentum=0.9),
    "Adam": lambda: Adam(0.01, weight_decay=0.1),
    "RMSProp": lambda: RMSProp(0.01, weight_decay=0.1),
    "RMSProp with all": lambda: RMSProp(0.01, momentum=0.5, centered=True, epsilon_inside=True, epsilon=1e-3, l1=1e-3),
    "Adagrad": lambda: Adagrad(0.05, lr_decay=0.1, initial_accumulator_value=0.1, weight_decay=0.1),
    "penalties": lambda: SGD(0.1, momentum=0.9, weight_decay=0.01, decoupled=False, l1=1e-3),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_recorded_run_is_the_eager_one(which: tuple[str, bool], loss: str, optimizer: str, dtype: str) -> None:
    recorded, eager = (Run(which, loss, OPTIMIZERS[optimizer](), eagerly=e, dtype=dtype) for e in (False, True))
    assert recorded.losses == eager.losses
    for name, found in recorded.parameters.items():
        assert np.array_equal(found, eager.parameters[name]), name


@pytest.mark.parametrize(
    "settings", [{"batch_size": None}, {"batch_size": 1, "epochs": 2}, {"shuffle": False}], ids=str
)
def test_so_it_is_for_batches_of_other_kinds(which: tuple[str, bool], settings: dict[str, Any]) -> None:
    runs = [Run(which, "softmax_cross_entropy", SGD(0.1), eagerly=e, **settings) for e in (False, True)]
    assert runs[0].losses == runs[1].losses
    for name, found in runs[0].parameters.items():
        assert np.array_equal(found, runs[1].parameters[name]), name


class KeepsGradients(Callback):
    """Reads the gradients after each batch."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def on_batch_end(self, trainer: Trainer, count: int) -> None:
        self.seen += [np.array(x) for x in trainer.model.gradients.values()]


def test_gradients_can_be_read_after_a_repeated_step(which: tuple[str, bool]) -> None:
    seen = []
    for eagerly in (False, True):
        callback = KeepsGradients()
        Run(which, "softmax_cross_entropy", SGD(0.1, momentum=0.9), eagerly=eagerly, callbacks=[callback])
        seen.append(callback.seen)
    assert len(seen[0]) == 4 * 5 * 6
    for found, expected in zip(*seen, strict=True):
        assert np.array_equal(found, expected)


@pytest.fixture
def formula_only() -> Iterator[str]:
    """An activation without functions for NumPy."""
    register_activation(
        Activation("softsign", lambda xp, z: z / (1.0 + xp.abs(z)), lambda xp, y: (1.0 - xp.abs(y)) ** 2)
    )
    yield "softsign"
    del ACTIVATIONS["softsign"]


def test_an_activation_of_a_user(which: tuple[str, bool], formula_only: str) -> None:
    hidden = (Flatten(), Linear(12, 8, activation=formula_only))
    runs = [Run(which, "softmax_cross_entropy", SGD(0.5), eagerly=e, hidden=hidden) for e in (False, True)]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses[0][-1] < runs[0].losses[0][0]


class Halves(Layer):
    """y = x / 2, by NumPy and not by an operation, and a count of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def forward(self, x: Array, ctx: Context) -> Array:
        self.calls += ctx.training
        return x / 2

    def backward(self, dy: Array, ctx: Context) -> Array:
        return dy / 2


class Passes(Halves):
    """The same by an operation, and says so."""

    recordable = True

    def forward(self, x: Array, ctx: Context) -> Array:
        self.calls += ctx.training
        half = ctx.buffer("half", x.shape)
        half[...] = 0.5
        return ctx.backend.multiply(x, half, out=ctx.buffer("y", x.shape))


def test_a_layer_of_a_user_runs_as_it_is_written(which: tuple[str, bool]) -> None:
    layer = Halves()
    hidden = (Flatten(), Linear(12, 8), layer, ReLU())
    recorded, eager = (Run(which, "softmax_cross_entropy", SGD(0.5), eagerly=e, hidden=hidden) for e in (False, True))
    assert recorded.losses == eager.losses
    look = 1  # at what it gives, before the first step
    assert layer.calls == 2 * (look + 4 * 5)


def test_a_layer_that_says_so_is_recorded(which: tuple[str, bool]) -> None:
    """Once for the batches of 10, and once for the last one of 7, after a look at what it gives."""
    layer = Passes()
    Run(which, "softmax_cross_entropy", SGD(0.5), eagerly=False, hidden=(Flatten(), Linear(12, 8), layer, ReLU()))
    assert layer.calls == 1 + 2


def test_a_step_whose_other_work_is_not_known_is_left_as_it_is(which: tuple[str, bool]) -> None:
    backend = make_backend(which)

    calls: list[int] = []

    def step(numbers: StepNumbers, count: int) -> None:
        calls.append(count)

    for only_operations, ran in ((True, [7]), (False, [7, 7, 7])):
        calls.clear()
        backend.record(step, only_operations=only_operations)(StepNumbers(0, 0, 1, 0.5), 7, 3)
        assert calls == ran


# ---- operations in a step, beside those of a network -----------------------------------------------------------------


def replayed(backend: Backend, step: Any, numbers: StepNumbers) -> None:
    """The step, run once on whatever there is, and then repeated with these numbers."""
    recorded = backend.record(step)
    recorded(StepNumbers(0, 0, 1, 0.0), 2)
    recorded(numbers, 2)


def test_new_arrays_are_written_again(which: tuple[str, bool]) -> None:
    """What an operation returns stays where it is: zeros, copies, conversions and results without ``out``."""
    backend = make_backend(which)
    x = backend.asarray(np.zeros((2, 3)))
    made: dict[str, Array] = {}

    def step(numbers: StepNumbers, count: int) -> None:
        made["zeros"] = backend.zeros((3,))
        made["zeros"] += 1.0
        made["copy"] = backend.copy(x)
        made["float64"] = backend.asarray(x, np.float64)
        made["product"] = backend.matmul(x, made["copy"], transpose_b=True)
        made["squares"] = backend.sum_of_squares(x)
        made["finite"] = backend.all_finite(x)
        made["rows"] = backend.take_rows(x, None, numbers.start, 1)
        made["best"] = backend.argmax(x)

    recorded = backend.record(step)
    with backend.use():
        recorded(StepNumbers(0, 0, 1, 0.0), 2)
        made["zeros"][...] = 7.0
        x[...] = [[1.0, 2.0, 3.0], [4.0, np.inf, 6.0]]
        recorded(StepNumbers(1, 1, 2, 0.0), 2)
    assert made["zeros"].tolist() == [0.0] * 3
    assert made["copy"].tolist() == made["float64"].tolist() == x.tolist()
    assert made["float64"].dtype == np.float64
    assert made["product"][0].tolist() == [14.0, np.inf]
    assert backend.item(made["squares"]) == np.inf
    assert not made["finite"]
    assert made["rows"].tolist() == [[4.0, np.inf, 6.0]]
    assert made["best"].tolist() == [2, 1]


def test_totals_that_a_loss_makes_begin_at_zero(which: tuple[str, bool]) -> None:
    backend = make_backend(which)
    made: list[Array] = []

    def step(numbers: StepNumbers, count: int) -> None:
        logits = np.array([[1.0, 0.0], [0.0, 2.0]], "f")
        made.append(backend.softmax_cross_entropy(logits, np.array([0, 1]))[0])

    replayed(backend, step, StepNumbers(0, 1, 2, 0.0))
    assert len(made) == 1
    assert made[0][1] == 2.0


def test_a_recording_that_is_handed_to_another_thread(which: tuple[str, bool]) -> None:
    """It notes the step again there, for the other thread's scratch memory."""
    backend, out = make_backend(which), np.zeros((2, 2), "f")
    rows, ran = np.arange(12, dtype=np.uint8).reshape(6, 2), []

    def step(numbers: StepNumbers, count: int) -> None:
        ran.append(threading.get_ident())
        backend.take_rows(rows, np.arange(6), numbers.start, count, scale=0.5, out=out)

    recorded = backend.record(step)
    found = []

    def use() -> None:
        for start in (0, 2, 4):
            recorded(StepNumbers(start, 0, 1, 0.0), 2)
            found.append(out.ravel().tolist())

    use()
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == 2 * [[start, start + 0.5, start + 1, start + 1.5] for start in (0, 2, 4)]
    assert len(set(ran)) == len(ran) == 2


def test_other_threads_are_not_noted() -> None:
    """Nor is what this thread computes after the step."""
    backend, a, b = get_backend("cpu"), np.ones((2, 2), "f"), np.ones((2, 2), "f")

    def step(numbers: StepNumbers, count: int) -> None:
        backend.multiply(a, a, out=a)
        thread = threading.Thread(target=lambda: backend.multiply(b, b, out=b))
        thread.start()
        thread.join()

    recorded = backend.record(step)
    recorded(StepNumbers(0, 0, 1, 0.0), 2)
    b[...] = 3.0
    recorded(StepNumbers(0, 1, 2, 0.0), 2)
    assert b.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_a_step_that_fails_is_not_recorded() -> None:
    backend, x = get_backend("cpu"), np.ones((2, 2), "f")
    fails = [True]

    def step(numbers: StepNumbers, count: int) -> None:
        backend.multiply(x, x, out=x)
        if fails:
            raise RuntimeError(fails.pop())

    recorded = backend.record(step)
    with pytest.raises(RuntimeError):
        recorded(StepNumbers(0, 0, 1, 0.0), 2)
    backend.multiply(x, x, out=x)  # which is no part of any step
    x[...] = 3.0
    for squared in (9.0, 81.0):
        recorded(StepNumbers(0, 0, 1, 0.0), 2)
        assert x.tolist() == [[squared] * 2] * 2


def test_a_function_that_would_not_be_noted_is_refused() -> None:
    """An operation that is written with one fails in its test, not in somebody's second step."""
    with pytest.raises(AttributeError, match=r"a recorded step cannot use numpy\.einsum"):
        _ = Tape().einsum

"""One backend in two threads: each computes as if it were alone, for scratch memory is a thread's own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import SGD, Dropout, Linear, ReLU, Sequential, Sigmoid, Softmax, Trainer
from tests.helpers.backends import make_backend

ROUNDS = 150
SHAPE = (256, 64)  # many more elements than NumPy computes on without letting other threads run


@pytest.fixture(params=["cpu", "numba"])
def shared(request: pytest.FixtureRequest) -> Backend:
    return make_backend((request.param, True))


@pytest.fixture
def many_turns() -> Iterator[None]:
    """Threads take turns after every microsecond, not after 5,000 of them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def both_at_once(work: Callable[[int], Any]) -> list[Any]:
    """``work(0)`` and ``work(1)``, each in a thread of its own, begun together."""
    begin = threading.Barrier(2)

    def begun_together(number: int) -> Any:
        begin.wait()
        return work(number)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(begun_together, range(2)))


#: Operations of NumPy in several passes, which leave something in scratch memory for the next pass.
OPERATIONS: dict[str, Callable[[Backend, np.ndarray], Any]] = {
    "bias_activation_backward": lambda b, x: b.bias_activation_backward(x.copy(), np.tanh(x), "tanh")[0],
    "softmax": lambda b, x: b.softmax(x),
    "softmax_backward": lambda b, x: b.softmax_backward(x, np.abs(x)),
    "softmax_cross_entropy": lambda b, x: b.softmax_cross_entropy(x, np.arange(len(x)) % x.shape[1])[1],
    "binary_cross_entropy": lambda b, x: b.binary_cross_entropy(x, np.clip(x, 0, 1))[0],
    "squared_error": lambda b, x: b.squared_error(x, x[::-1].copy())[0],
    "update": lambda b, x: b.update(
        "adam",
        x.ravel().copy(),
        x.ravel().copy(),
        {"mean": x.ravel() * 0, "square": x.ravel() ** 2},
        number=3,
        learning_rate=0.1,
    ),
    "dropout_mask": lambda b, x: b.dropout_mask(x.shape, rate=0.3, key=(1, 2), step=int(abs(x[0, 0]) * 1e6)),
}


@pytest.mark.usefixtures("many_turns")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_undisturbed_by_the_same_in_another_thread(shared: Backend, operation: str) -> None:
    inputs = [np.random.default_rng(number).standard_normal(SHAPE).astype("f4") for number in range(2)]
    expected = [np.array(OPERATIONS[operation](shared, x)) for x in inputs]

    def work(number: int) -> int:
        x, wanted = inputs[number], expected[number]
        return sum(not np.array_equal(OPERATIONS[operation](shared, x), wanted) for _ in range(ROUNDS))

    assert both_at_once(work) == [0, 0]


@pytest.mark.usefixtures("many_turns")
def test_two_models_train_at_once_on_one_backend(shared: Backend) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(320, 20)), rng.integers(0, 5, 320)

    def work(seed: int) -> dict[str, np.ndarray]:
        layers = [Linear(20, 30), ReLU(), Dropout(0.2), Linear(30, 30), Sigmoid(), Linear(30, 5), Softmax()]
        model = Sequential(layers, backend=shared, seed=seed)
        Trainer(model, optimizer=SGD(0.1, momentum=0.9, nesterov=True)).fit((x, y), 8, 32)
        return model.state_dict()

    alone = [work(seed) for seed in range(2)]
    for found, expected in zip(both_at_once(work), alone, strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)

"""Calls of a trainer in any order: what it holds on to from call to call must never show.

A trainer keeps rows on the device, plans, recorded steps, buffers and the state of its optimizer. Beside it runs one on
the reference operations that is given the data anew in each call, and whose gradients are read after each step, so that
nothing is folded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import Backend
from backends.cuda.cupy_backend import CupyBackend
from nn import SGD, Adam, Callback, Dataset, Dropout, Linear, Optimizer, Sequential, Tanh, Trainer
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice

RNG = np.random.default_rng(11)
DATA = Dataset(RNG.integers(0, 256, size=(23, 6), dtype=np.uint8), RNG.integers(0, 4, 23), scale=1 / 255)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "momentum": lambda: SGD(0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "plain": lambda: SGD(0.1, weight_decay=0.1),
    "adam": lambda: Adam(0.01, weight_decay=0.1),
}


def by_hand(trainer: Trainer) -> None:
    backend = trainer.backend
    with backend.use():
        y = trainer.model.forward(backend.asarray(DATA.features("float64")), training=True)
        trainer.model.backward(backend.copy(y))


#: What a callback may do between two steps, none of which changes the training.
BETWEEN: dict[str, Callable[[Trainer], Any]] = {
    "nothing": lambda trainer: None,
    "evaluate": lambda trainer: trainer.evaluate(DATA),
    "losses": lambda trainer: trainer.losses(DATA, 7),
    "predict": lambda trainer: trainer.predict(DATA),
    "gradients": lambda trainer: trainer.gradients(DATA),
    "layer outputs": lambda trainer: trainer.model.layer_outputs(DATA),
    "forward and backward": by_hand,
}


class Between(Callback):
    """Reads the gradients, if it is to, and then does something else."""

    def __init__(self, reads: bool, between: str) -> None:
        self.reads_gradients, self.between = reads, between
        self.gradients: dict[str, Any] = {}

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if self.reads_gradients:
            to_numpy = trainer.backend.to_numpy
            self.gradients = {name: to_numpy(g).copy() for name, g in trainer.model.gradients.items()}
        BETWEEN[self.between](trainer)


def change_optimizer(trainer: Trainer, momentum: float, decay: float) -> None:
    optimizer: Any = trainer.optimizer
    optimizer.weight_decay = decay
    optimizer.learning_rate = (lambda update: 0.1 / (1 + update)) if decay else 0.05
    if isinstance(optimizer, SGD):
        optimizer.momentum = momentum


def replace_state(trainer: Trainer) -> None:
    state = trainer.optimizer.state
    for name, array in state.items():
        state[name] = trainer.backend.copy(array)


def shift_parameters(trainer: Trainer, by: float) -> None:
    trainer.model.load_state_dict({name: values + by for name, values in trainer.model.state_dict().items()})


FITS = st.tuples(
    st.sampled_from([1, 5, 23, None]),  # batch size
    st.integers(0, 2),  # epochs
    st.booleans(),  # shuffled
    st.booleans(),  # with the rows that were uploaded already scaled
    st.booleans(),  # gradients are read
    st.sampled_from(sorted(BETWEEN)),
)
CHANGES = st.one_of(
    st.builds(lambda seed: lambda trainer: trainer.model.reset(seed), st.integers(0, 3)),
    st.builds(lambda by: lambda trainer: shift_parameters(trainer, by), st.sampled_from([-0.01, 0.02])),
    st.builds(
        lambda momentum, decay: lambda trainer: change_optimizer(trainer, momentum, decay),
        st.sampled_from([0.0, 0.3, 0.9]),
        st.sampled_from([0.0, 0.05]),
    ),
    st.just(replace_state),
)


def make(which: str) -> Backend:
    if which != "emulated":
        return make_backend((which, True), "float64")
    if not HAS_COMPILER:
        pytest.skip("no g++ to run the CUDA text on the CPU")
    return CupyBackend(EmulatedCudaDevice(max_threads=1), "float64")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("which", ["cpu", "numba", "emulated"])
@settings(max_examples=25, deadline=None)
@given(calls=st.lists(st.one_of(FITS, CHANGES), min_size=1, max_size=8))
def test_what_a_trainer_keeps_never_shows(which: str, optimizer: str, calls: list[Any]) -> None:
    if which == "numba":
        pytest.importorskip("numba")
    layers = [Linear(6, 5), Tanh(), Dropout(0.3), Linear(5, 4)]
    trainers = [
        Trainer(Sequential(layers, backend=backend, seed=2), optimizer=OPTIMIZERS[optimizer]())
        for backend in (make(which), make_backend(("cpu", False), "float64"))
    ]
    kept, anew = trainers
    rows = {scaled: kept.upload(DATA, keep_scaled=scaled) for scaled in (False, True)}
    for call in calls:
        if callable(call):
            for trainer in trainers:
                call(trainer)
            continue
        size, epochs, shuffle, scaled, reads, between = call
        watch, reference = Between(reads, between), Between(True, "nothing")
        kept.fit(rows[scaled], epochs, size, shuffle=shuffle, callbacks=[watch])
        anew.fit(DATA, epochs, size, shuffle=shuffle, callbacks=[reference])
        for name, gradient in watch.gradients.items():
            np.testing.assert_allclose(gradient, reference.gradients[name], rtol=1e-7, atol=1e-11, err_msg=name)
        expected = anew.model.state_dict()
        for name, values in kept.model.state_dict().items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-7, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(kept.history["loss"], anew.history["loss"], rtol=1e-9)

"""An epsilon of 0: an element whose gradients have all been 0 is moved by 0 / 0, and so would be what lies between the
parameters in the flat buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import (
    SGD,
    Adagrad,
    Adam,
    Dataset,
    Linear,
    Optimizer,
    RMSProp,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    TrainingDiverged,
)
from nn.losses import get_loss
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(5)
ROWS = Dataset(RNG.standard_normal((70, 12)), RNG.integers(0, 5, 70))
MAKE: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "adam": (Adam, {"weight_decay": 0.1}),
    "rmsprop": (RMSProp, {"momentum": 0.9, "centered": True}),
    "rmsprop, inside": (RMSProp, {"epsilon_inside": True}),
    "adagrad": (Adagrad, {}),
    "penalties": (Adagrad, {"weight_decay": 0.1, "decoupled": False, "l1": 0.01}),
}
AROUND: dict[str, dict[str, Any]] = {
    "plain": {},
    "all that reads the whole buffer": {"clip_norm": 0.5, "accumulate": 2, "average": 0.9},
}


def network(backend: Backend) -> Sequential:
    """Its biases, of 9 and of 5 elements, are followed by gaps; so is its first weight, of 108."""
    return Sequential(Linear(12, 9), Tanh(), Linear(9, 5), Softmax(), backend=backend, seed=3)


def all_finite(trainer: Trainer) -> bool:
    store, down = trainer.model.store, trainer.backend.to_numpy
    kept = [store.flat_parameters, store.flat_average, *trainer.optimizer.state.values()]
    return all(np.isfinite(down(array)).all() for array in kept if array is not None)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("which", WITH_EMULATED)
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", MAKE)
def test_what_lies_between_parameters_is_left_alone(which: Any, around: str, name: str) -> None:
    """And the parameters move as with an epsilon that changes no digit."""
    make, settings = MAKE[name]
    backend, ends = made(which, "float64"), []
    for epsilon in (0.0, 1e-30):
        trainer = Trainer(network(backend), optimizer=make(0.01, epsilon=epsilon, **settings), **AROUND[around])
        trainer.fit(ROWS, 3, 16)
        assert all_finite(trainer)
        ends.append(trainer.model.state_dict())
    for parameter, values in ends[0].items():
        np.testing.assert_allclose(values, ends[1][parameter], rtol=1e-9)


@pytest.mark.parametrize("name", MAKE)
def test_so_it_is_in_a_loop_of_ones_own(name: str) -> None:
    make, settings = MAKE[name]
    ends = []
    for epsilon in (0.0, 1e-30):
        model, loss = network(made(("cpu", True), "float64")), get_loss("softmax_cross_entropy")
        optimizer = make(0.01, epsilon=epsilon, **settings)
        backend = model.backend
        labels = backend.asarray(ROWS.y)
        for _ in range(3):
            outputs = model.forward(backend.asarray(ROWS.x), training=True)
            _, gradient = loss(backend, outputs, labels)
            model.backward(gradient)
            optimizer.step(model)
        assert np.isfinite(backend.to_numpy(model.store.flat_parameters)).all()
        ends.append(model.state_dict())
    for parameter, values in ends[0].items():
        np.testing.assert_allclose(values, ends[1][parameter], rtol=1e-9)


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("which", WITH_EMULATED)
@pytest.mark.parametrize("epsilon", [0.0, 1e-60])
def test_a_parameter_without_gradients_is_named(which: Any, epsilon: float) -> None:
    """As in PyTorch it becomes NaN; a divergence, whose reason is told. (1e-60 is 0 in float32.)"""
    never = Dataset(np.where(np.arange(12) == 3, 0.0, ROWS.x), ROWS.y)
    trainer = Trainer(network(made(which, "float32")), optimizer=Adam(0.01, epsilon=epsilon))
    with pytest.raises(TrainingDiverged, match=f"with an epsilon of {epsilon:g}, adam moves an element") as raised:
        trainer.fit(never, 3, 16)
    assert (raised.value.step, raised.value.layer, raised.value.tensor) == (1, 0, "weight")


def test_whose_zeros_are_divided() -> None:
    divides = [Adam(epsilon=0.0), RMSProp(epsilon=0.0), RMSProp(epsilon=1e-60), Adagrad(epsilon=0.0)]
    others = [SGD(), Adam(), RMSProp(), Adagrad(), Adagrad(epsilon=1e-30)]
    assert all(optimizer.divides_zeros for optimizer in divides)
    assert not any(optimizer.divides_zeros for optimizer in others)

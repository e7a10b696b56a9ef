"""Optimizers: how parameters move against their gradients. Each updates the whole flat buffer in one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .model import Sequential

Array = Any


@dataclass
class SGD:
    """Stochastic gradient descent with momentum; the formula is ``Backend.sgd_update``.

    Args:
        learning_rate: step size; may be changed between epochs.
        momentum: 0 is plain gradient descent.
        dampening: the gradient enters the velocity times 1 - dampening. 0 is classical momentum (Polyak); equal to
            ``momentum`` it makes the velocity an exponential moving average of the gradients.
        nesterov: look ahead along the velocity (Sutskever et al., ICML 2013).
        weight_decay: each step also shrinks the weights (not the biases) by ``learning_rate * weight_decay``.

    The velocity starts at 0. (PyTorch starts it at the first gradient, undampened.)
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.velocity: Array | None = None
        self._model: Sequential | None = None
        if not 0.0 < self.learning_rate < float("inf"):
            raise ValueError(f"SGD: learning_rate must be a number above 0, not {self.learning_rate}")
        for name in ("momentum", "dampening"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"SGD: {name} must be at least 0 and below 1, not {getattr(self, name)}")
        if not 0.0 <= self.weight_decay < float("inf"):
            raise ValueError(f"SGD: weight_decay must be at least 0, not {self.weight_decay}")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("SGD: nesterov needs a momentum above 0")

    def bind(self, model: Sequential) -> None:
        """Make the state for the parameters of ``model``.

        Raises:
            ValueError: the optimizer already belongs to another model.
        """
        if self._model is not None and self._model is not model:
            raise ValueError("this optimizer belongs to another model, whose velocity it keeps; make a new one")
        if self._model is None:
            self._model = model
            if self.momentum != 0.0:
                self.velocity = model.backend.zeros(model.flat_parameters.shape)

    def step(self, model: Sequential) -> None:
        """Move the parameters of ``model`` by the gradients that ``model.backward`` left."""
        _, self.velocity = model.backend.sgd_update(
            model.flat_parameters,
            model.flat_gradients,
            self.velocity,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            decayed=model.decayed,
        )


Optimizer = SGD
OPTIMIZERS: dict[str, type[SGD]] = {"sgd": SGD}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """The optimizer that ``optimizer`` names, with its default settings, or the one given."""
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; known are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer]()

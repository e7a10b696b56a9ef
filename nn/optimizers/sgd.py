"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from dataclasses import dataclass

from backends.typing import Array

from ..layers.base import Accumulation
from ..model import Sequential
from .base import Optimizer


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; the formula is in ``backends.updates``.

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
        self._viewed: Array = None
        self._check({"momentum": 0.0, "dampening": 0.0}, below=1.0)
        self._check({"weight_decay": 0.0})
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("SGD: nesterov needs a momentum above 0")

    @property
    def accumulation(self) -> Accumulation | None:
        model, velocity = self._model, self.state.get("velocity")
        if model is None or velocity is None or self.nesterov or not model.accumulates:
            return None
        if self._viewed is not velocity:
            self._viewed, self._views = velocity, model.views(velocity)
        return Accumulation(self._views, self.momentum, 1.0 - self.dampening)

    def state_names(self) -> list[str]:
        return ["velocity"] if self.momentum != 0.0 else []

    def update(self, model: Sequential, learning_rate: float | Array, number: int | Array) -> None:
        params, gradient, velocity = model.flat_parameters, model.flat_gradients, self.state.get("velocity")
        decayed = model.decayed
        if model.accumulated and velocity is not None:
            # The velocity of the weights, which come first, has the gradient already, and is all of their step.
            model.backend.update(
                "sgd",
                params[:decayed],
                velocity[:decayed],
                {},
                learning_rate=learning_rate,
                weight_decay=self.weight_decay,
                n_decayed=decayed,
            )
            params, gradient, velocity = params[decayed:], gradient[decayed:], velocity[decayed:]
            decayed = 0
        model.backend.update(
            "sgd",
            params,
            gradient,
            {} if velocity is None else {"velocity": velocity},
            learning_rate=learning_rate,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            n_decayed=decayed,
        )

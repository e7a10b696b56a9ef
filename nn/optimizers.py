"""Optimizers: how parameters move against their gradients. Each updates the whole flat buffer in one operation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Any

from .layers import Accumulation
from .model import Sequential

Array = Any


class Optimizer:
    """Moves the parameters of one model; subclasses are dataclasses of their settings.

    Attributes:
        learning_rate: step size; may be changed between epochs.
        state: arrays as long as the flat parameters, by name; they start at 0.
        steps: how many updates have been made.
    """

    learning_rate: float
    state: dict[str, Array]
    steps: int = 0
    _model: Sequential | None = None

    def state_names(self) -> list[str]:
        """Which arrays the optimizer keeps."""
        return []

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}  # type: ignore[arg-type]

    def bind(self, model: Sequential) -> None:
        """Make the state for the parameters of ``model``.

        Raises:
            ValueError: the optimizer already belongs to another model.
        """
        if self._model is not None and self._model is not model:
            raise ValueError("this optimizer belongs to another model, whose state it keeps; make a new one")
        if self._model is None:
            self._model = model
            self.state = {name: model.backend.zeros(model.flat_parameters.shape) for name in self.state_names()}

    @property
    def accumulation(self) -> Accumulation | None:
        """Where ``model.backward`` may add the gradients of the weights, so that ``update`` need not."""
        return None

    def step(self, model: Sequential) -> None:
        """Move the parameters of ``model`` by the gradients that ``model.backward`` left."""
        self.steps += 1
        self.update(model, self.learning_rate, self.steps)

    def update(self, model: Sequential, learning_rate: float | Array, number: int | Array) -> None:
        """``step`` without counting it: update ``number``, from 1, at that learning rate. Both may be (1,) arrays."""
        raise NotImplementedError

    def _check(self, least: dict[str, float], below: float = inf) -> None:
        """Raise a ValueError for a setting that is not a number from ``least`` (by name) up to below ``below``."""
        if not 0.0 < self.learning_rate < inf:
            raise ValueError(f"{type(self).__name__}: learning_rate must be above 0, not {self.learning_rate}")
        for name, lowest in least.items():
            if not lowest <= getattr(self, name) < below:
                limit = f" and below {below:g}" if below < inf else ""
                raise ValueError(
                    f"{type(self).__name__}: {name} must be at least {lowest:g}{limit}, not {getattr(self, name)}"
                )


@dataclass
class SGD(Optimizer):
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
            model.backend.sgd_update(
                params[:decayed],
                velocity[:decayed],
                None,
                learning_rate=learning_rate,
                weight_decay=self.weight_decay,
                decayed=decayed,
            )
            params, gradient, velocity = params[decayed:], gradient[decayed:], velocity[decayed:]
            decayed = 0
        _, updated = model.backend.sgd_update(
            params,
            gradient,
            velocity,
            learning_rate=learning_rate,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            decayed=decayed,
        )
        if updated is not None and not model.accumulated:
            self.state["velocity"] = updated


@dataclass
class Adam(Optimizer):
    """Adam, or AdamW with a weight decay; the formula is ``Backend.adam_update``.

    Args:
        learning_rate: step size; may be changed between epochs.
        beta1, beta2: how much of the running means of the gradient and of its square stays at a step.
        epsilon: added to the root of the mean square. (Keras adds 1e-7, PyTorch 1e-8.)
        weight_decay: each step also shrinks the weights (not the biases) by ``learning_rate * weight_decay``.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._check({"beta1": 0.0, "beta2": 0.0}, below=1.0)
        self._check({"epsilon": 0.0, "weight_decay": 0.0})

    def state_names(self) -> list[str]:
        return ["mean", "square"]

    def update(self, model: Sequential, learning_rate: float | Array, number: int | Array) -> None:
        _, self.state["mean"], self.state["square"] = model.backend.adam_update(
            model.flat_parameters,
            model.flat_gradients,
            self.state["mean"],
            self.state["square"],
            step=number,
            learning_rate=learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            decayed=model.decayed,
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}


def get_optimizer(optimizer: str | Optimizer, **settings: Any) -> Optimizer:
    """The optimizer that ``optimizer`` names, with these settings, or the one given.

    Raises:
        ValueError: the name is not known; the message lists those that are.
    """
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; known are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer](**settings)

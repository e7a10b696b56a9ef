"""Optimizers: how parameters move against their gradients. Each updates the whole flat buffer in one operation."""

from __future__ import annotations

from dataclasses import fields
from math import inf
from typing import Any

from backends.typing import Array

from ..layers.base import Accumulation
from ..model import Sequential


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

"""Adam."""

from __future__ import annotations

from dataclasses import dataclass

from backends.typing import Array

from ..model import Sequential
from .base import Optimizer


@dataclass
class Adam(Optimizer):
    """Adam, or AdamW with a weight decay; the formula is in ``backends.updates``.

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
        model.backend.update(
            "adam",
            model.flat_parameters,
            model.flat_gradients,
            self.state,
            learning_rate=learning_rate,
            number=number,
            weight_decay=self.weight_decay,
            n_decayed=model.decayed,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )

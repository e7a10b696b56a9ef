"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Fold, Optimizer


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; the formula is in ``backends.updates``.

    Args:
        learning_rate: step size, or a function of the update's number; may be changed between epochs.
        momentum: 0 is plain gradient descent.
        dampening: the gradient enters the velocity times 1 - dampening. 0 is classical momentum (Polyak); equal to
            ``momentum`` it makes the velocity an exponential moving average of the gradients.
        nesterov: look ahead along the velocity (Sutskever et al., ICML 2013).
        weight_decay: each step also shrinks the weights (not the biases) by ``learning_rate * weight_decay``.

    The velocity starts at 0. (PyTorch starts it at the first gradient, undampened.)
    """

    rule: ClassVar[str] = "sgd"

    learning_rate: Any = 0.1
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check({"momentum": 0.0, "dampening": 0.0}, below=1.0)
        self.check({"weight_decay": 0.0})
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("SGD: nesterov needs a momentum above 0")

    def fold(self) -> Fold | None:
        # A subclass with a rule of its own inherits the settings, not the formula.
        if self.rule != SGD.rule or self.nesterov:
            return None
        if self.momentum == 0.0:
            return Fold("") if self.weight_decay == 0.0 else None
        return Fold("velocity", kept=self.momentum, fresh=1.0 - self.dampening)

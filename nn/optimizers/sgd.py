"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Fold, Optimizer


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; the formula is in ``backends.updates``.

    Args:
        learning_rate: step size, or a function of the update's number.
        momentum: 0 is plain gradient descent.
        dampening: the gradient enters the velocity times 1 - dampening. 0 is classical momentum (Polyak); equal to
            ``momentum`` it makes the velocity an exponential moving average of the gradients.
        nesterov: look ahead along the velocity (Sutskever et al., ICML 2013).
        weight_decay, decoupled, l1: of the weights, not the biases: see ``Optimizer``.

    Not as in PyTorch: the velocity starts at 0 (there, at the first gradient, undampened); Nesterov's form may be
    dampened; the weight decay is decoupled, unless ``decoupled`` is False, and leaves the biases alone.
    """

    rule: ClassVar[str] = "sgd"

    learning_rate: Any = 0.1
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled: bool = True
    l1: float = 0.0

    def validate(self) -> None:
        self.check({"momentum": 0.0, "dampening": 0.0}, below=1.0)
        self.check_flags("nesterov")
        super().validate()
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("SGD: nesterov needs a momentum above 0")

    def fold(self) -> Fold | None:
        # A subclass with a rule of its own inherits the settings, not the formula.
        if self.rule != SGD.rule or self.nesterov or self.penalty():
            return None
        if self.momentum == 0.0:
            return Fold("") if self.weight_decay == 0.0 else None
        return Fold("velocity", kept=self.momentum, fresh=1.0 - self.dampening)

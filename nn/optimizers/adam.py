"""Adam, and AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Optimizer


@dataclass
class Adam(Optimizer):
    """Adam; the formula is in ``backends.updates``.

    Args:
        learning_rate: step size, or a function of the update's number.
        beta1, beta2: how much of the running means of the gradient and of its square stays at a step.
        epsilon: added to the root of the mean square.
        epsilon_hat: add it to the root before its correction, as Keras (1e-7) and scikit-learn do: "epsilon hat" in
            Kingma and Ba's paper.
        weight_decay, decoupled, l1: of the weights, not the biases: see ``Optimizer``.

    Not as in PyTorch: the weight decay is decoupled, which is AdamW, unless ``decoupled`` is False, and leaves the
    biases alone.
    """

    rule: ClassVar[str] = "adam"

    learning_rate: Any = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False
    weight_decay: float = 0.0
    decoupled: bool = True
    l1: float = 0.0

    def validate(self) -> None:
        self.check({"beta1": 0.0, "beta2": 0.0}, below=1.0)
        self.check({"epsilon": 0.0})
        self.check_flags("epsilon_hat")
        super().validate()


@dataclass
class AdamW(Adam):
    """``Adam`` with a decoupled weight decay of 0.01, as PyTorch's AdamW, but of the weights only.

    (Keras's AdamW has 0.004.)
    """

    name: ClassVar[str] = "adamw"

    weight_decay: float = 0.01

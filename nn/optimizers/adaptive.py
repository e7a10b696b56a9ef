"""Optimizers that divide each gradient by the root of what its squares have been: RMSProp and Adagrad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Optimizer


@dataclass
class RMSProp(Optimizer):
    """RMSProp; the formula is in ``backends.updates``.

    Args:
        learning_rate: step size, or a function of the update's number. (0.01 in PyTorch; Keras has 0.001.)
        alpha: how much of the running mean of the squares stays at a step. (Keras calls it rho and has 0.9.)
        epsilon: added to the root of the mean square. (Keras adds 1e-7, inside the root.)
        momentum: of a velocity of the scaled gradients; 0 does without.
        centered: divide by the root of the variance: the mean square less the square of the mean.
        epsilon_inside: add epsilon before the root is taken, as Keras and TensorFlow do.
        weight_decay, decoupled, l1: of the weights, not the biases: see ``Optimizer``.

    Keras's RMSprop is ``RMSProp(0.001, alpha=0.9, epsilon=1e-7, epsilon_inside=True)``; with a momentum and a learning
    rate that changes there is still a difference: Keras's velocity contains the learning rate.

    Not as in PyTorch: the weight decay is decoupled unless ``decoupled`` is False, and leaves the biases alone; a
    variance that rounding has made negative counts as 0 (there its root is NaN).
    """

    rule: ClassVar[str] = "rmsprop"

    learning_rate: Any = 0.01
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    epsilon_inside: bool = False
    weight_decay: float = 0.0
    decoupled: bool = True
    l1: float = 0.0

    def validate(self) -> None:
        self.check({"alpha": 0.0, "momentum": 0.0}, below=1.0)
        self.check({"epsilon": 0.0})
        self.check_flags("centered", "epsilon_inside")
        super().validate()


@dataclass
class Adagrad(Optimizer):
    """Adagrad; the formula is in ``backends.updates``.

    Args:
        learning_rate: step size, or a function of the update's number. (0.01 in PyTorch; Keras has 0.001.)
        lr_decay: update n has the learning rate divided by 1 + (n - 1) lr_decay.
        initial_accumulator_value: at which the sums of squares start. (Keras starts at 0.1.)
        epsilon: added to the root of the sum of squares. (Keras adds 1e-7, inside the root.)
        epsilon_inside: add epsilon before the root is taken, as Keras and TensorFlow do.
        weight_decay, decoupled, l1: of the weights, not the biases: see ``Optimizer``.

    Keras's Adagrad is ``Adagrad(0.001, initial_accumulator_value=0.1, epsilon=1e-7, epsilon_inside=True)``.

    Not as in PyTorch: the weight decay is decoupled unless ``decoupled`` is False, and leaves the biases alone.
    """

    rule: ClassVar[str] = "adagrad"
    fixed: ClassVar[tuple[str, ...]] = ("initial_accumulator_value",)

    learning_rate: Any = 0.01
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10
    epsilon_inside: bool = False
    weight_decay: float = 0.0
    decoupled: bool = True
    l1: float = 0.0

    def validate(self) -> None:
        self.check({"lr_decay": 0.0, "initial_accumulator_value": 0.0, "epsilon": 0.0})
        self.check_flags("epsilon_inside")
        super().validate()

    @property
    def rate_changes(self) -> bool:
        return self.lr_decay != 0.0 or super().rate_changes

    def rate(self, update: int) -> float:
        return super().rate(update) / (1.0 + (update - 1) * self.lr_decay)

    def initial(self) -> Mapping[str, float]:
        return {"squares": self.initial_accumulator_value} if self.initial_accumulator_value else {}

"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Optimizer


@dataclass
class Adam(Optimizer):
    """Adam, or AdamW with a weight decay; the formula is in ``backends.updates``.

    Args:
        learning_rate: step size, or a function of the update's number; may be changed between epochs.
        beta1, beta2: how much of the running means of the gradient and of its square stays at a step.
        epsilon: added to the root of the mean square. (Keras adds 1e-7, PyTorch 1e-8.)
        weight_decay: each step also shrinks the weights (not the biases) by ``learning_rate * weight_decay``.
    """

    rule: ClassVar[str] = "adam"

    learning_rate: Any = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check({"beta1": 0.0, "beta2": 0.0}, below=1.0)
        self.check({"epsilon": 0.0, "weight_decay": 0.0})

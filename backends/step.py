"""A training step, and the numbers that change from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .typing import Array


class StepNumbers(NamedTuple):
    """The numbers of a training step that change from step to step.

    Python numbers; inside a recorded step (1,) arrays on the device, three of int64 and one of the float dtype.

    Attributes:
        start: the first position of the batch in the order of the epoch.
        step: the number of the training step, from 0 (dropout masks).
        update: the number of the optimizer's update, from 1 (Adam).
        learning_rate: of the optimizer.
    """

    start: int | Array
    step: int | Array
    update: int | Array
    learning_rate: float | Array

    def after(self, count: int) -> StepNumbers:
        """The numbers of the next step of the epoch, after one on ``count`` rows."""
        return StepNumbers(self.start + count, self.step + 1, self.update + 1, self.learning_rate)


#: A training step on ``count`` rows: ``step(numbers, count)``.
Step = Callable[[StepNumbers, int], None]

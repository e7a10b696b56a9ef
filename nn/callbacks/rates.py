"""Learning rates by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

from backends.arguments import shown

from .base import Callback, CallbackError, Trainer


class LearningRateSchedule(Callback):
    """Sets the learning rate at the beginning of each epoch. (For one of each step, give the optimizer a schedule.)

    Args:
        rate: a function of the epoch, from 1, which gives its learning rate.

    Raises:
        TypeError: it is no function.
        ValueError: in ``fit``: it gives no number of at least 0, or the optimizer has a schedule of its own.
    """

    def __init__(self, rate: Callable[[int], float]) -> None:
        if isinstance(rate, type) or not callable(rate):
            raise TypeError(f"rate is a function of the epoch, not {shown(rate)}; a fixed rate is the optimizer's")
        self.rate = rate

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        if callable(trainer.optimizer.learning_rate):
            raise CallbackError(
                "the optimizer's learning rate is a schedule already; give it a number, or leave out the "
                "LearningRateSchedule"
            )

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        rate = self.rate(epoch)
        try:
            number = float(rate)
        except (TypeError, ValueError):
            number = math.nan
        if not 0.0 <= number < math.inf:
            raise ValueError(f"the learning rate of epoch {epoch} must be a number of at least 0, not {shown(rate)}")
        trainer.optimizer.learning_rate = number

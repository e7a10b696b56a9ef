"""A lower learning rate where training no longer gets better."""

from __future__ import annotations

import math
from typing import Any

from backends.arguments import check_choice, check_flag, check_number, check_text, check_whole_number, shown

from ..history import Record
from .base import Callback, Trainer
from .monitor import Monitor


class ReduceOnPlateau(Callback):
    """Multiplies the learning rate by ``factor`` when a column of the history has not become better for more than
    ``patience`` epochs: PyTorch's ``ReduceLROnPlateau``, with its defaults.

    Args:
        monitor: the column: ``"val_loss"``, ``"loss"``, ``"val_accuracy"``, or a metric's. An epoch that does not have
            it, as none was evaluated, is not counted.
        factor: what the learning rate is multiplied by, above 0 and below 1.
        patience: how many such epochs without a better one are let pass.
        min_delta: how much better than the best a value must be to count: this part of the best, or this much.
        relative: whether ``min_delta`` is a part of the best. (PyTorch's ``threshold_mode``.)
        mode: ``"min"``: less is better; ``"max"``: more is; ``"auto"``: as the loss or the metric says.
        cooldown: how many epochs after a reduction are not counted.
        min_lr: the learning rate stays at least at this.

    Attributes:
        best: the best value so far; None before the first.
        bad_epochs: how many epochs without a better one there have been.
        cooldown_left: how many more epochs are not counted.

    The attributes go on from one call of ``fit`` to the next, and are all that has to be kept of an interrupted run,
    beside the optimizer's learning rate.

    Raises:
        ValueError: an argument cannot be used; in ``fit``, before anything is trained: the learning rate is a schedule,
            or there is no such column, or it is not known whether more of it is better.
    """

    #: A rate that would change by less than this is left as it is, as in PyTorch.
    LEAST_CHANGE = 1e-8
    REMEMBERED = ("best", "bad_epochs", "cooldown_left")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        *,
        relative: bool = True,
        mode: str = "auto",
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        check_text("ReduceOnPlateau: monitor", monitor, "the name of a column")
        factor = check_number("ReduceOnPlateau: factor", factor, above=0.0, below=1.0)
        patience = check_whole_number("ReduceOnPlateau: patience", patience, least=0)
        cooldown = check_whole_number("ReduceOnPlateau: cooldown", cooldown, least=0)
        min_delta = check_number("ReduceOnPlateau: min_delta", min_delta, least=0.0)
        min_lr = check_number("ReduceOnPlateau: min_lr", min_lr, least=0.0)
        relative = check_flag("ReduceOnPlateau: relative", relative)
        check_choice("ReduceOnPlateau: mode", mode, ("auto", "min", "max"))
        self.monitor, self.mode, self.factor, self.patience = monitor, mode, factor, patience
        self.min_delta, self.relative, self.cooldown, self.min_lr = min_delta, relative, cooldown, min_lr
        self.best: float | None = None
        self.bad_epochs = 0
        self.cooldown_left = 0
        self._more = mode == "max"

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        _rate_of(trainer)
        monitor = Monitor(self.monitor, self.mode)
        monitor.begin(trainer)  # it looks whether the column is there
        self._more = monitor.more_is_better

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        value: Any = record.get(self.monitor)
        if value is None or "interrupted" in record:
            return
        if self._is_better(value):
            self.best = float(value)
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_epochs = 0
        if self.bad_epochs > self.patience:
            rate = _rate_of(trainer)
            lower = max(rate * self.factor, self.min_lr)
            if rate - lower > self.LEAST_CHANGE:
                trainer.optimizer.learning_rate = lower
            self.cooldown_left, self.bad_epochs = self.cooldown, 0

    def settings(self) -> dict[str, Any]:
        own = {name: float(getattr(self, name)) for name in ("factor", "patience", "min_delta", "cooldown", "min_lr")}
        return {"monitor": self.monitor, "mode": self.mode, "relative": self.relative, **own}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.REMEMBERED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        best = state["best"]
        self.best = None if best is None else check_number("best", best, infinite=True)
        self.bad_epochs = check_whole_number("bad_epochs", state["bad_epochs"], least=0)
        self.cooldown_left = check_whole_number("cooldown_left", state["cooldown_left"], least=0)

    def _is_better(self, value: float) -> bool:
        """NaN never is, and neither is a first value that is the worst there is."""
        best, delta = self.best, self.min_delta
        if best is None:
            best = math.inf if not self._more else -math.inf
        if not self._more:
            return value < (best * (1.0 - delta) if self.relative else best - delta)
        return value > (best * (1.0 + delta) if self.relative else best + delta)


def _rate_of(trainer: Trainer) -> float:
    rate = trainer.optimizer.learning_rate
    if callable(rate):
        raise ValueError(
            f"ReduceOnPlateau lowers a learning rate that is a number, but it is the schedule {shown(rate)}"
        )
    return float(rate)

"""The best value of a column of the history: what early stopping and keeping the best model look at."""

from __future__ import annotations

import math
from typing import Any

from backends.arguments import check_choice, check_number, check_text, check_whole_number

from ..history import Record
from ..metrics import is_metric, larger_is_better
from .base import CallbackError, Trainer


class Monitor:
    """A column of the history, and its best value so far.

    Args:
        column: such as ``"val_loss"``, ``"val_accuracy"``, or a metric's.
        mode: ``"min"``: less is better; ``"max"``: more is; ``"auto"``: as the loss or the metric says.
        min_delta: how much better than the best a value must be to count.

    Attributes:
        best: the best value; None before the first.
        epoch: whose it is; None before the first.
        more_is_better: whether a larger value is better; known when training begins.

    Raises:
        ValueError: an argument cannot be used.
    """

    def __init__(self, column: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        check_text("monitor", column, "the name of a column of the history, such as 'val_loss'")
        check_choice("mode", mode, ("auto", "min", "max"))
        min_delta = check_number("min_delta", min_delta, least=0.0)
        self.column, self.mode, self.min_delta = column, mode, min_delta
        self.best: float | None = None
        self.epoch: int | None = None
        self.more_is_better = False

    def begin(self, trainer: Trainer) -> None:
        """Forget what was the best. Called before training.

        Raises:
            CallbackError: the records will have no such column, or ``mode`` must be said.
        """
        self.best = self.epoch = None
        column = self.column
        there = [name for name in trainer.columns if name != "epoch"]
        if column not in there:
            metric = column.removeprefix("val_")
            why = ""
            if column.startswith("val_") and not any(name.startswith("val_") for name in there):
                why = ", as there are no validation rows; give some, as in validation=0.1"
            elif is_metric(metric) and f"val_{metric}" not in there:
                why = f"; ask for that metric, as in metrics=[{metric!r}]"
            raise CallbackError(f"there is no {column!r} to monitor{why} (there are {', '.join(there)})")
        more = larger_is_better(column.removeprefix("val_"), trainer.metrics)
        if self.mode == "auto" and more is None:
            raise CallbackError(f'say whether more of {column!r} is better: mode="max", or "min" where less is')
        self.more_is_better = bool(more) if self.mode == "auto" else self.mode == "max"

    def improves(self, record: Record) -> bool:
        """Whether an epoch is the best so far; NaN never is, nor is an epoch without the column."""
        value = record.get(self.column)
        if value is None or math.isnan(value):
            return False
        if self.best is not None:
            gain = value - self.best if self.more_is_better else self.best - value
            if not gain > self.min_delta:
                return False
        self.best, self.epoch = value, record["epoch"]
        return True

    def settings(self) -> dict[str, Any]:
        """What it looks at."""
        return {"monitor": self.column, "mode": self.mode, "min_delta": float(self.min_delta)}

    def state_dict(self) -> dict[str, Any]:
        """What the best was so far."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what ``state_dict`` gave.

        Raises:
            ValueError: it cannot have given that.
        """
        best, epoch = state["best"], state["epoch"]
        if (best is None) != (epoch is None):
            raise ValueError("the best value and its epoch go together")
        self.best = None if best is None else check_number("best", best, infinite=True)
        self.epoch = None if epoch is None else check_whole_number("epoch", epoch, least=0)

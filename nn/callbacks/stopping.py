"""Early stopping: training ends when it no longer gets better, and the best weights are kept."""

from __future__ import annotations

from typing import Any

from backends.arguments import check_flag, check_whole_number

from ..history import Record
from ..snapshot import Snapshot
from .base import Callback, Trainer
from .monitor import Monitor


class EarlyStopping(Callback):
    """Ends training when a column of the history has not become better for some epochs.

    The best epoch is noted in the history (``best_epoch``, ``monitor``), and when training ends, in whatever way, the
    model gets its weights back; with them the state of the optimizer, as it was then. Epochs are counted on.

    Args:
        monitor: the column: ``"val_loss"``, ``"loss"``, ``"val_accuracy"``, or a metric's.
        patience: how many epochs after the best one training goes on without a better one. Where rows are evaluated
            every few epochs only, these are still epochs, and training ends after an evaluation.
        min_delta: how much better than the best a value must be to count.
        mode: ``"min"``: less is better; ``"max"``: more is; ``"auto"``: as the loss or the metric says.
        restore_best: whether the model gets the weights of the best epoch in the end; if not, it keeps the last ones.
            They are kept on the device meanwhile.
        start_from_epoch: so many epochs at the beginning are not looked at.

    Raises:
        ValueError: an argument cannot be used; in ``fit``, before anything is trained: there is no such column, or it
            is not known whether more of it is better.
    """

    of_fit = ("_best",)

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
        start_from_epoch: int = 0,
    ) -> None:
        self.patience = check_whole_number("patience", patience, least=0)
        self.restore_best = check_flag("restore_best", restore_best)
        self.start_from_epoch = check_whole_number("start_from_epoch", start_from_epoch, least=0)
        self.monitor = Monitor(monitor, mode, min_delta)
        self._best: Snapshot | None = None
        self._first = 0

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self.monitor.begin(trainer)
        self._best, self._first = None, trainer.epoch + self.start_from_epoch

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        epoch, column, history = record["epoch"], self.monitor.column, trainer.history
        if epoch <= self._first or column not in record or "interrupted" in record:
            return
        if self.monitor.improves(record):
            history.best_epoch, history.monitor, history.best_is_kept = epoch, column, self.restore_best
            if self.restore_best:
                self._best = Snapshot.of(trainer) if self._best is None else self._best.renew(trainer)
            return
        waited = epoch - (self.monitor.epoch or self._first)
        if waited >= self.patience:
            epochs = "1 epoch" if waited == 1 else f"{waited} epochs"
            trainer.stop(f"early stopping: {column} has not become better for {epochs}")

    def on_fit_end(self, trainer: Trainer) -> None:
        best, self._best = self._best, None
        if best is None or trainer.epoch == self.monitor.epoch:
            return
        epoch = trainer.epoch
        best.restore(trainer)
        trainer.epoch = epoch  # whose records are in the history
        if trainer.diverged is not None:
            trainer.diverged.weights_of = self.monitor.epoch

    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("patience", "restore_best", "start_from_epoch")}
        return self.monitor.settings() | own

    def state_dict(self) -> dict[str, Any]:
        best = self._best
        kept = None if best is None else {"arrays": best.arrays(), "numbers": best.numbers()}
        return {"monitor": self.monitor.state_dict(), "first": self._first, "best": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.monitor.load_state_dict(state["monitor"])
        self._first, best = check_whole_number("first", state["first"], least=0), state["best"]
        self._best = None if best is None else Snapshot.from_file(best["arrays"], best["numbers"])

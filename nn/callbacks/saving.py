"""Models saved while training runs."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Any, ClassVar

from backends.arguments import check_choice, check_path, check_text, check_whole_number

from ..history import Record
from ..messages import sentence
from ..storage import save_model
from .base import Callback, CallbackError, Trainer
from .monitor import Monitor


class SaveModel(Callback):
    """Saves the model after epochs, with its averaged parameters where there are any, each file whole or not at all:
    ``nn.load_model`` reads it.

    Args:
        path: of the file, ``"best.safetensors"`` for instance; it may have columns of the history in braces, as in
            ``"epoch-{epoch:03d}-{val_loss:.4f}.safetensors"``, which gives a file for each. Its folder must be there.
        monitor: the column of the history whose best epochs alone are saved, such as ``"val_loss"``; "" for all.
        every: save every so many epochs, and after the last one. With ``monitor``, of every so many epochs those that
            are the best.
        mode: of ``monitor``: ``"min"``, ``"max"`` or ``"auto"``, as in ``EarlyStopping``.

    Raises:
        ValueError: an argument cannot be used; in ``fit``, before anything is trained: there is no such column.
        FileNotFoundError: likewise: there is no such folder.
    """

    first_only: ClassVar[bool] = True

    def __init__(self, path: str | Path, monitor: str = "", every: int = 1, mode: str = "auto") -> None:
        self.path = str(check_path("path", path))
        self.every = check_whole_number("every", every)
        check_text("monitor", monitor, "the name of a column of the history, or '' for none")
        check_choice("mode", mode, ("auto", "min", "max"))
        self.monitor = Monitor(monitor, mode) if monitor else None
        self.saved: list[Path] = []
        self._last = 0

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        if self.monitor is not None:
            self.monitor.begin(trainer)
        for _, name, _, _ in Formatter().parse(self.path):
            if name is not None and name not in trainer.columns:
                raise CallbackError(f"{self.path}: there is no {{{name}}} (there are {', '.join(trainer.columns)})")
        if not Path(self.path).parent.is_dir():
            where = f"there is no folder {Path(self.path).parent}"
            raise FileNotFoundError(sentence(f"{self.path} cannot be written: {where}; make it first"))
        self._last = trainer.epoch + epochs

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if "interrupted" in record:  # the run goes on, and saves what is to be saved
            return
        epoch = record["epoch"]
        is_last = epoch == self._last or trainer.stopping
        if self.monitor is not None:
            due = (epoch % self.every == 0 or is_last) and self.monitor.improves(record)
        else:
            due = epoch % self.every == 0 or is_last
        if due:
            missing = dict.fromkeys(trainer.columns, float("nan"))  # an epoch without an evaluation has none
            path = Path(self.path.format(**{**missing, **record}))
            with trainer.averaged():
                save_model(trainer.model, path)
            self.saved.append(path)

    def settings(self) -> dict[str, Any]:
        looks_at = {} if self.monitor is None else self.monitor.settings()
        return {"path": self.path, "every": self.every, **looks_at}

    def state_dict(self) -> dict[str, Any]:
        best = None if self.monitor is None else self.monitor.state_dict()
        return {"best": best, "saved": [str(path) for path in self.saved]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.monitor is not None:
            self.monitor.load_state_dict(state["best"])
        self.saved = [Path(path) for path in state["saved"]]

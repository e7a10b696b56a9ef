"""Checkpoints while training runs, so that it can be resumed."""

from __future__ import annotations

import secrets
import warnings
from functools import partial
from pathlib import Path
from time import monotonic
from typing import ClassVar

from backends.arguments import check_flag, check_number, check_path, check_whole_number

from ..history import Record
from ..storage.checkpoint import CheckpointWarning, checkpoints_in, read_checkpoint
from .base import Callback, CallbackError, Trainer


class Checkpoint(Callback):
    """Writes all that the run needs to go on into a folder, as often as is asked for: ``Trainer.resume`` reads it.

    ``Trainer.resume`` has an example.

    Each is a file, whole or not there. One is also written when the last epoch has ended, when training is stopped, and
    when it is interrupted. Where one cannot be written, training goes on, and a ``CheckpointWarning`` says why.

    Args:
        folder: made if need be. It holds one run: one that has checkpoints of another is refused.
        epochs: write after every so many epochs.
        steps: write after at least so many steps, in the middle of an epoch, too.
        minutes: likewise after at least so many minutes; 1, if nothing else is asked for.
        keep: how many of them are kept, the newest ones.
        overwrite: whether checkpoints of another run are removed instead.

    Attributes:
        failure: why the last one could not be written; "" if it was.

    Raises:
        ValueError: an argument cannot be used; in ``fit``, before anything is trained: the folder has another run.
    """

    reads_gradients = False
    takes_parts = True
    comes_last: ClassVar[bool] = True

    def __init__(
        self,
        folder: str | Path,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        keep: int = 2,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.overwrite = check_path("folder", folder), check_flag("overwrite", overwrite)
        self.epochs = None if epochs is None else check_whole_number("epochs", epochs)
        self.steps = None if steps is None else check_whole_number("steps", steps)
        self.keep = check_whole_number("keep", keep)
        if minutes is not None:
            minutes = check_number("minutes", minutes, above=0.0)
        self.minutes = 1.0 if epochs is None and steps is None and minutes is None else minutes
        self.failure = ""
        self._last_epoch = self._step = 0
        self._time = 0.0

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        history = trainer.history
        collectives = trainer.backend.collectives
        history.run = collectives.broadcast(history.run or secrets.token_hex(8))
        collectives.by_first(partial(self._make_way, history.run))
        self._last_epoch = trainer.epoch + epochs
        self._step, self._time = trainer.model.step, monotonic()

    def _make_way(self, run: str) -> None:
        """See that the folder has no checkpoints of another run."""
        for path in checkpoints_in(self.folder):
            if _run_of(path) not in (run, ""):
                if not self.overwrite:
                    raise CallbackError(
                        f"{self.folder} has checkpoints of another run; go on with it by trainer.resume, replace it by "
                        "Checkpoint(..., overwrite=True), or name another folder"
                    )
                path.unlink()

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if self._is_time(trainer):
            self._write(trainer)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if "interrupted" in record:  # it was written by on_interrupt, and without this record
            return
        due = self.epochs is not None and record["epoch"] % self.epochs == 0
        if due or trainer.stopping or record["epoch"] == self._last_epoch or self._is_time(trainer):
            self._write(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self._write(trainer)

    def _is_time(self, trainer: Trainer) -> bool:
        if self.steps is not None and trainer.model.step - self._step >= self.steps:
            return True
        if self.minutes is None:
            return False
        collectives = trainer.backend.collectives  # of several processes the first one looks at its clock
        return bool(collectives.any(collectives.rank == 0 and monotonic() - self._time >= 60.0 * self.minutes))

    def _write(self, trainer: Trainer) -> None:
        self._step = trainer.model.step
        try:
            trainer.save_checkpoint(self.folder, self.keep)
            self.failure = ""
        except (OSError, MemoryError, TypeError) as error:  # the last is of a callback whose state no file can hold
            why = getattr(error, "strerror", "") or str(error) or "out of memory"
            failure = f"no checkpoint could be written to {self.folder} ({why})"
            if not self.failure and trainer.backend.collectives.rank == 0:
                warnings.warn(f"{failure}; training goes on", CheckpointWarning, stacklevel=2)
            self.failure = failure
        self._time = monotonic()  # the time that writing takes does not count


def _run_of(path: Path) -> str:
    """The id of the run that a checkpoint is of; "" where that cannot be read."""
    try:
        return str(read_checkpoint(path)["run"])
    except (ValueError, OSError, KeyError):
        return ""

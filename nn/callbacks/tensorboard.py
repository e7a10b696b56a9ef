"""Event files for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from backends.arguments import check_path

from ..history import Record
from .base import Callback, CallbackError, Trainer

#: Columns that are no curve of training, or are the axis.
NO_CURVES = ("epoch", "seconds")


class Writer(Protocol):
    """Writes numbers to an event file."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class TensorBoard(Callback):
    """Writes every column of the history to an event file, as soon as an epoch has ended: ``tensorboard --logdir DIR``.

    The curves of training and validation rows share a picture: ``loss/training`` and ``loss/validation``. Where there
    are event files in the folder already, those of earlier epochs are kept and later ones are hidden.

    Args:
        folder: made where it is not there. Runs in folders side by side are compared.

    Raises:
        ImportError: neither tensorboardX nor tensorboard is installed.
        CallbackError: (a ValueError) in ``fit``, before anything is trained: the folder cannot be made or written to.
    """

    of_fit = ("_writer",)

    def __init__(self, folder: str | Path) -> None:
        self.folder = check_path("folder", folder)
        find_library()
        self._writer: Writer | None = None

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        try:
            self._writer = open_writer(self.folder, trainer.epoch + 1)
        except OSError as error:
            raise CallbackError(
                f"{self.folder} cannot be made, or not written to: {error.strerror}; name another folder"
            ) from None

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if self._writer is not None:
            for name, value in record.items():
                if name not in NO_CURVES:
                    self._writer.add_scalar(tag(name, trainer.columns), float(value), record["epoch"])
            self._writer.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def tag(column: str, columns: tuple[str, ...]) -> str:
    """Under which name TensorBoard shows a column: what is known of both kinds of rows, in one group."""
    of = column.removeprefix("val_")
    if of != column:
        return f"{of}/validation"
    return f"{of}/training" if f"val_{of}" in columns or of in ("loss", "accuracy") else of


def find_library() -> str:
    """``"tensorboardX"`` or ``"tensorboard"``, whichever is installed.

    Raises:
        ImportError: neither is.
    """
    from importlib.util import find_spec

    for name in ("tensorboardX", "tensorboard"):
        if find_spec(name) is not None:
            return name
    raise ImportError("event files for TensorBoard need a library to write them: pip install tensorboardX")


def open_writer(folder: Path, first: int) -> Writer:
    """A writer of epochs from ``first`` on; older files of the folder are read up to there only."""
    if find_library() == "tensorboardX":
        from tensorboardX import SummaryWriter

        # Files of the same second would have the same name.
        writer: Writer = SummaryWriter(str(folder), purge_step=first, filename_suffix=f".{first}")
        return writer
    return OwnWriter(folder, first)


class OwnWriter:
    """TensorBoard's own way to write event files, which has no function for a number."""

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events, self._summaries = event_pb2, summary_pb2
        self._file = EventFileWriter(str(folder))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(first, session_log=start)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        number = self._summaries.Summary.Value(tag=tag, simple_value=value)
        self._write(step, summary=self._summaries.Summary(value=[number]))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, step: int, **what: Any) -> None:
        self._file.add_event(self._events.Event(wall_time=time.time(), step=step, **what))

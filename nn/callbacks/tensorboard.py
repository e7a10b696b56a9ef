"""Event files for TensorBoard."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

from backends.arguments import check_path

from ..history import Record
from .base import Callback, CallbackError, Trainer
from .logs import warn_of

#: Columns that are no curve of training, or are the axis.
NO_CURVES = ("epoch", "seconds", "interrupted")


class Records(Protocol):
    """A file of records, as TensorFlow writes them."""

    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class TensorBoard(Callback):
    """Writes every column of the history to an event file, as soon as an epoch has ended: ``tensorboard --logdir DIR``.

    The curves of training and validation rows share a picture: ``loss/training`` and ``loss/validation``. Where there
    are event files in the folder already, those of earlier epochs are kept and later ones are hidden. Training goes on
    where the file cannot be written in its middle; one that was deleted is written again.

    Args:
        folder: made where it is not there. Runs in folders side by side are compared.

    Raises:
        ImportError: neither tensorboardX nor tensorboard is installed.
        CallbackError: (a ValueError) in ``fit``, before anything is trained: the folder cannot be made or written to.

    Warns:
        LogWarning: (a RuntimeWarning) once, while training runs: it cannot be written any more.
    """

    first_only: ClassVar[bool] = True

    of_fit = ("_file",)

    def __init__(self, folder: str | Path) -> None:
        self.folder = check_path("folder", folder)
        find_library()
        self._file: EventFile | None = None
        self._has_warned = False

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self._has_warned = False
        try:
            self._file = EventFile(self.folder, trainer.epoch + 1)
        except OSError as error:
            raise CallbackError(
                f"{self.folder} cannot be made, or not written to: {error.strerror}; name another folder"
            ) from None

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        try:
            if self._file is not None and not self._file.path.exists():
                self._file.discard()
                self._file = None
            if self._file is None:
                self._file = self._written_anew(trainer)
            else:
                self._add(self._file, record, trainer)
                self._file.flush()
        except OSError as error:
            self._fail(error)

    def _written_anew(self, trainer: Trainer) -> EventFile:
        """Another file, with all epochs; it is gone where it cannot be written."""
        file = EventFile(self.folder, trainer.history[0]["epoch"])
        try:
            for record in trainer.history:
                self._add(file, record, trainer)
            file.flush()
        except OSError:
            file.discard()
            file.path.unlink(missing_ok=True)
            raise
        return file

    def _add(self, file: EventFile, record: Record, trainer: Trainer) -> None:
        for name, value in record.items():
            if name not in NO_CURVES:
                file.add(tag(name, trainer.columns), float(value), record["epoch"])

    def on_fit_end(self, trainer: Trainer) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self._fail(error)
        finally:
            self._file = None

    def _fail(self, error: OSError) -> None:
        """The file may have a part of an event: another is written as soon as it can be."""
        if self._file is not None:
            self._file.discard()
            self._file = None
        if not self._has_warned:
            self._has_warned = True
            warn_of(self.folder, error)


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


class EventFile:
    """An event file that is written at once: the libraries' own writers do so in a thread, and wait for ever once that
    has ended by an error, on a full disk for instance.

    Args:
        folder: made where it is not there.
        first: epochs of older files of the folder are hidden from this one on.

    Attributes:
        path: of the file.

    Raises:
        OSError: it cannot be written; likewise all methods.
    """

    def __init__(self, folder: Path, first: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}.{first}"
        if find_library() == "tensorboardX":
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import RecordWriter

            self._file: Records = RecordWriter(str(self.path))
        else:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter

            self._file = RecordWriter(self.path.open("wb"))
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        try:
            self._write(file_version="brain.Event:2")
            self._write(first, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
            self.flush()
        except OSError:
            self.discard()
            self.path.unlink(missing_ok=True)
            raise

    def add(self, tag: str, value: float, epoch: int) -> None:
        """A point of the curve ``tag``."""
        number = self._summary.Value(tag=tag, simple_value=value)
        self._write(epoch, summary=self._summary(value=[number]))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Close the file, whether all of it can be written or not."""
        with suppress(OSError):
            self.close()

    def _write(self, step: int = 0, **what: Any) -> None:
        self._file.write(self._event(wall_time=time.time(), step=step, **what).SerializeToString())

"""Logs: a line for each epoch in a file, written as soon as the epoch has ended."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TextIO

from backends.arguments import check_path, shown

from ..files import write_atomically
from ..history import Record, json_line
from ..messages import OneSentence
from .base import Callback, CallbackError, Trainer

#: Columns that come last: of an epoch that was interrupted, after how many rows; and the id of the run.
WHOSE = ("interrupted", "run")


class LogWarning(OneSentence, RuntimeWarning):
    """What is written while training runs cannot be written any more; training goes on."""


class EpochLog(Callback):
    """A file that gets a line at the end of each epoch, so that it can be read while training runs.

    A file that is there already keeps the lines of the epochs before those that are trained now, if they are of this
    run: a run that goes on from epoch 5 appends epochs 6, 7, ..., and a new run writes the file anew. Training goes on
    where the file cannot be written in its middle, on a full disk for instance; what is missing is written as soon as
    that is possible. A file that was deleted is written again.

    Args:
        path: of the file; its folder must be there.

    Raises:
        CallbackError: (a ValueError) in ``fit``, before anything is trained: the file is there and is no such log.
        OSError: likewise: it cannot be written.

    Warns:
        LogWarning: (a RuntimeWarning) once, while training runs: it cannot be written any more.
    """

    first_only: ClassVar[bool] = True

    of_fit = ("_file",)

    def __init__(self, path: str | Path) -> None:
        self.path = check_path("path", path)
        self._file: TextIO | None = None
        self._before: list[Record] = []
        self._has_warned = False

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self._has_warned = False
        kept: list[Record] = []
        run = trainer.history.run
        if self.path.exists():
            try:
                there = {int(line["epoch"]): line for line in self.read() if not run or line.get("run", run) == run}
            except (ValueError, KeyError, TypeError):
                raise CallbackError(f"{self.path} is there already, and is no log of epochs; name another") from None
            # The last ones of a run that was killed may not have reached the disk.
            known = {record["epoch"]: record for record in trainer.history} | there
            kept = [known[epoch] for epoch in sorted(known) if epoch <= trainer.epoch]
        in_history = {record["epoch"] for record in trainer.history}
        self._before = [line for line in kept if int(line["epoch"]) not in in_history]
        self._write(kept, trainer)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        try:
            if self._file is None or is_deleted(self._file):
                self._write([*self._before, *trainer.history], trainer)
            elif new := self.new_columns(record):
                self._write([*self.read(), record], trainer, new)
            else:
                self._file.write(self.line(trainer.history.with_run(record)))
                self._file.flush()
        except OSError as error:
            self._fail(error)

    def on_fit_end(self, trainer: Trainer) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self._fail(error)
        finally:
            self._file = None

    def _write(self, records: list[Record], trainer: Trainer, new: Iterable[str] = ()) -> None:
        """Write the whole file, and leave it open for more."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        columns = [*trainer.columns, *new, *(["run"] if trainer.history.run else [])]
        write_atomically(self.path, self.text(list(map(trainer.history.with_run, records)), columns).encode())
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def _fail(self, error: OSError) -> None:
        """The file may have a part of a line: it is written anew as soon as it can be."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        if not self._has_warned:
            self._has_warned = True
            warn_of(self.path, error)

    def read(self) -> list[Record]:
        """The records that are in the file."""
        raise NotImplementedError

    def whole_lines(self) -> str:
        """What is in the file, but for a last line that was not written to its end, as by a process that was killed."""
        text = self.path.read_bytes().decode()
        whole = text[: text.rfind("\n") + 1]
        if text and not whole:
            raise ValueError("it has no line")
        return whole

    def text(self, records: list[Record], columns: list[str]) -> str:
        """The file with these records, before the first epoch of those with these columns."""
        raise NotImplementedError

    def line(self, record: Record) -> str:
        """The line of an epoch."""
        raise NotImplementedError

    def new_columns(self, record: Record) -> list[str]:
        """Columns of a record for which the file has none, and needs one."""
        return []


def warn_of(path: Path, error: OSError) -> None:
    """Say that a file of training that goes on cannot be written."""
    reason = error.strerror or error
    warnings.warn(f"{path} cannot be written: {reason}; training goes on without it", LogWarning, stacklevel=3)


def is_deleted(file: TextIO) -> bool:
    """Whether an open file has no name any more, so that nobody will read what is written to it."""
    return os.fstat(file.fileno()).st_nlink == 0


class JSONLog(EpochLog):
    """A log of JSON lines, as ``History.save`` writes them: an object for each epoch, null for what is not finite."""

    def read(self) -> list[Record]:
        return [json.loads(line) for line in self.whole_lines().splitlines()]

    def text(self, records: list[Record], columns: list[str]) -> str:
        return "".join(map(json_line, records))

    def line(self, record: Record) -> str:
        return json_line(record)


class CSVLog(EpochLog):
    """A log as a CSV table, its first line the names of the columns. A cell is empty where an epoch has no value."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._columns: list[str] = []

    def read(self) -> list[Record]:
        reader = csv.DictReader(io.StringIO(self.whole_lines()))
        if "epoch" not in (reader.fieldnames or ["epoch"]):
            raise ValueError("its columns are others")
        return list(reader)

    def text(self, records: list[Record], columns: list[str]) -> str:
        known = [name for record in records[:1] for name in record if name not in WHOSE]
        whose = [name for name in WHOSE if name in columns or any(record.get(name) for record in records)]
        self._columns = list(dict.fromkeys([*known, *(name for name in columns if name not in WHOSE), *whose]))
        return ",".join(self._columns) + "\n" + "".join(map(self.line, records))

    def line(self, record: Record) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow([record.get(name, "") for name in self._columns])
        return out.getvalue()

    def new_columns(self, record: Record) -> list[str]:
        return [name for name in record if name not in self._columns]


def log_to(path: str | Path) -> EpochLog:
    """The log that the ending of a file's name asks for: ``.jsonl`` or ``.csv``.

    Raises:
        ValueError: it is neither.
    """
    kinds = {".jsonl": JSONLog, ".csv": CSVLog}
    kind = kinds.get(check_path("path", path).suffix.lower())
    if kind is None:
        raise ValueError(f"a log is a file whose name ends in .jsonl or .csv, not {shown(str(path))}")
    return kind(path)

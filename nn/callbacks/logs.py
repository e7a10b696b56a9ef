"""Logs: a line for each epoch in a file, written as soon as the epoch has ended."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TextIO

from backends.arguments import check_path, shown

from ..files import write_atomically
from ..history import Record, json_line
from .base import Callback, CallbackError, Trainer


class EpochLog(Callback):
    """A file that gets a line at the end of each epoch, so that it can be read while training runs.

    A file that is there already keeps the lines of the epochs before those that are trained now: a run that goes on
    from epoch 5 appends epochs 6, 7, ..., and a new run writes the file anew.

    Args:
        path: of the file; its folder must be there.

    Raises:
        CallbackError: (a ValueError) in ``fit``, before anything is trained: the file is there and is no such log.
        OSError: likewise: it cannot be written.
    """

    of_fit = ("_file",)

    def __init__(self, path: str | Path) -> None:
        self.path = check_path("path", path)
        self._file: TextIO | None = None

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        kept: list[Record] = []
        if self.path.exists():
            try:
                kept = [line for line in self.read() if int(line["epoch"]) <= trainer.epoch]
            except (ValueError, KeyError, TypeError):
                raise CallbackError(f"{self.path} is there already, and is no log of epochs; name another") from None
        write_atomically(self.path, self.text(kept, list(trainer.columns)).encode())
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if self._file is not None:
            self._file.write(self.line(record))
            self._file.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[Record]:
        """The records that are in the file."""
        raise NotImplementedError

    def text(self, records: list[Record], columns: list[str]) -> str:
        """The file with these records, before the first epoch of those with these columns."""
        raise NotImplementedError

    def line(self, record: Record) -> str:
        """The line of an epoch."""
        raise NotImplementedError


class JSONLog(EpochLog):
    """A log of JSON lines, as ``History.save`` writes them: an object for each epoch, null for what is not finite."""

    def read(self) -> list[Record]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

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
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def text(self, records: list[Record], columns: list[str]) -> str:
        self._columns = list(dict.fromkeys([*(name for record in records[:1] for name in record), *columns]))
        return ",".join(self._columns) + "\n" + "".join(map(self.line, records))

    def line(self, record: Record) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow([record.get(name, "") for name in self._columns])
        return out.getvalue()


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

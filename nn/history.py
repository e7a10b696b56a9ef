"""What a training run reports: one record per epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, overload

from backends.arguments import ArgumentTypeError, check_path, is_whole_number, shown

from .files import write_atomically
from .notebook import html_table

Record = dict[str, Any]
#: How many epochs a notebook shows of the beginning of a long history, and of its end.
SHOWN = 5


class History:
    """The records of a run: ``history[-1]`` is the last epoch's, ``history["loss"]`` the losses of all.

    A record has ``epoch`` (from 1), ``loss``, ``accuracy`` (for classes), ``val_loss``, ``val_accuracy`` (where there
    are validation rows), ``learning_rate``, ``seconds`` (training alone) and ``rows_per_second``. ``loss`` and
    ``accuracy`` are means over the epoch's batches, each taken before its update. An epoch without an evaluation lacks
    the columns of it, and reads as None there.

    Attributes:
        stopped: why training ended before its last epoch; "" if it did not.
        best_epoch: the best epoch by ``monitor``, as early stopping or keeping the best weights found it; or None.
        monitor: the column that it was chosen by; "" if none was.
        best_is_kept: whether ``fit`` leaves the weights of the best epoch in the model, not those of the last.
        run: the id of the run, which every file of it carries; "" if it has none.
    """

    def __init__(self, records: list[Record] | None = None) -> None:
        for number, record in enumerate(_list_of_records(records)):
            _check_record(f"records[{number}]", record)
        self.records: list[Record] = [] if records is None else records
        self.stopped = ""
        self.best_epoch: int | None = None
        self.monitor = ""
        self.best_is_kept = False
        self.run = ""

    def __copy__(self) -> History:
        """With a list of its own: what is appended to one of the two is not in the other."""
        return deepcopy(self)

    def begin(self) -> None:
        """Another training begins, which may end early and have another best epoch; the records stay."""
        self.stopped, self.best_epoch, self.monitor, self.best_is_kept = "", None, "", False

    def append(self, record: Record) -> None:
        _check_record("a record", record)
        self.records.append(record)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @overload
    def __getitem__(self, which: int) -> Record: ...
    @overload
    def __getitem__(self, which: str) -> list[Any]: ...
    def __getitem__(self, which: int | str) -> Record | list[Any]:
        if isinstance(which, str):
            known = list(dict.fromkeys(key for record in self.records for key in record))
            if known and which not in known:
                raise KeyError(f"the history has no {which!r}; it has {', '.join(known)}")
            return [record.get(which) for record in self.records]
        if not is_whole_number(which):
            raise ArgumentTypeError(f"an epoch is taken by its number, a column by its name, not by {shown(which)}")
        if not -len(self) <= which < len(self):
            raise IndexError(f"the history has {len(self)} records; there is none of number {shown(which)}")
        return self.records[which]

    def __repr__(self) -> str:
        return f"<History of {len(self)} epochs{': ' + str(self.records[-1]) if self.records else ''}>"

    def _repr_html_(self) -> str:
        """In a notebook: the first epochs and the last ones as a table."""
        columns = list(dict.fromkeys(key for record in self.records for key in record))
        lines = [[_cell(record.get(name, "")) for name in columns] for record in self.records]
        if len(lines) > 2 * SHOWN:
            lines = [*lines[:SHOWN], ["..." for _ in columns], *lines[-SHOWN:]]
        said = [self.best_text, f"stopped by {self.stopped}" if self.stopped else ""]
        return html_table(columns, lines, text_columns=0, caption="; ".join(filter(None, said)))

    @property
    def best_text(self) -> str:
        """Which epoch was the best, in words: ``"best epoch 12, val_loss 0.0712; its weights are in the model"``; "" if
        none was chosen."""
        if self.best_epoch is None:
            return ""
        record = next((record for record in self.records if record["epoch"] == self.best_epoch), {})
        value = f" {record[self.monitor]:.4g}" if self.monitor in record else ""
        kept = "; its weights are in the model" if self.best_is_kept else ""
        return f"best epoch {self.best_epoch}, {self.monitor}{value}{kept}"

    def to_json_lines(self) -> str:
        """The records as JSON lines, one epoch a line.

        The line of the best epoch has ``"best"``, the column that it was chosen by, and ``"kept"``, whether the model
        has its weights; the last line has ``"stopped"``, where training ended early; each line has ``"run"``, where the
        run has an id. A value that is not finite is null."""
        lines = [self.with_run(record) for record in self.records]
        for line in lines:
            if self.best_epoch is not None and line.get("epoch") == self.best_epoch:
                line |= {"best": self.monitor, "kept": self.best_is_kept}
        if lines and self.stopped:
            lines[-1]["stopped"] = self.stopped
        return "".join(map(json_line, lines))

    def with_run(self, record: Record) -> Record:
        """A copy of a record that says whose it is, if the run has an id."""
        return record | ({"run": self.run} if self.run else {})

    def save(self, path: str | Path) -> None:
        """Write ``to_json_lines()`` to a file, whole or not at all."""
        write_atomically(check_path("path", path), self.to_json_lines().encode())

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what ``save`` wrote; null is NaN."""
        path, history = check_path("path", path), cls()
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "best" in record:
                history.best_epoch, history.monitor = record["epoch"], record.pop("best")
                history.best_is_kept = record.pop("kept")
            history.stopped = record.pop("stopped", "")
            history.run = record.pop("run", "")
            history.append({key: math.nan if value is None else value for key, value in record.items()})
        return history


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _list_of_records(records: Any) -> list[Any]:
    if records is None or isinstance(records, list):
        return records or []
    raise ArgumentTypeError(f"records must be a list of records, not {shown(records)}")


def _check_record(name: str, record: Any) -> None:
    if not isinstance(record, dict) or not all(isinstance(column, str) for column in record):
        raise ArgumentTypeError(f"{name} must be a dict of columns by their names, not {shown(record)}")


def json_line(record: Record) -> str:
    """A record as a line of JSON."""
    return json.dumps(finite(record)) + "\n"


def finite(record: Record) -> Record:
    """A record with None for what is NaN or infinite, which JSON does not have."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }

"""What a training run reports: one record per epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from .files import write_atomically

Record = dict[str, Any]


class History:
    """The records of a run: ``history[-1]`` is the last epoch's, ``history["loss"]`` the losses of all.

    A record has ``epoch`` (from 1), ``loss``, ``accuracy`` (for classes), ``val_loss``, ``val_accuracy`` (where there
    are validation rows), ``learning_rate``, ``seconds`` (training alone) and ``rows_per_second``. ``loss`` and
    ``accuracy`` are means over the epoch's batches, each taken before its update. An epoch without an evaluation lacks
    the columns of it, and reads as None there.

    Attributes:
        stopped: why training ended before its last epoch; "" if it did not.
    """

    def __init__(self, records: list[Record] | None = None) -> None:
        self.records: list[Record] = records or []
        self.stopped = ""

    def append(self, record: Record) -> None:
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
        return self.records[which]

    def __repr__(self) -> str:
        return f"<History of {len(self)} epochs{': ' + str(self.records[-1]) if self.records else ''}>"

    def to_json_lines(self) -> str:
        """The records as JSON lines, one epoch a line."""
        return "".join(json.dumps(record) + "\n" for record in self.records)

    def save(self, path: str | Path) -> None:
        """Write ``to_json_lines()`` to a file, whole or not at all."""
        write_atomically(path, self.to_json_lines().encode())

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what ``save`` wrote."""
        return cls([json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()])

"""Callbacks that show how training goes."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any, ClassVar, TextIO

from backends.arguments import ArgumentTypeError, check_flag, check_whole_number, shown

from ..history import Record
from ..notebook import in_notebook
from .base import Callback, Trainer


class ProgressBar(Callback):
    """A tqdm bar over the rows of all epochs; in a terminal or a notebook only, unless ``disable`` says otherwise."""

    first_only: ClassVar[bool] = True

    reads_gradients = False
    takes_parts = True
    of_fit = ("_bar",)

    def __init__(self, disable: bool | None = None) -> None:
        self.disable = None if disable is None else check_flag("disable, unless it is None,", disable)

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        from tqdm import tqdm

        self._last = trainer.epoch + epochs
        # disable=None is tqdm's own way to say: only on a terminal, which the output of a notebook is none.
        disable = False if self.disable is None and in_notebook() else self.disable
        total, seen = rows * epochs, trainer.seen
        self._bar: Any = tqdm(total=total, initial=seen, unit="row", unit_scale=True, leave=False, disable=disable)
        if trainer.seen:  # an epoch that was interrupted goes on
            self.on_epoch_begin(trainer, trainer.epoch + 1)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._bar.set_description(f"epoch {epoch}/{self._last}", refresh=False)

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self._bar.update(rows)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self._bar.clear()  # leave space for a line that another callback prints

    def on_fit_end(self, trainer: Trainer) -> None:
        self._bar.close()


class PrintEpochs(Callback):
    """A line per epoch: loss, accuracy, metrics, the same on the validation rows, rows per second, time. In the end,
    which epoch was the best, where that was looked for.

    Args:
        every: print each ``every``-th epoch, and the last.
        file: standard output by default.
    """

    first_only: ClassVar[bool] = True

    COLUMNS = (
        ("epoch", "epoch", "{:d}", 5),
        ("loss", "loss", "{:.5f}", 10),
        ("accuracy", "accuracy", "{:.2%}", 9),
        ("val_loss", "val loss", "{:.5f}", 10),
        ("val_accuracy", "val acc.", "{:.2%}", 9),
    )
    #: What stands behind the others; and what is not shown.
    LAST = (
        ("rows_per_second", "rows/s", "{:,.0f}", 11),
        ("seconds", "seconds", "{:.2f}", 8),
    )
    HIDDEN = ("learning_rate",)

    def __init__(self, every: int = 1, file: TextIO | None = None) -> None:
        self.every = check_whole_number("every", every)
        if file is not None and not hasattr(file, "write"):
            raise ArgumentTypeError(f"file must be a file that is open for text, or None, not {shown(file)}")
        self.file = file

    def __getstate__(self) -> dict[str, Any]:
        """A pickle prints to standard output: an open file cannot go into another process."""
        return vars(self) | {"file": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> PrintEpochs:
        """A copy prints to the same file."""
        new: PrintEpochs = object.__new__(type(self))
        vars(new).update(deepcopy(self.__getstate__(), memo), file=self.file)
        return new

    def __copy__(self) -> PrintEpochs:
        return deepcopy(self)

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self._last = trainer.epoch + epochs
        known = {column[0]: column for column in (*self.COLUMNS, *self.LAST)}
        last = [*self.HIDDEN, *(column[0] for column in self.LAST)]
        # A column that is not known is a metric.
        first = [known.get(name) or _of_metric(name) for name in trainer.columns if name not in last]
        self._columns = [*first, *self.LAST]
        self._has_head = False

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if not self._has_head:
            self._has_head = True
            self._print("  ".join(f"{title:>{width}}" for _, title, _, width in self._columns))
        epoch = record["epoch"]
        if epoch % self.every == 0 or epoch in (1, self._last) or trainer.stopping:
            cells = (
                (form.format(record[key]) if key in record else "", width) for key, _, form, width in self._columns
            )
            line = "  ".join(f"{text:>{width}}" for text, width in cells)
            rows = record.get("interrupted")
            self._print(line if rows is None else f"{line}  interrupted after {rows:,} rows")

    def on_fit_end(self, trainer: Trainer) -> None:
        if text := trainer.history.best_text:
            self._print(text)

    def _print(self, line: str) -> None:
        print(line, file=self.file or sys.stdout, flush=True)


def _of_metric(name: str) -> tuple[str, str, str, int]:
    title = name.replace("val_", "val ", 1)
    return name, title, "{:.4f}", max(len(title), 9)

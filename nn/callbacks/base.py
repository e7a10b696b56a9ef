"""What happens around the training loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..history import Record

#: The ``nn.Trainer`` that calls. (Importing it here would be a circle: it imports this module.)
Trainer = Any


class Callback:
    """Called by ``Trainer.fit``. ``trainer.stop(reason)`` ends training after the current batch.

    Attributes:
        reads_gradients: whether the callback reads ``trainer.model.gradients``, which costs a pass over memory in each
            step. None: if it overrides ``on_batch_end``.
        takes_parts: whether ``on_batch_end`` may be called once for several batches with all their rows; then they are
            launched in one call, which costs less where they are small.
    """

    reads_gradients: bool | None = None
    takes_parts = False

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        """Training on ``rows`` rows for ``epochs`` epochs begins."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Epoch ``epoch`` (from 1) begins."""

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        """A step on ``rows`` rows, or a part of several steps, has been launched; on a GPU it may still be running."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """An epoch has ended, and ``record`` is its line of the history."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Training has ended, by itself, by ``stop`` or by an error."""


def check_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """``callbacks`` as a list.

    Raises:
        TypeError: they are no list, or something in it is no callback.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks are a list, as in callbacks=[{callbacks!r}]")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            hint = f"; write {callback.__name__}()" if isinstance(callback, type) else ""
            raise TypeError(f"a callback is a Callback, not {callback!r}{hint}")
    return found

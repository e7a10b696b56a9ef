"""What is done to gradients before an update and to parameters after it: clipping, adding up over batches, averaging.

All of it works on the flat buffers, on the device, by operations of the backend; the plan (``nn.plan``) says when.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any, NamedTuple

from backends.arguments import check_number, check_whole_number
from backends.typing import Array

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any


class Clipping(NamedTuple):
    """How gradients are made smaller before an update: first by value, then by norm.

    Attributes:
        value: the largest absolute value that an element may have; None for any.
        limit: the largest norm that all gradients together may have; None for any.
        norm: (1,) of the wide dtype, where their norm goes before it is clipped.
    """

    value: float | None
    limit: float | None
    norm: Array


class Average(NamedTuple):
    """The exponential moving average of the parameters over the updates.

    Attributes:
        array: laid out like the parameters.
        decay: what is kept of it at each update.
        first: the number of the update that it begins with, as a copy.
    """

    array: Array
    decay: float
    first: int


class Share(NamedTuple):
    """Which one a batch is of several whose gradients make one update together.

    Attributes:
        rows: of all of them.
        is_first, is_last: of them.
        alike: how many batches from this one on are neither or, where this one is either, 1.
    """

    rows: int
    is_first: bool
    is_last: bool
    alike: int = 1

    @classmethod
    def of(cls, start: int, count: int, size: int, batches: int, rows: int) -> Share:
        """That of the batch of ``count`` rows from position ``start`` on, in an epoch of ``rows`` rows in batches of
        ``size``, of which so many make an update. An epoch ends with an update: of the batches that are left."""
        begin = start // (size * batches) * (size * batches)
        end = min(begin + size * batches, rows)
        is_first, is_last = start == begin, start + count == end
        alike = 1 if is_first or is_last else (end - start - 1) // size
        return cls(end - begin, is_first, is_last, alike)


def check_around_update(
    clip_norm: float | None, clip_value: float | None, accumulate: int, average: float | None
) -> None:
    """Raise a ValueError or TypeError for a setting of ``Trainer`` that is out of its range."""
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None:
            check_number(name, limit, above=0.0, infinite=True, hint="; None is no limit")
    check_whole_number("accumulate", accumulate)
    if average is not None:
        hint = "; it is what the average keeps of itself at each update, and None is no average"
        check_number("average", average, least=0.0, below=1.0, hint=hint)


def settings_around_update(trainer: Trainer) -> tuple[Any, ...]:
    """What ``trainer`` does to gradients and parameters beside an update; checked, for it may have been changed. The
    average is there where one is asked for."""
    store, average = trainer.model.store, trainer.average
    check_around_update(trainer.clip_norm, trainer.clip_value, trainer.accumulate, average)
    if average is None:
        store.flat_average = None
    elif store.flat_average is None:
        store.flat_average = trainer.backend.copy(store.flat_parameters)
        store.average_from = trainer.optimizer.steps + 1
    return trainer.clip_norm, trainer.clip_value, trainer.accumulate > 1, average, average and store.average_from


def around_update(trainer: Trainer, norm: Array) -> dict[str, Any]:
    """The same as arguments of ``compile_plan``; ``norm`` is that of ``Clipping``."""
    settings_around_update(trainer)
    store = trainer.model.store
    given: dict[str, Any] = {"shares": trainer.accumulate > 1}
    if trainer.clip_norm is not None or trainer.clip_value is not None:
        given["clipping"] = Clipping(trainer.clip_value, trainer.clip_norm, norm)
    if trainer.average is not None and store.flat_average is not None:
        given["average"] = Average(store.flat_average, trainer.average, store.average_from)
    return given


class AveragedParameters:
    """Puts the averaged parameters of a trainer in the place of its own, for one thread at a time.

    Attributes:
        are_in: whether the model has them now.
    """

    def __init__(self) -> None:
        self.are_in = False
        self._lock = RLock()  # held while they are in the model
        self._trained_by: int | None = None  # the thread in which ``fit`` runs

    @contextmanager
    def put_in(self, trainer: Trainer) -> Iterator[None]:
        """``Trainer.averaged``."""
        store, backend = trainer.model.store, trainer.backend
        if trainer.average is None or store.flat_average is None:
            yield
            return
        with self._lock:
            if self._trained_by not in (None, get_ident()):
                raise RuntimeError(
                    "another thread trains these parameters, so the averaged ones cannot take their place; ask in a "
                    "callback of that fit, or after it"
                )
            if self.are_in or trainer.optimizer.steps < store.average_from:
                yield
                return
            with backend.use():
                trained = backend.copy(store.flat_parameters)
                backend.copy(store.flat_average, store.flat_parameters)
            self.are_in = True
            try:
                yield
            finally:
                self.are_in = False
                with backend.use():
                    backend.copy(trained, store.flat_parameters)

    def refuse_to_save(self) -> None:
        """Refuse a checkpoint of parameters that are not those of training, or are half way through a step."""
        if self.are_in:
            raise RuntimeError("a checkpoint would have the averaged parameters; save it outside of trainer.averaged()")
        if self._trained_by not in (None, get_ident()):
            raise RuntimeError(
                "another thread trains these parameters, which may be half way through a step; save a checkpoint in a "
                "callback of that fit, by nn.Checkpoint for instance"
            )

    @contextmanager
    def kept_out(self) -> Iterator[None]:
        """A context of training, in which no other thread puts anything in the place of the parameters."""
        with self._lock:
            self._trained_by = get_ident()
        try:
            yield
        finally:
            self._trained_by = None

"""A call of ``fit`` that is running, and what a run is defined by: network, loss, optimizer, rows."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

from ..data.identity import identity
from ..feed import Rows
from ..layers import Layer
from .model_file import layer_to_dict

#: An ``nn.Trainer``, an ``nn.Callback``, an ``nn.divergence.Watch``, and a run that was interrupted
#: (``training_state.Interrupted``). (Importing them here would be a circle.)
Trainer = Any
Callback = Any
Watch = Any
Interrupted = Any
AROUND_UPDATE = ("clip_norm", "clip_value", "accumulate", "average")


@dataclass
class Fit:
    """A call of ``fit`` that is running.

    Attributes:
        callbacks: all of this call, in their order.
        called: those that this process calls: where several train together, the first one alone calls some.
        rows, validation: to train on, and to evaluate on.
        arguments: ``batch_size``, ``shuffle`` and ``validation_every``; of rows that are larger than memory ``window``,
            ``block`` and ``lanes``, too.
        settings: what the run was begun with, as ``settings_of``.
        first: how many epochs there had been before.
        last: how many there are to be after it.
        keeps_gradients: whether gradients must still be there when callbacks are called after a batch.
        watch: has what training moves as it was when the epoch began.
        resumed: what it goes on with, until its first epoch has begun; None where nothing was interrupted.
        now: settings, as ``now_of``, that the epoch is made with; those that were changed since count for the next one.
        started: the time at which the epoch would have begun, had it never been interrupted.
    """

    callbacks: list[Callback]
    called: list[Callback]
    rows: Rows
    validation: Rows | None
    arguments: dict[str, Any]
    settings: dict[str, Any]
    first: int
    last: int
    keeps_gradients: bool
    watch: Watch
    resumed: Interrupted | None = None
    now: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0

    def begin_epoch(self, trainer: Trainer) -> None:
        """An epoch begins, after all that may have changed a setting for it."""
        self.now, self.started = now_of(trainer), perf_counter()
        self.watch.begin()

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return int(self.arguments["batch_size"])

    @property
    def is_shuffled(self) -> bool:
        """Whether each epoch has an order of its own, which changes nothing where each batch has all rows."""
        return bool(self.arguments["shuffle"]) and self.batch_size < len(self.rows)

    def is_due(self, epoch: int) -> bool:
        """Whether an evaluation is due after that epoch."""
        return epoch % self.arguments["validation_every"] == 0 or epoch in (1, self.last)

    @cached_property
    def data(self) -> dict[str, Any]:
        """What tells these rows from others; hashed when it is first asked for."""
        return {
            "rows to train on": identity(self.rows.data),
            "validation rows": None if self.validation is None else identity(self.validation.data),
        }


def settings_of(trainer: Trainer) -> dict[str, Any]:
    """What a run with this trainer is defined by, beside rows and callbacks."""
    model, loss = trainer.model, trainer.loss
    return {
        "layers": [_layer(layer) for layer in model.layers],
        "dtype": model.backend.dtype_name,
        "seed": model.seed,
        "loss": {"name": loss.name, **loss.own_settings},
        "optimizer": _optimizer(trainer.optimizer),
        **_of_steps(trainer),
        **({} if trainer.blocks is None else {"blocks": trainer.blocks.count}),
    }


def _of_steps(trainer: Trainer) -> dict[str, Any]:
    """What a trainer does beside forward, backward and update, as JSON has it."""
    augment = None if trainer.augment is None else trainer.augment.settings()
    return {**{name: getattr(trainer, name) for name in AROUND_UPDATE}, "augment": augment}


def _layer(layer: Layer) -> dict[str, Any]:
    try:
        return layer_to_dict(layer)
    except TypeError:  # of one's own, which no file can hold: what of it can be compared
        own: list[str] = [entry.name for entry in fields(layer)] if is_dataclass(layer) else []
        known = {name: value for name in own if isinstance(value := getattr(layer, name), int | float | str)}
        return {"type": type(layer).__name__} | known


def _optimizer(optimizer: Any) -> dict[str, Any]:
    name: dict[str, Any] = {"name": optimizer.name}
    try:
        return {**name, **optimizer.to_json()}
    except TypeError:  # a function for a learning rate: only its name can be compared
        rate = optimizer.learning_rate
        return name | {"learning_rate": getattr(rate, "__qualname__", type(rate).__name__)} | _numbers(optimizer)


def _numbers(optimizer: Any) -> dict[str, Any]:
    """The settings of an optimizer that are numbers or flags, as they are now."""
    found = {name: value for name, value in optimizer.settings().items() if not callable(value)}
    return {name: value if isinstance(value, bool) else float(value) for name, value in found.items()}


def now_of(trainer: Trainer) -> dict[str, Any]:
    """The settings that callbacks may change while training runs."""
    return {"optimizer": _numbers(trainer.optimizer), **_of_steps(trainer)}

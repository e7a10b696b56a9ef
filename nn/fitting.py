"""A call of ``fit`` but for its steps: what it begins with, what its epochs begin with, and their records."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from .agreement import check_parameters, check_start, tell_where
from .blocks import sum_of_totals
from .callbacks import Callback
from .callbacks.base import reads_gradients
from .divergence import Watch
from .evaluation import columns_of, has_classes, record_of
from .given import on_device
from .metrics import check_metrics, means
from .picture_shape import shape_to_distort
from .steps import Epoch
from .storage.fit import Fit, settings_of
from .storage.training_state import Interrupted

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any


def begin_fit(
    trainer: Trainer,
    train: Any,
    validation: Any,
    arguments: dict[str, Any],
    epochs: int,
    callbacks: list[Callback],
    resumed: Interrupted | None,
) -> Fit:
    """A call of ``fit`` begins, or one that was interrupted goes on.

    Args:
        train, validation: as ``training_and_validation`` gave them.
        arguments: of ``Fit``, without those of the rows.
        epochs: how many the call makes, or all those of the one that goes on.
        resumed: what that one left.

    Raises:
        ValueError, TypeError: metrics or distortions do not fit the rows, or what was resumed is of another call.
        ProcessError: processes that are to train together differ.
    """
    model, collectives = trainer.model, trainer.backend.collectives
    rows, held_out = on_device(trainer, train, validation, arguments["batch_size"], arguments["shuffle"])
    trainer.columns = columns_of(trainer, rows, held_out)
    check_metrics(trainer.metrics, has_classes(trainer, rows), model.n_outputs)
    if trainer.augment is not None:
        shape_to_distort(rows.data, model.layers)  # or an error, before anything is trained
    first = trainer.epoch if resumed is None else resumed.first
    fit = Fit(
        callbacks=callbacks,
        called=[one for one in callbacks if collectives.rank == 0 or not one.first_only],
        rows=rows,
        validation=held_out,
        arguments={**arguments, **rows.settings},
        settings=settings_of(trainer),
        first=first,
        last=first + epochs,
        keeps_gradients=any(map(reads_gradients, callbacks)),
        watch=Watch(trainer),
        resumed=resumed,
    )
    check_start(trainer, fit)
    tell_where(trainer)
    if resumed is None:
        trainer.history.begin()
        trainer.seen, trainer.first_settings = 0, trainer.first_settings or fit.settings
    else:
        resumed.check_fit(fit)
        fit.settings = resumed.state["settings"]
    return fit


def begin_epoch(trainer: Trainer, fit: Fit) -> None:
    """An epoch begins, or goes on in its middle."""
    resumed, fit.resumed = fit.resumed, None
    if trainer.seen and resumed is not None:
        resumed.restore_epoch(trainer, fit)
        return
    fit.begin_epoch(trainer)
    trainer.totals[...] = 0.0
    if trainer.blocks is not None:
        trainer.totals_of_blocks[...] = 0.0


def record_epoch(trainer: Trainer, epoch: Epoch, fit: Fit) -> dict[str, Any]:
    """The record of an epoch whose steps have been made, the same on all processes: what the steps have found, and an
    evaluation if one is due or the run ends here.

    Raises:
        TrainingDiverged: a loss or a parameter is not finite.
        ProcessError: the parameters of the processes differ.
    """
    backend, seen = trainer.backend, trainer.seen
    if backend.device.queues and not trainer.stopping:
        epoch.feed.prepare(trainer.epoch + 1)
    if trainer.blocks is not None:
        trainer.totals[...] = backend.asarray(sum_of_totals(backend, trainer.totals_of_blocks), backend.wide)
    totals, seconds = fit.watch.end(epoch, seen), perf_counter() - fit.started
    found = means(totals, seen, epoch.rows.classes)
    is_due = not trainer.interrupted and (fit.is_due(trainer.epoch) or bool(trainer.stopping))
    record = record_of(trainer, found, epoch.rows, fit.validation, is_due)
    record |= {"seconds": seconds, "rows_per_second": seen / seconds}
    record |= {"interrupted": seen} if trainer.interrupted else {}
    check_parameters(trainer)
    shared: dict[str, Any] = backend.collectives.broadcast(record)
    fit.watch.check(shared, fit.validation)
    return shared

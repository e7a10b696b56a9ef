"""What a network is worth on rows: loss and accuracy, counted on the device, and metrics, computed on the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

from backends.typing import Array, HostArray

from .blocks import gathered_totals
from .feed import Feed, Rows
from .metrics import Metric, check_metrics, loss_names, means, without_column
from .model import Sequential
from .out_of_memory import in_batches
from .plan import Observer
from .streamed_feed import StreamedRows

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any


def evaluate_rows(
    trainer: Trainer, rows: Rows, metrics: Iterable[Metric], batch_size: int = 1024, *, shared: bool = False
) -> dict[str, float]:
    """Loss, accuracy for classes, and these metrics, by name; ``shared``: all processes come here, each for a part."""
    if shared and trainer.blocks is not None:
        totals = shared_totals_of(trainer, rows, batch_size)
    else:
        totals = trainer.backend.to_numpy(totals_of(trainer, rows, batch_size))
    return means(totals, len(rows), rows.classes) | host_metrics(trainer, rows, metrics)


def columns_of(trainer: Trainer, rows: Rows, validation: Rows | None) -> tuple[str, ...]:
    """The names of what a record of training on ``rows`` will tell."""
    names = [metric.name for metric in trainer.metrics]
    found = ["epoch", *loss_names(rows.classes), *(names if trainer.train_metrics else [])]
    if validation is not None:
        found += [f"val_{name}" for name in [*loss_names(validation.classes), *names]]
    return (*found, "learning_rate", "seconds", "rows_per_second")


def record_of(
    trainer: Trainer, found: dict[str, float], rows: Rows, validation: Rows | None, is_due: bool
) -> dict[str, Any]:
    """The record of an epoch but for its time: what its steps have found, and an evaluation if that is due."""
    record: dict[str, Any] = {"epoch": trainer.epoch, **found}
    if is_due and (trainer.train_metrics or validation is not None):
        with trainer.averaged():
            if trainer.train_metrics:
                record |= host_metrics(trainer, rows, trainer.metrics)
            if validation is not None:
                evaluated = evaluate_rows(trainer, validation, trainer.metrics, shared=True)
                record |= {f"val_{name}": value for name, value in evaluated.items()}
    return record | {"learning_rate": trainer.optimizer.rate(max(trainer.optimizer.steps, 1))}


def totals_of(
    trainer: Trainer,
    rows: Rows,
    batch_size: int = 1024,
    losses: Array | None = None,
    observer: Observer | None = None,
) -> Array:
    """(2,) on the device: the sum of the losses and the number of correct rows.

    Args:
        losses: (n,), where the loss of each row is written.
        observer: who looks at every tensor.
    """
    backend, plan = trainer.backend, trainer.plan(rows, observer=observer)
    totals, size = backend.zeros((2,), backend.wide), min(batch_size, len(rows))
    need = in_batches(trainer.model, "evaluation", tuple(rows.x.shape[1:]), size, kept=rows)
    with need, _feed(trainer, rows, batch_size, range(len(rows))) as feed:
        for start in range(0, len(rows), batch_size):
            end = min(start + batch_size, len(rows))
            x, y, weights = feed.batch(feed.position(start), end - start)
            of_rows = None if losses is None else losses[start:end]
            totals = plan.evaluate(x, y, totals, weights=weights, losses=of_rows)
    return totals


@contextmanager
def _feed(trainer: Trainer, rows: Rows, batch_size: int, part: range) -> Iterator[Feed]:
    """A context for batches of so many rows, of a part of them, as they are stored."""
    rows.reserve(batch_size)
    feed: Feed = trainer.feed(rows)
    feed.begin_in_order(batch_size, part)
    try:
        yield feed
    finally:
        feed.close()


def shared_totals_of(trainer: Trainer, rows: Rows, batch_size: int = 1024) -> HostArray:
    """The totals of ``totals_of``, where the processes that train together have neighbouring batches each: those of
    each batch are added in the order of the batches, whoever has computed them."""
    backend, plan = trainer.backend, trainer.plan(rows)
    rank, processes = backend.collectives.rank, backend.collectives.size
    batches = range(0, len(rows), batch_size)
    own = batches[len(batches) * rank // processes : len(batches) * (rank + 1) // processes]
    part = range(own.start, min(own.stop, len(rows)))
    totals = backend.zeros((len(own), 2), backend.wide)
    size = min(batch_size, len(rows))
    need = in_batches(trainer.model, "evaluation", tuple(rows.x.shape[1:]), size, kept=rows)
    with need, _feed(trainer, rows, batch_size, part) as feed:
        for index, start in enumerate(own):
            x, y, weights = feed.batch(feed.position(start), min(batch_size, len(rows) - start))
            plan.evaluate(x, y, totals[index, ...], weights=weights)
    total: HostArray = reduce(add, gathered_totals(backend, totals))
    return total


def host_metrics(trainer: Trainer, rows: Rows, metrics: Iterable[Metric]) -> dict[str, float]:
    """The metrics that are computed on the host from all rows at once, by name.

    Raises:
        ValueError: one of them is no metric of such targets.
    """
    metrics = list(metrics)
    if not metrics:
        return {}
    model: Sequential = trainer.model
    check_metrics(metrics, has_classes(trainer, rows), model.n_outputs)
    outputs = model(rows.data)
    made = {
        "outputs": lambda x: x,
        "predictions": model.predictions,
        "probabilities": model.probabilities,
        "scores": model.probabilities if model.output_activation else lambda x: x,
    }
    found = {of: without_column(made[of](outputs)) for of in {metric.of for metric in metrics}}
    # One-hot rows are classes for a loss of classes, and numbers for any other.
    # Of rows that are larger than memory the data set has class labels, where the loss takes them.
    are_classes = trainer.loss.targets == "classes" and not isinstance(rows, StreamedRows)
    targets = without_column(trainer.backend.to_numpy(rows.y) if are_classes else rows.data.y)
    return {metric.name: metric.value(targets, found[metric.of], rows.data.weights) for metric in metrics}


def has_classes(trainer: Trainer, rows: Rows) -> bool:
    """Whether the network tells classes of these rows apart, or answers yes or no; else it fits values."""
    return rows.classes or trainer.model.task != "values"

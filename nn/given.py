"""What ``fit`` is given: rows to train on, rows to evaluate on, and what each row counts."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any

from backends import Backend
from backends.arguments import check_flag, check_kind, check_whole_number

from .blocks import own_lanes
from .data import DataError, Dataset
from .data.streamed import StreamedDataset
from .data.targets import targets_of, windows_of, with_labels_read
from .data.weights import by_class, relative, weighted
from .feed import Rows
from .layers import check_batches
from .losses import Loss
from .out_of_memory import SPARE, allocating
from .streamed_feed import StreamedRows, ring_of
from .summary import ITEMSIZE

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any


def training_and_validation(
    trainer: Trainer, train: Any, validation: Any, sample_weight: Any, class_weight: Any
) -> tuple[Any, Any]:
    """The rows to train on, with their weights, and those to evaluate on, which may be a fraction of the former.

    Args:
        train, validation, sample_weight, class_weight: as ``Trainer.fit`` takes them.

    Raises:
        ValueError, TypeError: they cannot be used, do not fit the network, or are another trainer's.
    """
    for rows in (train, validation):
        if isinstance(rows, Rows) and rows.owner() is not trainer:
            raise ValueError("these rows were uploaded by another Trainer; let this one upload them")
    if isinstance(validation, bool):
        raise TypeError(f"validation is rows, or the fraction or number of rows to hold out, not {validation}")
    is_fraction = isinstance(validation, Real)  # NumPy's numbers, too
    if isinstance(train, Rows):
        if is_fraction:
            raise ValueError("rows that are on the device are not split; split their Dataset before upload")
        if not (sample_weight is None and class_weight is None):
            raise ValueError("rows that are on the device take no other weights; give them to their Dataset before")
        return train, validation
    model = trainer.model
    train = with_labels(weighted(held(model.dataset(train)), sample_weight), trainer.loss, model.n_outputs)
    if is_fraction:
        part = int(validation) if isinstance(validation, Integral) else float(validation)
        train, validation = map(held, train.split(part, seed=model.seed))
    if class_weight is not None:
        train = by_class(train, class_weight)
    return train, validation


def held(data: Dataset | StreamedDataset) -> Dataset | StreamedDataset:
    """The same rows, in memory where one window has them all."""
    if isinstance(data, StreamedDataset) and len(data) <= data.window:
        return data[:]
    return data


def arguments_of(
    trainer: Trainer, train: Any, batch_size: int | None, shuffle: bool, validation_every: int
) -> dict[str, Any]:
    """These arguments of ``Trainer.fit``, with the number of rows that a batch has.

    Raises:
        ValueError, TypeError: one is none that it takes, or layers cannot train on such batches.
    """
    arguments = {
        "batch_size": batch_rows(train, batch_size),
        "shuffle": check_flag("shuffle", shuffle),
        "validation_every": check_whole_number("validation_every", validation_every),
    }
    blocks = 1 if trainer.blocks is None else trainer.blocks.count
    check_batches(trainer.model.layers, len(train), arguments["batch_size"], blocks)
    return arguments


def batch_rows(train: Any, batch_size: int | None) -> int:
    """How many rows a batch of ``train`` has.

    Raises:
        ValueError, TypeError: that is no number of rows, or all of more than a window.
    """
    size = check_whole_number("batch_size", len(train) if batch_size is None else batch_size)
    data = train.data if isinstance(train, Rows) else train
    if isinstance(data, StreamedDataset) and size >= len(data):
        raise DataError(
            f"each batch would have all {len(data):,} rows at once, of which only {data.window:,} are in memory at a "
            f"time; name a batch size of at most {data.window:,}"
        )
    return size


def with_labels(data: Dataset | StreamedDataset, loss: Loss, n_outputs: int) -> Dataset | StreamedDataset:
    """The same rows; for a loss of classes with class labels, which may have been floats or one-hot before."""
    if loss.targets != "classes" or data.has_classes:
        return data
    names = tuple(str(label) for label in range(n_outputs))
    if isinstance(data, StreamedDataset):
        return with_labels_read(data, names)
    labels = targets_of(data, "classes", n_outputs, False)
    return replace(data, y=labels, class_names=names)


def uploaded(trainer: Trainer, data: Dataset | StreamedDataset, keep_scaled: bool = False) -> Rows:
    """``Trainer.upload``."""
    check_kind("data", data, (Dataset, StreamedDataset), "a Dataset; model.dataset((x, y)) makes one")
    keep_scaled = check_flag("keep_scaled", keep_scaled)
    model, loss, backend = trainer.model, trainer.loss, trainer.backend
    data = with_labels(model.shaped(held(data)), loss, model.n_outputs)
    if isinstance(data, StreamedDataset):
        streamed = streamed_rows(trainer, data)
        return streamed.scaled(backend) if keep_scaled else streamed
    targets = targets_of(data, loss.targets, model.n_outputs, loss.unit_interval)
    with backend.use(), allocating(backend, f"data of {len(data):,} rows", partial(_fewer_rows, data, backend)):
        x, y = backend.asarray(data.x), backend.asarray(targets)
        weights = relative(data.weights)
        if weights is not None:
            weights = backend.asarray(weights, backend.dtype)
        rows = Rows(data, x, y, data.scale, data.shift, data.has_classes, weakref.ref(trainer), weights)
        return rows.scaled(backend) if keep_scaled else rows


def streamed_rows(trainer: Trainer, data: StreamedDataset) -> StreamedRows:
    """``Trainer.upload`` of rows that are larger than memory: windows of them come to the device when they are due."""
    loss, backend, n_outputs = trainer.loss, trainer.backend, trainer.model.n_outputs
    targets = windows_of(data, loss.targets, n_outputs, loss.unit_interval)
    ring = ring_of(backend, data, targets, relative(data.weights))
    return StreamedRows(
        data, *ring.templates, data.scale, data.shift, data.has_classes, weakref.ref(trainer), ring=ring
    )


def _fewer_rows(data: Dataset, backend: Backend, free: int | None) -> str:
    """What to do where rows do not fit into so much memory."""
    row_bytes = max(data.n_features * (1 if data.x.dtype.itemsize == 1 else ITEMSIZE[backend.dtype_name]), 1)
    most = min(int((free or 0) * (1.0 - SPARE)) // row_bytes, len(data) - 1)
    most -= most % 10 ** max(len(str(most)) - 2, 0)  # two digits
    if most <= 0:
        return "use a smaller data set or another device"
    return f"about {most} rows would fit (data[:{most}], --limit {most})"


def on_device(trainer: Trainer, train: Any, validation: Any, size: int, shuffle: bool) -> tuple[Rows, Rows | None]:
    """What ``training_and_validation`` gave, on the device, to train in batches of ``size`` rows, shuffled or not; the
    model takes note of it."""
    model = trainer.model
    # Where each batch has all rows, they are scaled once.
    rows = train if isinstance(train, Rows) else trainer.upload(train, keep_scaled=size >= len(train))
    rows.reserve(size, own_lanes(trainer.blocks, shuffle))
    if not (validation is None or isinstance(validation, Rows)):
        units = rows.units if model.units is None else model.units.then(rows.units)
        validation = trainer.upload(model.dataset(validation, units))
    model.remember_data(rows.units, rows.data, trainer.loss)
    return rows, validation

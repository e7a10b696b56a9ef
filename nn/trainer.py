"""Training: the loop, on one screen. Rows in, parameters moved, history out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from time import perf_counter
from typing import Any

from backends import Step, StepNumbers
from backends.random import permutation
from backends.typing import Array

from .callbacks import Callback
from .data import Dataset, as_dataset, encode_targets
from .history import History, Record
from .losses import Loss, get_loss
from .model import Sequential
from .optimizers import Optimizer, get_optimizer

#: In how many places batches are gathered in turn, and how many numbers they may have in all.
MOST_PLACES = 4
ROOM_FOR_BATCHES = 1 << 21


class TrainingDiverged(ArithmeticError):
    """The loss became infinite or NaN."""


@dataclass
class Rows:
    """A data set on the device.

    Attributes:
        trainer: who uploaded it; its loss decides what ``y`` is.
        data: where it comes from.
        x, y: rows as stored, and targets as the loss takes them.
        scale, shift: a batch is x times scale plus shift; x itself where scale is None.
        factor: what the network multiplies a batch by.
        recorded: by what a recorded update depends on, memory for the order of the rows (or None) and the update.
        classes: whether y are class labels, so that there is an accuracy.
    """

    trainer: Trainer
    data: Dataset
    x: Array
    y: Array
    scale: float | None
    shift: float
    factor: float
    classes: bool
    recorded: dict[Any, tuple[Array | None, Step]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.x.shape[0])


class Trainer:
    """Trains a model by gradient descent on batches of rows.

    Args:
        model: the network; its seed also decides the shuffles.
        loss: a name such as ``"softmax_cross_entropy"``, ``"binary_cross_entropy"``, ``"mean_squared_error"``, or a
            ``Loss``.
        optimizer: ``SGD(learning_rate=0.1, momentum=0.9)``, or a name.
        callbacks: called around every ``fit``.

    Attributes:
        epoch: how many epochs have been begun, over all calls of ``fit``; two calls of 3 and 2 epochs are one of 5.
        history: one record for each.

    Raises:
        ValueError: the network's last layer does not belong to the loss.
    """

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss = "softmax_cross_entropy",
        optimizer: str | Optimizer = "sgd",
        *,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.model = model
        self.backend = model.backend
        self.loss = get_loss(loss)
        self.optimizer = get_optimizer(optimizer)
        self.callbacks = list(callbacks)
        self.history = History()
        self.epoch = 0
        self.stopping = ""
        self.from_logits = model.set_link(self.loss.link)
        with self.backend.use():
            self.optimizer.bind(model)
            self._totals = self.backend.zeros((2,), self.backend.wide)

    def fit(
        self,
        train: Any,
        epochs: int = 1,
        batch_size: int | None = 32,
        *,
        shuffle: bool = True,
        validation: Any = None,
        validation_every: int = 1,
        callbacks: Iterable[Callback] = (),
    ) -> History:
        """Train for ``epochs`` passes over the rows of ``train``, and return the history.

        Args:
            train: a ``Dataset``, or ``(x, y)`` arrays of any array library; or what ``upload`` gave, which spares
                several calls of ``fit`` the way to the device.
            batch_size: rows per update; the last batch of an epoch may be shorter. None means all rows at once.
            shuffle: whether each epoch visits the rows in an order of its own, decided by (seed, epoch). All rows at
                once are never shuffled: their order changes nothing.
            validation: rows to evaluate after each epoch, given as ``train`` is; or a number between 0 and 1, the
                fraction of ``train`` to hold out for it, stratified by class.
            validation_every: evaluate after every so many epochs only, and after the first and the last.
            callbacks: more of them, for this call.

        Raises:
            ValueError, TypeError: the data do not fit the network or the loss; nothing has been trained then.
            TrainingDiverged: the loss of an epoch is not finite.
        """
        if isinstance(train, Rows):
            if train.trainer is not self:
                raise ValueError("these rows were uploaded by another Trainer; let this one upload them")
            if isinstance(validation, float | int):
                raise ValueError("rows that are on the device are not split; split their Dataset before upload")
        else:
            train = as_dataset(train)
            if isinstance(validation, float | int):
                train, validation = train.split(validation, seed=self.model.seed)
        size = _checked("batch_size", len(train) if batch_size is None else batch_size)
        last = self.epoch + _checked("epochs", epochs, least=0)
        _checked("validation_every", validation_every)
        every_callback = [*self.callbacks, *callbacks]
        batch_callbacks = [c for c in every_callback if type(c).on_batch_end is not Callback.on_batch_end]
        self.stopping = self.history.stopped = ""
        with self.backend.use():
            rows = train if isinstance(train, Rows) else self.upload(train, keep_scaled=size >= len(train))
            validation_rows = None if validation is None else self.upload(as_dataset(validation))
            self.model.remember_data(rows.data, self.loss.link)
            for callback in every_callback:
                callback.on_fit_begin(self, len(rows), epochs)
            try:
                for _ in range(epochs):
                    self.epoch += 1
                    for callback in every_callback:
                        callback.on_epoch_begin(self, self.epoch)
                    started, seen = perf_counter(), 0
                    self._totals[...] = 0.0
                    order, update = self._recorded(rows, shuffle and size < len(rows))
                    if order is not None:
                        order[...] = self._order(len(rows))
                    for start in range(0, len(rows), size):
                        count = min(size, len(rows) - start)
                        self.step(update, start, count)
                        seen += count
                        for callback in batch_callbacks:
                            callback.on_batch_end(self, count)
                        if self.stopping:
                            break
                    due = self.epoch % validation_every == 0 or self.epoch in (1, last) or self.stopping
                    record = self._record(started, seen, rows.classes, validation_rows if due else None)
                    self.history.append(record)
                    for callback in every_callback:
                        callback.on_epoch_end(self, record)
                    if self.stopping:
                        self.history.stopped = self.stopping
                        break
            finally:
                for callback in every_callback:
                    callback.on_fit_end(self)
        return self.history

    def step(self, update: Step, start: int, count: int) -> None:
        """Make an update (``self.update``, perhaps recorded) on the ``count`` rows from ``start`` on, and count it."""
        update(StepNumbers(start, self.model.step, self.optimizer.steps + 1, self.optimizer.learning_rate), count)
        self.model.step += 1
        self.optimizer.steps += 1

    def update(self, rows: Rows, order: Array | None, numbers: StepNumbers, count: int) -> None:
        """A batch, forward, the loss and its gradient, backward, optimizer. Never waits for the device."""
        model, link = self.model, self.from_logits
        x, y = self.batch(rows, order, numbers.start, count)
        outputs = model.forward(x, training=True, before_link=link, step=numbers.step, factor=rows.factor)
        room = model.workspace.buffer("doutputs", outputs.shape)
        self._totals, doutputs = self.loss(self.backend, outputs, y, totals=self._totals, out=room)
        model.backward(doutputs, before_link=link, accumulation=self.optimizer.accumulation)
        self.optimizer.update(model, numbers.learning_rate, numbers.update)

    def gradients(self, data: Any) -> dict[str, Any]:
        """The gradients of the mean loss over all rows of ``data``, as NumPy arrays by the parameters' names. Moves
        nothing."""
        model = self.model
        with self.backend.use():
            rows = self.upload(as_dataset(data))
            x, y = self.batch(rows, None, 0, len(rows))
            outputs = model.forward(x, training=True, before_link=self.from_logits, factor=rows.factor)
            _, doutputs = self.loss(self.backend, outputs, y)
            model.backward(doutputs, before_link=self.from_logits)
            return {name: self.backend.to_numpy(view).copy() for name, view in model.gradients.items()}

    def evaluate(self, data: Any, batch_size: int = 1024) -> dict[str, float]:
        """The mean loss over ``data`` and, for classes, the accuracy: ``{"loss": ..., "accuracy": ...}``."""
        with self.backend.use():
            return self._evaluate(self.upload(as_dataset(data)), _checked("batch_size", batch_size))

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """``Sequential.predict``."""
        return self.model.predict(x, batch_size)

    def predict_proba(self, x: Any, batch_size: int = 1024) -> Any:
        """``Sequential.predict_proba``."""
        return self.model.predict_proba(x, batch_size)

    def stop(self, reason: str) -> None:
        """End training after the current batch. For callbacks and signal handlers."""
        self.stopping = reason

    # ---- rows on the device -----------------------------------------------------------------------------------------

    def upload(self, data: Dataset, keep_scaled: bool = False) -> Rows:
        """``data`` on the device, checked against the network; with ``keep_scaled`` its rows already scaled."""
        self.model.check_rows(data.x.shape[1:])
        classes = self.loss.targets == "classes" or data.has_classes
        if self.loss.link == "sigmoid" and data.has_classes and self.model.n_outputs > 1:
            raise ValueError(
                f"{self.loss.name} with class labels tells two classes apart, by one output; this network has "
                f"{self.model.n_outputs} (for one of n classes use softmax_cross_entropy; for n yes-or-no questions "
                "pass targets (m, n) of floats)"
            )
        targets = encode_targets(data.y, self.loss.targets, self.model.n_outputs, unit_interval=self.loss.unit_interval)
        with self.backend.use():
            x, y = self.backend.asarray(data.x), self.backend.asarray(targets)
            rows = Rows(self, data, x, y, data.scale, data.shift, 1.0, classes)
            if x.dtype == self.backend.dtype and data.scale == 1.0 and data.shift == 0.0:
                rows.scale = None
            elif keep_scaled:
                rows.x = self.backend.take_rows(x, None, 0, len(data), scale=data.scale, shift=data.shift)
                rows.scale = None
            elif data.shift == 0.0 and self.model.takes_factor:
                rows.scale, rows.factor = 1.0, data.scale
        return rows

    def batch(self, rows: Rows, order: Array | None, start: int | Array, count: int) -> tuple[Array, Array]:
        """The rows ``order[start : start + count]`` as the network sees them, and their targets."""
        take, buffer = self.backend.take_rows, self.model.workspace.buffer
        x_room = y_room = None
        # Where only the device knows the first row, no view of the rows is the batch, unless it is all of them.
        gathered = order is not None or not (isinstance(start, int) or count == len(rows))
        if gathered or rows.scale is not None:
            shape = count, *rows.x.shape[1:]
            # One core writes a batch and all read it. Were it written where the last one was, each line of memory would
            # have to be taken from the caches of the others first; so small batches go to several places in turn.
            places = min(MOST_PLACES, max(ROOM_FOR_BATCHES // prod(shape), 1)) if isinstance(start, int) else 1
            x_room = buffer(("x", self.model.step % places), shape)
        if gathered:
            y_room = buffer("targets", (count, *rows.y.shape[1:]), rows.y.dtype)
        x = take(rows.x, order, start, count, scale=rows.scale, shift=rows.shift, out=x_room)
        return x, take(rows.y, order, start, count, out=y_room)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _recorded(self, rows: Rows, shuffled: bool) -> tuple[Array | None, Step]:
        """Memory for the order of ``rows`` (or None) and ``update`` on it, recorded anew where a setting changed."""
        settings = {**self.optimizer.settings(), "learning_rate": None}  # this one is a number of each step
        key = shuffled, self.model.seed, repr(settings)
        if key not in rows.recorded:
            order = self.backend.empty((len(rows),), self.backend.xp.int64) if shuffled else None
            rows.recorded[key] = order, self.backend.record(partial(self.update, rows, order))
        return rows.recorded[key]

    def _order(self, n: int) -> Array:
        return self.backend.asarray(permutation(n, self.model.seed, self.epoch))

    def _evaluate(self, rows: Rows, batch_size: int = 1024) -> dict[str, float]:
        totals = self.backend.zeros((2,), self.backend.wide)
        for start in range(0, len(rows), batch_size):
            x, y = self.batch(rows, None, start, min(batch_size, len(rows) - start))
            outputs = self.model.forward(x, before_link=self.from_logits, factor=rows.factor)
            totals, _ = self.loss(self.backend, outputs, y, totals=totals, gradient=False)
        return self._means(totals, len(rows), rows.classes)

    def _means(self, totals: Array, rows: int, classes: bool) -> dict[str, float]:
        loss_sum, right = self.backend.to_numpy(totals).tolist()
        return {"loss": loss_sum / rows} | ({"accuracy": right / rows} if classes else {})

    def _record(self, started: float, seen: int, classes: bool, validation: Rows | None) -> Record:
        means = self._means(self._totals, seen, classes)  # reads the device: everything launched has finished then
        seconds = perf_counter() - started
        if not math.isfinite(means["loss"]):
            raise TrainingDiverged(
                f"the loss became {means['loss']} in epoch {self.epoch}: training diverged; use a smaller learning "
                f"rate than {self.optimizer.learning_rate:g}, or smaller start values"
            )
        record: Record = {"epoch": self.epoch, **means}
        if validation is not None:
            record |= {f"val_{name}": value for name, value in self._evaluate(validation).items()}
        return record | {
            "learning_rate": self.optimizer.learning_rate,
            "seconds": seconds,
            "rows_per_second": seen / seconds,
        }


def _checked(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)

"""Divergence: training in which a number has become infinite or NaN is ended at once, and told where that began.

While an epoch runs, its loss is looked at; after it, the parameters are. Where one of them is not finite, the model
gets the weights back that it had when the epoch began. Then the steps of that epoch are repeated, which gives the same
numbers, until the step that went wrong, and every tensor of that step is looked at as it is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from backends import Backend, RecordedStep, StepNumbers
from backends.typing import Array, HostArray

from .around_update import Share
from .evaluation import totals_of
from .feed import Rows
from .history import Record
from .messages import LONGEST, sentence
from .snapshot import Snapshot
from .stages import Stage
from .steps import Epoch, feed_of_whole_batches

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any

#: So many times the loss of chance is huge.
HUGE = 100.0
#: A device that works while the host goes on is waited for no more often than this, but for the end of each epoch.
LOOK_SECONDS = 1.0


class TrainingDiverged(ArithmeticError):
    """A number of a training run became infinite or NaN; the model has its last good weights again.

    Attributes:
        epoch: in which that happened, from 1.
        step: the training step, from 1, counted over all epochs; None where it was found after the steps, or not found.
        layer: the index of the layer that the first bad tensor belongs to; None where there is none.
        tensor: that tensor, as in ``"gradient of weight"``; "" where it was not found.
        learning_rate: of that step.
        weights_of: the epoch whose weights the model has again; 0 for those from before training, None where it was not
            brought back.
        saved_to: where whoever trains has saved these weights since, if so.
    """

    def __init__(
        self,
        message: str,
        *,
        epoch: int | None = None,
        step: int | None = None,
        layer: int | None = None,
        tensor: str = "",
        learning_rate: float | None = None,
        weights_of: int | None = None,
    ) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.layer = layer
        self.tensor = tensor
        self.learning_rate = learning_rate
        self.weights_of = weights_of
        self.saved_to = ""

    def __str__(self) -> str:
        if self.weights_of is None:
            return sentence(super().__str__())
        whose = f"of epoch {self.weights_of}" if self.weights_of else "from before training"
        saved = f", saved in {self.saved_to}" if self.saved_to else ""
        end = f"; the model has the weights {whose} again"
        return f"{sentence(super().__str__(), LONGEST - len(end))}{end}{sentence(saved)}"


@dataclass
class Watch:
    """Looks at a training run, keeps what it goes back to, and ends it where it diverges.

    Attributes:
        trainer: whose run it is.
        good: what training moves, as it was when the epoch began.
    """

    trainer: Trainer
    good: Snapshot | None = None
    looked: float = 0.0

    def begin(self) -> None:
        """An epoch begins: everything is as it should be."""
        good, self.good = self.good, None
        self.good = Snapshot.of(self.trainer) if good is None else good.renew(self.trainer)
        self.looked = perf_counter()

    def undo(self) -> bool:
        """Go back to where the epoch began, unless it is over and has its record; whether that was done."""
        trainer = self.trainer
        if len(trainer.history) and trainer.history[-1]["epoch"] == trainer.epoch:
            return False
        if self.good is None:  # it was only about to begin
            trainer.epoch -= 1
        else:
            self._go_back(trainer.epoch)
        return True

    def look(self, epoch: Epoch, seen: int) -> None:
        """After a part of an epoch: where its loss can be read, which is what a device that works by itself is asked
        for now and then only.

        Args:
            seen: how many rows the steps so far were made on.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        if self.trainer.backend.device.queues:
            now = perf_counter()
            if now - self.looked < LOOK_SECONDS:
                return
            self.looked = now
        if not _loss_is_finite(self.trainer):
            raise self.divergence(epoch, seen)

    def end(self, epoch: Epoch, seen: int) -> HostArray:
        """After the steps of an epoch, which have finished then.

        Returns:
            What they added up: the sum of the losses, and the number of correct rows.

        Raises:
            TrainingDiverged: the loss or a parameter is not finite.
        """
        totals, is_healthy = _read(self.trainer)
        if not is_healthy:
            raise self.divergence(epoch, seen)
        return totals

    def check(self, record: dict[str, Any], validation: Rows | None) -> None:
        """After the evaluation of an epoch.

        Raises:
            TrainingDiverged: the loss of the validation rows is not finite.
        """
        if validation is not None and not math.isfinite(record.get("val_loss", 0.0)):
            raise self.of_validation(validation, record["val_loss"])

    def divergence(self, epoch: Epoch, seen: int) -> TrainingDiverged:
        """What has gone wrong in an epoch, the trainer being as it was before it."""
        assert self.good is not None
        trainer = self.trainer
        number, rate = trainer.epoch, trainer.optimizer.rate(max(trainer.optimizer.steps, 1))
        loss = trainer.backend.item(trainer.totals[:1])
        self.good.restore(trainer)
        found = _first_bad_step(trainer, epoch, seen)
        self._go_back(number)
        if found is None:  # somebody has set numbers in the epoch, so that a repetition goes otherwise
            what = "a parameter was not finite" if math.isfinite(loss) else f"the loss became {loss}"
            found = Bad(f"{what} in epoch {number}", learning_rate=rate)
        else:
            found.text = f"step {found.step} (epoch {number}): {found.text}"
        text = f"training diverged in {found.text}" if found.step else f"training diverged: {found.text}"
        return self._told(f"{text}; {_advice(trainer, found.learning_rate)}", number, found)

    def of_validation(self, rows: Rows, loss: float) -> TrainingDiverged:
        """What has gone wrong where the loss of the validation rows is not finite, the trainer being as it was before
        the epoch."""
        trainer = self.trainer
        number, rate = trainer.epoch, trainer.optimizer.rate(max(trainer.optimizer.steps, 1))
        look = Look(trainer)
        with trainer.averaged():
            totals_of(trainer, rows, observer=look)
        bad = look.found or Bad(f"the loss of the validation rows became {_word(loss)}", tensor="loss")
        self._go_back(number)
        text = f"after epoch {number} the loss of the validation rows is {loss}"
        if bad.tensor != "loss":
            text += f", as {bad.text.replace('became', 'is')} there"
        bad.learning_rate, bad.step = rate, None
        return self._told(f"training diverged: {text}; {_advice(trainer, rate)}", number, bad)

    def _go_back(self, number: int) -> None:
        assert self.good is not None
        self.good.restore(self.trainer)
        self.trainer.epoch = number - 1

    def _told(self, message: str, number: int, bad: Bad) -> TrainingDiverged:
        return TrainingDiverged(
            message,
            epoch=number,
            step=bad.step,
            layer=bad.layer,
            tensor=bad.tensor,
            learning_rate=bad.learning_rate,
            weights_of=number - 1,
        )


@dataclass
class Bad:
    """The first tensor that is not finite: in words, and as in ``TrainingDiverged``."""

    text: str
    layer: int | None = None
    tensor: str = ""
    step: int | None = None
    learning_rate: float = math.nan


@dataclass
class Look:
    """An observer of a plan that notes the first tensor that is not finite."""

    trainer: Trainer
    found: Bad | None = field(default=None)

    def __call__(self, phase: str, stage: Stage | None, name: str, array: Array) -> None:
        if self.found is not None or phase.startswith("before ") or not _is_float(self.trainer.backend, array):
            return
        if not _is_finite(self.trainer.backend, array):
            word = _word(*self.trainer.backend.to_numpy(array).reshape(-1).tolist())
            layer, tensor, words = self._named(stage, name)
            self.found = Bad(f"{words} became {word}", layer, tensor)

    def _named(self, stage: Stage | None, name: str) -> tuple[int | None, str, str]:
        """The layer's index, the tensor, and both in words."""
        if stage is None and "." not in name:
            return (
                None,
                name,
                {"batch": "the batch of rows", "targets": "its targets", "weights": "its weights"}.get(
                    name, f"the {name}"
                ),
            )
        kind, _, of = name.rpartition(" ")
        if "." in of:  # "gradient of 2.weight", "velocity 2.weight", "parameter 2.weight", "state 2.mean"
            index, _, own = of.partition(".")
            what = kind.removesuffix(" of")
            tensor = own if what == "parameter" else f"{what} of {own}"
            whose = f"layer {index}'s {own}"
            words = whose if what == "parameter" else f"the {what} of {whose}"
        else:
            assert stage is not None
            index = stage.ctx.name
            tensor = "output" if name == "activation" else name
            words = f"the {tensor} of layer {index}"
        return int(index), tensor, f"{words} ({self.trainer.model.layers[int(index)]!r})"


def _first_bad_step(trainer: Trainer, epoch: Epoch, seen: int) -> Bad | None:
    """Repeat the steps of an epoch on ``seen`` rows, the trainer being as it was when that began, and look at every
    tensor of the first that goes wrong; None where none does."""
    before: Snapshot | None = None
    trainer.totals[...] = 0.0
    epoch.feed.begin_epoch(trainer.epoch, epoch.size)
    for start in range(0, seen, epoch.size):
        count = min(epoch.size, seen - start)
        before = Snapshot.of(trainer) if before is None else before.renew(trainer)
        trainer.steps(epoch, start, count)
        if not _read(trainer)[1]:
            break
    else:
        return None
    before.restore(trainer)
    trainer.totals[...] = 0.0
    look = Look(trainer)
    epoch = epoch._replace(feed=feed_of_whole_batches(trainer, epoch))
    plan = trainer.plan(epoch.rows, optimizer=trainer.optimizer, observer=look)

    def observed(share: Share | None = None) -> RecordedStep:
        make = trainer.make_step(epoch.feed, plan, share)

        def step(numbers: StepNumbers, count: int, times: int = 1) -> None:
            make(numbers, count)

        return step

    rate = trainer.optimizer.rate(trainer.optimizer.steps + 1)
    trainer.steps(epoch._replace(step=observed(), step_of=observed), start, count)
    bad = look.found or Bad("a number became infinite or NaN")
    bad.step, bad.learning_rate = trainer.model.step, rate
    return bad


def _loss_is_finite(trainer: Trainer) -> bool:
    return math.isfinite(trainer.backend.to_numpy(trainer.totals)[0])


def _read(trainer: Trainer) -> tuple[HostArray, bool]:
    """The totals, and whether the loss in them is finite, and so is all that a prediction is made with. Waits for the
    device once."""
    store, backend, totals = trainer.model.store, trainer.backend, trainer.totals
    kept = [store.flat_parameters, store.flat_state, store.flat_average]
    flags = [backend.all_finite(array) for array in kept if array is not None and array.shape[0] > 0]
    if not backend.device.queues:  # nothing is waited for, so nothing needs to be put together
        found = backend.to_numpy(totals)
        return found, math.isfinite(found[0]) and all(bool(backend.to_numpy(flag)) for flag in flags)
    xp = backend.xp
    found = backend.to_numpy(xp.concat([totals, *(xp.astype(xp.reshape(flag, (1,)), totals.dtype) for flag in flags)]))
    return found[:2], math.isfinite(found[0]) and bool(found[2:].all())


def _is_finite(backend: Backend, array: Array) -> bool:
    xp = backend.xp  # operations take the backend's own dtype only
    finite = backend.all_finite(array) if array.dtype == backend.dtype else xp.all(xp.isfinite(array))
    return bool(backend.to_numpy(finite))


def _is_float(backend: Backend, array: Array) -> bool:
    return bool(backend.xp.isdtype(array.dtype, "real floating"))


def _word(*values: float) -> str:
    return "NaN" if any(math.isnan(value) for value in values) else "infinite"


def _advice(trainer: Trainer, rate: float) -> str:
    optimizer = trainer.optimizer
    if optimizer.divides_zeros:
        return (
            f"with an epsilon of {optimizer.epsilon:g}, {optimizer.name} moves an element whose gradients have all "
            "been 0 by 0 / 0: use 1e-8 for instance"
        )
    limit = "" if trainer.clip_norm is not None else ", or limit the gradients (clip_norm=1.0)"
    return (
        f"the learning rate was {rate:g}: use a smaller one, {min(rate / 10, 0.1):g} for instance, or smaller initial "
        f"values{limit}"
    )


def exploded_text(record: Record, n_classes: int) -> str:
    """What to say of an epoch of a classifier whose loss is huge, though finite, and which is no better than chance;
    "" otherwise. (Chance is a loss of log n and an accuracy of 1/n; a huge loss alone may come with good answers.)"""
    accuracy = record.get("accuracy")
    if n_classes < 2 or accuracy is None or record["loss"] < HUGE * math.log(n_classes) or accuracy > 1.5 / n_classes:
        return ""
    return (
        f"the loss became {record['loss']:.3g} and the answers are no better than chance: use a smaller learning rate "
        f"than {record['learning_rate']:g}, or limit the gradients (--clip-norm 1)"
    )

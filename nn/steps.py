"""What makes training steps: recorded by the backend, kept for the next epoch, several of them launched in one call."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from backends import RecordedStep, Step, StepNumbers
from backends.typing import Array

from .around_update import Share, settings_around_update
from .blocks import make_step_on_blocks, own_lanes, places_of_gradients
from .data.streamed.order import ALL_LANES
from .feed import Feed, Rows
from .losses import Loss
from .optimizers import Optimizer
from .own_layers import LOOKED_AT, NOT_WRITTEN, observer_of
from .plan import Observer, Plan
from .streamed_feed import StreamedRows

#: How many steps are launched in one call where processes train together: they all look up at the same one.
STEPS_TOGETHER = 16

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any

#: A part of an epoch, which is launched in one call: so many steps that it takes about so many seconds, and at most so
#: many. Whether training is to be stopped is looked at between parts.
PART_SECONDS = 0.005
MOST_STEPS = 48


class Epoch(NamedTuple):
    """What an epoch is made with.

    Attributes:
        rows: that it visits.
        feed: gives the batches.
        step: makes steps on some, perhaps recorded.
        size: rows in a batch.
        keeps_gradients: whether the gradients of a step are still there after its update.
        batches: how many batches make an update.
        step_of: gives what makes steps on batches that share an update, perhaps recorded.
    """

    rows: Rows
    feed: Feed
    step: RecordedStep
    size: int
    keeps_gradients: bool
    batches: int
    step_of: Callable[[Share], RecordedStep]


class Recorded(NamedTuple):
    """What was made of rows to train on them, as long as no setting changes; not the rows, which must be free to go.

    Attributes:
        settings: what it was made for.
        state: the arrays that an update moves beside the parameters.
        feed, step: of the epochs.
        step_of: steps on batches that share an update.
    """

    settings: tuple[Any, ...]
    state: list[Array]
    feed: Feed
    step: RecordedStep
    step_of: Callable[[Share], RecordedStep]

    def serves(self, settings: tuple[Any, ...], state: list[Array]) -> bool:
        """Whether it is for these settings and these very arrays."""
        same = len(state) == len(self.state) and all(a is b for a, b in zip(state, self.state, strict=True))
        return same and settings == self.settings


class Recordings:
    """The steps that a trainer has recorded, by the rows that they are made on; they go when those go."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Rows, Recorded] = weakref.WeakKeyDictionary()
        self._looked_at: tuple[Loss | None, int] = None, 0  # with which loss, and how many rows

    def epoch(self, trainer: Trainer, rows: Rows, size: int, shuffled: bool, keep_gradients: bool) -> Epoch:
        """An epoch on ``rows``; with the steps of the one before as long as no setting has changed."""
        backend, optimizer, store = trainer.backend, trainer.optimizer, trainer.model.store
        optimizer.bind(store)
        of_optimizer = {**optimizer.settings(), "learning_rate": None}  # this one is a number of each step
        reserved = rows.reserve(size, own_lanes(trainer.blocks, shuffled))
        of_rows = shuffled, keep_gradients, trainer.model.seed, trainer.loss, trainer.blocks, reserved
        of_steps = *of_rows, optimizer.rule, repr(of_optimizer)
        settings = (*of_steps, trainer.augment, *settings_around_update(trainer))
        state = [*optimizer.state.values()]
        if store.flat_average is not None:
            state.append(store.flat_average)
        known = self._of.get(rows)
        if known is None or not known.serves(settings, state):
            self.look_at_own_layers(trainer, rows, size)
            feed, blocks = trainer.feed(rows, shuffled, augmented=True), trainer.blocks
            of_plan = {"optimizer": optimizer, "keep": keep_gradients}
            if blocks is None:
                places, plans = [], [trainer.plan(rows, **of_plan)]
            else:
                places = places_of_gradients(blocks, store)
                of_blocks = zip(blocks.own, places, strict=True)
                plans = [trainer.plan(rows, **of_plan, block=one, flat_gradients=place) for one, place in of_blocks]

            def make(share: Share | None = None) -> RecordedStep:
                if blocks is None:
                    step = trainer.make_step(feed, plans[0], share)
                else:
                    step = make_step_on_blocks(blocks, feed, plans, places, trainer.totals_of_blocks, share)
                recorded: RecordedStep = backend.record(step, only_operations=plans[0].recordable)
                return recorded

            known = self._of[rows] = Recorded(settings, state, feed, make(), _steps_of(make))
        return Epoch(rows, known.feed, known.step, size, keep_gradients, trainer.accumulate, known.step_of)

    def forget(self) -> None:
        """Let go of what was recorded; it is recorded anew."""
        self._of.clear()

    def look_at_own_layers(self, trainer: Trainer, rows: Rows, size: int) -> None:
        """Run rows through layers that somebody else has written, and look at what they give (``own_layers``): before
        the first use with a loss."""
        store, count = trainer.model.store, min(size, len(rows), LOOKED_AT)
        observer = observer_of(trainer.model.layers, store)
        if observer is None or (self._looked_at[0] is trainer.loss and count <= self._looked_at[1]):
            return
        store.flat_gradients[...] = NOT_WRITTEN
        try:
            leave_gradients(trainer, rows, count, observer)
            self._looked_at = trainer.loss, count
        finally:
            store.flat_gradients[...] = 0.0


def make_step(feed: Feed, plan: Plan, totals: Array, share: Share | None = None) -> Step:
    """A training step on a batch of ``feed``, which adds to ``totals``; on one of several of an update."""
    train = plan.train if share is None else partial(plan.train, share=share)

    def step(numbers: StepNumbers, count: int) -> None:
        x, y, weights = feed.batch(numbers.start, count, numbers.step)
        train(
            x,
            y,
            totals,
            step=numbers.step,
            update=numbers.update,
            learning_rate=numbers.learning_rate,
            weights=weights,
        )

    return step


def _steps_of(make: Callable[[Share], RecordedStep]) -> Callable[[Share], RecordedStep]:
    """Gives the step for batches that share an update, recorded when it is first asked for."""
    made: dict[tuple[int, bool, bool], RecordedStep] = {}

    def step_of(share: Share) -> RecordedStep:
        key = share.rows, share.is_first, share.is_last
        if key not in made:
            made[key] = make(share)
        return made[key]

    return step_of


class Parts(dict[int, int]):
    """How many steps are launched in one call, by the rows of each: as many as the last call has shown to be right."""

    def __missing__(self, count: int) -> int:
        return 1

    def launch(self, step: RecordedStep, numbers: StepNumbers, count: int, times: int) -> None:
        """Make so many steps on ``count`` rows each in one call, and learn from it how many belong into one."""
        began = perf_counter()
        step(numbers, count, times)
        seconds = max(perf_counter() - began, 1e-9)
        self[count] = min(int(times * PART_SECONDS / seconds) + 1, MOST_STEPS)


def rates_of(optimizer: Optimizer, update: int, times: int) -> tuple[float | tuple[float, ...], int]:
    """The learning rate of ``times`` updates, or a tuple with that of each; and of how many updates.

    These are fewer where a schedule fails for one of them: it fails again, as it should, when that one is the first.
    """
    rates = [optimizer.rate(update)]
    if not optimizer.rate_changes:
        return rates[0], times
    for later in range(update + 1, update + times):
        try:
            rates.append(optimizer.rate(later))
        except Exception:
            break
    return tuple(rates) if len({*rates}) > 1 else rates[0], len(rates)


def feed_of_whole_batches(trainer: Trainer, epoch: Epoch) -> Feed:
    """Batches of an epoch for one who needs all of their rows: ``epoch.feed`` may have those of the own blocks only."""
    rows, feed = epoch.rows, epoch.feed
    if not isinstance(rows, StreamedRows) or rows.lanes == ALL_LANES:
        return feed
    feed.close()
    rows.reserve(epoch.size, ALL_LANES)
    whole: Feed = trainer.feed(rows, feed.order is not None, augmented=True)
    whole.begin_epoch(trainer.epoch, epoch.size)
    return whole


def leave_gradients(trainer: Trainer, rows: Rows, count: int, observer: Observer | None = None) -> None:
    """Leave the gradients of the mean loss over the first ``count`` rows in the store, computed as in training."""
    store, backend = trainer.model.store, trainer.backend
    if isinstance(rows, StreamedRows):
        rows = trainer.upload(rows.data[:count])
    x, y, weights = trainer.feed(rows).batch(0, count)
    state = backend.copy(store.flat_state)  # layers move theirs as they do in training
    try:
        plan = trainer.plan(rows, training=True, observer=observer)
        plan.gradients(x, y, backend.zeros((2,), backend.wide), trainer.model.step, weights)
    finally:
        store.flat_state[...] = state

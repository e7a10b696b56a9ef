"""A training step, and the numbers that change from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import NamedTuple, Protocol

from .typing import Array


class StepNumbers(NamedTuple):
    """The numbers of a training step that change from step to step.

    Python numbers; inside a recorded step (1,) arrays on the device, three of int64 and one of the float dtype.

    Attributes:
        start: the first position of the batch in the order of the epoch.
        step: the number of the training step, from 0 (dropout masks).
        update: the number of the optimizer's update, from 1 (Adam).
        learning_rate: of the optimizer. Where these are the numbers of several steps, which ``RecordedStep`` takes, it
            may be a tuple with the rate of each; a step itself gets one number.
    """

    start: int | Array
    step: int | Array
    update: int | Array
    learning_rate: float | tuple[float, ...] | Array

    def after(self, count: int, times: int = 1) -> StepNumbers:
        """The numbers of what follows in the epoch on ``times`` steps, each on ``count`` rows."""
        start, step, update, rate = self
        rest = rate[times:] if isinstance(rate, tuple) else rate
        return StepNumbers(start + count * times, step + times, update + times, rest)

    def first(self, times: int) -> StepNumbers:
        """The same numbers for the first ``times`` steps alone, with one learning rate where theirs is the same."""
        rate = self.learning_rate
        if not isinstance(rate, tuple):
            return self
        return self._replace(learning_rate=rate[0] if len({*rate[:times]}) == 1 else rate[:times])

    def steps(self, count: int, times: int) -> Iterator[StepNumbers]:
        """The numbers of each of ``times`` steps on ``count`` rows each, one after the other; these are Python numbers.

        Raises:
            ValueError: there are more or fewer learning rates than steps.
        """
        start, step, update, rate = self
        rates: Iterable[float] = rate if isinstance(rate, tuple) else repeat(rate, times)
        # No loop in Python: it would be seen where batches are small.
        starts = range(start, start + count * times, count)
        numbers = zip(starts, range(step, step + times), range(update, update + times), rates, strict=True)
        return map(StepNumbers._make, numbers)


#: A training step on ``count`` rows: ``step(numbers, count)``.
Step = Callable[[StepNumbers, int], None]


class RecordedStep(Protocol):
    """What ``Backend.record`` makes of a step: the same step, several times in one call."""

    def __call__(self, numbers: StepNumbers, count: int, times: int = 1) -> None:
        """Make ``times`` steps on ``count`` rows each, one after the other: the first with ``numbers``, the next one
        with ``numbers.after(count)``, and so on."""

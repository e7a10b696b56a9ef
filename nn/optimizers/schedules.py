"""Learning rates that change: functions of the update's number, from 1, for ``learning_rate`` of an optimizer.

>>> from nn import SGD, Adam, CosineDecay, LinearWarmup
>>> optimizer = SGD(CosineDecay(0.1, length=10 * 469), momentum=0.9)
>>> optimizer = Adam(LinearWarmup(CosineDecay(0.001, length=4000), length=500))

Each is evaluated on the host for each update, and handed over as a number of the step; so a recorded step reads it on
the device. They have no memory: update n of a run that was interrupted has the rate that it would have had. All lengths
are in updates: an epoch has one for each batch, ``ceil(rows / batch_size)``.

The formulas are those of ``torch.optim.lr_scheduler`` with a call of ``step()`` after each update: update n has the
rate of PyTorch's step n - 1.

``repr`` of a schedule is the call that makes it again, and ``schedule_to_json`` and ``schedule_from_json`` write it as
a dict of numbers and names and read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import cos, pi
from typing import Any, ClassVar

from backends.arguments import (
    NamedArguments,
    check_choice,
    check_kind,
    check_number,
    check_whole_number,
    shown,
    unknown,
)

#: The schedules by their names.
SCHEDULES: dict[str, type[RateSchedule]] = {}


@dataclass(frozen=True)
class RateSchedule(NamedArguments):
    """A function of the update's number, from 1. One of your own is a frozen dataclass with a ``name`` and a
    ``__call__``; it is read from JSON by that name as soon as it is defined."""

    name: ClassVar[str]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" in vars(cls):
            SCHEDULES[cls.name] = cls

    def __call__(self, update: int) -> float:
        """The learning rate of that update."""
        raise NotImplementedError

    def check(self, *, above_0: str = "", at_least_0: str = "", updates: str = "") -> None:
        """Raise a ValueError for a field, of those named with spaces between them, that is not a number above 0, one of
        at least 0, a number of updates."""
        found: dict[str, Any] = {}
        for name in above_0.split():
            found[name] = check_number(f"{type(self).__name__}: {name}", getattr(self, name), above=0.0)
        for name in at_least_0.split():
            found[name] = check_number(f"{type(self).__name__}: {name}", getattr(self, name), least=0.0)
        for name in updates.split():
            found[name] = check_whole_number(f"{type(self).__name__}: {name}, in updates,", getattr(self, name))
        for name, value in found.items():
            object.__setattr__(self, name, value)  # a number of NumPy becomes one of Python, which a file can hold


@dataclass(frozen=True)
class Constant(RateSchedule):
    """The same rate in every update."""

    name: ClassVar[str] = "constant"

    rate: float

    def __post_init__(self) -> None:
        self.check(above_0="rate")

    def __call__(self, update: int) -> float:
        return float(self.rate)


@dataclass(frozen=True)
class StepDecay(RateSchedule):
    """rate * factor^k after k times ``every`` updates. (``StepLR``.)"""

    name: ClassVar[str] = "step"

    rate: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        self.check(above_0="rate factor", updates="every")

    def __call__(self, update: int) -> float:
        return float(self.rate * self.factor ** ((update - 1) // self.every))


@dataclass(frozen=True)
class ExponentialDecay(RateSchedule):
    """rate * factor^(t / every) after t updates: smooth, and after ``every`` of them ``factor`` times as large.
    (``ExponentialLR`` with every = 1; Keras's ``ExponentialDecay``.)"""

    name: ClassVar[str] = "exponential"

    rate: float
    factor: float
    every: int = 1

    def __post_init__(self) -> None:
        self.check(above_0="rate factor", updates="every")

    def __call__(self, update: int) -> float:
        return float(self.rate * self.factor ** ((update - 1) / self.every))


@dataclass(frozen=True)
class CosineDecay(RateSchedule):
    """Half a cosine from ``rate`` down to ``least`` in ``length`` updates; ``least`` after that.

    least + (rate - least) (1 + cos(pi t / length)) / 2 after t updates (``CosineAnnealingLR``, which rises again after
    ``length``); Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    name: ClassVar[str] = "cosine"

    rate: float
    length: int
    least: float = 0.0

    def __post_init__(self) -> None:
        self.check(above_0="rate", at_least_0="least", updates="length")

    def __call__(self, update: int) -> float:
        return _by_cosine(self.rate, self.least, min((update - 1) / self.length, 1.0))


@dataclass(frozen=True)
class LinearWarmup(RateSchedule):
    """A straight line up to another schedule, which begins after ``length`` updates.

    Args:
        then: the schedule, a function of the update's number, or a number. Its first rate is R.
        length: updates of the warm-up. After t of them the rate is R (start + (1 - start) t / length). (``LinearLR``
            before another by ``SequentialLR``.)
        start: the part of R with which the first update is made. 0 leaves it without effect on the parameters, though
            not on what an optimizer keeps. (PyTorch has 1/3.)
    """

    name: ClassVar[str] = "warmup"

    then: Any  # Callable[[int], float] | float
    length: int
    start: float = 0.0

    def __post_init__(self) -> None:
        self.check(at_least_0="start", updates="length")
        if isinstance(self.then, type) or not callable(self.then):
            try:
                object.__setattr__(self, "then", Constant(self.then))
            except ValueError:
                raise ValueError(
                    f"LinearWarmup: then must be a schedule or a number above 0, not {shown(self.then)}"
                ) from None

    def __call__(self, update: int) -> float:
        if update > self.length:
            return float(self.then(update - self.length))
        return float(self.then(1) * (self.start + (1.0 - self.start) * (update - 1) / self.length))


@dataclass(frozen=True)
class OneCycle(RateSchedule):
    """Up from ``rate / start_divisor`` to ``rate``, and down to ``rate / (start_divisor * end_divisor)``, in ``length``
    updates; that rate after them.

    Args:
        rate: the highest.
        warmup: the part of the updates in which it rises.
        anneal: ``"cosine"``, half a cosine up and half a cosine down, or ``"linear"``.

    (``OneCycleLR``, which also moves the momentum between 0.85 and 0.95, unless ``cycle_momentum`` is False; here it
    stays.) Smith and Topin, "Super-convergence", 2018.
    """

    name: ClassVar[str] = "one_cycle"

    rate: float
    length: int
    warmup: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4
    anneal: str = "cosine"

    def __post_init__(self) -> None:
        self.check(above_0="rate start_divisor end_divisor", at_least_0="warmup", updates="length")
        if self.warmup > 1.0:
            raise ValueError(f"OneCycle: warmup must be a part of the updates, at most 1, not {shown(self.warmup)}")
        check_choice("OneCycle: anneal", self.anneal, ("cosine", "linear"))

    def __call__(self, update: int) -> float:
        first = self.rate / self.start_divisor
        last = first / self.end_divisor
        top, end, t = self.warmup * self.length - 1.0, self.length - 1.0, update - 1.0
        if t >= end:
            return float(last)
        between = _by_cosine if self.anneal == "cosine" else _by_line
        if t <= top:
            return between(first, self.rate, t / top) if top > 0.0 else float(self.rate)
        return between(self.rate, last, (t - top) / (end - top))


def _by_cosine(start: float, end: float, part: float) -> float:
    return float(end + (start - end) * (1.0 + cos(pi * part)) / 2.0)


def _by_line(start: float, end: float, part: float) -> float:
    return float(start + (end - start) * part)


def schedule_to_json(schedule: Callable[[int], float]) -> dict[str, Any]:
    """A schedule as a dict of numbers, texts and dicts: its name, and its fields.

    Raises:
        TypeError: it is a function that is no ``RateSchedule``.
    """
    if not isinstance(schedule, RateSchedule):
        raise TypeError(f"only a schedule of nn.optimizers.schedules can be written, not {shown(schedule)}")
    values = {entry.name: getattr(schedule, entry.name) for entry in fields(schedule)}
    return {"name": schedule.name} | {
        name: schedule_to_json(value) if callable(value) else value for name, value in values.items()
    }


def schedule_from_json(data: Mapping[str, Any]) -> RateSchedule:
    """The schedule that ``schedule_to_json`` has written.

    Raises:
        ValueError: it is not known, or a field is missing, unknown or cannot be used.
    """
    check_kind("data", data, Mapping, "a mapping, as schedule_to_json gives it")
    values = {str(key): value for key, value in data.items()}
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(unknown("schedule", name, SCHEDULES))
    made = {key: schedule_from_json(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    try:
        return SCHEDULES[name](**made)
    except TypeError:
        known = ", ".join(entry.name for entry in fields(SCHEDULES[name]))
        given = ", ".join(values) or "nothing"
        raise ValueError(f"schedule {name!r} has the fields {known}, not {given}") from None

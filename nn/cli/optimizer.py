"""The optimizer of a run and its learning rate, from the settings: lengths in epochs become lengths in updates."""

from __future__ import annotations

from math import ceil
from typing import Any

from ..callbacks import Callback, ReduceOnPlateau
from ..optimizers import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    Optimizer,
    RateSchedule,
    StepDecay,
    get_optimizer,
)
from .kinds import UsageError
from .settings import DECAY_EVERY, DECAY_FACTORS, Settings, momentum_of, optimizer_settings


def build_optimizer(settings: Settings, rows: int) -> Optimizer:
    """The optimizer by its name, with those settings that it has, for ``rows`` training rows; None leaves it its own
    default.

    Raises:
        UsageError: a warm-up is not shorter than training.
    """
    names = optimizer_settings(settings.optimizer)
    chosen = {name: settings.values.get(name) for name in names}
    if "momentum" in names:
        chosen["momentum"] = momentum_of(settings)
    optimizer = get_optimizer(
        settings.optimizer, **{name: value for name, value in chosen.items() if value is not None}
    )
    if settings.epochs:
        schedule = schedule_of(settings, float(optimizer.learning_rate), updates_of_epoch(settings, rows))
        optimizer.learning_rate = optimizer.learning_rate if schedule is None else schedule
    return optimizer


def updates_of_epoch(settings: Settings, rows: int) -> int:
    """How many updates an epoch has."""
    batches = 1 if settings.batch_size is None else ceil(rows / settings.batch_size)
    return ceil(batches / settings.accumulate)


def schedule_of(settings: Settings, rate: float, per_epoch: int) -> RateSchedule | None:
    """The schedule of the learning rate ``rate``, epochs being so many updates long; None where it stays."""

    def updates(epochs: float) -> int:
        return max(round(epochs * per_epoch), 1)

    name, total = settings.schedule, settings.epochs * per_epoch
    warm = updates(settings.warmup) if settings.warmup else 0
    if warm >= total:
        raise UsageError(f"--warmup {settings.warmup:g} must be less than the {settings.epochs} epochs of training")
    if name == "one_cycle":
        return OneCycle(rate, total) if settings.warmup is None else OneCycle(rate, total, warm / total)
    after: RateSchedule = Constant(rate)
    if name in DECAY_EVERY:
        every = updates(settings.decay_every or DECAY_EVERY[name])
        factor = settings.decay_factor or DECAY_FACTORS[name]
        after = StepDecay(rate, every, factor) if name == "step" else ExponentialDecay(rate, factor, every)
    elif name == "cosine":
        after = CosineDecay(rate, total - warm, settings.min_lr)
    if warm:
        return LinearWarmup(after, warm)
    return None if name in ("constant", "plateau") else after


def lowering(settings: Settings) -> list[Callback]:
    """The callback of ``--schedule plateau``, which looks at the validation rows where there are any."""
    if settings.schedule != "plateau" or not settings.epochs:
        return []
    given: dict[str, Any] = {} if settings.plateau_patience is None else {"patience": settings.plateau_patience}
    factor = settings.decay_factor or DECAY_FACTORS["plateau"]
    if factor >= 1.0:
        raise UsageError(f"--decay-factor of the schedule plateau must be below 1, not {factor:g}")
    monitor = "loss" if settings.validation is None else "val_loss"
    return [ReduceOnPlateau(monitor, factor, min_lr=settings.min_lr, **given)]

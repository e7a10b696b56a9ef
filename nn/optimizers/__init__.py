"""Optimizers: how parameters move against their gradients."""

from __future__ import annotations

from typing import Any

from backends.arguments import shown, unknown

from .adam import Adam, AdamW
from .adaptive import Adagrad, RMSProp
from .base import OPTIMIZERS, Fold, Optimizer, Schedule
from .schedules import (
    SCHEDULES,
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    RateSchedule,
    StepDecay,
    schedule_from_json,
    schedule_to_json,
)
from .sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "Fold",
    "LinearWarmup",
    "OneCycle",
    "Optimizer",
    "RMSProp",
    "RateSchedule",
    "Schedule",
    "StepDecay",
    "get_optimizer",
    "schedule_from_json",
    "schedule_to_json",
]


def get_optimizer(optimizer: str | Optimizer, **settings: Any) -> Optimizer:
    """The optimizer that ``optimizer`` names, with these settings, or the one given.

    Raises:
        ValueError: the name is not known; the message lists those that are.
        TypeError: it is neither a name nor an optimizer, or has no such setting.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        hint = f"; write {optimizer.__name__}()" if isinstance(optimizer, type) else ""
        raise TypeError(f"an optimizer is a name or an Optimizer, not {shown(optimizer)}{hint}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", optimizer, sorted(OPTIMIZERS)))
    return OPTIMIZERS[optimizer](**settings)

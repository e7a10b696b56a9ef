"""The optimizer of a run, from its settings."""

from __future__ import annotations

from ..optimizers import Optimizer, get_optimizer
from .settings import Settings, momentum_of, optimizer_settings


def build_optimizer(settings: Settings) -> Optimizer:
    """The optimizer by its name, with those settings that it has; None leaves it its own default."""
    names = optimizer_settings(settings.optimizer)
    chosen = {name: settings.values.get(name) for name in names}
    if "momentum" in names:
        chosen["momentum"] = momentum_of(settings)
    return get_optimizer(settings.optimizer, **{name: value for name, value in chosen.items() if value is not None})

"""The loss of a run, from its settings."""

from __future__ import annotations

from ..losses import Loss, get_loss, loss_settings
from .settings import Settings


def build_loss(settings: Settings) -> Loss:
    """The loss by its name, with those settings that it has; None leaves it its own default."""
    chosen = {name: settings.values.get(name) for name in loss_settings(settings.loss)}
    return get_loss(settings.loss, **{name: value for name, value in chosen.items() if value is not None})

"""The loss of a run, from its settings."""

from __future__ import annotations

from ..losses import Loss, get_loss, loss_settings
from .settings import Settings

#: Settings of losses that have another name in ``Settings``: `alpha` is that of RMSProp there.
_OTHER_NAMES = {"alpha": "focal_alpha"}


def build_loss(settings: Settings) -> Loss:
    """The loss by its name, with those settings that it has; None leaves it its own default."""
    chosen = {name: settings.values.get(_OTHER_NAMES.get(name, name)) for name in loss_settings(settings.loss)}
    return get_loss(settings.loss, **{name: value for name, value in chosen.items() if value is not None})

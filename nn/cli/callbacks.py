"""The callbacks of a run, from its settings."""

from __future__ import annotations

from ..callbacks import Callback, EarlyStopping, PrintEpochs, ProgressBar, TensorBoard
from ..callbacks.logs import log_to
from .kinds import UsageError
from .optimizer import lowering
from .settings import Settings


def build_callbacks(settings: Settings) -> list[Callback]:
    """What shows how training goes, unless it is to be quiet, and what else was asked for.

    Raises:
        UsageError: a library is not installed.
    """
    found: list[Callback] = [] if settings.quiet else [ProgressBar(), PrintEpochs(settings.every)]
    found += lowering(settings)
    if settings.early_stopping is not None:
        monitor = settings.monitor or ("loss" if settings.validation is None else "val_loss")
        found.append(
            EarlyStopping(monitor, settings.early_stopping, settings.min_delta, restore_best=settings.restore_best)
        )
    if settings.log is not None:
        found.append(log_to(settings.log))
    if settings.tensorboard is not None:
        try:
            found.append(TensorBoard(settings.tensorboard))
        except ImportError as error:
            raise UsageError(f"--tensorboard: {error}") from None
    return found

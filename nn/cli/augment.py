"""The distortions of training pictures, made from the settings."""

from __future__ import annotations

from ..data import Augment
from .settings import Settings


def build_augment(settings: Settings) -> Augment | None:
    """What ``--augment-shift`` and its like ask for; None for nothing.

    Raises:
        ValueError: a number is out of range.
    """
    augment = Augment(
        shift=settings.augment_shift,
        rotation=settings.augment_rotation,
        scale=settings.augment_scale,
        shear=settings.augment_shear,
        elastic=settings.augment_elastic,
        flip_horizontal=settings.augment_flip in ("horizontal", "both"),
        flip_vertical=settings.augment_flip in ("vertical", "both"),
        cutout=settings.augment_cutout,
        fill=settings.augment_fill,
    )
    return None if augment == Augment(fill=augment.fill) else augment

"""How training pictures are distorted at random: the settings, and what of them is worked out beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backends.arguments import (
    ArgumentTypeError,
    NamedArguments,
    check_flag,
    check_kind,
    check_number,
    check_whole_number,
    shown,
)

#: A Gaussian ends so many standard deviations from its centre, as that of ``scipy.ndimage`` does.
TRUNCATE = 4.0


@dataclass(frozen=True)
class Augment(NamedArguments):
    """Random distortions of the pictures of training batches: ``Trainer(..., augment=Augment(shift=2, rotation=15))``.

    Each picture is distorted anew in each epoch. How depends on (seed, epoch, number of the row in the data set) alone:
    not on the batch size, the order of the rows or the device. Evaluation and prediction see the pictures as they are.

    A picture is mirrored, stretched, sheared, turned about its centre and shifted, in this order; then every pixel is
    displaced by an elastic distortion; then a square is cut out. All of it is one bilinear interpolation.

    >>> from nn import Augment
    >>> Augment(rotation=15, scale=0.15, elastic=(34, 4))
    Augment(rotation=15, scale=0.15, elastic=(34, 4))

    Args:
        shift: at most so many pixels to each side, and as many up or down, each drawn uniformly.
        rotation: at most so many degrees to either side.
        scale: at most this part wider or narrower, 0.15 for widths from 0.85 to 1.15; and likewise, by a draw of its
            own, higher or lower.
        shear: at most so many degrees by which upright lines lean to either side.
        elastic: (alpha, sigma), the elastic distortion of Simard, Steinkraus and Platt, "Best practices for
            convolutional neural networks applied to visual document analysis" (ICDAR 2003), who take (34, 4) for MNIST:
            every pixel is displaced in x and in y by uniform noise from [-1, 1), smoothed by a Gaussian of standard
            deviation sigma pixels whose weights add up to 1, times alpha. The paper has the smoothed field normalized;
            read as a norm of 1 over all pixels of a field, the mean displacement of (34, 4) on 28 x 28 pixels is
            34 / 28 = 1.2 pixels, and 34 / (2 sqrt(3 pi) 4) = 1.4 as it is done here, without a sum over each field.
            Around the picture there is no noise, so displacements are smaller near its edges.
        flip_horizontal, flip_vertical: whether a picture is mirrored, left to right or top to bottom, half of the time.
        cutout: the side, in pixels, of a square that is filled (DeVries and Taylor, "Improved regularization of
            convolutional neural networks with cutout", 2017). Its centre is any pixel, each as likely as any other;
            what of it lies outside of the picture is lost.
        fill: the value outside of a picture and in a cutout, as the data set stores it: 0 is black.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: tuple[float, float] | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False
    cutout: int = 0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_number("shift", self.shift, least=0.0, hint="; it is in pixels")
        check_number("rotation", self.rotation, least=0.0, most=180.0, hint="; it is in degrees")
        check_number("scale", self.scale, least=0.0, below=1.0, hint="; 0.15 is from 0.85 to 1.15")
        check_number("shear", self.shear, least=0.0, below=90.0, hint="; it is in degrees")
        check_number("fill", self.fill)
        check_whole_number("cutout", self.cutout, 0)
        for name in ("flip_horizontal", "flip_vertical"):
            check_flag(name, getattr(self, name))
        if self.elastic is not None:
            if not isinstance(self.elastic, tuple | list) or len(self.elastic) != 2:
                raise ArgumentTypeError(f"elastic must be (alpha, sigma) or None, not {shown(self.elastic)}")
            alpha = check_number("alpha of elastic", self.elastic[0], least=0.0)
            sigma = check_number("sigma of elastic", self.elastic[1], above=0.0, hint="; it is in pixels")
            object.__setattr__(self, "elastic", (alpha, sigma))

    def __repr__(self) -> str:
        return f"Augment({', '.join(f'{name}={value!r}' for name, value in self._set().items())})"

    def __str__(self) -> str:
        """What is done, in a few words."""
        words = []
        for name, value in self._set().items():
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            words.append(" ".join([name.replace("_", " "), *(f"{number:g}" for number in values)]))
        return ", ".join(words) or "nothing"

    def _set(self) -> dict[str, Any]:
        """The settings that are not as by default."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Augment, name)}

    def settings(self) -> dict[str, Any]:
        """All settings, as JSON has them."""
        return asdict(self) | {"elastic": None if self.elastic is None else [*self.elastic]}


def as_augment(value: Any) -> Augment | None:
    """An ``Augment``, None, or what ``settings`` gave."""
    if isinstance(value, Mapping):
        return Augment(**value)
    check_kind("augment, unless it is None,", value, (Augment, type(None)), "an Augment")
    augment: Augment | None = value
    return augment


def gaussian(count: int, sigma: float) -> tuple[np.ndarray, int]:
    """Smoothing by a Gaussian of standard deviation ``sigma`` along ``count`` pixels, with nothing around them.

    Returns:
        (count, count) float64, whose product with the pixels is the smoothed ones; and how far from its diagonal
        elements are that are not 0.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    between = np.subtract.outer(np.arange(count), np.arange(count)) + radius
    inside = (between >= 0) & (between <= 2 * radius)
    return np.where(inside, weights[np.clip(between, 0, 2 * radius)], 0.0), radius

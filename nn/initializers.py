"""Initial values: drawn on the host from the stream of (seed, parameter name), so that they are equal on every device.

An initializer is called with the shape of a parameter, ``(fan_in, fan_out)`` for weights and ``(height, width,
channels, filters)`` for those of a convolution, and a random generator, and gives float64 values. It is named by a
string such as ``"glorot_uniform"``, ``"normal"`` (N(0, 1)), ``"normal:0.01"`` (scaled by 0.01), ``"uniform:-0.5,0.5"``
or ``"constant:4"``: see ``get_initializer``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

from backends.arguments import check_number, did_you_mean, shown
from backends.typing import Array, Shape


class Initializer:
    """Draws the initial values of a parameter."""

    def __call__(self, shape: Shape, generator: Any) -> Array:
        """Values of that shape, or that broadcast to it, from ``generator``, a NumPy ``Generator``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Normal(Initializer):
    """N(0, std^2)."""

    std: float = 1.0

    def __call__(self, shape: Shape, generator: Any) -> Array:
        return self.std * generator.standard_normal(shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(low, high)."""

    low: float = -0.5
    high: float = 0.5

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"uniform: low ({self.low}) must not be above high ({self.high})")

    def __call__(self, shape: Shape, generator: Any) -> Array:
        return generator.uniform(self.low, self.high, shape)


@dataclass(frozen=True)
class Constant(Initializer):
    """The same value everywhere, or a list of values in the shape of the parameter."""

    value: float | tuple[Any, ...] = 0.0

    def __call__(self, shape: Shape, generator: Any) -> Array:
        return self.value


@dataclass(frozen=True)
class ScaledNormal(Initializer):
    """N(0, gain / fan), fan being fan_in, or the mean of fan_in and fan_out."""

    gain: float = 1.0
    fan: str = "in"

    def __call__(self, shape: Shape, generator: Any) -> Array:
        return sqrt(self.gain / _fan(shape, self.fan)) * generator.standard_normal(shape)


@dataclass(frozen=True)
class ScaledUniform(Initializer):
    """U(-a, a) with the variance a^2 / 3 = gain / fan."""

    gain: float = 1.0
    fan: str = "in"

    def __call__(self, shape: Shape, generator: Any) -> Array:
        bound = sqrt(3.0 * self.gain / _fan(shape, self.fan))
        return generator.uniform(-bound, bound, shape)


def _fan(shape: Shape, which: str) -> float:
    """How many numbers a sum is made of, or the mean of that and of how many sums a number enters.

    A filter of a convolution adds up height width channels numbers, and each is seen by so many windows as there are
    positions in one, of every filter: so PyTorch and Keras count, whose fan_out takes no notice of groups.
    """
    window = shape[0] * shape[1] if len(shape) == 4 else 1
    fan_in, fan_out = window * shape[-2] if len(shape) == 4 else shape[0], window * shape[-1]
    return fan_in if which == "in" else (fan_in + fan_out) / 2


#: name -> how to make it from the numbers after the colon, and what those are
INITIALIZERS: dict[str, tuple[Callable[..., Initializer], str]] = {
    "zeros": (lambda: Constant(0.0), ""),
    "constant": (Constant, "VALUE"),
    "normal": (Normal, "STD (1)"),
    "uniform": (Uniform, "LOW,HIGH (-0.5,0.5)"),
    # N(0, 1) / sqrt(fan_in): LeCun et al., "Efficient BackProp", 1998
    "lecun_normal": (lambda: ScaledNormal(1.0, "in"), ""),
    "lecun_uniform": (lambda: ScaledUniform(1.0, "in"), ""),
    # variance 2 / (fan_in + fan_out): Glorot and Bengio, AISTATS 2010
    "glorot_normal": (lambda: ScaledNormal(1.0, "mean"), ""),
    "glorot_uniform": (lambda: ScaledUniform(1.0, "mean"), ""),
    # variance 2 / fan_in, for ReLU: He et al., ICCV 2015
    "he_normal": (lambda: ScaledNormal(2.0, "in"), ""),
    "he_uniform": (lambda: ScaledUniform(2.0, "in"), ""),
}


def get_initializer(spec: str | float | tuple[Any, ...] | list[Any] | Initializer) -> Initializer:
    """The initializer that ``spec`` names: ``"he_normal"``, ``"normal:0.01"``, ``"uniform:-0.5,0.5"``; a number or a
    nested list is a constant.

    Raises:
        ValueError: the name is not known, or the numbers after it do not fit.
    """
    if isinstance(spec, Initializer):
        return spec
    if isinstance(spec, list | tuple):
        _check_nested(spec)
        return Constant(tuple(spec))
    if not isinstance(spec, str):
        return Constant(check_number("initial values, unless they are a name or a list of numbers,", spec))
    name, _, numbers = spec.partition(":")
    if name not in INITIALIZERS:
        near = did_you_mean(name, INITIALIZERS)
        raise ValueError(f"unknown initial values {shown(spec)}{near}; known are {initializer_names()}")
    make, wanted = INITIALIZERS[name]
    try:
        values = [float(number) for number in numbers.split(",") if numbers]
    except ValueError:
        raise ValueError(
            f"initial values {shown(spec)}: {shown(numbers)} must be numbers with commas between them"
        ) from None
    try:
        return make(*values)
    except TypeError:
        form = f"{name}:{wanted}" if wanted else f"{name}, without numbers"
        raise ValueError(f"initial values {shown(spec)}: write {form}") from None
    except ValueError as error:
        raise ValueError(f"initial values {shown(spec)}: {error}") from None


def _check_nested(values: list[Any] | tuple[Any, ...]) -> None:
    for value in values:
        if isinstance(value, list | tuple):
            _check_nested(value)
        else:
            check_number("each of a list of initial values", value)


def initializer_names() -> str:
    """The known names, for a message or a help text."""
    return ", ".join(name + (f":{wanted}" if wanted else "") for name, (_, wanted) in INITIALIZERS.items())

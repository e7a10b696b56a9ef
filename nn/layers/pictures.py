"""What layers on pictures (m, height, width, channels) have in common: their settings and the shapes of their rows."""

from __future__ import annotations

from math import isqrt

from backends.arguments import ArgumentTypeError, check_whole_number, shown
from backends.pictures.windows import Pair, Windows
from backends.typing import Array, Shape

from .base import LARGEST_SIDE, Context, Layer


def check_pair(layer: Layer, name: str, least: int) -> None:
    """Raise an error unless this setting of a layer is a whole number, or two for height and width; two equal ones
    become one."""
    called, value = f"{type(layer).__name__}: {name}", getattr(layer, name)
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ArgumentTypeError(f"{called} must be a whole number, or two for height and width, not {shown(value)}")
        height, width = (check_whole_number(f"{called}[{i}]", x, least, LARGEST_SIDE) for i, x in enumerate(value))
        checked: int | Pair = height if height == width else (height, width)
    else:
        checked = check_whole_number(called, value, least, LARGEST_SIDE)
    object.__setattr__(layer, name, checked)


def pair(value: int | Pair) -> Pair:
    """Height and width."""
    return (value, value) if isinstance(value, int) else value


def picture_of(layer: Layer, shape: Shape, channels: int | None, plain: bool = True) -> tuple[int, int, int]:
    """Rows of ``shape`` as pictures (height, width, channels).

    Args:
        channels: how many the layer takes; None for any number.
        plain: whether it takes (height, width) for a picture of one channel.

    Raises:
        ValueError: they are no such pictures.
    """
    if len(shape) == 2 and channels in (1, None) and plain:
        return shape[0], shape[1], 1
    if len(shape) == 3 and channels in (shape[2], None):
        return shape[0], shape[1], shape[2]
    wanted = f"pictures (height, width, {channels or 'channels'})"
    if len(shape) == 3 and shape[0] == channels:
        hint = "; put ChannelsLast() before it"
    elif len(shape) == 1:
        side = isqrt(shape[0] // (channels or 1))
        is_square = side * side * (channels or 1) == shape[0]
        hint = f"; put Reshape({f'{side}, {side}' if is_square else 'height, width'}, {channels or 1}) before it"
    elif len(shape) == 2 and channels == 1:
        hint = f"; put Reshape({shape[0]}, {shape[1]}, 1) before it"
    elif len(shape) == 3 and channels:
        hint = f"; let it take {shape[2]} channels, or give it others"
    else:
        hint = ""
    raise ValueError(f"{layer!r} takes {wanted}, not rows of shape {shape}{hint}")


def windows_of(layer: Layer, shape: Shape, channels: int | None, size: Pair, stride: Pair, padding: Pair) -> Windows:
    """The windows of a layer over rows of ``shape``.

    Raises:
        ValueError: they are no pictures of so many channels, or smaller than a window.
    """
    height, width, _ = picture_of(layer, shape, channels)
    if any(side + 2 * around < window for side, around, window in zip((height, width), padding, size, strict=True)):
        around = f" and a padding of {padding[0]} x {padding[1]}" if any(padding) else ""
        raise ValueError(
            f"{layer!r} has windows of {size[0]} x {size[1]}, which are larger than pictures of {height} x {width}"
            f"{around}"
        )
    return Windows.over((height, width), size, stride, padding)


def as_pictures(x: Array, ctx: Context) -> Array:
    """Rows (m, height, width) as (m, height, width, 1); others as they are."""
    return x if x.ndim == 4 else ctx.backend.xp.reshape(x, (*x.shape, 1))

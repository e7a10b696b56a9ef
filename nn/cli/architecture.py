"""The notation of ``--layers``, as in ``32C3-MP2-64C3-MP2-128N``: read, checked, written, and made into layers.

It is that of Ciresan, Meier and Schmidhuber, "Multi-column deep neural networks for image classification", 2012:

* ``32C3``: 32 filters of 3 x 3; behind it ``s2`` is a stride of 2, ``p1`` a padding of 1, ``g4`` are 4 groups.
* ``MP2``, ``AP2``: maximum or mean of windows of 2 x 2 that do not overlap; ``s`` and ``p`` as for filters.
* ``GAP``, ``GMP``: mean or maximum of each channel over the whole picture.
* ``128N``: a fully connected layer of 128 units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, ClassVar

from backends.typing import Shape

from ..data import Dataset
from ..layers import (
    NORMS,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Reshape,
)
from .kinds import UsageError, taken_by

#: The normalizations of pictures, by the names that the command line uses.
PICTURE_NORMS: dict[str, type[BatchNorm2d]] = {"batch": BatchNorm2d}
#: What a complaint names, of what there is.
KNOWN = "32C3 (filters of 3 x 3), MP2 or AP2 (pooling of 2 x 2), GAP, GMP and 128N (units)"
NUMBER = "[0-9]{1,9}"
OPTIONS = f"(?P<options>(?:[spg]{NUMBER})*)"


@dataclass(frozen=True)
class Entry:
    """A hidden layer as the notation says it; ``str()`` writes it again.

    Attributes:
        pattern: what it looks like.
        takes_pictures, leaves_pictures: whether its rows are pictures (height, width, channels), before and after it.
        has_weights: whether it has weights, and so normalization and an activation after it.
    """

    pattern: ClassVar[str]
    takes_pictures: ClassVar[bool] = True
    leaves_pictures: ClassVar[bool] = True
    has_weights: ClassVar[bool] = False

    def layer(self, shape: Shape, **initial: Any) -> Layer:
        """The layer for rows of this shape.

        Args:
            initial: ``weight_init`` and ``bias_init`` of an entry that has weights.

        Raises:
            ValueError: it has a setting that is out of range.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Filters(Entry):
    """``32C3``: a convolution."""

    pattern: ClassVar[str] = f"(?P<count>{NUMBER})C(?P<size>{NUMBER}){OPTIONS}"
    has_weights: ClassVar[bool] = True

    count: int
    size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def __str__(self) -> str:
        return f"{self.count}C{self.size}" + _options(s=(self.stride, 1), p=(self.padding, 0), g=(self.groups, 1))

    def layer(self, shape: Shape, **initial: Any) -> Layer:
        return Conv2d(shape[-1], self.count, self.size, self.stride, self.padding, self.groups, **initial)


@dataclass(frozen=True)
class Pooling(Entry):
    """``MP2`` or ``AP2``: the maximum or the mean of each window."""

    pattern: ClassVar[str] = f"(?P<kind>[MA])P(?P<size>{NUMBER}){OPTIONS}"

    kind: str
    size: int
    stride: int
    padding: int = 0

    def __str__(self) -> str:
        return f"{self.kind}P{self.size}" + _options(s=(self.stride, self.size), p=(self.padding, 0))

    def layer(self, shape: Shape, **initial: Any) -> Layer:
        stride = None if self.stride == self.size else self.stride
        return (MaxPool2d if self.kind == "M" else AvgPool2d)(self.size, stride, self.padding)


@dataclass(frozen=True)
class GlobalPooling(Entry):
    """``GAP`` or ``GMP``: the mean or the maximum of each channel."""

    pattern: ClassVar[str] = "G(?P<kind>[MA])P"
    leaves_pictures: ClassVar[bool] = False

    kind: str

    def __str__(self) -> str:
        return f"G{self.kind}P"

    def layer(self, shape: Shape, **initial: Any) -> Layer:
        return GlobalMaxPool2d() if self.kind == "M" else GlobalAvgPool2d()


@dataclass(frozen=True)
class Units(Entry):
    """``128N``: a fully connected layer; of pictures, of all their numbers."""

    pattern: ClassVar[str] = f"(?P<count>{NUMBER})N"
    takes_pictures: ClassVar[bool] = False
    leaves_pictures: ClassVar[bool] = False
    has_weights: ClassVar[bool] = True

    count: int

    def __str__(self) -> str:
        return f"{self.count}N"

    def layer(self, shape: Shape, **initial: Any) -> Layer:
        return Linear(shape[0], self.count, **initial)


#: What a letter behind filters or a pooling says.
LETTERS = {"s": "stride", "p": "padding", "g": "groups"}


def _options(**values: tuple[int, int]) -> str:
    """The letters and numbers that differ from what holds without them."""
    return "".join(f"{letter}{value}" for letter, (value, usual) in values.items() if value != usual)


def read_layers(text: str) -> tuple[Entry, ...]:
    """The hidden layers that ``text`` names.

    Raises:
        ValueError: one of them is none, or cannot stand where it stands; the message names its position.
    """
    entries = tuple(_entry(word, f"layer {position}") for position, word in enumerate(text.split("-"), 1))
    for position, (before, entry) in enumerate(pairwise(entries), 2):
        if entry.takes_pictures and not before.leaves_pictures:
            raise ValueError(
                f"layer {position}, `{entry}`, takes pictures, but `{before}` before it leaves none; put it before that"
            )
    return entries


def _entry(word: str, where: str) -> Entry:
    if not word:
        raise ValueError(f"{where} is empty; write one - between two layers, as in 32C3-MP2-128N")
    for kind in (Filters, Pooling, GlobalPooling, Units):
        if found := re.fullmatch(kind.pattern, word):
            break
    else:
        raise ValueError(f"{where}, `{word}`, is none of {KNOWN}")
    values: dict[str, Any] = {
        name: int(value) if value.isdecimal() else value for name, value in found.groupdict().items()
    }
    for letter, number in re.findall(r"([spg])([0-9]+)", str(values.pop("options", ""))):
        name = LETTERS[letter]
        if name in values or name not in kind.__dataclass_fields__:
            why = "is said twice" if name in values else "is for filters alone"
            raise ValueError(f"{where}, `{word}`: {letter}, the {name}, {why}")
        values[name] = int(number)
    for name, value in values.items():
        if value == 0 and name != "padding":
            raise ValueError(f"{where}, `{word}`: its {name} must be at least 1")
    return kind(**({"stride": values["size"]} if kind is Pooling else {}) | values)


#: That a word is in the notation.
LAYERS = taken_by(read_layers)


def write_layers(entries: Sequence[Entry]) -> str:
    """The notation of hidden layers: what ``read_layers`` reads."""
    return "-".join(map(str, entries))


def picture_shape(rows: Dataset) -> Shape | None:
    """Height, width and channels of rows that are pictures; None where they are not known to be."""
    shape = rows.image_shape or rows.row_shape
    return (*shape, 1) if len(shape) == 2 else shape if len(shape) == 3 else None


def stack(
    entries: Sequence[Entry],
    rows: Dataset,
    initial: Sequence[dict[str, Any]],
    *,
    norm: str | None = None,
    activation: Sequence[Layer] = (),
    dropout: float = 0.0,
) -> list[Layer]:
    """The layers of a network for these rows, and what stands between them.

    Args:
        entries: the hidden layers, and the last one, whose outputs are those of the network.
        rows: their shape is that of a picture where the first entry takes pictures.
        initial: ``weight_init`` and ``bias_init`` of each entry that has weights.
        norm: one of ``nn.layers.NORMS``, before the activation of each hidden layer that has weights; or None.
        activation: what follows each of these.
        dropout: the rate after each fully connected hidden layer.

    Raises:
        UsageError: the rows are no pictures, or too small for the windows of a layer; the message names its position.
    """
    layers: list[Layer] = []
    shape: Shape = (rows.n_features,)
    if entries[0].takes_pictures:
        found = picture_shape(rows)
        if found is None:
            raise UsageError(
                f"--layers: layer 1, `{entries[0]}`, takes pictures, but rows of {rows.n_features} numbers are not "
                "known to be any; give them as (rows, height, width) or (rows, height, width, channels)"
            )
        shape = found
        layers.append(Reshape(*shape))
    given = iter(initial)
    for position, entry in enumerate(entries, 1):
        if not entry.takes_pictures and len(shape) > 1:
            layers.append(Flatten())
            shape = (prod(shape),)
        layer, shape = fitted(entry, shape, position, next(given) if entry.has_weights else {})
        layers.append(layer)
        if entry.has_weights and position < len(entries):
            layers += [normalization(norm, entry, shape, position)] if norm else []
            layers += activation
            layers += [Dropout(dropout)] if dropout and not entry.leaves_pictures else []
    return layers


def fitted(entry: Entry, shape: Shape, position: int, initial: dict[str, Any]) -> tuple[Layer, Shape]:
    """The layer of an entry for rows of ``shape``, and the shape of its outputs.

    Raises:
        UsageError: they do not fit it; the message names its position.
    """
    where = f"--layers: layer {position}, `{entry}`"
    try:
        layer = entry.layer(shape, **initial)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    try:
        return layer, layer.output_shape(shape) or shape
    except ValueError as error:
        raise UsageError(f"{where}, {str(error).removeprefix(f'{layer!r} ')}") from None


def normalization(norm: str, entry: Entry, shape: Shape, position: int) -> Layer:
    """The layer before the activation of an entry, whose rows have this shape."""
    if not entry.leaves_pictures:
        return NORMS[norm](shape[0])
    if norm not in PICTURE_NORMS:
        raise UsageError(
            f"--norm {norm}: layer {position}, `{entry}`, leaves pictures, for which there is --norm batch alone"
        )
    return PICTURE_NORMS[norm](shape[-1])

"""What contenders train, and on which device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from backends.typing import Shape
from nn.cli.architecture import Entry, Filters, Units, read_layers

MOMENTUM = 0.9
#: A row of MNIST.
PICTURE = (28, 28, 1)


def is_gpu(device: str) -> bool:
    """Whether ``cuda`` or ``cuda:N`` is meant."""
    return device.partition(":")[0] == "cuda"


def index_of(device: str) -> int:
    """The number of the GPU."""
    return int(device.partition(":")[2] or 0)


@dataclass(frozen=True)
class Config:
    """A network and how it is trained.

    Attributes:
        widths: inputs, hidden units, and outputs.
        layers: hidden layers for pictures of 28 x 28 before those of ``widths``, in the notation of ``--layers``, with
            filters, ``MP`` and units.
    """

    widths: tuple[int, ...]
    activation: str
    batch_size: int
    learning_rate: float
    precision: str = "float32"
    layers: str = ""

    @property
    def text(self) -> str:
        """The network in a few words."""
        widths = "-".join(map(str, self.widths))
        return widths if not self.layers else f"28x28-{self.layers}-{widths.partition('-')[2]}"

    @property
    def entries(self) -> list[Entry]:
        """The hidden layers of ``layers`` and ``widths``, and the outputs."""
        return [*(read_layers(self.layers) if self.layers else ()), *map(Units, self.widths[1:])]

    def shapes(self) -> Iterator[tuple[Entry, Shape, Shape]]:
        """Each layer with the shapes of its rows before and after it."""
        shape: Shape = PICTURE if self.layers else self.widths[:1]
        for entry in self.entries:
            rows = shape if entry.takes_pictures else (prod(shape),)
            after = entry.layer(rows).output_shape(rows)
            assert after is not None
            yield entry, shape, after
            shape = after

    def weights(self) -> list[tuple[int, ...]]:
        """The shape of each layer's weights, as xpnet and Keras keep them: filters are (height, width, in, out)."""
        return [
            (entry.size, entry.size, before[-1], after[-1]) if isinstance(entry, Filters) else (prod(before), after[0])
            for entry, before, after in self.shapes()
            if entry.has_weights
        ]

    def initial(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases that a library can be given: uniform as Glorot and Bengio have it, and zeros."""
        rng = np.random.default_rng(0)
        made = []
        for shape in self.weights():
            fans = prod(shape[:-2]) * (shape[-2] + shape[-1])
            weight = rng.uniform(-1, 1, shape) * np.sqrt(6 / fans)
            made.append((weight.astype(np.float32), np.zeros(shape[-1], np.float32)))
        return made


CONFIGS = {
    "tiny": Config((784, 16, 10), "sigmoid", 64, 4.0),
    "small": Config((784, 64, 10), "sigmoid", 128, 4.0),
    "wide": Config((784, 512, 512, 10), "relu", 256, 0.5),
    "deep": Config((784, 2500, 2000, 1500, 1000, 500, 10), "tanh", 512, 0.5),
    "cnn": Config((784, 10), "relu", 128, 0.5, layers="16C3-MP2-32C3-MP2-128N"),
}
#: Those that are measured in every session on a GPU.
MEASURED = ("small", "wide", "deep", "cnn")

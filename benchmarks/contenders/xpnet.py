"""xpnet, on the CPU with NumPy or Numba."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nn.cli.architecture import stack

from .base import Contender, first_batches, unrecorded
from .config import MOMENTUM, PICTURE, Config

if TYPE_CHECKING:
    from nn import Layer, Trainer


def network(config: Config) -> list[Layer]:
    """The layers of xpnet."""
    from nn import Dataset, Softmax
    from nn.layers.activations import ACTIVATION_LAYERS

    rows = Dataset(
        np.zeros((1, config.widths[0]), np.uint8), np.zeros(1, np.int64), image_shape=PICTURE if config.layers else None
    )
    entries = config.entries
    initial = [{"weight_init": "glorot_uniform", "bias_init": "zeros"}] * sum(entry.has_weights for entry in entries)
    return [*stack(entries, rows, initial, activation=[ACTIVATION_LAYERS[config.activation]()]), Softmax()]


class Xpnet(Contender):
    """xpnet, through ``Trainer.fit``."""

    name = "xpnet"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        from backends import get_backend
        from nn import Dataset

        self.config, self.backend = config, get_backend(device, precision=config.precision)
        self.data = Dataset(x, y, scale=1 / 255)
        self.trainer = self.new_trainer()
        self.rows = self.trainer.upload(self.data, keep_scaled=config.batch_size >= len(x))
        self.batch_size = config.batch_size

    def epoch(self) -> None:
        self.epochs(1)

    def new_trainer(self) -> Trainer:
        """The network with initial values, and its optimizer."""
        from nn import SGD, Sequential, Trainer

        model = Sequential(*network(self.config), backend=self.backend)
        return Trainer(model, optimizer=SGD(self.config.learning_rate, momentum=MOMENTUM, dampening=MOMENTUM))

    def epochs(self, count: int) -> None:
        self.trainer.fit(self.rows, count, self.batch_size)

    def losses(self) -> list[float]:
        trainer = self.new_trainer()
        of_layers = [str(index) for index, layer in enumerate(trainer.model.layers) if "weight" in layer.parameters()]
        state = trainer.model.state_dict()
        for index, (weight, bias) in zip(of_layers, self.config.initial(), strict=True):
            state |= {f"{index}.weight": weight, f"{index}.bias": bias}
        trainer.model.load_state_dict(state)
        for rows in first_batches(self.config, len(self.data)):
            trainer.fit(self.data[rows], 1, self.batch_size, shuffle=False)
        return trainer.history["loss"]

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.trainer.predict(x) == y).mean())

    def version(self) -> str:
        import nn

        return f"xpnet {nn.__version__}"

    def remark(self) -> str:
        return unrecorded(self.trainer.backend)


class XpnetNumba(Xpnet):
    """xpnet on the CPU with loops compiled by Numba."""

    name = "xpnet numba"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if device != "cpu":
            raise ImportError("Numba compiles for the CPU")
        super().__init__(config, x, y, "numba")

    def version(self) -> str:
        return self.trainer.backend.device.version()

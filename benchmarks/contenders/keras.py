"""Keras, through ``fit``."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nn.cli.architecture import Filters, Pooling

from .base import Contender, first_batches
from .config import MOMENTUM, PICTURE, Config, index_of, is_gpu


class Keras(Contender):
    """Keras through ``fit``, on JAX unless KERAS_BACKEND names another library: the rows as float32, as its guides have
    them."""

    name = "keras"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.15")
        if config.precision != "float32":
            raise ImportError("its products are not set to another precision here")
        if os.environ["KERAS_BACKEND"] == "jax":
            import jax

            jax_config: Any = jax.config
            jax_config.update("jax_platforms", "cuda" if is_gpu(device) else "cpu")
            if is_gpu(device):
                jax_config.update("jax_default_device", jax.devices()[index_of(device)])
            jax_config.update("jax_default_matmul_precision", "float32")
        import keras

        self.keras, self.config = keras, config
        self.x, self.y = self.floats(x), y
        layers: list[Any] = [keras.Input(self.x.shape[1:])]
        for number, (entry, before, after) in enumerate(config.shapes(), 1):
            activation = config.activation if number < len(config.entries) else None
            if isinstance(entry, Filters):
                layers += [keras.layers.ZeroPadding2D(entry.padding)] if entry.padding else []
                layers.append(keras.layers.Conv2D(entry.count, entry.size, entry.stride, activation=activation))
            elif isinstance(entry, Pooling):
                layers.append(keras.layers.MaxPooling2D(entry.size, entry.stride))
            else:
                layers += [keras.layers.Flatten()] if len(before) > 1 else []
                layers.append(keras.layers.Dense(after[0], activation=activation))
        self.model = keras.Sequential(layers)
        self.reset()

    def floats(self, x: np.ndarray) -> np.ndarray:
        x = x / np.float32(255)
        return x.reshape(-1, *PICTURE) if self.config.layers else x

    def reset(self) -> None:
        """Initial values, and an optimizer without velocity; the learning rate is as for PyTorch."""
        self.model.set_weights([array for pair in self.config.initial() for array in pair])
        self.model.compile(
            self.keras.optimizers.SGD(self.config.learning_rate * (1 - MOMENTUM), momentum=MOMENTUM),
            self.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def epoch(self) -> None:
        self.epochs(1)

    def epochs(self, count: int) -> None:
        self.model.fit(self.x, self.y, self.config.batch_size, count, verbose=0)

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        outputs = self.model.predict(self.floats(x), batch_size=1000, verbose=0)
        return float((outputs.argmax(axis=1) == y).mean())

    def losses(self) -> list[float]:
        self.reset()
        batches = first_batches(self.config, len(self.x))
        told = [self.model.fit(self.x[b], self.y[b], self.config.batch_size, shuffle=False, verbose=0) for b in batches]
        return [history.history["loss"][0] for history in told]

    def version(self) -> str:
        return f"keras {self.keras.__version__} on {self.keras.backend.backend()}"

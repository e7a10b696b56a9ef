"""What a tutorial's reader writes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .base import Contender
from .config import MOMENTUM, Config, is_gpu


class Tutorial(Contender):
    """What a tutorial's reader writes: float64, a new array for every expression."""

    name = "tutorial"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if is_gpu(device):
            raise ImportError("it computes on the CPU")
        if config.layers:
            raise ImportError("a tutorial's loop has no filters")
        self.config = config
        self.x, self.t = x / 255.0, np.eye(config.widths[-1])[y]
        self.rng = np.random.default_rng(0)
        pairs = list(pairwise(config.widths))
        self.w = [self.rng.standard_normal(pair) / np.sqrt(pair[0]) for pair in pairs]
        self.b = [np.zeros(n_out) for _, n_out in pairs]
        self.vw = [np.zeros_like(w) for w in self.w]
        self.vb = [np.zeros_like(b) for b in self.b]

    def activate(self, z: np.ndarray) -> np.ndarray:
        kinds: dict[str, Any] = {
            "sigmoid": lambda: 1 / (1 + np.exp(-z)),
            "tanh": lambda: np.tanh(z),
            "relu": lambda: np.maximum(z, 0),
        }
        a: np.ndarray = kinds[self.config.activation]()
        return a

    def derivative(self, a: np.ndarray) -> np.ndarray:
        kinds: dict[str, Any] = {
            "sigmoid": lambda: a * (1 - a),
            "tanh": lambda: 1 - a * a,
            "relu": lambda: (a > 0) * 1.0,
        }
        slope: np.ndarray = kinds[self.config.activation]()
        return slope

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        activations = [x]
        for w, b in zip(self.w[:-1], self.b[:-1], strict=True):
            activations.append(self.activate(activations[-1] @ w + b))
        z = activations[-1] @ self.w[-1] + self.b[-1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return [*activations, e / e.sum(axis=1, keepdims=True)]

    def epoch(self) -> None:
        order, size = self.rng.permutation(len(self.x)), self.config.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            activations = self.forward(self.x[rows])
            delta = (activations[-1] - self.t[rows]) / len(rows)
            for i in reversed(range(len(self.w))):
                dw, db = activations[i].T @ delta, delta.sum(axis=0)
                if i:
                    delta = delta @ self.w[i].T * self.derivative(activations[i])
                self.vw[i] = MOMENTUM * self.vw[i] + (1 - MOMENTUM) * dw
                self.vb[i] = MOMENTUM * self.vb[i] + (1 - MOMENTUM) * db
                self.w[i] = self.w[i] - self.config.learning_rate * self.vw[i]
                self.b[i] = self.b[i] - self.config.learning_rate * self.vb[i]

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.forward(x / 255.0)[-1].argmax(axis=1) == y).mean())

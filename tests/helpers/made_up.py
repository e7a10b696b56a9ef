"""Rows made up for tests that need MNIST's shape and not its files."""

from __future__ import annotations

import numpy as np

from nn import Data, Dataset


def mnist(n_train: int, n_test: int) -> Data:
    """Rows that can be learned: each class is a patch of bright pixels in noise."""
    rng = np.random.default_rng(0)
    n = n_train + n_test
    y = rng.integers(0, 10, n)
    x = rng.integers(0, 60, size=(n, 784), dtype=np.uint8)
    for label in range(10):
        x[y == label, 70 * label : 70 * label + 60] += 150
    rows = Dataset(x, y, scale=1 / 255, image_shape=(28, 28))
    return Data("mnist", rows[:n_train], rows[n_train:])

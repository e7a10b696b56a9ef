"""Fifty rows of four numbers in three classes, and a small network for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nn import Linear, Sequential, Softmax, Tanh

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
LABELS = (X @ RNG.normal(size=(4, 3))).argmax(axis=1)
CLASSIFICATION = (X, LABELS)


def network(seed: int = 0, **kwargs: Any) -> Sequential:
    return Sequential(Linear(4, 8), Tanh(), Linear(8, 3), Softmax(), backend="cpu", seed=seed, **kwargs)


def same(a: Sequential, b: Sequential) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))

"""Parts of training that must agree on all processes: what each adds to layers, optimizer and trainer."""

from __future__ import annotations

from typing import Any

import numpy as np

from nn import SGD, Adam, Augment, BatchNorm, Dropout

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(256, 12)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
PARTS: dict[str, tuple[list[Any], Any, dict[str, Any]]] = {
    "momentum": ([], SGD(0.1, momentum=0.9), {}),
    "Adam": ([], Adam(0.01), {}),
    "BatchNorm": ([BatchNorm(16)], SGD(0.1, momentum=0.9), {}),
    "dropout": ([Dropout(0.3)], SGD(0.1, momentum=0.9), {}),
    "clipping": ([], SGD(0.1), {"clip_norm": 0.5}),
    "accumulate": ([], SGD(0.1), {"accumulate": 3}),
    "average": ([], SGD(0.1), {"average": 0.9}),
    "augment": ([], SGD(0.1), {"augment": Augment(shift=1, rotation=10)}),
}

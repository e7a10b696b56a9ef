"""What tells rows from others: a digest of all that training takes from them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np

from .dataset import Dataset


def identity(data: Dataset) -> dict[str, Any]:
    """How many rows there are, and the SHA-256 of their numbers, targets, weights and units.

    (Of 60,000 MNIST rows, 47 MB, in some 0.1 s.)
    """
    digest = sha256(repr((float(data.scale), float(data.shift), data.class_names)).encode())
    for array in (data.x, data.y, data.weights):
        digest.update(b"none" if array is None else f"{array.dtype.str} {array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return {"rows": len(data), "sha256": digest.hexdigest()}

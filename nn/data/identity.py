"""What tells rows from others: a digest of all that training takes from them."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import numpy as np

from .dataset import Dataset
from .streamed.dataset import StreamedDataset


def identity(data: Dataset | StreamedDataset) -> dict[str, Any]:
    """How many rows there are, and the SHA-256 of their numbers, targets, weights and units; of what is larger than
    memory, of what its sources say of themselves in place of the numbers.

    (Of 60,000 MNIST rows, 47 MB, in some 0.1 s.)
    """
    digest = sha256(repr((float(data.scale), float(data.shift), data.class_names)).encode())
    if isinstance(data, Dataset):
        arrays = [data.x, data.y, data.weights]
    else:
        arrays = [data.chosen, data.weights]
        sources = [data.rows.identity(), None if data.targets is None else data.targets.identity()]
        digest.update(json.dumps([*sources, data.rows.dtype.str], sort_keys=True).encode())
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype.str} {array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return {"rows": len(data), "sha256": digest.hexdigest()}

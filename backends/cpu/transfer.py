"""Arrays of the CPU that are written by other threads: numbers go where they belong at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..devices import Fill, Transfer
from ..typing import Array
from .threads import beside


class SharedMemory(Transfer):
    """Of a device whose arrays are NumPy's."""

    def __init__(self) -> None:
        """Nothing is needed."""

    def at_work(self) -> AbstractContextManager[Any]:
        return beside

    def write(self, arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]], fill: Fill, after: Any = None) -> None:
        fill(arrays)

"""The CPU, through NumPy."""

from __future__ import annotations

import numpy as np

from ..devices import Device
from ..typing import Array


class NumpyDevice(Device):
    """The CPU, through NumPy."""

    has_overrides = True

    def __init__(self) -> None:
        import array_api_compat.numpy as xp

        super().__init__("cpu", xp)

    def from_numpy(self, x: np.ndarray) -> Array:
        return x


class NumbaDevice(NumpyDevice):
    """The CPU, through NumPy and loops compiled by Numba."""

    library = "numba"

    def __init__(self) -> None:
        super().__init__()
        self.spec = "numba"

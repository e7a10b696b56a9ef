"""The CPU, through NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..devices import Device, DeviceError, ErrorKind, Transfer, first_line
from ..typing import Array
from .namespace import NumpyNamespace
from .transfer import SharedMemory


class NumpyDevice(Device):
    """The CPU, through NumPy."""

    has_overrides = True

    def __init__(self) -> None:
        super().__init__("cpu", NumpyNamespace())

    def use(self) -> AbstractContextManager[Any]:
        """A context without NumPy's warnings of overflow: infinity and NaN are results, as on every device, and
        training ends at them with a message of its own."""
        return np.errstate(all="ignore")

    def from_numpy(self, x: np.ndarray) -> Array:
        return x

    def transfer(self, sizes: Sequence[int], threads: int) -> Transfer:
        return SharedMemory()


class NumbaDevice(NumpyDevice):
    """The CPU, through NumPy and loops compiled by Numba."""

    library = "numba"

    def __init__(self) -> None:
        super().__init__()
        self.spec = "numba"


def find_numpy(_: str) -> NumpyDevice:
    """NumPy's one device, which needs no proof."""
    return NumpyDevice()


def find_numba(_: str) -> NumbaDevice:
    """Numba's one device, after it has compiled a loop, run it and given the correct result.

    Raises:
        DeviceError: it has not.
    """
    try:
        from .numba_kernels import half_and_half

        x = np.array([[1.0, -2.0]], dtype=np.float32)
        half_and_half(x)
        if x.tolist() != [[1.0, -0.5]]:
            raise ArithmeticError(f"1/2 + x / 2 of 1 and -2 came out as {x.tolist()[0]}")
    except Exception as error:  # where there is no folder to keep compiled code in, for one
        raise DeviceError(
            f"Numba cannot compile: {type(error).__name__}: {first_line(error)}", ErrorKind.CANNOT_COMPUTE
        ) from None
    return NumbaDevice()

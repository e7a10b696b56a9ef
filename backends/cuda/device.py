"""A GPU, through CuPy."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from ..devices import Device
from ..devices.arrays import is_on_cuda
from ..typing import Array
from . import cublas


class CupyDevice(Device):
    """A CUDA GPU, through CuPy, with a stream of its own.

    The stream is a blocking one: it orders itself after the default stream, so that an array made outside ``use()`` is
    ready inside.
    """

    library = "cupy"
    has_overrides = True

    def __init__(self, index: int = 0) -> None:
        import array_api_compat.cupy as xp
        import cupy

        self.cupy = cupy
        self.index = index
        super().__init__(f"cuda:{index}", xp, cupy.cuda.Device(index))
        with self.handle:
            self.stream = cupy.cuda.Stream()

    def use(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(self.handle)
        stack.enter_context(self.stream)
        return stack

    def synchronize(self) -> None:
        self.handle.synchronize()

    def cublas(self) -> ctypes.CDLL:
        """The library that multiplies matrices.

        Raises:
            OSError, ImportError, AttributeError: it is not there, or another than expected.
        """
        return cublas.load(self.cupy)

    def compute_capability(self) -> tuple[int, int]:
        """What NVIDIA calls the generation of a GPU: (8, 0) is Ampere."""
        digits = self.handle.compute_capability
        return int(digits[:-1]), int(digits[-1])

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        on_this_gpu = isinstance(x, self.cupy.ndarray) and x.device.id == self.index
        if on_this_gpu:
            return x
        if is_on_cuda(x):
            with self.handle:
                return self.cupy.asarray(self.cupy.from_dlpack(x))
        return super().asarray(x, floats)

    def from_numpy(self, x: np.ndarray) -> Array:
        with self.handle:
            return self.cupy.asarray(x)

    def to_numpy(self, x: Array) -> np.ndarray:
        host: np.ndarray = self.cupy.asnumpy(x)
        return host

    def hardware(self) -> str:
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.index)
        runtime = self.cupy.cuda.runtime
        return (
            f"{properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, "
            f"CUDA {_cuda_version(runtime.runtimeGetVersion())}, "
            f"driver for CUDA {_cuda_version(runtime.driverGetVersion())}"
        )

    def version(self) -> str:
        return f"cupy {self.cupy.__version__}"


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"

"""How arrays are computed with: one set of operations for NumPy on the CPU, CuPy on the GPU, and other libraries.

    >>> from backends import get_backend
    >>> backend = get_backend("cpu")
    >>> backend.to_numpy(backend.matmul(backend.asarray([[1.0, 2.0]]), backend.asarray([[3.0], [4.0]])))
    array([[11.]], dtype=float32)

This package knows nothing of networks; ``nn`` computes through it.
"""

from __future__ import annotations

from . import loading as loading  # isort: skip  (the first of all: see there)
from .base import Backend
from .cuda.cublas import PRECISIONS
from .devices import Device, DeviceError, ErrorKind, OutOfMemoryError
from .registry import available, device_help, find_device, get_backend
from .step import RecordedStep, Step, StepNumbers

__all__ = [
    "PRECISIONS",
    "Backend",
    "Device",
    "DeviceError",
    "ErrorKind",
    "OutOfMemoryError",
    "RecordedStep",
    "Step",
    "StepNumbers",
    "available",
    "device_help",
    "find_device",
    "get_backend",
]

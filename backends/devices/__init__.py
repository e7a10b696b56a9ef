"""Where arrays live and how they get there: what every device is, and those of array-API libraries."""

from __future__ import annotations

from .array_api import ArrayApiDevice, TorchDevice
from .arrays import array_like, as_numpy, first_line
from .base import Device, DeviceError, ErrorKind
from .library import Library
from .memory import ARRAYS, OutOfMemoryError, asked_for, host_memory, is_out_of_memory, told_on_host
from .prove import prove, proved
from .transfer import Fill, Transfer

__all__ = [
    "ARRAYS",
    "ArrayApiDevice",
    "Device",
    "DeviceError",
    "ErrorKind",
    "Fill",
    "Library",
    "OutOfMemoryError",
    "TorchDevice",
    "Transfer",
    "array_like",
    "as_numpy",
    "asked_for",
    "first_line",
    "host_memory",
    "is_out_of_memory",
    "prove",
    "proved",
    "told_on_host",
]

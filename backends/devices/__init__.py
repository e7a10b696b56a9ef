"""Where arrays live and how they get there: what every device is, and those of array-API libraries."""

from __future__ import annotations

from .array_api import ArrayApiDevice, TorchDevice
from .arrays import as_numpy, first_line
from .base import Device, DeviceError, ErrorKind
from .library import Library
from .prove import prove, proved

__all__ = [
    "ArrayApiDevice",
    "Device",
    "DeviceError",
    "ErrorKind",
    "Library",
    "TorchDevice",
    "as_numpy",
    "first_line",
    "prove",
    "proved",
]

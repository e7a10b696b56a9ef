"""Where arrays live and how they get there: what every device is, and those of array-API libraries."""

from __future__ import annotations

from .array_api import ArrayApiDevice, TorchDevice
from .arrays import as_numpy, first_line
from .base import Device, DeviceError
from .prove import prove

__all__ = ["ArrayApiDevice", "Device", "DeviceError", "TorchDevice", "as_numpy", "first_line", "prove"]

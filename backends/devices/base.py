"""A device: one array library on one piece of hardware."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..typing import Array
from .arrays import as_numpy


class DeviceError(ValueError):
    """A device that was asked for cannot be used; the message is the reason and what to do."""


class Device:
    """One array library on one piece of hardware.

    Attributes:
        spec: the name that ``get_backend`` takes for it.
        xp: the array-API namespace (through array-api-compat where that wraps the library).
        handle: the library's own device object, or None for its only device.
        has_overrides: whether there is a backend for it with operations of its own, beside the reference.
        why: for a device that ``auto`` chose, why.
    """

    library = "numpy"
    has_float64 = True
    has_overrides = False

    def __init__(self, spec: str, xp: Any, handle: Any = None) -> None:
        self.spec = spec
        self.xp = xp
        self.handle = handle
        self.why = ""

    def use(self) -> AbstractContextManager[Any]:
        """A context in which this is the current device of the calling thread."""
        return nullcontext()

    def synchronize(self) -> None:
        """Wait for everything launched here. On a CPU there is nothing to wait for."""

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        """``x`` (number, list, or array of any library) as an array here.

        What comes from elsewhere has its floats converted to the dtype ``floats`` on the way; integers and booleans
        keep theirs.
        """
        host = as_numpy(x)
        return self.from_numpy(host.astype(floats, copy=False) if host.dtype.kind == "f" else host)

    def from_numpy(self, x: np.ndarray) -> Array:
        return self.xp.asarray(x, device=self.handle)

    def to_numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def hardware(self) -> str:
        """What the device is, in words."""
        return platform.processor() or platform.machine()

    def version(self) -> str:
        """The library and its version."""
        return f"{self.library} {importlib.metadata.version(self.library)}"

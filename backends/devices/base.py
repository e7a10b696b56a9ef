"""A device: one array library on one piece of hardware; and the error that says why one cannot be used."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Any

import numpy as np

from ..messages import sentence
from ..typing import Array
from .arrays import as_numpy
from .memory import OutOfMemoryError, host_memory, is_of_host, out_of_memory
from .transfer import Transfer


class ErrorKind(Enum):
    """What is wrong with a device that cannot be used: a closed set, for code that acts on it."""

    UNKNOWN = "there is no array library of that name"
    NO_SUCH_DEVICE = "the library has no device of that name or number"
    NOT_INSTALLED = "the library is not installed"
    CANNOT_IMPORT = "the library is installed but cannot be imported"
    NO_DRIVER = "there is no driver for the GPU, or one too old"
    NO_GPU = "the driver sees no GPU"
    NO_MEMORY = "the device has no memory left"
    CANNOT_COMPUTE = "it fails to compile or to compute, or computes wrongly"
    UNSAFE_ENVIRONMENT = "an environment variable would make it compute wrongly"
    LACKS_FEATURE = "its arrays lack something that xpnet needs"
    LACKS_PRECISION = "it has no such dtype, or no products of such precision"


class DeviceError(ValueError):
    """A device that was asked for cannot be used; the message is the reason and what to do.

    Attributes:
        reason: the message without the name of the device.
        kind: what is wrong, for code; the message is for people.
        spec: the device that was asked for, "" where the reason names it.
    """

    def __init__(self, reason: str, kind: ErrorKind, spec: str = "") -> None:
        super().__init__(reason, kind, spec)  # all of it, or the error could not travel between processes
        self.reason = reason
        self.kind = kind
        self.spec = spec

    def __str__(self) -> str:
        return sentence(f"{self.spec}: {self.reason}" if self.spec else self.reason)


class Device:
    """One array library on one piece of hardware.

    Attributes:
        spec: the name that ``get_backend`` takes for it.
        xp: the array-API namespace (through array-api-compat where that wraps the library).
        handle: the library's own device object, or None for its only device.
        has_overrides: whether there is a backend for it with operations of its own, beside the reference.
        queues: whether it is known to run what is launched one after the other while the host goes on.
        own_memory: whether it is known to have memory of its own, which is not the host's.
    """

    library = "numpy"
    has_float64 = True
    has_overrides = False
    queues = False
    own_memory = False

    def __init__(self, spec: str, xp: Any, handle: Any = None) -> None:
        self.spec = spec
        self.xp = xp
        self.handle = handle

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

    def holds(self, x: Any) -> bool:
        """Whether ``x`` is an array in the memory of this device, where that is not the host's or not known to be: one
        that ``asarray`` takes without a copy, and that NumPy would have to copy."""
        return False

    def from_numpy(self, x: np.ndarray) -> Array:
        return self.xp.asarray(x, device=self.handle)

    def to_numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def transfer(self, sizes: Sequence[int], threads: int) -> Transfer:
        """What writes into arrays of this device, by so many threads, while it computes with others.

        Args:
            sizes: how many bytes each of the arrays may have that are written together.
        """
        return Transfer(self.from_numpy, self.use)

    def hardware(self) -> str:
        """What the device is, in words."""
        return platform.processor() or platform.machine()

    def version(self) -> str:
        """The library and its version."""
        from importlib.metadata import version  # what a run prints, but no other program: it takes 20 ms to load

        return f"{self.library} {version(self.library)}"

    def gpu(self) -> str:
        """Which GPU of its machine it is, whatever it is called here; "" where it is none, or nothing is known."""
        name, _, index = self.spec.rpartition(":")
        if not name.endswith("cuda"):
            return ""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        numbers = visible.split(",") if visible else []
        return numbers[int(index)] if index.isdecimal() and int(index) < len(numbers) else index

    def memory(self) -> tuple[int, int] | None:
        """Free and total bytes of its memory; None where the system does not say."""
        return host_memory()

    def release(self) -> None:
        """Give back what the library keeps of memory that no array uses any more."""

    def out_of_memory(self, error: BaseException, what: str, advice: str = "") -> OutOfMemoryError:
        """What to raise for an error that says that ``what`` found no memory, here or on the host: one sentence, which
        ends in ``advice``."""
        on_host = is_of_host(error) or not self.own_memory
        where = "the host" if on_host and self.own_memory else self.spec
        return out_of_memory(error, where, what, host_memory() if on_host else self.memory(), advice)

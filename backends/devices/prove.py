"""A device computes before it is believed."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from .arrays import first_line
from .base import Device, DeviceError, ErrorKind
from .memory import is_out_of_memory

AnyDevice = TypeVar("AnyDevice", bound=Device)


def prove(device: Device) -> None:
    """Run an elementwise operation, a product and a write through a view, and look at the result.

    Raises:
        DeviceError: the result is wrong, or the library lacks something.
        Exception: whatever the library raises where it cannot compute.
    """
    xp = device.xp
    x = device.from_numpy(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    y = xp.matmul(x * 2.0 + 1.0, x)
    try:
        view = xp.reshape(y[:1, ...], (2,))
        view[...] = xp.zeros_like(view)
    except Exception as error:
        raise _lacks(f"its arrays cannot be written in place, which xpnet needs ({first_line(error)})") from None
    result = device.to_numpy(y)
    if np.any(result[0]):
        raise _lacks("it has no views of arrays, which xpnet needs")
    if not np.array_equal(result[1], [34.0, 50.0]):
        raise DeviceError(f"a 2x2 product came out as {result.tolist()}", ErrorKind.CANNOT_COMPUTE)
    int64 = device.from_numpy(np.arange(3, dtype=np.int64))
    if int64.dtype != xp.int64:
        raise _lacks("it has no 64-bit integers, which xpnet needs")


def proved(device: AnyDevice) -> AnyDevice:
    """The device, after it has proved that it computes.

    Raises:
        DeviceError: it does not.
    """
    try:
        prove(device)
    except DeviceError:
        raise
    except Exception as error:
        kind = ErrorKind.NO_MEMORY if is_out_of_memory(error) else ErrorKind.CANNOT_COMPUTE
        raise DeviceError(f"it cannot compute: {type(error).__name__}: {first_line(error)}", kind) from None
    return device


def _lacks(reason: str) -> DeviceError:
    return DeviceError(reason, ErrorKind.LACKS_FEATURE)

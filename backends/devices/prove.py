"""A device computes before it is believed."""

from __future__ import annotations

import numpy as np

from .arrays import first_line
from .base import Device


def prove(device: Device) -> None:
    """Run an elementwise operation, a product and a write through a view, and look at the result."""
    xp = device.xp
    x = device.from_numpy(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    y = xp.matmul(x * 2.0 + 1.0, x)
    try:
        view = xp.reshape(y[:1, ...], (2,))
        view[...] = xp.zeros_like(view)
    except Exception as error:
        raise TypeError(
            f"{device.library} arrays cannot be written in place, which xpnet needs ({first_line(error)})"
        ) from None
    result = device.to_numpy(y)
    if np.any(result[0]):
        raise TypeError(f"{device.library} has no views of arrays, which xpnet needs")
    if not np.array_equal(result[1], [34.0, 50.0]):
        raise ArithmeticError(f"a 2x2 product came out as {result.tolist()}")
    int64 = device.from_numpy(np.arange(3, dtype=np.int64))
    if int64.dtype != xp.int64:
        raise TypeError(f"{device.library} has no 64-bit integers there, which xpnet needs")

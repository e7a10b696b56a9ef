"""How arrays are computed with: one set of operations for NumPy on the CPU, CuPy on the GPU, and other libraries.

    >>> from backends import get_backend
    >>> backend = get_backend("cpu")
    >>> backend.to_numpy(backend.matmul(backend.asarray([[1.0, 2.0]]), backend.asarray([[3.0], [4.0]])))
    array([[11.]], dtype=float32)

This package knows nothing of networks; ``nn`` computes through it.
"""

from __future__ import annotations

from .base import Backend, Step, StepNumbers
from .cublas import PRECISIONS
from .devices import CupyDevice, Device, DeviceError, NumbaDevice, NumpyDevice, available, find_device

__all__ = ["PRECISIONS", "Backend", "Device", "DeviceError", "Step", "StepNumbers", "available", "get_backend"]


def get_backend(
    spec: str | Backend = "auto", dtype: str = "float32", fused: bool = True, precision: str = "float32"
) -> Backend:
    """The backend for a device.

    Args:
        spec: ``"auto"`` (a GPU that works, else the CPU; ``backend.device.why`` says which and why), ``"cpu"``,
            ``"numba"``, ``"cuda"``, ``"cuda:1"``, ``"torch"``, ``"array_api_strict:device1"``, ...: see
            ``backends.devices``. A Backend is returned as it is.
        dtype: ``"float32"`` or ``"float64"``.
        fused: False gives the reference operations of the base class on that device: slower, and the specification.
        precision: of products of float32 matrices. ``"tf32"`` and ``"bf16"`` round the factors to 10 and 7 bits after
            the point, for the tensor cores of a GPU of compute capability 8.0 (Ampere) or newer; sums stay float32.

    Raises:
        DeviceError: (a ValueError) the device cannot be used, or not so; the message says why and what to do.
    """
    if isinstance(spec, Backend):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"a device is named by a string such as 'cpu' or 'cuda:0', not by {type(spec).__name__}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    device = find_device(spec)
    if fused and isinstance(device, CupyDevice):
        from .cupy_backend import CupyBackend

        return CupyBackend(device, dtype, precision)
    if precision != "float32":
        if not fused:
            raise DeviceError(f"the reference operations have no {precision} products; leave out the precision")
        raise DeviceError(f"{device.spec} has no {precision} products; leave out the precision, or name a GPU: cuda")
    if fused and isinstance(device, NumbaDevice):
        from .numba_backend import NumbaBackend

        return NumbaBackend(device, dtype)
    if fused and isinstance(device, NumpyDevice):
        from .numpy_backend import NumpyBackend

        return NumpyBackend(device, dtype)
    return Backend(device, dtype)

"""From a name to a device that works, and its backend.

A spec names a device:

    auto                     a GPU that works, else the CPU
    cpu, numpy               NumPy
    numba                    NumPy, with loops compiled by Numba
    cuda, cuda:N, cupy       CuPy on GPU 0 or N
    LIBRARY, LIBRARY:DEVICE  any other array-API library whose arrays can be written in place:
                             array_api_strict, array_api_strict:device1, torch, torch:cpu, torch:cuda:1

``find_device`` believes a device only after running an elementwise operation and a small product on it.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import numpy as np

from .base import Backend
from .cpu.device import NumbaDevice, NumpyDevice
from .cuda.cublas import PRECISIONS
from .cuda.device import CupyDevice
from .devices import ArrayApiDevice, Device, DeviceError, TorchDevice, first_line, prove

CUPY_WHEELS = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by the CUDA version that nvidia-smi prints"


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
        from .cuda.cupy_backend import CupyBackend

        return CupyBackend(device, dtype, precision)
    if precision != "float32":
        if not fused:
            raise DeviceError(f"the reference operations have no {precision} products; leave out the precision")
        raise DeviceError(f"{device.spec} has no {precision} products; leave out the precision, or name a GPU: cuda")
    if fused and isinstance(device, NumbaDevice):
        from .cpu.numba_backend import NumbaBackend

        return NumbaBackend(device, dtype)
    if fused and isinstance(device, NumpyDevice):
        from .cpu.numpy_backend import NumpyBackend

        return NumpyBackend(device, dtype)
    return Backend(device, dtype)


@cache
def find_device(spec: str) -> Device:
    """The device called ``spec``, after it has proved that it computes.

    Raises:
        DeviceError: it cannot be used; the message says why and what to do.
    """
    library, _, name = spec.partition(":")
    if library == "auto" and not name:
        return _auto()
    if library in ("cpu", "numpy"):
        if name:
            raise DeviceError(f"{spec!r}: NumPy has one device; say 'cpu'")
        return NumpyDevice()
    if library == "numba":
        return _numba(spec, name)
    if library in ("cuda", "cupy"):
        if name and not name.isdecimal():
            raise DeviceError(f"{spec!r}: the number of a GPU must follow 'cuda:', as in cuda:0")
        return _cupy(spec, int(name or 0))
    return _other(spec, library, name)


def _auto() -> Device:
    try:
        device: Device = CupyDevice(_cupy("cuda:0", 0).index)
        device.why = "auto chose the GPU, which works"
    except DeviceError as error:
        device = NumpyDevice()
        device.why = f"auto chose the CPU: {error}"
    return device


def _numba(spec: str, name: str) -> NumbaDevice:
    if name:
        raise DeviceError(f"{spec!r}: Numba compiles for one CPU; say 'numba'")
    try:
        _prove_numba()
    except ImportError as error:  # where NumPy is newer than this Numba knows, for one
        if isinstance(error, ModuleNotFoundError) and error.name == "numba":
            raise DeviceError(f"{spec}: Numba is not installed (pip install numba)") from None
        raise DeviceError(f"{spec}: Numba is installed but cannot be imported: {first_line(error)}") from None
    except Exception as error:  # where there is no folder to keep compiled code in
        raise DeviceError(f"{spec}: Numba cannot compile: {type(error).__name__}: {first_line(error)}") from None
    return NumbaDevice()


def _prove_numba() -> None:
    """Compile a loop, run it and look at the result."""
    from .cpu.numba_kernels import half_and_half

    x = np.array([[1.0, -2.0]], dtype=np.float32)
    half_and_half(x)
    if x.tolist() != [[1.0, -0.5]]:
        raise ArithmeticError(f"1/2 + x / 2 of 1 and -2 came out as {x.tolist()[0]}")


def _cupy(spec: str, index: int) -> CupyDevice:
    try:
        import cupy
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise DeviceError(f"{spec}: CuPy is not installed ({CUPY_WHEELS})") from None
        raise DeviceError(f"{spec}: CuPy is installed but cannot be imported: {first_line(error)}") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError, whose module moves between CuPy versions
        raise DeviceError(f"{spec}: {_explain_cuda(error)}") from None
    if index >= count:
        have = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"{spec}: there is no GPU of that number; this machine has {have}")
    try:
        device = CupyDevice(index)
        with device.use():
            prove(device)
    except Exception as error:
        raise DeviceError(f"{spec}: {_explain_cuda(error)}") from None
    return device


def _explain_cuda(error: Exception) -> str:
    text = first_line(error)
    if "InsufficientDriver" in text:
        return f"there is no NVIDIA driver, or one too old for this CuPy; install or update the driver ({text})"
    if "NoDevice" in text:
        return f"the driver sees no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES ({text})"
    if isinstance(error, MemoryError):
        return f"the GPU has no memory left; nvidia-smi shows who uses it ({text})"
    return (
        f"CuPy sees the GPU but cannot compute on it; if the CUDA toolkit is missing, {CUPY_WHEELS} brings it "
        f"({type(error).__name__}: {text})"
    )


def _other(spec: str, library: str, name: str) -> Device:
    known = "known are auto, cpu, numba, cuda, cuda:N, torch, array_api_strict, or another installed array-API library"
    if not library.isidentifier():
        raise DeviceError(f"{spec!r} is not the name of a device; {known}")
    try:
        device = TorchDevice(name or "cpu") if library == "torch" else ArrayApiDevice(library, name or None)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            hint = f"pip install {library.replace('_', '-')}"
            raise DeviceError(f"{spec!r}: no library {library!r} is installed ({hint}); {known}") from None
        raise DeviceError(f"{spec!r}: {library} is installed but cannot be imported: {first_line(error)}") from None
    try:
        prove(device)
    except Exception as error:
        raise DeviceError(f"{spec!r} cannot be used: {type(error).__name__}: {first_line(error)}") from None
    return device


def available() -> list[tuple[str, Device | DeviceError]]:
    """Every device worth asking for here: ``(spec, device)``, or ``(spec, the error that says why not)``.

    The CPU, each GPU, and Numba, PyTorch and array-api-strict where they are installed.
    """
    specs = ["cpu", *(f"cuda:{index}" for index in range(max(_gpu_count(), 1)))]
    for spec in ("numba", "torch", "array_api_strict", "array_api_strict:device1"):
        if importlib.util.find_spec(spec.partition(":")[0]) is not None:
            specs.append(spec)
    found: list[tuple[str, Device | DeviceError]] = []
    for spec in specs:
        try:
            found.append((spec, find_device(spec)))
        except DeviceError as error:
            found.append((spec, error))
    return found


def _gpu_count() -> int:
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # find_device("cuda:0") says what is wrong
        return 0

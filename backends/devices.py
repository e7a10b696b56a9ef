"""Devices: which array library computes where, how arrays get there, and why a device cannot be used.

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

import ctypes
import importlib
import importlib.metadata
import importlib.util
import platform
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from typing import Any

import array_api_compat
import numpy as np

Array = Any

CUPY_WHEELS = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by the CUDA version that nvidia-smi prints"


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


class NumpyDevice(Device):
    """The CPU, through NumPy."""

    has_overrides = True

    def __init__(self) -> None:
        import array_api_compat.numpy as xp

        super().__init__("cpu", xp)

    def from_numpy(self, x: np.ndarray) -> Array:
        return x


class NumbaDevice(NumpyDevice):
    """The CPU, through NumPy and loops compiled by Numba."""

    library = "numba"

    def __init__(self) -> None:
        super().__init__()
        self.spec = "numba"


class CupyDevice(Device):
    """A CUDA GPU, through CuPy, with a stream of its own.

    The stream is a blocking one: it orders itself after the default stream, so that an array made outside ``use()`` is
    ready inside.
    """

    library = "cupy"
    has_overrides = True

    def __init__(self, index: int = 0) -> None:
        import array_api_compat.cupy as xp
        import cupy

        self.cupy = cupy
        self.index = index
        super().__init__(f"cuda:{index}", xp, cupy.cuda.Device(index))
        with self.handle:
            self.stream = cupy.cuda.Stream()

    def use(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(self.handle)
        stack.enter_context(self.stream)
        return stack

    def synchronize(self) -> None:
        self.handle.synchronize()

    def cublas(self) -> ctypes.CDLL:
        """The library that multiplies matrices.

        Raises:
            OSError, ImportError, AttributeError: it is not there, or another than expected.
        """
        from .cublas import load

        return load(self.cupy)

    def compute_capability(self) -> tuple[int, int]:
        """What NVIDIA calls the generation of a GPU: (8, 0) is Ampere."""
        digits = self.handle.compute_capability
        return int(digits[:-1]), int(digits[-1])

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        on_this_gpu = isinstance(x, self.cupy.ndarray) and x.device.id == self.index
        if on_this_gpu:
            return x
        if _is_on_cuda(x):
            with self.handle:
                return self.cupy.asarray(self.cupy.from_dlpack(x))
        return super().asarray(x, floats)

    def from_numpy(self, x: np.ndarray) -> Array:
        with self.handle:
            return self.cupy.asarray(x)

    def to_numpy(self, x: Array) -> np.ndarray:
        host: np.ndarray = self.cupy.asnumpy(x)
        return host

    def hardware(self) -> str:
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.index)
        runtime = self.cupy.cuda.runtime
        return (
            f"{properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, "
            f"CUDA {_cuda_version(runtime.runtimeGetVersion())}, "
            f"driver for CUDA {_cuda_version(runtime.driverGetVersion())}"
        )

    def version(self) -> str:
        return f"cupy {self.cupy.__version__}"


class TorchDevice(Device):
    """PyTorch, on the CPU or a GPU."""

    library = "torch"

    def __init__(self, name: str = "cpu") -> None:
        import array_api_compat.torch as xp
        import torch

        self.torch = torch
        try:
            handle = torch.device(name)
        except RuntimeError:
            raise DeviceError(f"PyTorch knows no device {name!r}; say torch:cpu, torch:cuda or torch:cuda:N") from None
        super().__init__(f"torch:{name}", xp, handle)
        self.has_float64 = handle.type != "mps"

    def synchronize(self) -> None:
        if self.handle.type == "cuda":
            self.torch.cuda.synchronize(self.handle)

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        if isinstance(x, self.torch.Tensor):
            return _dense_tensor(x).to(self.handle)
        return super().asarray(x, floats)

    def from_numpy(self, x: np.ndarray) -> Array:
        # PyTorch warns about memory that may not be written, and has no big-endian or negative-stride arrays.
        contiguous = np.ascontiguousarray(x) if x.flags.writeable else np.array(x, order="C")
        return self.torch.asarray(contiguous.reshape(x.shape), device=self.handle)

    def to_numpy(self, x: Array) -> np.ndarray:
        host: np.ndarray = x.detach().cpu().numpy()
        return host


class ArrayApiDevice(Device):
    """Any other array library that follows the array-API standard."""

    def __init__(self, library: str, device: str | None = None) -> None:
        self.library = library
        xp = importlib.import_module(library)
        try:
            info = xp.__array_namespace_info__()
        except AttributeError:
            raise DeviceError(f"{library} is not an array-API library: it has no __array_namespace_info__()") from None
        handle = info.default_device()
        if device is not None:
            known = {_device_name(d): d for d in info.devices()}
            if device.lower() not in known:
                raise DeviceError(f"{library} has no device {device!r}; it has {', '.join(known)}")
            handle = known[device.lower()]
        super().__init__(library if device is None else f"{library}:{device.lower()}", xp, handle)
        self.has_float64 = "float64" in info.dtypes(device=handle)

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        if array_api_compat.is_array_api_obj(x) and array_api_compat.get_namespace(x) is self.xp:
            return array_api_compat.to_device(x, self.handle)
        return super().asarray(x, floats)

    def to_numpy(self, x: Array) -> np.ndarray:
        return as_numpy(x)


def as_numpy(x: Any) -> np.ndarray:
    """``x`` (number, list, or array of any library and device) as a NumPy array.

    Raises:
        TypeError: it is ragged, sparse, text, or otherwise not numbers.
    """
    if isinstance(x, np.ndarray | np.generic):
        array = np.asarray(x)
    elif type(x).__module__.startswith(("scipy.sparse", "cupyx.scipy.sparse")):
        raise TypeError("a sparse matrix cannot be used here; pass its .toarray()")
    elif type(x).__module__.partition(".")[0] == "torch":
        tensor = _dense_tensor(x).cpu()
        array = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    elif array_api_compat.is_cupy_array(x):
        array = x.get()
    elif hasattr(x, "__dlpack__"):
        array = _from_dlpack(x)
    else:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise TypeError(f"this cannot be an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of numbers is needed, not of dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _dense_tensor(x: Any) -> Any:
    """A PyTorch tensor without its history."""
    if str(x.layout) != "torch.strided":
        raise TypeError("a sparse tensor cannot be used here; pass its .to_dense()")
    return x.detach()


def _from_dlpack(x: Any) -> np.ndarray:
    try:
        return np.asarray(np.from_dlpack(x))
    except (BufferError, RuntimeError, TypeError, AttributeError) as error:
        if not hasattr(x, "__array_namespace__"):
            raise TypeError(f"NumPy cannot read this {type(x).__name__}: {_first_line(error)}") from None
        # Not on a device whose memory the host can read: the first device of a library is, by custom, the host's.
        namespace = x.__array_namespace__()
        host = namespace.__array_namespace_info__().devices()[0]
        return np.array(np.from_dlpack(x.to_device(host)))


def _is_on_cuda(x: Any) -> bool:
    if not hasattr(x, "__dlpack_device__"):
        return False
    kind, _ = x.__dlpack_device__()
    return int(kind) == 2  # kDLCUDA


def _device_name(handle: Any) -> str:
    """``Device('device1')`` of array-api-strict and plain ``'cpu'`` of others, as a lower-case word."""
    text = str(handle)
    return (text.split("'")[1] if text.count("'") == 2 else text).lower()


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


# ---- from a name to a device that works ------------------------------------------------------------------------------


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
        raise DeviceError(f"{spec}: Numba is installed but cannot be imported: {_first_line(error)}") from None
    except Exception as error:  # where there is no folder to keep compiled code in
        raise DeviceError(f"{spec}: Numba cannot compile: {type(error).__name__}: {_first_line(error)}") from None
    return NumbaDevice()


def _prove_numba() -> None:
    """Compile a loop, run it and look at the result."""
    from .numba_kernels import half_and_half

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
        raise DeviceError(f"{spec}: CuPy is installed but cannot be imported: {_first_line(error)}") from None
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
            _prove(device)
    except Exception as error:
        raise DeviceError(f"{spec}: {_explain_cuda(error)}") from None
    return device


def _explain_cuda(error: Exception) -> str:
    text = _first_line(error)
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
        raise DeviceError(f"{spec!r}: {library} is installed but cannot be imported: {_first_line(error)}") from None
    try:
        _prove(device)
    except Exception as error:
        raise DeviceError(f"{spec!r} cannot be used: {type(error).__name__}: {_first_line(error)}") from None
    return device


def _prove(device: Device) -> None:
    """Run an elementwise operation, a product and a write through a view, and look at the result."""
    xp = device.xp
    x = device.from_numpy(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    y = xp.matmul(x * 2.0 + 1.0, x)
    try:
        view = xp.reshape(y[:1, ...], (2,))
        view[...] = xp.zeros_like(view)
    except Exception as error:
        raise TypeError(
            f"{device.library} arrays cannot be written in place, which xpnet needs ({_first_line(error)})"
        ) from None
    result = device.to_numpy(y)
    if np.any(result[0]):
        raise TypeError(f"{device.library} has no views of arrays, which xpnet needs")
    if not np.array_equal(result[1], [34.0, 50.0]):
        raise ArithmeticError(f"a 2x2 product came out as {result.tolist()}")
    int64 = device.from_numpy(np.arange(3, dtype=np.int64))
    if int64.dtype != xp.int64:
        raise TypeError(f"{device.library} has no 64-bit integers there, which xpnet needs")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


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

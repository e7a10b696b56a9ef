"""Devices of libraries that follow the array-API standard, PyTorch among them."""

from __future__ import annotations

import importlib
from typing import Any

import array_api_compat
import numpy as np

from ..typing import Array
from .arrays import as_numpy, dense_tensor
from .base import Device, DeviceError, ErrorKind
from .prove import proved


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
            raise DeviceError(
                f"PyTorch knows no device {name!r}; say torch:cpu, torch:cuda or torch:cuda:N", ErrorKind.NO_SUCH_DEVICE
            ) from None
        super().__init__(f"torch:{name}", xp, handle)
        self.has_float64 = handle.type != "mps"
        self.own_memory = handle.type != "cpu"

    def synchronize(self) -> None:
        if self.handle.type == "cuda":
            self.torch.cuda.synchronize(self.handle)

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        if isinstance(x, self.torch.Tensor):
            return dense_tensor(x).to(self.handle)
        return super().asarray(x, floats)

    def holds(self, x: Any) -> bool:
        return isinstance(x, self.torch.Tensor) and x.device == self.handle

    def from_numpy(self, x: np.ndarray) -> Array:
        # PyTorch warns about memory that may not be written, and has no big-endian or negative-stride arrays.
        contiguous = np.ascontiguousarray(x) if x.flags.writeable else np.array(x, order="C")
        return self.torch.asarray(contiguous.reshape(x.shape), device=self.handle)

    def to_numpy(self, x: Array) -> np.ndarray:
        host: np.ndarray = x.detach().cpu().numpy()
        return host

    def memory(self) -> tuple[int, int] | None:
        if self.handle.type != "cuda":
            return super().memory()
        cuda = self.torch.cuda
        free, total = cuda.mem_get_info(self.handle)
        kept = cuda.memory_reserved(self.handle) - cuda.memory_allocated(self.handle)
        return int(free + kept), int(total)

    def release(self) -> None:
        if self.handle.type == "cuda":
            self.torch.cuda.empty_cache()


class ArrayApiDevice(Device):
    """Any other array library that follows the array-API standard."""

    def __init__(self, library: str, device: str | None = None) -> None:
        self.library = library
        xp = importlib.import_module(library)
        try:
            info = xp.__array_namespace_info__()
        except AttributeError:
            raise DeviceError(
                f"{library} is not an array-API library: it has no __array_namespace_info__()", ErrorKind.LACKS_FEATURE
            ) from None
        handle = info.default_device()
        if device is not None:
            known = {_device_name(d): d for d in info.devices()}
            if device.lower() not in known:
                raise DeviceError(
                    f"{library} has no device {device!r}; it has {', '.join(known)}", ErrorKind.NO_SUCH_DEVICE
                )
            handle = known[device.lower()]
        super().__init__(library if device is None else f"{library}:{device.lower()}", xp, handle)
        self.has_float64 = "float64" in info.dtypes(device=handle)

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        if array_api_compat.is_array_api_obj(x) and array_api_compat.get_namespace(x) is self.xp:
            return array_api_compat.to_device(x, self.handle)
        return super().asarray(x, floats)

    def holds(self, x: Any) -> bool:
        is_ours = array_api_compat.is_array_api_obj(x) and array_api_compat.get_namespace(x) is self.xp
        return bool(is_ours and array_api_compat.device(x) == self.handle)

    def to_numpy(self, x: Array) -> np.ndarray:
        return as_numpy(x)


def find_torch(name: str) -> TorchDevice:
    """PyTorch on the device ``name``, proved.

    Raises:
        DeviceError: PyTorch has no such device, or it does not compute.
    """
    return proved(TorchDevice(name))


def find_array_api(library: str, name: str) -> ArrayApiDevice:
    """The device ``name`` of an array-API library, or its default device for "", proved.

    Raises:
        DeviceError: the library has no such device, lacks something, or does not compute.
    """
    return proved(ArrayApiDevice(library, name or None))


def _device_name(handle: Any) -> str:
    """``Device('device1')`` of array-api-strict and plain ``'cpu'`` of others, as a lower-case word."""
    text = str(handle)
    return (text.split("'")[1] if text.count("'") == 2 else text).lower()

"""What can compute on this machine, and for what cannot: the reason and what to do about it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .cuda.device import CupyDevice
from .devices import Device, DeviceError, TorchDevice
from .registry import available, find_device

#: The CuPy wheel for each major version of CUDA; a driver runs programs of its own CUDA version and of older ones.
WHEELS = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
#: Libraries that are tried where they are installed, and offered where they are not.
OPTIONAL = {"numba": "numba", "torch": "torch", "array_api_strict": "array-api-strict"}


@dataclass(frozen=True)
class Finding:
    """A device: what it is or, where ``reason`` says why it cannot be used, ``remedy`` what to do."""

    spec: str
    text: str = ""
    reason: str = ""
    remedy: str = ""

    def lines(self) -> Iterator[str]:
        """As the command line prints it."""
        if not self.reason:
            yield f"{self.spec:<26} ready: {self.text}"
        else:
            yield f"{self.spec:<26} not usable: {self.reason}"
        if self.remedy:
            yield f"{'':<26} {'what to do' if self.reason else 'but'}: {self.remedy}"


def examine(specs: Iterable[str] = ()) -> list[Finding]:
    """The devices of those names; by default everything that is here or could be."""
    return [_finding(spec, found) for spec, found in _find(specs)]


def _find(specs: Iterable[str]) -> Iterator[tuple[str, Device | DeviceError]]:
    named = list(specs)
    if not named:
        yield from available()
        named = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
        if not {"torch"} & {*named} and _torch_has_cuda():
            named.append("torch:cuda")
    for spec in named:
        try:
            yield spec, find_device(spec)
        except DeviceError as error:
            yield spec, error


def _finding(spec: str, found: Device | DeviceError) -> Finding:
    is_gpu = spec.partition(":")[0] in ("cuda", "cupy")
    if isinstance(found, Device):
        text = ", ".join(filter(None, (f"{found.version()} on {found.hardware()}", memory(found))))
        return Finding(spec, text, remedy=_both_wheels() if is_gpu else "")
    reason = str(found).removeprefix(f"{spec}: ").removeprefix(f"{spec!r}: ")
    if is_gpu:
        return Finding(spec, reason=reason, remedy=remedy(reason))
    if spec in OPTIONAL and importlib.util.find_spec(spec) is None:
        return Finding(spec, reason="it is not installed", remedy=f"pip install {OPTIONAL[spec]}")
    return Finding(spec, reason=reason)


def memory(device: Device) -> str:
    """Free and total memory of a device; nothing where the system does not say."""
    try:
        if isinstance(device, CupyDevice):
            free, total = device.cupy.cuda.Device(device.index).mem_info
        elif isinstance(device, TorchDevice) and device.handle.type == "cuda":
            free, total = device.torch.cuda.mem_get_info(device.handle)
        else:
            page = os.sysconf("SC_PAGE_SIZE")
            free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError, RuntimeError):  # Windows and macOS have not all of these
        return ""
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB of memory free"


# ---- CUDA ------------------------------------------------------------------------------------------------------------


def remedy(reason: str) -> str:
    """What to do about a GPU that cannot be used: the first thing that is wrong, from the wheels to the toolkit."""
    if both := _both_wheels():
        return both
    if "no GPU of that number" in reason or "number of a GPU must" in reason:
        return "take one of those numbers, from 0; CUDA_VISIBLE_DEVICES renumbers the GPUs and hides the others"
    wheels, driver = cupy_wheels(), cuda_of_driver()
    wanted = WHEELS[13 if driver is None or driver[0] >= 13 else 12]
    if driver is None:
        then = "" if wheels else f", then pip install '{wanted}[ctk]'"
        return f"there is no NVIDIA driver on this machine; if it has an NVIDIA GPU, install the driver{then}"
    version = f"CUDA {driver[0]}.{driver[1]}"
    if driver[0] < 12:
        return f"the driver supports {version}, and CuPy needs 12 or newer: update it"
    if not wheels:
        return f"the driver supports {version}: pip install '{wanted}[ctk]'"
    wheel = wheels[0]
    if WHEELS[13] == wheel and driver[0] < 13:
        swap = f"pip uninstall -y {wheel}; pip install '{wanted}[ctk]'"
        return f"{wheel} needs a driver for CUDA 13, and this one supports {version}: update the driver, or {swap}"
    if "the driver sees no GPU" in reason:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}, which may hide it"
        return f"nvidia-smi -L must list a GPU{hidden}"
    if "no memory left" in reason:
        return "end the process that holds the memory (nvidia-smi shows it), or take another GPU"
    if "no NVIDIA driver" in reason:
        return f"update the driver, which supports {version}"
    # From here on, the wheel is the right one and something in or beside it is not.
    if not has_nvrtc():
        return f"the CUDA toolkit is missing: pip install '{wheel}[ctk]'"
    return f"pip install --force-reinstall '{wheel}[ctk]'"


def cupy_wheels() -> list[str]:
    """The installed distributions that hold the module ``cupy``."""
    names = {(distribution.metadata["Name"] or "").lower() for distribution in importlib.metadata.distributions()}
    return sorted(name for name in names if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")))


def _both_wheels() -> str:
    wheels = cupy_wheels()
    if len(wheels) < 2:
        return ""
    driver = cuda_of_driver()
    keep = WHEELS[12 if driver is not None and driver[0] == 12 else 13]
    return (
        f"{' and '.join(wheels)} are installed both and overwrite each other's files: "
        f"pip uninstall -y {' '.join(wheels)}; pip install '{keep}[ctk]'"
    )


def cuda_of_driver() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver supports, asked of the driver itself; None without one."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        number = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def has_nvrtc() -> bool:
    """Whether CUDA's compiler is here, from a wheel (what the extra ``ctk`` brings) or from a toolkit."""
    names = {(distribution.metadata["Name"] or "").lower() for distribution in importlib.metadata.distributions()}
    return any(name.startswith("nvidia-cuda-nvrtc") for name in names) or "CUDA_PATH" in os.environ


def _torch_has_cuda() -> bool:
    try:
        import torch

        return bool(torch.cuda.is_available())
    except Exception:  # a PyTorch that cannot be imported is found, with its reason, as device torch
        return False

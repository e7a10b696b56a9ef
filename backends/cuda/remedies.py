"""What to do about CuPy where no GPU can be used: the driver, the wheels and the CUDA toolkit are looked at."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys

from ..devices import ErrorKind

#: The CuPy wheel for each major version of CUDA; a driver runs programs of its own CUDA version and of older ones.
WHEELS = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}


def remedy(kind: ErrorKind | None) -> str:
    """What to do about a GPU that cannot be used: the first thing that is wrong, from the wheels to the toolkit.

    Args:
        kind: what CuPy met with; None where the GPU works, and only what may break it later is told.
    """
    both = _both_wheels()
    if both or kind is None:
        return both
    if kind is ErrorKind.NO_SUCH_DEVICE:
        return "take one of those numbers, from 0; CUDA_VISIBLE_DEVICES renumbers the GPUs and hides the others"
    if kind is ErrorKind.UNSAFE_ENVIRONMENT:
        return "unset it and start Python again: CuPy reads it when it is imported"
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
    if kind is ErrorKind.NO_GPU:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}, which may hide it"
        return f"nvidia-smi -L must list a GPU{hidden}"
    if kind is ErrorKind.NO_MEMORY:
        return "end the process that holds the memory (nvidia-smi shows it), or take another GPU"
    if kind is ErrorKind.NO_DRIVER:
        return f"update the driver, which supports {version}"
    # From here on, the wheel is the correct one and something in or beside it is not.
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

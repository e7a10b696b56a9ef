"""``python -m benchmarks.gpu.machine``: the GPU, its driver, and the versions of all that computes on it, as JSON."""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from backends import Backend, DeviceError, get_backend

#: Who takes part where it is installed; none is imported here.
LIBRARIES = ("xpnet", "numpy", "array-api-compat", "jax", "jaxlib", "torch", "pytest")
ENVIRONMENT = (
    "NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "CUBLAS_WORKSPACE_CONFIG",
)  # fmt: skip
NVIDIA_SMI = "driver_version,clocks.max.sm,clocks.sm,power.limit,mig.mode.current"


def main(argv: Sequence[str] | None = None) -> int:
    """Print; 2 and a sentence where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.machine", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:N")
    settings = parser.parse_args(argv)
    try:
        backend = get_backend(settings.device)
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(describe(backend), indent=1))
    return 0


def describe(backend: Backend) -> dict[str, Any]:
    """What is known of the device and of the machine."""
    device: Any = backend.device
    told = {
        "device": device.spec,
        "GPU": device.hardware(),
        "CuPy": device.version(),
        "compute capability": ".".join(map(str, device.compute_capability())),
        "cuBLAS": cublas_version(device),
        "nvidia-smi": nvidia_smi(device.index),
        "Python": platform.python_version(),
        "machine": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores",
    }
    told |= {name: version(name) for name in LIBRARIES}
    return told | {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cublas_version(device: Any) -> str:
    """Of the library that the products are asked of."""
    try:
        get = device.cublas().cublasGetProperty
        numbers = []
        for which in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
            number = ctypes.c_int()
            get(which, ctypes.byref(number))
            numbers.append(str(number.value))
    except (ImportError, OSError, AttributeError):
        return "unknown"
    return ".".join(numbers)


def nvidia_smi(index: int) -> dict[str, str]:
    """What the driver's own program says of the GPU; nothing where it is not there."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={NVIDIA_SMI}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(NVIDIA_SMI.split(","), (word.strip() for word in said.strip().split(",")), strict=False))


if __name__ == "__main__":
    sys.exit(main())

"""CuPy that cannot be used: stand-ins that fail as it does, the sentences that say so, and their kinds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from backends import ErrorKind
from backends.cuda.device import CupyDevice


class CUDARuntimeError(RuntimeError):
    pass


class CompileException(Exception):
    pass


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise error

    return call


def cupy_with(count: Callable[[], int]) -> ModuleType:
    cupy = ModuleType("cupy")
    vars(cupy)["cuda"] = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count))
    return cupy


WHEELS = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by the CUDA version that nvidia-smi prints"


def broken_count(text: str) -> Callable[[pytest.MonkeyPatch], None]:
    def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", cupy_with(raising(CUDARuntimeError(text))))

    return breaks


def broken_device(error: Exception) -> Callable[[pytest.MonkeyPatch], None]:
    def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: 1))
        monkeypatch.setattr(CupyDevice, "__init__", raising(error))

    return breaks


def unsafe_environment(name: str, value: str) -> Callable[[pytest.MonkeyPatch], None]:
    def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: 1))
        monkeypatch.setenv(name, value)

    return breaks


def broken_import(error: Exception, module: str = "cupy") -> Callable[[pytest.MonkeyPatch], None]:
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == module:
            raise error

    def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=find_spec), *sys.meta_path])

    return breaks


#: What breaks it, the sentence that says so, its kind, and what ``auto`` says.
BROKEN = {
    "not installed": (
        broken_import(ModuleNotFoundError("No module named 'cupy'", name="cupy")),
        f"CuPy is not installed ({WHEELS})",
        ErrorKind.NOT_INSTALLED,
        "no GPU: CuPy is not installed",
    ),
    "a part not installed": (
        broken_import(ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")),
        "CuPy is installed but cannot be imported: No module named 'fastrlock'",
        ErrorKind.CANNOT_IMPORT,
        "no GPU: CuPy cannot be imported",
    ),
    "broken import": (
        broken_import(ImportError("libcudart.so.12: cannot open shared object file\nand more")),
        "CuPy is installed but cannot be imported: libcudart.so.12: cannot open shared object file",
        ErrorKind.CANNOT_IMPORT,
        "no GPU: CuPy cannot be imported",
    ),
    "no driver": (
        broken_count("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"),
        "there is no NVIDIA driver, or one too old for this CuPy; install or update the driver "
        "(cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version)",
        ErrorKind.NO_DRIVER,
        "no GPU: no NVIDIA driver, or one too old",
    ),
    "no GPU": (
        broken_count("cudaErrorNoDevice: no CUDA-capable device is detected"),
        "the driver sees no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES "
        "(cudaErrorNoDevice: no CUDA-capable device is detected)",
        ErrorKind.NO_GPU,
        "no GPU: the NVIDIA driver sees none",
    ),
    "no toolkit": (
        broken_device(CompileException("cannot open source file cuda_fp16.h\n#include ...")),
        f"CuPy sees the GPU but cannot compute on it; if the CUDA toolkit is missing, {WHEELS} brings it "
        "(CompileException: cannot open source file cuda_fp16.h)",
        ErrorKind.CANNOT_COMPUTE,
        "GPU not used: CuPy cannot compute on it",
    ),
    "no memory": (
        broken_device(MemoryError("Out of memory allocating 512 bytes")),
        "the GPU has no memory left; nvidia-smi shows who uses it (Out of memory allocating 512 bytes)",
        ErrorKind.NO_MEMORY,
        "GPU not used: it has no memory left",
    ),
    "streams per thread": (
        unsafe_environment("CUPY_CUDA_PER_THREAD_DEFAULT_STREAM", "1"),
        "CUPY_CUDA_PER_THREAD_DEFAULT_STREAM=1 lets arrays be read before they are written: unset it",
        ErrorKind.UNSAFE_ENVIRONMENT,
        "GPU not used: an environment variable forbids it",
    ),
}

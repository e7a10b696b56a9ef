"""CuPy that cannot be used: stand-ins that fail as it does, and the sentences that say so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from backends import registry


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
        monkeypatch.setattr(registry, "CupyDevice", raising(error))

    return breaks


def broken_import(error: ImportError) -> Callable[[pytest.MonkeyPatch], None]:
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "cupy":
            raise error

    def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=find_spec), *sys.meta_path])

    return breaks


BROKEN = {
    "not installed": (
        broken_import(ModuleNotFoundError("No module named 'cupy'", name="cupy")),
        f"CuPy is not installed ({WHEELS})",
    ),
    "a part not installed": (
        broken_import(ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")),
        "CuPy is installed but cannot be imported: No module named 'fastrlock'",
    ),
    "broken import": (
        broken_import(ImportError("libcudart.so.12: cannot open shared object file\nand more")),
        "CuPy is installed but cannot be imported: libcudart.so.12: cannot open shared object file",
    ),
    "no driver": (
        broken_count("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"),
        "there is no NVIDIA driver, or one too old for this CuPy; install or update the driver "
        "(cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version)",
    ),
    "no GPU": (
        broken_count("cudaErrorNoDevice: no CUDA-capable device is detected"),
        "the driver sees no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES "
        "(cudaErrorNoDevice: no CUDA-capable device is detected)",
    ),
    "no toolkit": (
        broken_device(CompileException("cannot open source file cuda_fp16.h\n#include ...")),
        f"CuPy sees the GPU but cannot compute on it; if the CUDA toolkit is missing, {WHEELS} brings it "
        "(CompileException: cannot open source file cuda_fp16.h)",
    ),
    "no memory": (
        broken_device(MemoryError("Out of memory allocating 512 bytes")),
        "the GPU has no memory left; nvidia-smi shows who uses it (Out of memory allocating 512 bytes)",
    ),
}

"""Numbers, structures and signatures that stand in our code and in the stand-ins, against NVIDIA's own headers.

A C++ compiler tells what the headers of a toolkit or of a wheel say; neither a GPU nor a driver is needed for that.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from backends.cuda import cublas, dependent, graphs
from backends.cuda.dependent import LaunchAttribute, LaunchConfig
from benchmarks.gpu import driver
from tests.helpers import emulated_cuda, emulated_launch

TELL = r"""
#include <cstdio>
#include <type_traits>
template <class T> void kind()
{
    printf("%c%zu ", std::is_pointer_v<T> ? 'p' : std::is_unsigned_v<T> ? 'u' : 'i', sizeof(T));
}
template <> void kind<void>() {}
template <class R, class... A> void tell(R (*)(A...))
{
    (kind<std::conditional_t<std::is_enum_v<A>, int, A>>(), ...);
    puts("");
}
#define TELL(function) tell((decltype(&function))nullptr)
"""
#: In C++ the header has two functions of that name; this is the one that the library has.
GEMM = """(cublasStatus_t (*)(
    cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*, const void*, cudaDataType, int,
    const void*, cudaDataType, int, const void*, void*, cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t
))&cublasGemmEx"""


@cache
def folders() -> list[Path]:
    """Where headers may be: beside nvcc, in a toolkit, in wheels."""
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(place) for place in (spec.submodule_search_locations or [] if spec is not None else [])]
    nvcc = shutil.which("nvcc")
    toolkits = [Path(os.environ.get("CUDA_PATH", "/usr/local/cuda")), *([Path(nvcc).parents[1]] if nvcc else [])]
    found = [toolkit / "include" for toolkit in toolkits] + [x for place in wheels for x in place.glob("*/include")]
    return [folder for folder in found if folder.is_dir()]


def said(tmp_path: Path, headers: Iterable[str], statements: Iterable[str]) -> list[str]:
    """The lines that statements print, each after these headers."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    for header in headers:
        if not any((folder / header).exists() for folder in folders()):
            pytest.skip(f"{header} is not here")
    # So that cuda.h declares the functions under the names that the driver exports, older ones too.
    lines = ["#define __CUDA_API_VERSION_INTERNAL", *(f"#include <{x}>" for x in headers), "#include <cstddef>", TELL]
    (tmp_path / "told.cpp").write_text("\n".join([*lines, "int main() {", *statements, "}"]))
    command = ["g++", "-std=c++17", *(f"-I{folder}" for folder in folders()), "told.cpp", "-o", "told"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if made.returncode and "crt/host_defines.h: No such file" in made.stderr:
        pytest.skip("crt/host_defines.h is not here (the wheel nvidia-cuda-crt, or a toolkit)")
    assert made.returncode == 0, made.stderr
    return subprocess.run([tmp_path / "told"], capture_output=True, text=True, check=True).stdout.splitlines()


def kind(argument: Any) -> str:
    """A type of ctypes as ``TELL`` prints it."""
    if argument is ctypes.c_void_p or hasattr(argument, "contents"):
        return "p8"
    return f"{'u' if argument(-1).value > 0 else 'i'}{ctypes.sizeof(argument)}"


def assert_signatures(tmp_path: Path, headers: Iterable[str], known: Mapping[str, tuple[Any, ...]]) -> None:
    special = {"cublasGemmEx": f"tell((decltype({GEMM}))nullptr);"}
    found = said(tmp_path, headers, (special.get(name, f"TELL({name});") for name in known))
    told = dict(zip(known, (line.split() for line in found), strict=True))
    assert told == {name: [*map(kind, types)] for name, types in known.items()}


def assert_numbers(tmp_path: Path, headers: Iterable[str], known: Mapping[str, int]) -> None:
    found = said(tmp_path, headers, (f'printf("%lld\\n", (long long)({what}));' for what in known))
    assert dict(zip(known, map(int, found), strict=True)) == known


def test_cublas_is_called_as_its_header_says(tmp_path: Path) -> None:
    others: dict[str, tuple[Any, ...]] = {
        "cublasGetStatusName": (ctypes.c_int,),
        "cublasDestroy_v2": (ctypes.c_void_p,),
    }
    others["cublasGetProperty"] = (ctypes.c_int, ctypes.POINTER(ctypes.c_int))
    assert_signatures(tmp_path, ["cublas_api.h"], cublas.SIGNATURES | others)


def test_cublas_is_handed_the_numbers_of_its_header(tmp_path: Path) -> None:
    known = {
        "CUBLAS_COMPUTE_32F": cublas.PRECISIONS["float32"],
        "CUBLAS_COMPUTE_32F_FAST_TF32": cublas.PRECISIONS["tf32"],
        "CUBLAS_COMPUTE_32F_FAST_16BF": cublas.PRECISIONS["bf16"],
        "CUBLAS_COMPUTE_64F": cublas.COMPUTE_64F,
        "CUDA_R_32F": cublas.TYPES["float32"],
        "CUDA_R_64F": cublas.TYPES["float64"],
        "CUBLAS_OP_N": cublas.OP_N,
        "CUBLAS_OP_T": cublas.OP_T,
        "CUBLAS_GEMM_DEFAULT": cublas.DEFAULT_ALGORITHM,
        # of the stand-in
        "CUBLAS_STATUS_NOT_INITIALIZED": 1,
        "CUBLAS_STATUS_ALLOC_FAILED": 3,
        "CUBLAS_STATUS_INVALID_VALUE": 7,
        "CUBLAS_STATUS_EXECUTION_FAILED": emulated_cuda.EXECUTION_FAILED,
        "CUBLAS_STATUS_NOT_SUPPORTED": 15,
    }
    assert_numbers(tmp_path, ["cublas_api.h"], known)


def test_the_driver_is_called_as_its_header_says(tmp_path: Path) -> None:
    """As CuPy's device counts nodes, as dependent launches are made, and as ``benchmarks.gpu`` takes graphs apart."""
    assert_signatures(tmp_path, ["cuda.h"], dependent.SIGNATURES | driver.SIGNATURES | driver.NAMES)


def test_the_driver_is_handed_the_numbers_of_its_header(tmp_path: Path) -> None:
    of_nodes = {driver.KERNEL: "KERNEL", driver.COPY: "MEMCPY", driver.MEMSET: "MEMSET"}
    of_others = {"host": "HOST", "graph": "GRAPH", "empty": "EMPTY", "wait": "WAIT_EVENT", "event": "EVENT_RECORD"}
    of_others |= {"allocation": "MEM_ALLOC", "free": "MEM_FREE", "conditional": "CONDITIONAL"}
    of_nodes |= {number: of_others[name] for number, name in driver.OTHER.items()}
    known = {f"CU_GRAPH_NODE_TYPE_{name}": number for number, name in of_nodes.items()} | {
        "CU_STREAM_CAPTURE_STATUS_ACTIVE": driver.ACTIVE,
        "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION": dependent.STREAM_SERIALIZATION,
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": graphs.INTERRUPTED[0],
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": graphs.INTERRUPTED[1],
        "CUDA_ERROR_STREAM_CAPTURE_UNJOINED": graphs.INTERRUPTED[2],
        "(int)CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": dependent.INVALIDATED,
        # of the stand-ins
        "CUDA_ERROR_STREAM_CAPTURE_ISOLATION": 905,
        "CUDA_ERROR_NOT_SUPPORTED": 801,
        "CUDA_ERROR_INVALID_VALUE": emulated_launch.INVALID_VALUE,
        "CUDA_ERROR_LAUNCH_FAILED": emulated_launch.LAUNCH_FAILED,
        "(int)CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": emulated_launch.CAPTURE_UNSUPPORTED,
        "(int)CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION": emulated_launch.STREAM_SERIALIZATION,
    }
    assert_numbers(tmp_path, ["cuda.h"], known)


#: Of a structure: ours, the header's, and the fields of both, where they begin in the header's.
LAYOUT: dict[str, tuple[type[ctypes.Structure], dict[str, str]]] = {
    "CUlaunchConfig": (
        LaunchConfig,
        {
            "gridDimX": "grid",
            "blockDimX": "block",
            "sharedMemBytes": "shared",
            "hStream": "stream",
            "attrs": "attributes",
            "numAttrs": "n_attributes",
        },
    ),
    "CUlaunchAttribute": (LaunchAttribute, {"id": "id", "value": "value"}),
    "CUDA_KERNEL_NODE_PARAMS_v2": (
        driver.KernelParams,
        {
            "func": "func",
            "gridDimX": "grid",
            "blockDimX": "block",
            "sharedMemBytes": "shared",
            "kernelParams": "params",
            "extra": "extra",
            "kern": "kern",
            "ctx": "ctx",
        },
    ),
}


def test_the_structures_are_those_of_the_header(tmp_path: Path) -> None:
    known = {f"sizeof({name})": ctypes.sizeof(ours) for name, (ours, _) in LAYOUT.items()}
    for name, (ours, fields) in LAYOUT.items():
        known |= {f"offsetof({name}, {theirs})": getattr(ours, field).offset for theirs, field in fields.items()}
    known["sizeof(CUlaunchConfig) + 0"] = emulated_launch.CONFIG.size
    known["sizeof(CUlaunchAttribute) + 0"] = emulated_launch.ATTRIBUTE.size
    known["offsetof(CUlaunchAttribute, value.programmaticStreamSerializationAllowed)"] = LaunchAttribute.value.offset
    assert_numbers(tmp_path, ["cuda.h"], known)


def test_what_is_handed_on_as_it_comes_fits(tmp_path: Path) -> None:
    sizes = said(
        tmp_path,
        ["cuda.h"],
        (f'printf("%zu\\n", sizeof({name}));' for name in ("CUDA_MEMCPY3D", "CUDA_MEMSET_NODE_PARAMS")),
    )
    assert max(map(int, sizes)) <= ctypes.sizeof(driver.Opaque)

"""A CUDA device that is not there: ``CupyBackend(EmulatedCudaDevice())`` runs on the CPU, launches and kernels alike.

The CUDA text is compiled by g++ with ``cuda_shim.h`` in place of CUDA, and a stand-in for the module ``cupy``, with
NumPy underneath, offers what ``CupyBackend`` uses of it. It is stricter than CuPy where CuPy is silent or only a GPU
would fail:

* arguments of a launch are held against the C declaration of the kernel, grids against CUDA's limits;
* memory from ``empty`` is filled with NaN or 0xCD, so that reading what nobody wrote shows;
* an array refuses everything that would make the host wait: ``float()``, ``bool()``, ``item()``, an iteration.

Blocks get at most ``max_threads`` threads, since each is a real one; the kernels are right for any number.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_compat.numpy
import numpy as np

from backends.devices import CupyDevice, Device

HAS_COMPILER = shutil.which("g++") is not None
#: For a run under a sanitizer, e.g. "-g -fsanitize=address,undefined", with the sanitizer's library in LD_PRELOAD.
EXTRA_FLAGS = os.environ.get("XPNET_EMULATOR_FLAGS", "").split()
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall"]

_C_TYPES = {
    "bool": ctypes.c_bool,
    "int": ctypes.c_int32,
    "long long": ctypes.c_int64,
    "unsigned char": ctypes.c_uint8,
    "unsigned short": ctypes.c_uint16,
    "unsigned int": ctypes.c_uint32,
    "unsigned long long": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


class OutOfMemoryError(MemoryError):
    pass


class MemoryPointer(SimpleNamespace):
    ptr: int
    device_id: int


class ndarray(np.ndarray):
    """A NumPy array that behaves like memory of a GPU."""

    device_id = 0

    @property
    def data(self) -> Any:
        return MemoryPointer(ptr=self.ctypes.data, device_id=self.device_id)

    def _wait(self, *_: Any) -> Any:
        raise AssertionError("this would make the host wait for the device")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = item = tolist = _wait


def declarations(text: str) -> dict[str, list[str]]:
    """The parameters of each kernel of a CUDA text, as they are written there."""
    return {
        name: [" ".join(parameter.split()) for parameter in parameters.split(",")]
        for name, parameters in re.findall(r"^KERNEL (\w+)\((.*?)\)\n?\s*\{", text, re.DOTALL | re.MULTILINE)
    }


@cache
def compiled(text: str) -> ctypes.PyDLL:
    """A CUDA text as a library of functions ``emulate_KERNEL(blocks_x, blocks_y, threads, ...)``.

    A PyDLL holds Python's lock during a call: shared memory is static, so that only one kernel may run at a time.
    """
    parts = ['#include "cuda_shim.h"', text]
    for name, parameters in declarations(text).items():
        names = ", ".join(parameter.split()[-1].lstrip("*") for parameter in parameters)
        declared = "".join(f", {parameter}" for parameter in parameters)
        parts.append(
            f'extern "C" void emulate_{name}(unsigned blocks_x, unsigned blocks_y, unsigned threads{declared})\n'
            f"{{ emulate(blocks_x, blocks_y, threads, [=] {{ {name}({names}); }}); }}"
        )
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernels.so"
        command = ["g++", *FLAGS, *EXTRA_FLAGS, "-I", str(Path(__file__).parent), "-x", "c++", "-", "-o", str(library)]
        result = subprocess.run(command, input="\n".join(parts), capture_output=True, text=True, check=False)
        if result.returncode or "warning" in result.stderr:
            raise RuntimeError(f"g++ on the CUDA text:\n{result.stderr}")
        return ctypes.PyDLL(str(library))


class RawKernel:
    def __init__(self, name: str, function: Any, parameters: list[str], real: str, max_threads: int) -> None:
        self.name = name
        self.function = function
        self.max_threads = max_threads
        self.function.restype = None
        self.parameters = []
        for parameter in parameters:
            words = parameter.removeprefix("const ").split()
            c_type = " ".join(words[:-1])
            c_type, is_pointer = c_type.removesuffix("*"), c_type.endswith("*")
            self.parameters.append((words[-1], np.dtype(_C_TYPES[real if c_type == "REAL" else c_type]), is_pointer))

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        assert 1 <= grid[0] < 2**31, f"grid of {self.name}: {grid}"
        assert all(1 <= n < 2**16 for n in grid[1:]), f"grid of {self.name}: {grid}"
        assert len(grid) <= 2, f"grid of {self.name}: {grid}"
        (threads,) = block
        assert 1 <= threads <= 1024, f"block of {self.name}: {block}"
        assert threads & (threads - 1) == 0, f"block of {self.name}: {block}"
        assert len(arguments) == len(self.parameters), f"{self.name} takes {len(self.parameters)} arguments"
        values = [self.value(*both) for both in zip(self.parameters, arguments, strict=True)]
        blocks_x, blocks_y = (*grid, 1)[:2]
        counts = [ctypes.c_uint(n) for n in (blocks_x, blocks_y, min(threads, self.max_threads))]
        self.function(*counts, *values)

    def value(self, parameter: tuple[str, np.dtype[Any], bool], argument: Any) -> Any:
        name, dtype, is_pointer = parameter
        what = f"{name} of {self.name}"
        if not is_pointer:
            assert type(argument) is dtype.type, f"{what} is a {dtype}, got {argument!r}"
            return np.ctypeslib.as_ctypes_type(dtype)(argument)
        if isinstance(argument, np.uint64):
            assert argument == 0, f"{what} is a pointer, got {argument!r}"
            return ctypes.c_void_p(None)
        assert type(argument) is ndarray, f"{what} is a pointer, got {type(argument)}"
        assert argument.dtype == dtype, f"{what} points to {dtype}, got {argument.dtype}"
        assert argument.flags.c_contiguous, f"{what} is not contiguous"
        return ctypes.c_void_p(argument.ctypes.data)


class RawModule:
    max_threads = 1

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self.code = code
        self.declarations = declarations(code)
        match = re.search(r"^#define REAL (\w+)$", code, re.MULTILINE)
        assert match is not None
        self.real = match[1]

    def get_function(self, name: str) -> RawKernel:
        function = compiled(self.code)[f"emulate_{name}"]
        return RawKernel(name, function, self.declarations[name], self.real, self.max_threads)


def gemm(transa: str, transb: str, a: Any, b: Any, out: Any = None, alpha: float = 1.0, beta: float = 0.0) -> Any:
    """``cupy.cublas.gemm``, which asserts, on operands that cuBLAS takes."""
    assert type(a) is type(b) is type(out) is ndarray
    assert type(alpha) is type(beta) is float
    assert a.dtype == b.dtype == out.dtype
    assert a.size > 0
    assert b.size > 0
    a = {"N": a, "T": a.T}[transa]
    b = {"N": b, "T": b.T}[transb]
    product = alpha * np.matmul(np.asarray(a), np.asarray(b))
    assert out.shape == product.shape
    out[...] = product if beta == 0 else product + beta * np.asarray(out)
    return out


class Allocator:
    """Poisoned memory, counted, with a limit."""

    def __init__(self) -> None:
        self.count = 0
        self.limit = 2**40

    def __call__(self, shape: Any, dtype: Any) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")
        self.count += 1
        array = np.empty(shape, dtype)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        elif array.size:
            array.reshape(-1).view(np.uint8).fill(0xCD)
        return array.view(ndarray)


@cache
def emulated_cupy(max_threads: int) -> Any:
    """The stand-in for the module ``cupy``, with blocks of at most so many threads."""
    allocate = Allocator()

    def asarray(x: Any, dtype: Any = None, *, copy: bool | None = None) -> Any:
        if isinstance(x, ndarray) and dtype in (None, x.dtype) and not copy:
            return x
        host = np.asarray(x, dtype)
        array = allocate(host.shape, host.dtype)
        array[...] = host
        return array

    def ascontiguousarray(x: Any) -> Any:
        assert type(x) is ndarray
        return x if x.flags.c_contiguous else asarray(x, copy=True)

    module: Any = ModuleType(f"emulated_cupy_{max_threads}")
    module.ndarray = ndarray
    module.allocate = allocate
    module.asarray = asarray
    module.ascontiguousarray = ascontiguousarray
    module.asnumpy = lambda x: np.array(x, subok=False)
    module.may_share_memory = np.may_share_memory
    module.RawModule = type("RawModule", (RawModule,), {"max_threads": max_threads})
    module.cuda = SimpleNamespace(memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError))
    module.cublas = ModuleType(f"{module.__name__}.cublas")
    module.cublas.gemm = gemm
    sys.modules[module.__name__] = module
    sys.modules[module.cublas.__name__] = module.cublas
    return module


class Namespace:
    """The array-API namespace of the stand-in: NumPy's, with arrays made on the emulated device."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def __getattr__(self, name: str) -> Any:
        return getattr(array_api_compat.numpy, name)

    def empty(self, shape: Any, *, dtype: Any, device: Any) -> Any:
        return self._cupy.allocate(shape, dtype)

    def zeros(self, shape: Any, *, dtype: Any, device: Any) -> Any:
        array = self._cupy.allocate(shape, dtype)
        array.fill(0)
        return array

    def arange(self, *limits: Any, dtype: Any, device: Any) -> Any:
        return self._cupy.asarray(np.arange(*limits, dtype=dtype))

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        return self._cupy.asarray(x, dtype, copy=copy)


class Handle(nullcontext[None]):
    mem_info = (3 * 2**20, 2**30)


class EmulatedCudaDevice(CupyDevice):
    """``cuda:0`` on the CPU."""

    def __init__(self, max_threads: int = 1) -> None:
        self.cupy = emulated_cupy(max_threads)
        self.index = 0
        Device.__init__(self, "cuda:0", Namespace(self.cupy), Handle())

    def use(self) -> Any:
        return nullcontext()

    def synchronize(self) -> None:
        pass

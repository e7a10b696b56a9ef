"""A GPU, through CuPy."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Any

import numpy as np

from ..collectives import local_rank
from ..devices import Device, DeviceError, ErrorKind, Transfer, first_line, prove
from ..devices.arrays import is_on_cuda, is_torch_tensor, plain_tensor
from ..typing import Array
from . import cublas
from .transfer import CudaTransfer

#: How CuPy is installed, with what it needs of the CUDA toolkit.
INSTALL = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by the CUDA version that nvidia-smi prints"

#: Arrays of the host of so many bytes, or more, go to the GPU from where they are. CuPy copies others to page-locked
#: memory first, as much as the next power of two, which the process then keeps.
DIRECTLY_FROM = 1 << 24


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


@cache
def stream_of(cupy: Any, index: int) -> Any:
    """The stream of a GPU, one as long as the process: on two, what one wrote would not be ready for the other.

    It is a blocking one: it orders itself after the default stream, so that an array made outside ``use()`` is ready
    inside.
    """
    with cupy.cuda.Device(index):
        return cupy.cuda.Stream()


class CupyDevice(Device):
    """A CUDA GPU, through CuPy, with a stream of its own."""

    library = "cupy"
    has_overrides = True
    queues = True
    own_memory = True

    def __init__(self, index: int = 0) -> None:
        import array_api_compat.cupy as xp
        import cupy

        self.cupy = cupy
        self.index = index
        super().__init__(f"cuda:{index}", xp, cupy.cuda.Device(index))
        self.stream = stream_of(cupy, index)

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
        return cublas.load(self.cupy)

    def driver(self) -> ctypes.CDLL:
        """The CUDA driver.

        Raises:
            OSError: there is none of that name.
        """
        return _driver()

    def nodes_of(self, graph: Any) -> int:
        """How many nodes a captured graph has, by the driver: CuPy does not tell.

        Raises:
            OSError, AttributeError, RuntimeError: the driver does not tell either.
        """
        count = ctypes.c_size_t()
        status = _driver().cuGraphGetNodes(ctypes.c_void_p(graph.graph), None, ctypes.byref(count))
        if status != 0:
            raise RuntimeError(f"cuGraphGetNodes: error {status}")
        return count.value

    def compute_capability(self) -> tuple[int, int]:
        """What NVIDIA calls the generation of a GPU: (8, 0) is Ampere."""
        digits = self.handle.compute_capability
        return int(digits[:-1]), int(digits[-1])

    def asarray(self, x: Any, floats: str = "float64") -> Array:
        on_this_gpu = isinstance(x, self.cupy.ndarray) and x.device.id == self.index
        if on_this_gpu:
            return x
        if is_on_cuda(x):
            if is_torch_tensor(x):  # or DLPack refuses those with a gradient, sparse ones and bfloat16
                x = plain_tensor(x)
            with self.handle:
                return self.cupy.asarray(self.cupy.from_dlpack(x))
        return super().asarray(x, floats)

    def holds(self, x: Any) -> bool:
        return is_on_cuda(x) and int(x.__dlpack_device__()[1]) == self.index

    def from_numpy(self, x: np.ndarray) -> Array:
        with self.handle:
            if x.nbytes < DIRECTLY_FROM:
                return self.cupy.asarray(x)
            array = self.cupy.empty(x.shape, x.dtype)
            array.set(x)  # returns when CUDA has read it
            return array

    def to_numpy(self, x: Array) -> np.ndarray:
        host: np.ndarray = self.cupy.asnumpy(x)
        return host

    def transfer(self, sizes: Sequence[int], threads: int) -> Transfer:
        return CudaTransfer(self.cupy, self.handle, self.stream, sizes, threads)

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

    def gpu(self) -> str:
        """Its address on the bus, which is the same in all processes, whatever they see of the machine."""
        return str(self.cupy.cuda.runtime.deviceGetPCIBusId(self.index))

    def memory(self) -> tuple[int, int]:
        """Free and total bytes: of the GPU, with what CuPy's pool keeps; within the limit of that pool."""
        with self.handle:
            pool = self.cupy.get_default_memory_pool()
            free, total = self.handle.mem_info
            free += pool.free_bytes()
            if limit := pool.get_limit():  # 0: none
                free, total = min(free, max(limit - pool.used_bytes(), 0)), min(total, limit)
        return int(free), int(total)

    def release(self) -> None:
        with self.handle:
            self.cupy.get_default_memory_pool().free_all_blocks()


def find_gpu(number: str) -> CupyDevice:
    """The GPU of that number, counted from 0, after it has proved that it computes.

    Raises:
        DeviceError: there is no driver, no GPU, none of that number, no memory left on it, it does not compute, or an
            environment variable takes the order from what is launched.
    """
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError, whose module moves between CuPy versions
        raise _explained(error) from None
    if int(number) >= count:
        have = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"there is no GPU of that number; this machine has {have}", ErrorKind.NO_SUCH_DEVICE)
    per_thread = os.environ.get("CUPY_CUDA_PER_THREAD_DEFAULT_STREAM", "")
    if per_thread.strip() not in ("", "0"):  # the stream of a device orders itself after the one that is not per thread
        raise DeviceError(
            f"CUPY_CUDA_PER_THREAD_DEFAULT_STREAM={per_thread} lets arrays be read before they are written: unset it",
            ErrorKind.UNSAFE_ENVIRONMENT,
        )
    try:
        device = CupyDevice(int(number))
        with device.use():
            prove(device)
    except DeviceError:
        raise
    except Exception as error:
        raise _explained(error) from None
    return device


def gpu_numbers() -> tuple[str, ...]:
    """The numbers of the GPUs that CuPy sees; where it sees none, 0, of which ``find_gpu`` says what is wrong."""
    return tuple(str(number) for number in range(gpu_count() or 1))


def gpu_count() -> int:
    """How many GPUs CuPy sees; 0 where it cannot tell."""
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:
        return 0


def own_gpu(numbers: Callable[[], Sequence[str]] = gpu_numbers) -> str:
    """The number of the GPU that is meant where none is named: 0; to each of several processes that were started
    together on a machine with several GPUs, one of its own.

    Args:
        numbers: gives those of the GPUs that this process sees.

    Raises:
        DeviceError: there are fewer GPUs than processes.
    """
    rank = local_rank()
    if rank is None:
        return "0"
    known = numbers()
    if len(known) > 1 and rank >= len(known):
        raise DeviceError(
            f"this is process {rank}, counted from 0, of a machine with {len(known)} GPUs; start one process for each",
            ErrorKind.NO_SUCH_DEVICE,
        )
    return known[rank] if len(known) > 1 else known[0]  # the only one that it sees


def _explained(error: Exception) -> DeviceError:
    """What CuPy raised, as what it means."""
    text = first_line(error)
    if "InsufficientDriver" in text:
        return DeviceError(
            f"there is no NVIDIA driver, or one too old for this CuPy; install or update the driver ({text})",
            ErrorKind.NO_DRIVER,
        )
    if "NoDevice" in text:
        return DeviceError(
            f"the driver sees no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES ({text})", ErrorKind.NO_GPU
        )
    if isinstance(error, MemoryError):
        return DeviceError(f"the GPU has no memory left; nvidia-smi shows who uses it ({text})", ErrorKind.NO_MEMORY)
    return DeviceError(
        f"CuPy sees the GPU but cannot compute on it; if the CUDA toolkit is missing, {INSTALL} brings it "
        f"({type(error).__name__}: {text})",
        ErrorKind.CANNOT_COMPUTE,
    )


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"

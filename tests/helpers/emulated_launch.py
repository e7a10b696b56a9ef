"""The calls of the CUDA driver that ``backends.cuda.dependent`` makes: launches that begin while the one before runs.

Blocks of such a launch are run one after the other, after the launch before. But until a block has waited for that one,
it finds 0xFF in the memory that one writes; it may not write into what that one uses; and it has to wait. That is the
work of ``cuda_shim.h``. So a kernel that reads too early ends with other numbers, one that writes too early or does not
wait with an error.

The driver reads its arguments where the addresses lie, as the real one does: the layout is that of ``cuda.h``, told by
a compiler (CUDA 13.0, x86-64): CUlaunchConfig has 56 bytes, CUlaunchAttribute 72, of which the value begins at 8.
"""

from __future__ import annotations

import ctypes
import struct
from types import SimpleNamespace
from typing import Any

from tests.helpers.emulated_cuda import CUDARuntimeError, RawKernel, Used, enqueue, kernel_at, memory, stream_at

INVALID_VALUE, LAUNCH_FAILED, CAPTURE_UNSUPPORTED = 1, 719, 900
#: gridDimX to blockDimZ, sharedMemBytes, hStream, attrs, numAttrs; and id and value of an attribute.
CONFIG, ATTRIBUTE = struct.Struct("<3I3II4xQQI4x"), struct.Struct("<I4xi60x")
#: Nodes that are no kernels: such edges are between kernels only, and here between one and one other.
OTHERS = ("gemm", "copy", "all gather", "all to all")
#: Of CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION.
STREAM_SERIALIZATION = 6


class Memory(ctypes.Structure):
    """Of ``cuda_shim.h``."""

    _fields_ = (("begin", ctypes.c_void_p), ("size", ctypes.c_size_t), ("is_written", ctypes.c_bool))


class EmulatedLaunches(SimpleNamespace):
    """``libcuda`` as ctypes loads it.

    Attributes:
        version: of CUDA, as the driver has it.
        fails: the status of launches that fail, which end the capture where it is of that; 0: none fails.
        interrupts: whether the next launch finds that somebody has ended the capture.
        names: of the kernels that were launched so.
    """

    fails: int
    interrupts: bool

    def __init__(self) -> None:
        super().__init__(version=12080, fails=0, interrupts=False, names=[])
        self.cuDriverGetVersion = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self.get_version)
        types = [ctypes.c_void_p] * 4
        self.cuLaunchKernelEx = ctypes.CFUNCTYPE(ctypes.c_int, *types)(self.launch)

    def get_version(self, version: int) -> int:
        ctypes.c_int.from_address(version).value = self.version
        return 0

    def launch(self, config: int, function: int, arguments: int, extra: int | None) -> int:
        *sizes, shared, stream, attributes, count = CONFIG.unpack(ctypes.string_at(config, CONFIG.size))
        if self.fails:
            stream_at[stream].is_invalid = self.fails == CAPTURE_UNSUPPORTED
            return self.fails
        kernel = kernel_at.get(function)
        if kernel is None or extra is not None or shared != 0 or count != 1:
            return INVALID_VALUE
        if ATTRIBUTE.unpack(ctypes.string_at(attributes, ATTRIBUTE.size)) != (STREAM_SERIALIZATION, 1):
            return INVALID_VALUE
        after = stream_at[stream].after
        if len(after) != 1 or after[0].name in OTHERS:
            return INVALID_VALUE
        grid_x, grid_y, grid_z, threads, *others = sizes
        if grid_z != 1 or others != [1, 1]:
            return INVALID_VALUE
        pointers = (ctypes.c_void_p * len(kernel.parameters)).from_address(arguments)
        values = [read(kernel, i, pointers[i] or 0) for i in range(len(pointers))]
        uses = uses_of(kernel, values)
        work = EarlyLaunch(kernel, kernel.work((grid_x, grid_y), threads, values), after[0].uses)
        if self.interrupts:
            self.interrupts, stream_at[stream].is_invalid = False, True
        try:
            enqueue(kernel.name, uses, work, stream_at[stream])
        except CUDARuntimeError as error:
            return error.status
        self.names.append(kernel.name)
        return 0


driver = EmulatedLaunches()


def read(kernel: RawKernel, index: int, at: int) -> Any:
    """An argument, as C takes it, from where it lies."""
    parameter = kernel.parameters[index]
    kind: Any = ctypes.c_void_p if parameter.is_pointer else parameter.kind
    return kind.from_buffer_copy(ctypes.string_at(at, ctypes.sizeof(kind)))


def uses_of(kernel: RawKernel, values: list[Any]) -> list[Used]:
    """The memory that pointers may mean: up to the end of the piece that they point into."""
    found = []
    for value, parameter, is_const in zip(values, kernel.parameters, kernel.is_const, strict=True):
        if parameter.is_pointer and value.value:
            found.append(Used(value.value, memory.live[memory.piece(value.value)][1], not is_const))
    return found


class EarlyLaunch:
    """What a launch right after one that uses that memory does.

    Attributes:
        args: of the function of C.
    """

    def __init__(self, kernel: RawKernel, work: Any, before: list[Used]) -> None:
        self.kernel, self.work, self.args = kernel, work, work.args
        places = [Memory(x.begin, x.end - x.begin, x.writes) for x in before]
        self.before = (Memory * len(places))(*places)
        self.problem = kernel.library.emulate_problem
        self.problem.restype = ctypes.c_char_p

    def __call__(self) -> None:
        self.kernel.library.emulate_early(self.before, len(self.before))
        self.work()
        problem = self.problem()
        assert problem is None, f"{self.kernel.name} {problem.decode()}"

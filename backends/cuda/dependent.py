"""Programmatic dependent launch: kernels of a captured step that begin while the one before is still running.

What a kernel does before it needs the results of the launch before it, such as looking up where the rows of the batch
are and reading them, then takes no time of the step, nor does its being launched. ``wait_for_launch_before`` in the
CUDA text says what such a kernel may do and why that is right.

CuPy's launches have no option for it, so these go to the driver itself, through ctypes. Only edges between two kernels
of xpnet, one right after the other on the stream that captures, are programmatic: the second one calls
``wait_for_launch_before``, and nothing captured before it writes what it reads before that. All others are full
dependencies: after products of cuBLAS, copies and calls of NCCL, which are not known from inside; before them; before
the launch that moves the numbers of the steps on, which writes what is read early; and between two launches of graphs.

Signatures and numbers are those of ``cuda.h``, the same in CUDA 12 and 13. Launches that are no part of a capture are
ordinary ones, in which the kernels do not wait.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from ..typing import Array
from .device import CupyDevice
from .keep import keep
from .launch import Kernels
from .tape import Call, span

#: The first GPUs that can, and the first driver that notes such launches in graphs.
CAPABILITY, DRIVER = (9, 0), 12030

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
#: CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, and CUDA_ERROR_STREAM_CAPTURE_INVALIDATED.
STREAM_SERIALIZATION, INVALIDATED = 6, 901


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute; the value, a union of 64 bytes, begins with the int that is asked for here."""

    _fields_ = (("id", _INT), ("value", ctypes.c_uint64 * 8))


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", _POINTER),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("n_attributes", ctypes.c_uint),
    )


#: Of the driver. Each returns a status, 0 where all is well.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuDriverGetVersion": (ctypes.POINTER(_INT),),
    # the function, pointers to its arguments, and others in another form
    "cuLaunchKernelEx": (ctypes.POINTER(LaunchConfig), _POINTER, ctypes.POINTER(_POINTER), _POINTER),
}


class Captured:
    """What a stream that captures has captured so far.

    Attributes:
        last: the last of the calls; None where there is none yet.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last: Call | None = None
        self._written = set[tuple[int, int]]()  # of all steps, which write the same memory

    def add(self, call: Call) -> None:
        self.last = call
        self._written.update(map(span, call.writes))

    def writes_into(self, arrays: Sequence[Array]) -> bool:
        """Whether one of the calls does."""
        return any(low < end and begin < high for begin, end in map(span, arrays) for low, high in self._written)


class DependentLaunches:
    """Launches kernels as dependent on the one before.

    Args:
        device: of the kernels.

    Attributes:
        why_not: why all launches are ordinary ones; "" as long as they need not be.
    """

    def __init__(self, device: CupyDevice) -> None:
        self._library: Any = None
        self._are_noted = False
        self.why_not = self._load(device)

    def _load(self, device: CupyDevice) -> str:
        capability = device.compute_capability()
        if capability < CAPABILITY:
            return f"the compute capability of {device.spec} is {capability[0]}.{capability[1]}: it takes 9.0 or newer"
        try:
            self._library = device.driver()
            for name, types in SIGNATURES.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = types, _INT
        except (OSError, AttributeError) as error:
            return f"the CUDA driver cannot be called directly ({error})"
        version = _INT()
        status = self._library.cuDriverGetVersion(ctypes.byref(version))
        if status != 0 or version.value < DRIVER:
            return f"the driver is of CUDA {version.value // 1000}.{version.value % 1000 // 10}: it takes 12.3 or newer"
        return ""

    def launch(self, kernels: Kernels, call: Call, before: Captured) -> bool:
        """Launch ``call`` on the stream of ``before``; False if it must be launched otherwise, and has not been."""
        if self.why_not or call.early is None or before.last is None or not before.last.is_kernel:
            return False
        if before.writes_into(call.early):
            return False
        function, numbers = kernels.prepared(call)
        held = [ctypes.create_string_buffer(number.tobytes(), number.nbytes) for number in numbers]
        arguments = (_POINTER * len(held))(*map(ctypes.addressof, held))
        attribute = LaunchAttribute(STREAM_SERIALIZATION)
        attribute.value[0] = 1
        blocks, threads = call.grid
        config = LaunchConfig(
            (*blocks, 1, 1)[:3], (threads, 1, 1), 0, before.stream.ptr, ctypes.pointer(attribute), n_attributes=1
        )
        status = self._library.cuLaunchKernelEx(ctypes.byref(config), function, arguments, None)
        if status != 0:
            if status != INVALIDATED:  # by somebody else, of which the ordinary launch will tell
                self.why_not = f"cuLaunchKernelEx: error {status}"
            return False
        keep(*call.arguments.values())
        self._are_noted = True
        return True

    def give_up(self, said: str) -> bool:
        """Make all launches ordinary ones, since there is no graph of some that were not. Whether there were any."""
        if self.why_not or not self._are_noted:
            return False
        self.why_not = f"there is no graph of such launches ({said})"
        return True

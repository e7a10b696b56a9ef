"""``CupyCore``: what the operations of ``CupyBackend`` are written upon: memory, kernels, products and recording."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from ..base import Backend
from ..devices import ARRAYS, DeviceError, ErrorKind, OutOfMemoryError
from ..step import RecordedStep, Step
from ..typing import Array
from .cublas import WORKSPACE_BYTES, Cublas, CublasError, Handle, handle_of, why_not_plain
from .dependent import DependentLaunches
from .device import CupyDevice
from .graphs import STEPS, Recording
from .joined import Joined
from .keep import keep
from .launch import Kernels, kernels
from .rules import EXACT, RULES, JoiningRule
from .tape import Call, tape

#: gemm(a, b, out, transpose_a, transpose_b, alpha, beta)
Gemm = Callable[[Array, Array, Array, bool, bool, float, float], None]


class _OfThread(threading.local):
    """What operations of one thread use: scratch memory, cuBLAS (None: not asked for yet) and, with it, its handle."""

    def __init__(self) -> None:
        self.buffers: dict[str, Array] = {}
        self.gemm: Gemm | None = None
        self.handle: Handle | None = None


class CupyCore(Backend):
    """A ``Backend`` on a CUDA GPU, without operations of its own.

    Arrays must be CuPy arrays of this device and of the backend's dtype; a TypeError or ValueError says which is not.
    Inputs that are not C-contiguous are copied first, and such an ``out`` gets the result copied into it.

    Args:
        precision: of the products of float32 matrices, one of ``cublas.PRECISIONS``. Everything else is in ``dtype``.

    Attributes:
        why_eager: why recorded steps are launched one operation at a time; "" as long as they are not.
        without_cublas: why products go through CuPy, which cannot be recorded; "" as long as they do not.
        rules: by which the launches of recorded steps are joined (``rules``); with none they stay as they are. Those
            that ``record`` finds here apply, to a step that only launches operations of this backend.
        dependent_launches: whether kernels of captured steps may begin before the launch before them has ended
            (``dependent``). What ``record`` finds here applies.

    Raises:
        DeviceError: the device cannot multiply in that precision.
    """

    fused = True
    accumulates = True
    device: CupyDevice

    def __init__(self, device: CupyDevice, dtype: str = "float32", precision: str = "float32") -> None:
        super().__init__(device, dtype)
        self.cupy = device.cupy
        self.index = device.index
        self.precision = precision
        self.without_cublas = ""
        # The kernels that contain products compute them in full precision only.
        self.rules: tuple[JoiningRule, ...] = RULES if precision == "float32" else EXACT
        self.dependent_launches = True
        self._real = np.dtype(dtype)
        self._of_thread = _OfThread()
        self._check_precision()

    def _check_precision(self) -> None:
        spec, precision = self.device.spec, self.precision
        if self.dtype_name != "float32" and precision != "float32":
            raise ValueError(f"precision {precision!r} is of float32 products; leave it out for {self.dtype_name}")
        if reason := why_not_plain(precision, self.dtype_name):
            raise DeviceError(reason, ErrorKind.LACKS_PRECISION, spec)
        if precision == "float32":  # or float64
            return
        capability = self.device.compute_capability()
        if capability < (8, 0):
            raise DeviceError(
                f"{spec} has no {precision} products: its compute capability is {capability[0]}.{capability[1]}, and "
                "they need 8.0 or newer; leave out the precision",
                ErrorKind.LACKS_PRECISION,
            )
        try:
            self.device.cublas()
        except (ImportError, OSError, AttributeError) as error:
            reason = f"{precision} products need cuBLAS, which cannot be loaded: {error}"
            raise DeviceError(reason, ErrorKind.LACKS_PRECISION, spec) from None

    @cached_property
    def _kernels(self) -> Kernels:
        return kernels(self.cupy, self.index, "float" if self.dtype_name == "float32" else "double")

    @cached_property
    def _dependent(self) -> DependentLaunches:
        return DependentLaunches(self.device)

    @property
    def why_not_dependent(self) -> str:
        """Why no kernel of a captured step begins before the launch before it has ended; "" as long as some may."""
        return self._dependent.why_not if self.dependent_launches else "dependent_launches is False"

    @property
    def _gemm(self) -> Gemm:
        """The products of this thread, eager and recorded alike."""
        known = self._of_thread
        if known.gemm is None:
            known.gemm = self._make_gemm()
        return known.gemm

    def _make_gemm(self) -> Gemm:
        try:
            library = self.device.cublas()
            with self.device.handle:
                handle = handle_of(library, self.index, lambda: self.empty((WORKSPACE_BYTES,), np.uint8))
        except (ImportError, OSError, AttributeError, CublasError) as error:
            if self.precision != "float32":
                raise
            self.without_cublas = f"cuBLAS cannot be called directly ({error})"
        else:
            self._of_thread.handle = handle
            return Cublas(self.cupy, handle, self.dtype_name, self.precision).gemm
        by_cupy = importlib.import_module(f"{self.cupy.__name__}.cublas").gemm  # `import cupy` does not import it
        return lambda a, b, out, transpose_a, transpose_b, alpha, beta: by_cupy(
            "NT"[transpose_a], "NT"[transpose_b], a, b, out=out, alpha=alpha, beta=beta
        )

    def record(self, step: Step, *, only_operations: bool = True) -> RecordedStep:
        """``step`` as a CUDA graph for each count, and as one of several steps where many are asked for: its Python
        code runs when those are captured, and at the first step of a count."""
        numbers = [*(self.empty((STEPS,), np.int64) for _ in range(3)), self.empty((STEPS,))]
        return Recording(
            self.cupy,
            self._kernels,
            numbers,
            step,
            joined=Joined(
                self.cupy,
                self._kernels,
                self.rules if only_operations else (),
                self.device.nodes_of,
                self._dependent if self.dependent_launches else None,
            ),
            scratch=self._scratch_in,
            in_order=self._in_order,
            refused=self._why_eager,
            plainer=lambda said: self._dependent.give_up(said),
            gather=lambda value: self.collectives.gather(value),
        )

    @contextmanager
    def _scratch_in(self, buffers: dict[str, Array]) -> Iterator[None]:
        """A context in which the scratch memory of this thread is ``buffers``."""
        known = self._of_thread
        before, known.buffers = known.buffers, buffers
        try:
            yield
        finally:
            known.buffers = before

    def _in_order(self) -> AbstractContextManager[Any]:
        """The lock of this thread's handle of cuBLAS: see ``Handle``."""
        handle = self._of_thread.handle
        return nullcontext() if handle is None else handle.lock

    def _why_eager(self, said: str) -> str:
        """The reason why a step is not recorded: that products cannot be, or else what was ``said``."""
        self.why_eager = self.without_cublas or said
        return self.why_eager

    # ---- arrays in and out ------------------------------------------------------------------------------------------

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """``x`` as an array on this device; a MemoryError says how much is free."""
        try:
            return super().asarray(x, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise self._out_of_memory(error) from None

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """An array of that shape, its contents arbitrary; a MemoryError says how much is free."""
        try:
            return super().empty(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise self._out_of_memory(error) from None

    def zeros(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """An array of that shape, filled with 0; a MemoryError says how much is free."""
        try:
            return super().zeros(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise self._out_of_memory(error) from None

    def _multiply(
        self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool, alpha: float, beta: float
    ) -> None:
        calls = tape()
        if calls is None:
            self._gemm(a, b, out, transpose_a, transpose_b, alpha, beta)
            return
        names = ("a", "b", "out", "transpose_a", "transpose_b", "alpha", "beta")
        arguments = dict(zip(names, (a, b, out, transpose_a, transpose_b, alpha, beta), strict=True))
        reads = (a, b, out) if beta != 0.0 else (a, b)
        calls.append(Call("gemm", arguments, reads, (out,), lambda: self._gemm(*arguments.values())))

    # ---- inside: arrays that kernels can take ------------------------------------------------------------------------

    def _require(self, op: str, name: str, x: Any, shape: tuple[int, ...] | None = None, dtype: Any = None) -> None:
        """Raise unless ``x`` is an array of this device, of that shape (if given) and dtype (the backend's)."""
        dtype = self._real if dtype is None else dtype
        if not isinstance(x, self.cupy.ndarray):
            raise TypeError(f"{op}: {name} must be an array on cuda:{self.index}, not {type(x).__name__}")
        if x.dtype != dtype:
            raise TypeError(f"{op}: {name} must be of dtype {np.dtype(dtype)}, not {x.dtype}")
        if shape is not None and x.shape != shape:
            raise ValueError(f"{op}: {name} must have shape {shape}, not {x.shape}")
        if x.data.device_id != self.index:
            raise ValueError(
                f"{op}: {name} is on cuda:{x.data.device_id}, but this backend computes on cuda:{self.index}"
            )

    def _matrix(self, op: str, name: str, x: Any) -> tuple[int, int]:
        """The shape of an array of this device with two dimensions."""
        self._require(op, name, x)
        if x.ndim != 2:
            raise ValueError(f"{op}: {name} must have two dimensions, not {x.ndim}")
        m, n = x.shape
        return m, n

    def _filled_matrix(self, op: str, name: str, x: Any) -> tuple[int, int]:
        m, n = self._matrix(op, name, x)
        if n == 0:
            raise ValueError(f"{op}: {name} must have at least one column")
        return m, n

    def _input(self, op: str, name: str, x: Any, shape: tuple[int, ...] | None = None, dtype: Any = None) -> Array:
        """``x`` after those checks, C-contiguous: itself or a copy."""
        self._require(op, name, x, shape, dtype)
        return x if x.flags.c_contiguous else self.cupy.ascontiguousarray(x)

    def _target(
        self, op: str, out: Array | None, shape: tuple[int, ...], name: str = "out", dtype: Any = None
    ) -> Array:
        """Where a kernel writes: ``out`` if it can, else a new array, which ``_deliver`` copies to ``out``."""
        if out is None:
            return self.empty(shape, dtype)
        self._require(op, name, out, shape, dtype)
        return out if out.flags.c_contiguous else self.empty(shape, dtype)

    def _result(self, result: Array, out: Array | None) -> Array:
        if out is None:
            return result
        calls = tape()
        if calls is None or not isinstance(result, self.cupy.ndarray):
            keep(result, out)
            return super()._result(result, out)

        def copy() -> None:
            keep(result, out)
            out[...] = result

        calls.append(Call("copy", {"source": result, "out": out}, (result,), (out,), copy))
        return out

    def _deliver(self, target: Array, out: Array | None) -> Array:
        return target if out is None or out is target else self._result(target, out)

    def _number(self, op: str, name: str, x: Any, dtype: Any) -> tuple[Array | None, Any]:
        """A number that may be on the device, as what kernels take: (array, 0) or (None, the number)."""
        if isinstance(x, self.cupy.ndarray):
            return self._input(op, name, x, (1,), dtype), 0
        return None, x

    def _buffer(self, name: str, size: int, dtype: Any) -> Array:
        """Memory for what a launch leaves to the next one; kept as long as the thread and the backend, or a recording.

        Sizes are rounded up to powers of two, and a buffer is never given up for a larger one: a recorded step goes on
        writing where it was recorded.
        """
        capacity = 1 << max(size - 1, 0).bit_length()
        buffers = self._of_thread.buffers
        key = f"{name}/{capacity}"
        if key not in buffers:
            buffers[key] = self.empty((capacity,), dtype)
        return buffers[key]

    def _out_of_memory(self, error: Exception) -> OutOfMemoryError:
        return self.device.out_of_memory(error, ARRAYS, "use a smaller batch_size or another device")

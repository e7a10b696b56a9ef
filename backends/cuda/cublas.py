"""Matrix products by cuBLAS itself, through ctypes: CuPy refuses its own calls of it while a stream is captured.

Signatures and numbers are those of ``cublas_api.h`` and ``library_types.h``, the same in CUDA 12 and 13. What makes the
calls fit for a CUDA graph is in NVIDIA's cuBLAS manual, "CUDA Graphs Support": coefficients on the host are read when a
call is captured, and memory that the handle was given as its workspace stays in use by the graph.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

from ..typing import Array
from .keep import keep

#: How float32 matrices are multiplied: cublasComputeType_t. ``tf32`` rounds the factors to 10 bits after the point,
#: ``bf16`` to 7 (or, where cuBLAS prefers it, to those of tf32); sums are in float32.
PRECISIONS = {"float32": 68, "tf32": 77, "bf16": 75}
#: Of float64 matrices.
COMPUTE_64F = 70

#: What NVIDIA recommends for Hopper; less is enough elsewhere, and does no harm to have.
WORKSPACE_BYTES = 32 * 2**20

#: CUDA_R_32F and CUDA_R_64F.
TYPES = {"float32": 0, "float64": 1}
_SCALARS: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}
#: Of cublasOperation_t, and CUBLAS_GEMM_DEFAULT.
OP_N, OP_T = 0, 1
DEFAULT_ALGORITHM = -1
_INT_MAX = 2**31 - 1

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
#: Of cuBLAS. Each returns a cublasStatus_t, 0 where all is well.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (ctypes.POINTER(_POINTER),),
    "cublasSetStream_v2": (_POINTER, _POINTER),
    "cublasSetWorkspace_v2": (_POINTER, _POINTER, ctypes.c_size_t),
    "cublasGemmEx": (
        *(_POINTER, _INT, _INT, _INT, _INT, _INT),  # handle, op(A), op(B), m, n, k
        *(_POINTER, _POINTER, _INT, _INT, _POINTER, _INT, _INT),  # alpha, A, type, ld, B, type, ld
        *(_POINTER, _POINTER, _INT, _INT, _INT, _INT),  # beta, C, type, ld, compute type, algorithm
    ),
}


class CublasError(RuntimeError):
    """cuBLAS refused a call; the message is the function and cuBLAS's name of the error."""


@cache
def load(cupy: Any) -> ctypes.CDLL:
    """The cuBLAS that this CuPy uses.

    Raises:
        OSError, ImportError: it is not found. AttributeError: it lacks a function.
    """
    importlib.import_module(f"{cupy.__name__}.cublas")  # CuPy finds and loads its own, which then goes by its name
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return declared(ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"))


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """``library`` with the signatures of its functions, which raise a CublasError where they fail."""
    name_of = library.cublasGetStatusName
    name_of.argtypes, name_of.restype = (_INT,), ctypes.c_char_p

    def check(status: Any, function: Any, _: Any) -> Any:
        if status != 0:
            raise CublasError(f"{function.__name__}: {name_of(status).decode()}")
        return status

    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype, function.errcheck = types, _INT, check
    return library


def why_not_plain(precision: str, dtype: str = "float32") -> str:
    """What an environment variable of NVIDIA's libraries makes of this precision of products of matrices of this dtype;
    nothing where they leave it alone."""
    if dtype == "float64":
        emulate = os.environ.get("CUBLAS_EMULATE_DOUBLE_PRECISION", "")
        if emulate not in ("", "0"):
            return f"CUBLAS_EMULATE_DOUBLE_PRECISION={emulate} makes float64 products of int8 ones: unset it"
        return ""
    override = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
    if precision == "float32" and override not in ("", "0"):
        return f"NVIDIA_TF32_OVERRIDE={override} rounds float32 products to tf32: unset it, or ask for tf32"
    if precision == "tf32" and override == "0":
        return "NVIDIA_TF32_OVERRIDE=0 forbids tf32: unset it, or ask for float32"
    emulate = os.environ.get("CUBLAS_EMULATE_SINGLE_PRECISION", "")
    if precision == "float32" and emulate not in ("", "0"):
        return f"CUBLAS_EMULATE_SINGLE_PRECISION={emulate} makes float32 products of bf16 ones: unset it"
    return ""


# ---- handles ---------------------------------------------------------------------------------------------------------


class Handle:
    """A handle of cuBLAS with a workspace, for one device and for one thread at a time.

    It lives as long as the process, for two reasons. ``cublasDestroy`` waits for the device, which ends every capture
    that is under way, in any thread; and the collector of garbage would call it at any time. Graphs use the workspace
    as long as they live. One workspace for everything also means that a product gives the same bits eagerly and in a
    graph.

    Args:
        library: from ``load``.
        workspace: memory on the device, of ``WORKSPACE_BYTES``.

    Attributes:
        lock: to be held while a product, or a graph with products that were noted with this handle, is launched. The
            kernels of one product may leave numbers in the workspace to each other, and while ctypes and CuPy are in
            CUDA, other threads run.

    Raises:
        CublasError: there is no handle to be had.
    """

    def __init__(self, library: ctypes.CDLL, workspace: Array) -> None:
        self.library = library
        self.lock = threading.Lock()
        self._workspace = workspace
        self._stream: Any = None
        self._is_set = False
        self._pointer = _POINTER()
        library.cublasCreate_v2(ctypes.byref(self._pointer))

    def on(self, stream: Any) -> ctypes.c_void_p:
        """The handle as cuBLAS takes it, for launches on ``stream``; it costs nothing where that is still the same."""
        if stream is not self._stream or not self._is_set:
            self._is_set = False  # should one of these fail
            self.library.cublasSetStream_v2(self._pointer, stream.ptr)
            self._stream = stream  # only now may the one before be destroyed
            workspace = self._workspace  # which each SetStream undoes
            self.library.cublasSetWorkspace_v2(self._pointer, workspace.data.ptr, workspace.nbytes)
            self._is_set = True
        return self._pointer


class _Lent:
    """A handle that a thread has; when the thread ends, and this with it, the handle is idle."""

    def __init__(self, handle: Handle, idle: deque[Handle]) -> None:
        self.handle = handle
        weakref.finalize(self, idle.append, handle).atexit = False


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.lent: dict[tuple[ctypes.CDLL, int], _Lent] = {}


_of_thread = _OfThread()
_idle: dict[tuple[ctypes.CDLL, int], deque[Handle]] = {}


def handle_of(library: ctypes.CDLL, device: int, make_workspace: Callable[[], Array]) -> Handle:
    """The handle of the calling thread for that device, which must be the current one.

    A thread that has none gets one that an ended thread has left, or else a new one.

    Raises:
        CublasError: there is no handle to be had. MemoryError: there is no workspace.
    """
    key = library, device
    lent = _of_thread.lent
    if key not in lent:
        idle = _idle.setdefault(key, deque())
        try:
            handle = idle.pop()
        except IndexError:
            handle = Handle(library, make_workspace())
        lent[key] = _Lent(handle, idle)
    return lent[key].handle


# ---- products --------------------------------------------------------------------------------------------------------


class Cublas:
    """Products of matrices of one dtype, by a handle.

    Args:
        cupy: the module.
        handle: of the calling thread.
        precision: one of ``PRECISIONS`` for float32.
    """

    def __init__(self, cupy: Any, handle: Handle, dtype: str = "float32", precision: str = "float32") -> None:
        self._current_stream = cupy.cuda.get_current_stream
        self._handle = handle
        self._scalar, self._type = _SCALARS[dtype], TYPES[dtype]
        self._compute = PRECISIONS[precision] if dtype == "float32" else COMPUTE_64F

    def gemm(
        self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool, alpha: float, beta: float
    ) -> None:
        """out = alpha op(a) op(b) + beta out, on the current stream.

        Each must be C-contiguous or some columns of such a matrix, ``a`` and ``b`` may be F-contiguous, and no extent
        may be 0. cuBLAS takes the memory of a row-major matrix for that of its transpose, and so is asked for
        out^T = op(b)^T op(a)^T.
        """
        m, n = out.shape
        k = a.shape[0 if transpose_a else 1]
        if max(m, n, k) > _INT_MAX:
            raise ValueError(f"matmul: cuBLAS takes no matrix of more than {_INT_MAX:,} rows or columns")
        op_a, lda = _seen_by_columns(a, transpose_a)
        op_b, ldb = _seen_by_columns(b, transpose_b)
        _, ldc = _seen_by_columns(out, False)
        handle = self._handle
        with handle.lock:
            handle.library.cublasGemmEx(
                *(handle.on(self._current_stream()), op_b, op_a, n, m, k),
                *(ctypes.byref(self._scalar(alpha)), b.data.ptr, self._type, ldb, a.data.ptr, self._type, lda),
                *(ctypes.byref(self._scalar(beta)), out.data.ptr, self._type, ldc, self._compute, DEFAULT_ALGORITHM),
            )
        keep(a, b, out)


def _seen_by_columns(x: Array, transpose: bool) -> tuple[int, int]:
    """How cuBLAS, which stores matrices by columns, is to read op(x)^T: its operation and the leading dimension."""
    rows, columns = x.shape
    if x.flags.c_contiguous:
        return OP_T if transpose else OP_N, columns
    if x.flags.f_contiguous:
        return OP_N if transpose else OP_T, rows
    return OP_T if transpose else OP_N, x.strides[0] // x.itemsize  # some columns of a wider matrix

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
import weakref
from functools import cache
from typing import Any

from ..typing import Array
from .keep import keep

#: How float32 matrices are multiplied: cublasComputeType_t. ``tf32`` rounds the factors to 10 bits after the point,
#: ``bf16`` to 7 (or, where cuBLAS prefers it, to those of tf32); sums are in float32.
PRECISIONS = {"float32": 68, "tf32": 77, "bf16": 75}
_COMPUTE_64F = 70

#: What NVIDIA recommends for Hopper; less is enough elsewhere, and does no harm to have.
WORKSPACE_BYTES = 32 * 2**20

_TYPES = {"float32": 0, "float64": 1}  # CUDA_R_32F, CUDA_R_64F
_SCALARS: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}
_OP_N, _OP_T = 0, 1
_DEFAULT_ALGORITHM = -1
_INT_MAX = 2**31 - 1

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, ...]] = {
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
        OSError: it is not found. AttributeError: it lacks a function.
    """
    importlib.import_module(f"{cupy.__name__}.cublas")  # CuPy finds and loads its own, which then goes by its name
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return declared(ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"))


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """``library`` with the signatures of its functions, which raise a CublasError where they fail."""
    name_of = library.cublasGetStatusName
    name_of.argtypes, name_of.restype = (_INT,), ctypes.c_char_p
    library.cublasDestroy_v2.argtypes = (_POINTER,)

    def check(status: Any, function: Any, _: Any) -> Any:
        if status != 0:
            raise CublasError(f"{function.__name__}: {name_of(status).decode()}")
        return status

    for name, types in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype, function.errcheck = types, _INT, check
    return library


def why_not_plain(precision: str) -> str:
    """What an environment variable of NVIDIA's libraries makes of this precision; nothing where they leave it alone."""
    override = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
    if precision == "float32" and override not in ("", "0"):
        return f"NVIDIA_TF32_OVERRIDE={override} rounds float32 products to tf32: unset it, or ask for tf32"
    if precision == "tf32" and override == "0":
        return "NVIDIA_TF32_OVERRIDE=0 forbids tf32: unset it, or ask for float32"
    return ""


class Cublas:
    """A handle of cuBLAS with a workspace, for one device, one thread and one dtype.

    The workspace is the handle's as long as it lives, so that a product gives the same bits eagerly and in a graph.

    Args:
        library: from ``load``.
        workspace: memory on the device.
        precision: one of ``PRECISIONS`` for float32.

    Raises:
        CublasError: there is no handle to be had.
    """

    def __init__(
        self, cupy: Any, library: ctypes.CDLL, workspace: Array, dtype: str = "float32", precision: str = "float32"
    ) -> None:
        self._current_stream = cupy.cuda.get_current_stream
        self._library = library
        self._workspace = workspace
        self._scalar, self._type = _SCALARS[dtype], _TYPES[dtype]
        self._compute = PRECISIONS[precision] if dtype == "float32" else _COMPUTE_64F
        self._handle = _POINTER()
        library.cublasCreate_v2(ctypes.byref(self._handle))
        # Not at exit: the driver may be gone by then.
        weakref.finalize(self, library.cublasDestroy_v2, self._handle).atexit = False

    def gemm(
        self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool, alpha: float, beta: float
    ) -> None:
        """out = alpha op(a) op(b) + beta out, on the current stream.

        ``a`` and ``b`` must be C- or F-contiguous, ``out`` C-contiguous, and no extent 0. cuBLAS takes the memory of a
        row-major matrix for that of its transpose, and so is asked for out^T = op(b)^T op(a)^T.
        """
        m, n = out.shape
        k = a.shape[0 if transpose_a else 1]
        if max(m, n, k) > _INT_MAX:
            raise ValueError(f"matmul: cuBLAS takes no matrix of more than {_INT_MAX:,} rows or columns")
        op_a, lda = _seen_by_columns(a, transpose_a)
        op_b, ldb = _seen_by_columns(b, transpose_b)
        library, handle, workspace = self._library, self._handle, self._workspace
        library.cublasSetStream_v2(handle, self._current_stream().ptr)
        library.cublasSetWorkspace_v2(handle, workspace.data.ptr, workspace.nbytes)  # each SetStream undoes it
        library.cublasGemmEx(
            *(handle, op_b, op_a, n, m, k),
            *(ctypes.byref(self._scalar(alpha)), b.data.ptr, self._type, ldb, a.data.ptr, self._type, lda),
            *(ctypes.byref(self._scalar(beta)), out.data.ptr, self._type, n, self._compute, _DEFAULT_ALGORITHM),
        )
        keep(self, a, b, out)


def _seen_by_columns(x: Array, transpose: bool) -> tuple[int, int]:
    """How cuBLAS, which stores matrices by columns, is to read op(x)^T: its operation and the leading dimension."""
    rows, columns = x.shape
    if x.flags.c_contiguous:
        return _OP_T if transpose else _OP_N, columns
    return _OP_N if transpose else _OP_T, rows

"""Graphs of the CUDA driver, through ctypes: the nodes of a captured step, and each of them in a graph of its own.

CuPy launches graphs and does not say what is in them. It is the driver that is asked, not the CUDA runtime: kernels of
cuBLAS belong to a runtime of cuBLAS's own, and CuPy's knows nothing of them. Signatures and numbers are those of
``cuda.h``, the same in CUDA 12 and 13; the names of kernels can be asked for since 12.3.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_OUT = ctypes.POINTER(_POINTER)
_ADD = (_OUT, _POINTER, _POINTER, _SIZE, _POINTER)  # node, graph, nodes before it, their number, parameters

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuCtxGetCurrent": (_OUT,),
    "cuStreamGetCaptureInfo_v2": (
        *(_POINTER, ctypes.POINTER(_INT), ctypes.POINTER(ctypes.c_uint64)),  # stream, status, number of the capture
        *(_OUT, _POINTER, _POINTER),  # graph, nodes that come before the next one, their number
    ),
    "cuGraphClone": (_OUT, _POINTER),
    "cuGraphCreate": (_OUT, ctypes.c_uint),
    "cuGraphDestroy": (_POINTER,),
    "cuGraphGetNodes": (_POINTER, _POINTER, ctypes.POINTER(_SIZE)),
    "cuGraphNodeGetType": (_POINTER, ctypes.POINTER(_INT)),
    "cuGraphKernelNodeGetParams_v2": (_POINTER, _POINTER),
    "cuGraphMemcpyNodeGetParams": (_POINTER, _POINTER),
    "cuGraphMemsetNodeGetParams": (_POINTER, _POINTER),
    "cuGraphAddKernelNode_v2": _ADD,
    "cuGraphAddMemcpyNode": (*_ADD, _POINTER),
    "cuGraphAddMemsetNode": (*_ADD, _POINTER),
    "cuGraphKernelNodeCopyAttributes": (_POINTER, _POINTER),
    "cuGraphInstantiateWithFlags": (_OUT, _POINTER, ctypes.c_ulonglong),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphExecDestroy": (_POINTER,),
}
#: What a driver before 12.3 lacks.
NAMES = {name: (ctypes.POINTER(ctypes.c_char_p), _POINTER) for name in ("cuFuncGetName", "cuKernelGetName")}
_ERROR_NAME = (_INT, ctypes.POINTER(ctypes.c_char_p))

#: CUgraphNodeType, and what such a node is called here.
KERNEL, COPY, MEMSET = 0, 1, 2
OTHER = {3: "host", 4: "graph", 5: "empty", 6: "wait", 7: "event", 10: "allocation", 11: "free", 13: "conditional"}
#: CU_STREAM_CAPTURE_STATUS_ACTIVE.
ACTIVE = 1


class DriverError(RuntimeError):
    """The driver refused a call; the message is the function and CUDA's name of the error."""


class KernelParams(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = (
        ("func", _POINTER),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("params", _POINTER),
        ("extra", _POINTER),
        ("kern", _POINTER),
        ("ctx", _POINTER),
    )


#: As large as CUDA_MEMCPY3D and CUDA_MEMSET_NODE_PARAMS, which are handed on as they come.
Opaque = ctypes.c_uint64 * 64


class Node(NamedTuple):
    """A node of a graph: what it is, and for a kernel the blocks and their threads."""

    handle: int
    kind: str
    name: str
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()

    @property
    def launch(self) -> tuple[str, str, tuple[int, ...], tuple[int, ...]]:
        """What it has in common with others that do the same."""
        return self.kind, self.name, self.grid, self.block


def declared(library: Any) -> Any:
    """``library`` with the signatures of its functions, which raise a DriverError where they fail."""
    library.cuGetErrorName.argtypes, library.cuGetErrorName.restype = _ERROR_NAME, _INT

    def checks(name: str) -> Callable[..., Any]:
        def check(status: int, *_: Any) -> int:
            if status != 0:
                text = ctypes.c_char_p()
                library.cuGetErrorName(status, ctypes.byref(text))
                raise DriverError(f"{name}: {text.value.decode() if text.value else f'error {status}'}")
            return status

        return check

    for name, types in (SIGNATURES | {name: NAMES[name] for name in NAMES if hasattr(library, name)}).items():
        function = getattr(library, name)
        function.argtypes, function.restype, function.errcheck = types, _INT, checks(name)
    return library


@cache
def load() -> Any:
    """The CUDA driver.

    Raises:
        OSError: there is none. AttributeError: it is older than CUDA 12.
    """
    return declared(ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"))


class Graph:
    """A graph that belongs to us, which must be closed."""

    def __init__(self, library: Any, handle: int) -> None:
        self.library = library
        self.handle = handle

    def close(self) -> None:
        self.library.cuGraphDestroy(self.handle)

    def nodes(self) -> list[Node]:
        """Its nodes, in the order in which CUDA tells them."""
        count = _SIZE()
        self.library.cuGraphGetNodes(self.handle, None, ctypes.byref(count))
        handles = (_POINTER * count.value)()
        self.library.cuGraphGetNodes(self.handle, handles, ctypes.byref(count))
        return [self._node(handle or 0) for handle in handles]

    def _node(self, handle: int) -> Node:
        kind = _INT()
        self.library.cuGraphNodeGetType(handle, ctypes.byref(kind))
        if kind.value == KERNEL:
            params = KernelParams()
            self.library.cuGraphKernelNodeGetParams_v2(handle, ctypes.byref(params))
            return Node(handle, "kernel", self._name(params), tuple(params.grid), tuple(params.block))
        name = {COPY: "copy", MEMSET: "memset"}.get(kind.value) or OTHER.get(kind.value, str(kind.value))
        return Node(handle, name, name)

    def _name(self, params: KernelParams) -> str:
        name, handle = ("cuFuncGetName", params.func) if params.func else ("cuKernelGetName", params.kern)
        if not hasattr(self.library, name):
            return "a kernel"
        text = ctypes.c_char_p()
        getattr(self.library, name)(ctypes.byref(text), handle)
        return (text.value or b"a kernel").decode()

    def chain_of(self, node: Node, copies: int) -> Launchable:
        """A graph of its own: so many copies of a node of this graph, each after the one before.

        Raises:
            DriverError: it is neither a kernel nor a copy nor a memset, or the driver refuses.
        """
        if node.kind not in ("kernel", "copy", "memset"):
            raise DriverError(f"a node of the kind {node.kind} is not copied")
        library, made, before = self.library, _POINTER(), _POINTER()
        library.cuGraphCreate(ctypes.byref(made), 0)
        try:
            add = self._adder(node)
            for number in range(copies):
                new = _POINTER()
                add(ctypes.byref(new), made, ctypes.byref(before) if number else None, 1 if number else 0)
                if node.kind == "kernel":
                    library.cuGraphKernelNodeCopyAttributes(new, node.handle)
                before = new
            return Launchable(library, made)
        finally:
            library.cuGraphDestroy(made)  # what can be launched is a copy of it

    def _adder(self, node: Node) -> Callable[..., Any]:
        """Adds a node with the parameters of ``node``: ``add(new, graph, nodes before it, their number)``."""
        library = self.library
        if node.kind == "kernel":
            params = KernelParams()
            library.cuGraphKernelNodeGetParams_v2(node.handle, ctypes.byref(params))
            return lambda *where: library.cuGraphAddKernelNode_v2(*where, ctypes.byref(params))
        opaque, context = Opaque(), _POINTER()
        library.cuCtxGetCurrent(ctypes.byref(context))
        get, add = {
            "copy": (library.cuGraphMemcpyNodeGetParams, library.cuGraphAddMemcpyNode),
            "memset": (library.cuGraphMemsetNodeGetParams, library.cuGraphAddMemsetNode),
        }[node.kind]
        get(node.handle, opaque)
        return lambda *where: add(*where, opaque, context)


class Launchable:
    """A graph as it is launched, which must be closed."""

    def __init__(self, library: Any, graph: ctypes.c_void_p) -> None:
        self.library = library
        self.handle = _POINTER()
        library.cuGraphInstantiateWithFlags(ctypes.byref(self.handle), graph, 0)

    def launch(self, stream: int) -> None:
        self.library.cuGraphLaunch(self.handle, stream)

    def close(self) -> None:
        self.library.cuGraphExecDestroy(self.handle)


class Noted:
    """Copies of graphs that were captured, in this order, and why there are none of others; "" where none lacks.

    A graph without nodes is none: a backend may capture only to see whether anything is launched.
    """

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.problem = ""


@contextmanager
def noting(cuda: Any, library: Any) -> Iterator[Noted]:
    """Keep a copy of each graph that is captured meanwhile through CuPy; it ends with the context.

    A copy, since CuPy may destroy a graph once it can be launched. ``cuda`` is the module ``cupy.cuda``.
    """
    noted = Noted()
    plain: Any = cuda.Stream

    class Stream(plain):  # type: ignore[misc]
        def end_capture(self) -> Any:
            copy = None
            try:
                copy = _copy_of_capture(library, self.ptr)
            except DriverError as error:  # no reason not to end the capture
                noted.problem = str(error)
            ended = super().end_capture()  # raises where something broke the capture
            if copy is not None:
                noted.graphs.append(copy)
            return ended

    cuda.Stream = Stream
    try:
        yield noted
    finally:
        cuda.Stream = plain
        for graph in noted.graphs:
            graph.close()


def _copy_of_capture(library: Any, stream: int) -> Graph | None:
    """The graph that the stream is capturing; None where it is not, or no more, or has captured nothing."""
    status, number, graph, copy, count = _INT(), ctypes.c_uint64(), _POINTER(), _POINTER(), _SIZE()
    known = ctypes.byref(status), ctypes.byref(number), ctypes.byref(graph)
    library.cuStreamGetCaptureInfo_v2(stream, *known, None, None)
    if status.value != ACTIVE:
        return None
    library.cuGraphGetNodes(graph, None, ctypes.byref(count))
    if count.value == 0:
        return None
    library.cuGraphClone(ctypes.byref(copy), graph)
    return Graph(library, copy.value or 0)

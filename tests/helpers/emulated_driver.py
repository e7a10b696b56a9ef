"""The calls of the CUDA driver that ``benchmarks.gpu.driver`` makes, answered from graphs of the emulated device.

They take and give what the driver takes and gives: handles as numbers, results by pointers, a status. Nodes are those
of the emulated graphs; a handle of another kind, or one that was destroyed, is refused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

from benchmarks.gpu import driver
from tests.helpers.emulated_cuda import Event, Graph, Node, get_current_stream, stream_at

INVALID_VALUE = 1
_handles = count(0x1000)


class Refused(Exception):
    """CUDA_ERROR_INVALID_VALUE."""


class EmulatedDriver(SimpleNamespace):
    """``libcuda`` as ctypes loads it.

    Attributes:
        objects: lists of nodes (graphs), nodes, and graphs that can be launched, by their handles.
        refuse: functions that fail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[int, Any] = {}
        self.refuse: set[str] = set()
        for name, types in (driver.SIGNATURES | driver.NAMES).items():
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *types)(self.answering(name)))
        self.cuGetErrorName = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))(
            self.error_name
        )
        driver.declared(self)

    def answering(self, name: str) -> Callable[..., int]:
        def answer(*arguments: Any) -> int:
            try:
                if name in self.refuse:
                    raise Refused
                getattr(self, f"on_{name}")(*arguments)
            except (Refused, KeyError):
                return INVALID_VALUE
            return 0

        return answer

    def new(self, thing: Any) -> int:
        handle = next(_handles)
        self.objects[handle] = thing
        return handle

    def the(self, kind: type, handle: int) -> Any:
        if not isinstance(self.objects[handle], kind):
            raise Refused
        return self.objects[handle]

    @staticmethod
    def error_name(status: int, name: Any) -> int:
        name[0] = b"CUDA_ERROR_INVALID_VALUE"
        return 0

    # ---- graphs ------------------------------------------------------------------------------------------------------

    def on_cuCtxGetCurrent(self, context: Any) -> None:
        context[0] = 1

    def on_cuStreamGetCaptureInfo_v2(
        self, stream: int, status: Any, number: Any, graph: Any, before: Any, size: Any
    ) -> None:
        nodes = stream_at[stream].nodes
        status[0] = int(nodes is not None)
        if nodes is not None:
            graph[0] = self.new(nodes)

    def on_cuGraphClone(self, copy: Any, graph: int) -> None:
        copy[0] = self.new([*self.the(list, graph)])

    def on_cuGraphCreate(self, graph: Any, flags: int) -> None:
        graph[0] = self.new([])

    def on_cuGraphDestroy(self, graph: int) -> None:
        self.the(list, graph)
        del self.objects[graph]

    def on_cuGraphInstantiateWithFlags(self, made: Any, graph: int, flags: int) -> None:
        made[0] = self.new(Graph([*self.the(list, graph)]))

    def on_cuGraphLaunch(self, graph: int, stream: int) -> None:
        assert get_current_stream().ptr == stream
        self.the(Graph, graph).launch()

    def on_cuGraphExecDestroy(self, graph: int) -> None:
        self.the(Graph, graph)
        del self.objects[graph]

    # ---- nodes -------------------------------------------------------------------------------------------------------

    def on_cuGraphGetNodes(self, graph: int, nodes: Any, size: Any) -> None:
        known = self.the(list, graph)
        if nodes is None:
            size[0] = len(known)
            return
        handles = (ctypes.c_void_p * size[0]).from_address(nodes)
        for i, node in enumerate(known[: size[0]]):
            handles[i] = self.new(node)

    def on_cuGraphNodeGetType(self, node: int, kind: Any) -> None:
        kind[0] = int(self.the(Node, node).name == "copy")

    def on_cuGraphKernelNodeGetParams_v2(self, node: int, params: int) -> None:
        kernel = self.the(Node, node)
        if kernel.name == "copy":
            raise Refused
        told = driver.KernelParams.from_address(params)
        sizes = [size.value for size in getattr(kernel.work, "args", ())[:3] if isinstance(size, ctypes.c_uint)]
        blocks_x, blocks_y, threads = sizes if len(sizes) == 3 else (1, 1, 1)
        told.grid[:], told.block[:] = (blocks_x, blocks_y, 1), (threads, 1, 1)
        if kernel.name == "gemm":  # as of cuBLAS, which loads its kernels lazily
            told.func, told.kern = None, node
        else:
            told.func, told.kern = node, None

    def on_cuGraphMemcpyNodeGetParams(self, node: int, params: int) -> None:
        if self.the(Node, node).name != "copy":
            raise Refused
        ctypes.c_uint64.from_address(params).value = node

    def on_cuGraphMemsetNodeGetParams(self, node: int, params: int) -> None:
        raise Refused  # there are none on the emulated device

    def on_cuFuncGetName(self, name: Any, function: int) -> None:
        node = self.the(Node, function)
        node.label = node.name.encode()  # the caller reads it where it lies
        name[0] = node.label

    on_cuKernelGetName = on_cuFuncGetName

    def on_cuGraphAddKernelNode_v2(self, new: Any, graph: int, before: int, size: int, params: int) -> None:
        told = driver.KernelParams.from_address(params)
        self.add(new, graph, before, size, self.the(Node, told.func or told.kern))

    def on_cuGraphAddMemcpyNode(self, new: Any, graph: int, before: int, size: int, params: int, context: int) -> None:
        if context != 1:
            raise Refused
        self.add(new, graph, before, size, self.the(Node, ctypes.c_uint64.from_address(params).value))

    def on_cuGraphAddMemsetNode(self, *_: Any) -> None:
        raise Refused

    def add(self, new: Any, graph: int, before: int | None, size: int, node: Node) -> None:
        """Each after the one before, or CUDA would be free to run them side by side."""
        nodes = self.the(list, graph)
        after = [ctypes.c_void_p.from_address(before).value] if before else []
        if len(after) != size or bool(nodes) != bool(after):
            raise Refused
        for handle in after:
            self.the(Node, handle or 0)
        nodes.append(node)
        new[0] = self.new(node)

    def on_cuGraphKernelNodeCopyAttributes(self, to: int, source: int) -> None:
        if self.the(Node, to) is not self.the(Node, source):
            raise Refused


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    return 1e3 * (end_event.seconds - start_event.seconds)

"""A CUDA device that is not there: ``CupyBackend(EmulatedCudaDevice())`` runs on the CPU, launches and kernels alike.

The CUDA text is compiled by g++ with ``cuda_shim.h`` in place of CUDA, ``cublas_stand_in.cpp`` takes the place of
cuBLAS, and a stand-in for the module ``cupy``, with NumPy underneath, offers what ``CupyBackend`` uses of it. It is
stricter than CuPy where CuPy is silent or only a GPU would fail:

* arguments of a launch are held against the C declaration of the kernel, grids against CUDA's limits;
* memory from ``empty`` is filled with NaN or 0xCD, so that reading what nobody wrote shows;
* an array refuses everything that would make the host wait: ``float()``, ``bool()``, ``item()``, an iteration;
* a graph holds addresses only, and a launch of it fails where the memory at one of them has been given back;
* a graph with branches, captured on several streams, fails where two nodes that no edges order use the same memory and
  one of them writes it; it is launched with the branches as early as edges allow and as late, in turns;
* who waits for the device ends every capture that is under way in the process, with CUDA's errors 900 and 901;
* a copy on a stream of its own is made when somebody waits for it, and not before: from page-locked memory, which must
  be there then and have the same numbers. Kernels are run at once, whatever stream they are on.

Blocks get at most ``max_threads`` threads, which run in turns; the kernels are right for any number.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, cached_property, partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from time import perf_counter
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import array_api_compat.numpy
import numpy as np
import pytest

from backends.cuda import cublas
from backends.cuda.device import CupyDevice
from backends.devices import Device
from nn.files import lock

HAS_COMPILER = shutil.which("g++") is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no g++ to compile the CUDA text for the CPU")
#: For a run under a sanitizer, e.g. "-g -fsanitize=address,undefined", with the sanitizer's library in LD_PRELOAD.
EXTRA_FLAGS = os.environ.get("XPNET_EMULATOR_FLAGS", "").split()
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall"]
SHIM = Path(__file__).parent / "cuda_shim.h"
#: What g++ has made, and how many of these are kept; who changes the CUDA text makes two more each time.
LIBRARIES = Path(__file__).parents[2] / ".pytest_cache" / "emulated_cuda"
MOST_LIBRARIES = 60
COMPILED_SHIM = LIBRARIES / "shim"

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


class CUDARuntimeError(RuntimeError):
    NAMES: ClassVar = {
        801: "cudaErrorNotSupported: operation not supported",
        900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
        901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
        904: "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work",
        905: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream",
    }

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(self.NAMES[status])


# ---- streams that capture, and graphs --------------------------------------------------------------------------------


class Launched:
    """What has been launched: the names of kernels, and ``gemm``, ``copy`` and ``graph``, in their order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def count(self, name: str) -> int:
        return self.names.count(name)


launched = Launched()


class Streams(threading.local):
    """The streams that a thread has entered, and the allocator that it has been given."""

    def __init__(self) -> None:
        self.entered: list[Stream] = []
        self.allocator: Callable[[int], Any] | None = None


class Stream:
    made = 0

    def __init__(self, non_blocking: bool = False, null: bool = False) -> None:
        Stream.made += 1
        self.ptr = 0 if null else 16 * Stream.made
        self.non_blocking = non_blocking
        self.nodes: Capture | None = None
        self.after: list[Node] = []  # which the next node comes after
        self.is_invalid = False
        self.copies: deque[Callable[[], None]] = deque()  # not yet made
        self.made = 0
        self.lock = threading.RLock()
        stream_at[self.ptr] = self

    def __enter__(self) -> Stream:
        streams.entered.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        assert streams.entered.pop() is self

    def wait_event(self, event: Event) -> None:
        if event.nodes is not None:  # so this stream captures as well, from now on
            if self.is_invalid or event.nodes.is_invalid:
                raise CUDARuntimeError(901)
            is_another = self.nodes is not None and self.nodes is not event.nodes
            if event.nodes.has_ended or is_another or not self.non_blocking:
                raise CUDARuntimeError(905)
            self.nodes = event.nodes
            self.after = [*self.after, *event.after]
            return
        assert self.nodes is None
        if event.stream is not self:
            event.synchronize()

    def synchronize(self) -> None:
        assert self.nodes is None
        self.make_copies()

    def make_copies(self, until: int | None = None) -> None:
        """Those that were asked for first, until so many have been made in all; None: all of them."""
        with self.lock:
            while self.copies and (until is None or self.made < until):
                self.copies.popleft()()
                self.made += 1

    def begin_capture(self) -> None:
        assert self.nodes is None
        assert self.non_blocking, "the default stream would be unusable in the whole process"
        self.nodes = Capture(self.ptr)

    def is_capturing(self) -> bool:
        return self.nodes is not None

    def end_capture(self) -> Graph:
        nodes = self.nodes
        assert nodes is not None
        assert nodes.origin == self.ptr, "the capture has begun on another stream"
        after, is_invalid = self.after, self.is_invalid
        nodes.has_ended = True
        streams_of = [stream for stream in list(stream_at.values()) if stream.nodes is nodes]
        of_branches = {id(node) for stream in streams_of for node in stream.after}
        for stream in streams_of:
            stream.nodes, stream.after, stream.is_invalid = None, [], False
        if is_invalid:
            raise CUDARuntimeError(901)
        if not of_branches <= {id(node) for node in before(after)}:
            raise CUDARuntimeError(904)
        return Graph(nodes)


class Capture(list["Node"]):
    """What streams capture together, in the order in which it comes; ``origin`` is the ``ptr`` of the first of them."""

    def __init__(self, origin: int) -> None:
        super().__init__()
        self.origin = origin
        self.has_ended = False

    @property
    def is_invalid(self) -> bool:
        return stream_at[self.origin].is_invalid


class Event:
    """Of ``cupy.cuda``: the copies of a stream up to a moment, which is its time, too: kernels have been run then."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self.stream: Stream | None = None
        self.nodes: Capture | None = None  # which it was recorded in
        self.after: list[Node] = []
        self.copies = 0
        self.seconds = 0.0

    def record(self, stream: Stream | None = None) -> None:
        stream = get_current_stream() if stream is None else stream
        if stream.is_invalid:
            raise CUDARuntimeError(901)
        self.nodes, self.after = stream.nodes, stream.after
        with stream.lock:
            self.stream, self.copies = stream, stream.made + len(stream.copies)
        self.seconds = perf_counter()

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.make_copies(self.copies)


class PinnedMemory(bytearray):
    """Page-locked memory of the host."""


def alloc_pinned_memory(size: int) -> PinnedMemory:
    memory = PinnedMemory(size)
    pinned_at[np.frombuffer(memory, np.uint8).ctypes.data] = memory
    return memory


pinned_at: weakref.WeakValueDictionary[int, PinnedMemory] = weakref.WeakValueDictionary()
stream_at: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
null_stream = Stream(null=True)
streams = Streams()


def wait_for_device() -> None:
    """What ``cudaDeviceSynchronize``, and all that calls it, does to streams that capture, in any thread."""
    for stream in list(stream_at.values()):
        stream.make_copies()
    capturing = [stream for stream in list(stream_at.values()) if stream.nodes is not None]
    for stream in capturing:
        stream.is_invalid = True
    if capturing:
        raise CUDARuntimeError(900)


def get_current_stream() -> Stream:
    return streams.entered[-1] if streams.entered else null_stream


class Used(NamedTuple):
    """Memory that a launch uses: addresses from ``begin`` to before ``end``."""

    begin: int
    end: int
    writes: bool

    def races(self, other: Used) -> bool:
        return (self.writes or other.writes) and self.begin < other.end and other.begin < self.end


def used(array: np.ndarray, writes: bool) -> Used:
    if array.flags.c_contiguous:
        begin = array.ctypes.data
        return Used(begin, begin + array.nbytes, writes)
    return Used(*np.lib.array_utils.byte_bounds(array), writes)


class Node(SimpleNamespace):
    """A launch in a graph: ``work()``, the memory that it uses, as addresses and by the pieces that these are in, and
    the nodes that it comes right ``after``; ``stream`` is the ``ptr`` of the one that captured it."""

    name: str
    work: Callable[[], None]
    memory: list[int]
    uses: list[Used]
    after: list[Node]
    stream: int


def before(nodes: list[Node]) -> list[Node]:
    """The nodes, and all that come before them."""
    found: dict[int, Node] = {}
    left = [*nodes]
    while left:
        node = left.pop()
        if id(node) not in found:
            found[id(node)] = node
            left += node.after
    return [*found.values()]


class Race(AssertionError):
    """Two nodes of a graph may run at the same time, or in any order, and must not."""


class Graph:
    #: Of graphs with branches: whether the branches come as early as they may, or as late, at each launch.
    branches_first: ClassVar[Iterator[bool]] = cycle((True, False))

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.memory = frozenset(piece for node in nodes for piece in node.memory)
        self.is_checked = len({node.stream for node in nodes}) < 2
        self.has_branches = not self.is_checked

    def upload(self) -> None:
        pass

    def launch(self) -> None:
        assert get_current_stream().nodes is None
        launched.names.append("graph")
        if not self.is_checked:
            self.check()
        if not memory.are_in_use(self.memory):
            node = next(node for node in self.nodes if not memory.are_in_use(node.memory))
            raise AssertionError(f"{node.name} uses memory that was given back")
        for node in self.ordered() if self.has_branches else self.nodes:
            node.work()

    def check(self) -> None:
        """Raise a Race unless edges order all that must not change places."""
        for i, node in enumerate(self.nodes):
            earlier = {id(one) for one in before([node])}
            for other in self.nodes[:i]:
                if id(other) not in earlier and any(x.races(y) for x in node.uses for y in other.uses):
                    raise Race(f"{other.name} and {node.name} use the same memory, and no edge orders them")
        self.is_checked = True

    def ordered(self) -> list[Node]:
        """The nodes, those of the branches as early as the edges allow or as late."""
        first = next(Graph.branches_first)
        main, made, found = self.nodes[0].stream, set[int](), list[Node]()
        left = {id(node): node for node in self.nodes}
        while left:
            ready = [node for node in left.values() if all(id(one) in made for one in node.after)]
            node = next((one for one in ready if (one.stream != main) == first), ready[0])
            del left[id(node)]
            made.add(id(node))
            found.append(node)
        return found


def enqueue(name: str, uses: list[Used], work: Callable[[], None], stream: Stream | None = None) -> None:
    """Run ``work`` now or, where the stream is capturing, note it; it must know memory by its address only."""
    stream = get_current_stream() if stream is None else stream
    nodes = stream.nodes
    if stream.is_invalid:
        raise CUDARuntimeError(901)
    if nodes is None:
        launched.names.append(name)
        work()
    else:
        pieces = [memory.piece(one.begin) for one in uses]
        node = Node(name=name, work=work, memory=pieces, uses=uses, after=stream.after, stream=stream.ptr)
        nodes.append(node)
        stream.after = [node]


@contextmanager
def using_allocator(allocator: Callable[[int], Any]) -> Iterator[None]:
    before, streams.allocator = streams.allocator, allocator
    try:
        yield
    finally:
        streams.allocator = before


def must_not_capture(what: str) -> None:
    if get_current_stream().nodes is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


# ---- memory and arrays -----------------------------------------------------------------------------------------------


class Memory:
    """The pieces of memory that are in use.

    The collector of garbage gives memory back whenever it likes, also while another thread, or ``piece`` itself, walks
    over the table. So what is given back is only noted, and is struck off at the beginning of the next call.
    """

    def __init__(self) -> None:
        self.live: dict[int, tuple[int, int]] = {}
        self.watched: dict[int, weakref.ref[np.ndarray]] = {}
        self.begins: list[int] = []  # sorted
        self.number_at: dict[int, int] = {}
        self.given_back: deque[int] = deque()
        self.lock = threading.RLock()
        self.made = 0

    def allocate(self, shape: Any, dtype: Any) -> Any:
        if streams.allocator is not None:
            streams.allocator(bytes_of(shape, dtype))
        array = np.empty(shape, dtype)
        begin = array.ctypes.data
        with self.lock:
            self._strike_off()
            self.made += 1
            number = self.made
            self.live[number] = (begin, begin + max(array.nbytes, 1))
            self.number_at[begin] = number
            insort(self.begins, begin)
            # Not a `finalize`, which takes longer than all else here.
            self.watched[number] = weakref.ref(array, lambda _: self.given_back.append(number))
        return array.view(ndarray)

    def piece(self, address: int) -> int:
        """The number of the piece that the address lies in."""
        with self.lock:
            self._strike_off()
            index = bisect_right(self.begins, address) - 1
            if index >= 0:
                number = self.number_at[self.begins[index]]
                if address < self.live[number][1]:
                    return number
        raise AssertionError(f"there is no memory of the device at {address:#x}")

    def in_use(self) -> int:
        """How many bytes have not been given back."""
        with self.lock:
            self._strike_off()
            return sum(end - begin for begin, end in self.live.values())

    def are_in_use(self, pieces: Iterable[int]) -> bool:
        """Whether none of the pieces has been given back."""
        with self.lock:
            self._strike_off()
            return self.live.keys() >= {*pieces}

    def _strike_off(self) -> None:
        while self.given_back:
            number = self.given_back.popleft()
            begin, _ = self.live.pop(number)
            del self.watched[number], self.number_at[begin], self.begins[bisect_left(self.begins, begin)]


memory = Memory()


def bytes_of(shape: Any, dtype: Any) -> int:
    """Of an array that is to be made."""
    extents = shape if isinstance(shape, tuple | list) else (shape,)
    return math.prod(int(n) for n in extents) * int(np.dtype(dtype).itemsize)


class MemoryPointer(NamedTuple):
    ptr: int
    device_id: int


class ndarray(np.ndarray):
    """A NumPy array that behaves like memory of a GPU."""

    device_id = 0

    @cached_property
    def address(self) -> int:
        address: int = self.ctypes.data
        return address

    @property
    def data(self) -> Any:
        return MemoryPointer(self.address, self.device_id)

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.device_id)

    def _wait(self, *_: Any) -> Any:
        raise AssertionError("this would make the host wait for the device")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = item = tolist = _wait

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        """Copy from page-locked memory, later; or, without a stream, from any other, now."""
        assert not isinstance(arr, ndarray)
        assert (arr.shape, arr.dtype) == (self.shape, self.dtype)
        if stream is None:
            must_not_capture("H2D transfers")
            self[...] = arr
            return
        assert arr.flags.c_contiguous
        assert self.flags.c_contiguous
        begin = arr.ctypes.data
        address = next(a for a, memory in list(pinned_at.items()) if a <= begin < a + len(memory))
        to, source = self.view(np.ndarray), seen_from_outside(arr)

        def copy() -> None:
            assert address in pinned_at, "page-locked memory was given back before it was copied"
            np.copyto(to, source)

        with stream.lock:
            stream.copies.append(copy)

    def astype(self, *arguments: Any, **options: Any) -> Any:
        return self._made(lambda x: x.astype(*arguments, **options), [self])

    def _made(self, function: Any, inputs: Any) -> Any:
        """What a function of NumPy's arrays makes, in new memory of the device; computed later where the stream is
        capturing."""
        result = np.asarray(function(*(x.view(np.ndarray) if isinstance(x, ndarray) else x for x in inputs)))
        array = memory.allocate(result.shape, result.dtype)
        self._write(lambda to, *values: np.copyto(to, function(*values)), array.view(np.ndarray), inputs)
        return array

    def __setitem__(self, key: Any, value: Any) -> None:
        self._write(np.copyto, np.ndarray.__getitem__(self.view(np.ndarray), key), [value])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if out is None or method != "__call__":
            if out is not None:
                options["out"] = tuple(x.view(np.ndarray) for x in out)
            return self._made(partial(getattr(ufunc, method), **options), inputs)
        self._write(lambda to, *values: ufunc(*values, out=to), out[0].view(np.ndarray), inputs)
        return out[0]

    @staticmethod
    def _write(function: Any, to: Any, values: Any) -> None:
        if not isinstance(to, np.ndarray):
            raise AssertionError("an element is not written from the host")
        if not to.size:
            return
        if get_current_stream().nodes is None:
            function(to, *(np.asarray(x) for x in values))
            launched.names.append("copy")
            return
        assert all(isinstance(x, ndarray) for x in values if isinstance(x, np.ndarray)), "an upload while capturing"
        twins = [seen_from_outside(x) if isinstance(x, np.ndarray) else x for x in (to, *values)]
        uses = [used(to, True), *(used(x, False) for x in values if isinstance(x, np.ndarray) and x.size)]
        enqueue("copy", uses, partial(function, *twins))


def seen_from_outside(x: Any) -> Any:
    """The same numbers at the same place, without keeping the memory alive."""
    low, high = np.lib.array_utils.byte_bounds(x)
    buffer: Any = (ctypes.c_char * (high - low)).from_address(low)
    return np.ndarray(x.shape, x.dtype, buffer, x.ctypes.data - low, x.strides)


# ---- kernels and products --------------------------------------------------------------------------------------------


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
    text = "\n".join(parts)
    try:
        return ctypes.PyDLL(str(kept(text)))
    except OSError:  # the folder cannot be written to, or what is in it is damaged
        with tempfile.TemporaryDirectory() as folder:
            return ctypes.PyDLL(str(built(text, Path(folder) / "kernels.so")))


def built(text: str, library: Path) -> Path:
    """A library that g++ makes of a C++ text."""
    folders = [f"-I{folder}" for folder in (*compiled_shim(), SHIM.parent)]
    command = ["g++", *FLAGS, *EXTRA_FLAGS, *folders, "-x", "c++", "-", "-o", str(library)]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode or "warning" in result.stderr:
        raise RuntimeError(f"g++ on the CUDA text:\n{result.stderr}")
    return library


def compiler() -> str:
    """Which g++ it is."""
    path = Path(shutil.which("g++") or "g++").resolve()
    return f"{path} {path.stat().st_mtime_ns}"


@cache
def compiled_shim() -> list[Path]:
    """The folder with ``cuda_shim.h`` as g++ keeps a header that it has read: half of the time of a short text goes
    into those that the shim includes. g++ reads the header itself where this one was made with other flags."""
    header = COMPILED_SHIM / f"{SHIM.name}.gch"
    of = "\n".join([SHIM.read_text(), *FLAGS, *EXTRA_FLAGS, compiler()]).encode()
    try:
        COMPILED_SHIM.mkdir(parents=True, exist_ok=True)
        with (COMPILED_SHIM / "of").open("a+b") as made_of:
            lock(made_of)
            made_of.seek(0)
            if made_of.read() != of or not header.exists():
                command = ["g++", *FLAGS, *EXTRA_FLAGS, "-x", "c++-header", str(SHIM), "-o", str(header)]
                subprocess.run(command, capture_output=True, check=True)
                made_of.truncate(0)
                made_of.write(of)
    except (OSError, subprocess.CalledProcessError):  # the folder cannot be written to
        return []
    return [COMPILED_SHIM]


def kept(text: str) -> Path:
    """The library of a text as g++ has made it before, in this process or in another; else it is made.

    The whole text takes g++ three seconds. Whoever wants it at the same time, as the workers of a test run do, waits.
    """
    of = [text, SHIM.read_text(), *FLAGS, *EXTRA_FLAGS, compiler()]
    LIBRARIES.mkdir(parents=True, exist_ok=True)
    library = LIBRARIES / f"{sha256(chr(0).join(of).encode()).hexdigest()}.so"
    with library.with_suffix(".lock").open("wb") as waiting:
        lock(waiting)
        if library.exists():
            library.touch()
            return library
        built(text, library.with_suffix(f".{os.getpid()}")).replace(library)
    for old in sorted(LIBRARIES.glob("*.so"), key=lambda path: path.stat().st_mtime)[:-MOST_LIBRARIES]:
        old.unlink(missing_ok=True)
        old.with_suffix(".lock").unlink(missing_ok=True)
    return library


class Parameter(NamedTuple):
    """Of a kernel: ``dtype`` and ``kind``, that of ctypes, are what it points to where it is a pointer."""

    name: str
    dtype: np.dtype[Any]
    is_pointer: bool
    kind: Any


class RawKernel:
    def __init__(self, name: str, library: Any, parameters: list[str], real: str, max_threads: int) -> None:
        self.name = name
        self.library = library
        self.function = library[f"emulate_{name}"]
        self.max_threads = max_threads
        self.function.restype = None
        self.parameters = []
        self.is_const = []
        for parameter in parameters:
            words = parameter.removeprefix("const ").split()
            c_type = " ".join(words[:-1])
            c_type, is_pointer = c_type.removesuffix("*"), c_type.endswith("*")
            kind = _C_TYPES[real if c_type == "REAL" else c_type]
            self.parameters.append(Parameter(words[-1], np.dtype(kind), is_pointer, kind))
            self.is_const.append(parameter.startswith("const "))

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        assert 1 <= grid[0] < 2**31, f"grid of {self.name}: {grid}"
        assert all(1 <= n < 2**16 for n in grid[1:]), f"grid of {self.name}: {grid}"
        assert len(grid) <= 2, f"grid of {self.name}: {grid}"
        (threads,) = block
        assert 1 <= threads <= 1024, f"block of {self.name}: {block}"
        assert threads & (threads - 1) == 0, f"block of {self.name}: {block}"
        assert len(arguments) == len(self.parameters), f"{self.name} takes {len(self.parameters)} arguments"
        values = [*map(self.value, self.parameters, arguments)]
        uses = []
        if get_current_stream().nodes is not None:  # else nobody asks
            given = zip(arguments, self.is_const, strict=True)
            uses = [used(x, not is_const) for x, is_const in given if isinstance(x, ndarray) and x.size]
        enqueue(self.name, uses, self.work(grid, threads, values))

    def work(self, grid: tuple[int, ...], threads: int, values: list[Any]) -> Callable[[], None]:
        """What a launch with these arguments, as C takes them, does."""
        blocks_x, blocks_y = (*grid, 1)[:2]
        counts = [ctypes.c_uint(n) for n in (blocks_x, blocks_y, min(threads, self.max_threads))]
        return partial(self.function, *counts, *values)

    @property
    def kernel(self) -> Any:
        """``cupy.cuda.Function``: the driver's handle of the kernel."""
        kernel_at[id(self)] = self
        return SimpleNamespace(ptr=id(self))

    def value(self, parameter: Parameter, argument: Any) -> Any:
        name, dtype, is_pointer, kind = parameter
        if not is_pointer:
            assert type(argument) is dtype.type, f"{name} of {self.name} is a {dtype}, got {argument!r}"
            return kind(argument)
        if isinstance(argument, np.uint64):
            assert argument == 0, f"{name} of {self.name} is a pointer, got {argument!r}"
            return ctypes.c_void_p(None)
        assert type(argument) is ndarray, f"{name} of {self.name} is a pointer, got {type(argument)}"
        assert argument.dtype == dtype, f"{name} of {self.name} points to {dtype}, got {argument.dtype}"
        assert argument.flags.c_contiguous, f"{name} of {self.name} is not contiguous"
        return ctypes.c_void_p(argument.address)


kernel_at: weakref.WeakValueDictionary[int, RawKernel] = weakref.WeakValueDictionary()


class RawModule:
    max_threads = 1

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self.code = code
        self.declarations = declarations(code)
        match = re.search(r"^#define REAL (\w+)$", code, re.MULTILINE)
        assert match is not None
        self.real = match[1]

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(name, compiled(self.code), self.declarations[name], self.real, self.max_threads)


def gemm(transa: str, transb: str, a: Any, b: Any, out: Any = None, alpha: float = 1.0, beta: float = 0.0) -> Any:
    """``cupy.cublas.gemm``, which asserts, on operands that cuBLAS takes."""
    if get_current_stream().nodes is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    assert type(a) is type(b) is type(out) is ndarray
    assert type(alpha) is type(beta) is float
    assert a.dtype == b.dtype == out.dtype
    assert a.size > 0
    assert b.size > 0
    a, b, to = ({"N": x, "T": x.T}[t].view(np.ndarray) for x, t in ((a, transa), (b, transb), (out, "N")))
    product = alpha * np.matmul(a, b)
    assert to.shape == product.shape
    to[...] = product if beta == 0 else product + beta * to
    return out


#: CUBLAS_STATUS_EXECUTION_FAILED, which ``Cublas`` answers with an error.
EXECUTION_FAILED = 13


class Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("op_a", "op_b", "m", "n", "k", "lda", "ldb", "ldc", "type", "compute")),
        *((name, ctypes.c_double) for name in ("alpha", "beta")),
        *((name, ctypes.c_void_p) for name in ("a", "b", "c", "workspace")),
    )

    def uses(self) -> list[Used]:
        """Matrices by columns, and the workspace, in which one product at a time leaves what it likes."""
        itemsize = 8 if self.type else 4
        shape_a, shape_b = (
            (x[::-1] if op else x) for x, op in (((self.m, self.k), self.op_a), ((self.k, self.n), self.op_b))
        )
        matrices = (self.a, shape_a, self.lda), (self.b, shape_b, self.ldb), (self.c, (self.m, self.n), self.ldc)
        found = [
            Used(at, at + ((columns - 1) * stride + rows) * itemsize, at == self.c)
            for at, (rows, columns), stride in matrices
        ]
        return [*found, Used(self.workspace, self.workspace + cublas.WORKSPACE_BYTES, True)]


def new_stand_in_cublas() -> Any:
    """``cublas_stand_in.cpp``, its functions declared by ``backends.cuda.cublas`` as those of the real library.

    Handles live as long as the process. Where a test needs a library of which there is none yet, it makes one.
    """
    text = (SHIM.parent / "cublas_stand_in.cpp").read_text()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "libcublas.so"
        try:
            shutil.copyfile(kept(text), path)  # loaded from a path of its own, it has a state of its own
        except OSError:
            built(text, path)
        library: Any = cublas.declared(ctypes.CDLL(str(path)))

    def on_launch(stream: int | None, product: Any) -> int:
        try:
            copy = Product.from_buffer_copy(product.contents)
            work = partial(library.stand_in_run, ctypes.byref(copy))
            enqueue("gemm", copy.uses(), work, stream_at[stream or 0])
        except CUDARuntimeError:
            return EXECUTION_FAILED
        except BaseException:  # ctypes would print it and go on without the product
            traceback.print_exc()
            return EXECUTION_FAILED
        return 0

    library.on_launch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Product))(on_launch)
    library.stand_in_enqueue(library.on_launch)

    def on_wait() -> int:
        try:
            wait_for_device()
        except CUDARuntimeError:
            return EXECUTION_FAILED
        return 0

    library.on_wait = ctypes.CFUNCTYPE(ctypes.c_int)(on_wait)
    library.stand_in_wait(library.on_wait)
    library.is_stream = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda stream: (stream or 0) in stream_at)
    library.stand_in_is_stream(library.is_stream)
    library.cublasDestroy_v2.argtypes = (ctypes.c_void_p,)
    return library


stand_in_cublas = cache(new_stand_in_cublas)


class Allocator:
    """Poisoned memory, counted, with a limit: of one array, and of the whole device.

    As CuPy's pool it keeps what is given back, until it is told to let that go or the device has no more.
    """

    def __init__(self) -> None:
        self.count = 0
        self.limit = 2**40
        self.total: int | None = None  # of the device; None: not looked at
        self.held = 0

    def __call__(self, shape: Any, dtype: Any) -> Any:
        size = bytes_of(shape, dtype)
        self.hold(size)
        array = memory.allocate(shape, dtype)
        self.count += 1
        host = array.view(np.ndarray)
        if host.dtype.kind == "f":
            host.fill(np.nan)
        elif 0 < size < cublas.WORKSPACE_BYTES:
            host.reshape(-1).view(np.uint8).fill(0xCD)
        return array

    def hold(self, size: int) -> None:
        """Take so much more of the device."""
        if self.total is not None:
            self.held = max(self.held, memory.in_use() + size)
            if self.held > self.total:
                self.free_all_blocks()
        if size > self.limit or (self.total is not None and memory.in_use() + size > self.total):
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")

    def mem_info(self) -> tuple[int, int]:
        return (3 * 2**20, 2**30) if self.total is None else (self.total - max(self.held, memory.in_use()), self.total)

    # ---- cupy.cuda.MemoryPool ----------------------------------------------------------------------------------------

    def free_all_blocks(self) -> None:
        self.held = memory.in_use()

    def free_bytes(self) -> int:
        return 0 if self.total is None else max(self.held - memory.in_use(), 0)

    def used_bytes(self) -> int:
        return memory.in_use()

    def get_limit(self) -> int:
        return 0


@cache
def emulated_cupy(max_threads: int) -> Any:
    """The stand-in for the module ``cupy``, with blocks of at most so many threads."""
    allocate = Allocator()

    def asarray(a: Any, dtype: Any = None, *, copy: bool | None = None) -> Any:
        if isinstance(a, ndarray) and dtype in (None, a.dtype) and not copy:
            return a
        host = np.asarray(a, dtype)
        if not isinstance(a, ndarray):
            must_not_capture("H2D transfers")
        array = allocate(host.shape, host.dtype)
        array[...] = host
        return array

    def ascontiguousarray(a: Any) -> Any:
        assert type(a) is ndarray
        return a if a.flags.c_contiguous else asarray(a, copy=True)

    def asnumpy(a: Any) -> Any:
        must_not_capture("D2H transfers")
        return np.array(a, subok=False)

    module: Any = ModuleType(f"emulated_cupy_{max_threads}")
    module.ndarray = ndarray
    module.allocate = allocate
    module.asarray = asarray
    module.empty = lambda shape, dtype: allocate(shape, dtype)
    module.get_default_memory_pool = lambda: allocate
    module.ascontiguousarray = ascontiguousarray
    module.asnumpy = asnumpy
    module.may_share_memory = np.may_share_memory
    module.RawModule = type("RawModule", (RawModule,), {"max_threads": max_threads})
    module.cuda = SimpleNamespace(
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        Stream=Stream,
        Event=Event,
        alloc_pinned_memory=alloc_pinned_memory,
        get_current_stream=get_current_stream,
        using_allocator=using_allocator,
    )
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
        array[...] = 0
        return array

    def ones(self, shape: Any, *, dtype: Any, device: Any) -> Any:
        return self.full(shape, 1, dtype=dtype, device=device)

    def full(self, shape: Any, value: Any, *, dtype: Any, device: Any) -> Any:
        array = self._cupy.allocate(shape, dtype)
        array[...] = np.asarray(value, dtype)
        return array

    def arange(self, *limits: Any, dtype: Any, device: Any) -> Any:
        return self._cupy.asarray(np.arange(*limits, dtype=dtype))

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        return self._cupy.asarray(x, dtype, copy=copy)

    def stack(self, arrays: Any, *, axis: int = 0) -> Any:
        """In memory of the device, where NumPy's own result does not lie."""
        host = np.stack([x.view(np.ndarray) for x in arrays], axis=axis)
        array = self._cupy.allocate(host.shape, host.dtype)
        array[...] = host
        return array


class Handle(nullcontext[None]):
    def __init__(self, compute_capability: str, allocator: Allocator) -> None:
        super().__init__()
        self.compute_capability = compute_capability
        self._allocator = allocator

    @property
    def mem_info(self) -> tuple[int, int]:
        return self._allocator.mem_info()


class EmulatedCudaDevice(CupyDevice):
    """A GPU on the CPU: ``cuda:0``, or the one of another number; a process has GPUs of one number only."""

    def __init__(self, max_threads: int = 1, compute_capability: str = "90", index: int = 0) -> None:
        self.cupy = emulated_cupy(max_threads)
        self.index = ndarray.device_id = index
        self.stream = Stream()
        Device.__init__(self, f"cuda:{index}", Namespace(self.cupy), Handle(compute_capability, self.cupy.allocate))

    def cublas(self) -> ctypes.CDLL:
        library: ctypes.CDLL = stand_in_cublas()
        return library

    def synchronize(self) -> None:
        must_not_capture("synchronous API calls")
        wait_for_device()

    def driver(self) -> Any:
        from tests.helpers.emulated_launch import driver  # which imports this module

        return driver

    def nodes_of(self, graph: Graph) -> int:
        return len(graph.nodes)

    def gpu(self) -> str:
        return f"emulated {self.index}"

    def hardware(self) -> str:
        return "an emulated GPU"

    def version(self) -> str:
        return "cupy emulated"

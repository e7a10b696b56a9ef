"""CuPy as it is installed, against what our code asks of it and what its stand-ins promise. No GPU is needed.

The other tests run on stand-ins for CuPy. Here the real one is looked at: that it has every name that is used, takes
the arguments that it is given, and that a stand-in offers nothing to our code that it has not.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cuda.launch import texts
from backends.cuda.source.sizes import OPTIONS
from tests.helpers import emulated_cuda, emulated_driver, emulated_nccl
from tests.helpers.emulated_cuda import CUDARuntimeError, OutOfMemoryError, emulated_cupy

cupy: Any = pytest.importorskip("cupy", exc_type=ImportError)
cublas: Any = pytest.importorskip("cupy.cublas", exc_type=ImportError)  # `import cupy` does not import it

ROOT = Path(__file__).parents[3]
FILES = [
    *sorted((ROOT / "backends" / "cuda").glob("*.py")),
    ROOT / "backends" / "collectives" / "nccl.py",
    *sorted((ROOT / "benchmarks" / "gpu").glob("*.py")),
]
#: What the names of our code mean; an attribute of that name, too.
MEANT = {
    "cupy": cupy,
    "_cupy": cupy,
    "cuda": cupy.cuda,
    "_cuda": cupy.cuda,
    "runtime": cupy.cuda.runtime,
    "pool": cupy.cuda.MemoryPool,
    "_current_stream": cupy.cuda.get_current_stream,
    "by_cupy": cublas.gemm,
    **dict.fromkeys(("stream", "_stream", "side", "_copying", "_computing"), cupy.cuda.Stream),
    **dict.fromkeys(("event", "copied"), cupy.cuda.Event),
}
#: The same where a name has another meaning elsewhere.
MEANT_IN = {
    "device.py": {"handle": cupy.cuda.Device, "graph": cupy.cuda.Graph, "x": cupy.ndarray},
    "graphs.py": {"graph": cupy.cuda.Graph},
    "launches.py": {"first": cupy.cuda.Event, "last": cupy.cuda.Event},
    "recorded.py": {"graph_of_cupy": cupy.cuda.Graph},
}
#: Attributes that objects get when they are made.
OF_OBJECTS = {cupy.cuda.Stream: {"ptr", "device_id"}, cupy.cuda.Event: {"ptr"}}


def trees() -> Iterator[tuple[Path, ast.AST]]:
    for path in FILES:
        yield path, ast.parse(path.read_text())


@cache
def asked_for() -> frozenset[str]:
    """All attributes that our code asks anything for."""
    return frozenset(node.attr for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def words(node: ast.AST) -> list[str]:
    """``a.b.c`` as a list; what is no name counts as an empty one."""
    if isinstance(node, ast.Attribute):
        return [*words(node.value), node.attr]
    return [node.id] if isinstance(node, ast.Name) else [""]


def of_cupy(path: Path, node: ast.AST) -> tuple[Any, list[str]] | None:
    """Where an attribute or a name begins in CuPy, and the attributes that lead on from there."""
    meant = MEANT | MEANT_IN.get(path.name, {})
    chain = words(node)
    for i in range(len(chain) - 1, -1, -1):
        if chain[i] in meant:
            return meant[chain[i]], chain[i + 1 :]
    return None


def resolved(thing: Any, chain: list[str]) -> Any:
    """What the attributes lead to; None behind what only an object has."""
    for name in chain:
        if thing is None or name in OF_OBJECTS.get(thing, ()):
            return None
        if inspect.ismodule(thing) or inspect.isclass(thing):
            thing = getattr(thing, name)
        else:
            return None
    return thing


def signature(function: Any) -> inspect.Signature | None:
    """How something is called; None where it does not tell. Cython tells it in the first line of the docstring."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        declared = re.match(r"[\w.]+\((.*)\)", (function.__doc__ or "").partition("\n")[0])
        if declared is None:
            return None
        plain = re.sub(r"(?:^|(?<=, ))[\w.]+ (?=\w)", "", declared[1])  # without types of C
        scope: dict[str, Any] = {}
        exec(f"def declared({re.sub(r'=(?:[(].*?[)]|[^,]*)', '=None', plain)}): ...", scope)
        found = inspect.signature(scope["declared"])
    return found


def assert_takes(function: Any, call: ast.Call) -> None:
    """Whether a function can be called as it is in our code."""
    if any(isinstance(x, ast.Starred) for x in call.args) or any(k.arg is None for k in call.keywords):
        return
    told = signature(function)
    if told is None or any(p.kind is p.VAR_KEYWORD for p in told.parameters.values()):
        return
    given: list[Any] = [None] * len(call.args)
    if next(iter(told.parameters), "") == "self":
        given.insert(0, None)
    told.bind(*given, **{str(k.arg): None for k in call.keywords})


def test_every_name_that_is_used_is_there() -> None:
    known, missing = set(), []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (found := of_cupy(path, node)) is not None and found[1]:
                known.add(found[1][-1])
                try:
                    resolved(*found)
                except AttributeError as error:
                    missing.append(f"{path.name}:{node.lineno} {ast.unparse(node)}: {error}")
    assert missing == []
    assert {"begin_capture", "using_allocator", "getDeviceCount", "OutOfMemoryError", "get_limit"} <= known


def test_every_call_is_one_that_it_takes() -> None:
    wrong, count = [], 0
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (found := of_cupy(path, node.func)) is not None:
                function = resolved(*found)
                try:
                    if callable(function):
                        count += 1
                        assert_takes(function, node)
                except TypeError as error:
                    wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}: {error}")
    assert wrong == []
    assert count > 50


def test_arrays_have_what_is_asked_of_them() -> None:
    """The stand-in's are NumPy's, which have more."""
    lacks = {name for name in asked_for() if hasattr(np.ndarray, name) and not hasattr(cupy.ndarray, name)}
    assert lacks == set()


# ---- stand-ins -------------------------------------------------------------------------------------------------------

#: Stand-ins, and what they stand for.
STAND_INS: dict[Any, Any] = {
    emulated_cuda.Stream: cupy.cuda.Stream,
    emulated_cuda.Event: cupy.cuda.Event,
    emulated_cuda.Graph: cupy.cuda.Graph,
    emulated_cuda.RawKernel: cupy.RawKernel,
    emulated_cuda.RawModule: cupy.RawModule,
    emulated_cuda.Allocator: cupy.cuda.MemoryPool,
    emulated_cuda.Handle: cupy.cuda.Device,
    emulated_cuda.ndarray: cupy.ndarray,
}
#: What only the stand-ins have, and who asks for it.
OWN = {
    "RawKernel.value": "the emulator itself; in our code it is an attribute of a number of ctypes",
    "RawKernel.name": "the same, of a node",
    "Allocator.mem_info": "the stand-in for the device, of which our code asks it",
    "ndarray.device_id": "the emulator itself; in our code it is an attribute of x.data",
    "Graph.nodes": "`EmulatedCudaDevice.nodes_of`, where `CupyDevice.nodes_of` asks the driver",
}


def assert_takes_no_more(stand_in: Callable[..., Any], real: Any) -> None:
    """Whatever can be handed to the stand-in can be handed to the real one, by the same names."""
    theirs = signature(real)
    if theirs is None or any(p.kind is p.VAR_KEYWORD for p in theirs.parameters.values()):
        return
    ours = inspect.signature(stand_in).parameters
    more = {name for name, p in ours.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} - {*theirs.parameters}
    assert not more - {"self", "_"}, f"{stand_in}: CuPy does not take {more}; it takes {theirs}"


@pytest.mark.parametrize("stand_in", STAND_INS, ids=lambda thing: thing.__name__)
def test_a_stand_in_has_nothing_that_cupy_lacks(stand_in: Any) -> None:
    real = STAND_INS[stand_in]
    own = {name for name in vars(stand_in) if not name.startswith("_")} & asked_for()
    lacks = {name for name in own if not hasattr(real, name) and f"{stand_in.__name__}.{name}" not in OWN}
    assert lacks - OF_OBJECTS.get(real, set()) == set()
    for name in own & {*dir(real)}:
        if inspect.isfunction(vars(stand_in)[name]):
            assert_takes_no_more(vars(stand_in)[name], getattr(real, name))


def test_the_stand_in_for_the_module_has_nothing_that_cupy_lacks() -> None:
    module = emulated_cupy(1)
    for own, real in ((module, cupy), (module.cuda, cupy.cuda), (module.cublas, cublas)):
        for name, thing in vars(own).items():
            if not name.startswith("_") and name != "allocate":  # of the tests
                assert hasattr(real, name), name
                if inspect.isfunction(thing):
                    assert_takes_no_more(thing, getattr(real, name))
    assert_takes_no_more(emulated_driver.get_elapsed_time, cupy.cuda.get_elapsed_time)
    assert hasattr(cupy.cuda.memory, "OutOfMemoryError")


def test_errors_read_as_those_of_the_stand_ins() -> None:
    runtime: Any = importlib.import_module("cupy_backends.cuda.api.runtime")
    for status in CUDARuntimeError.NAMES:
        real = runtime.CUDARuntimeError(status)
        assert (str(real), real.status) == (str(CUDARuntimeError(status)), status)
        assert isinstance(real, RuntimeError)
    real = cupy.cuda.memory.OutOfMemoryError(512, 0, 0)
    assert str(real) == str(OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes)."))
    assert isinstance(real, MemoryError)


def test_nccl_has_what_is_asked_of_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no library
        nccl: Any = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        pytest.skip("CuPy finds no NCCL")
    module = emulated_nccl.add_nccl(emulated_cupy(1))
    for name, thing in vars(module).items():
        if not name.startswith("_") and name != "available":
            assert hasattr(nccl, name), name
            if inspect.isfunction(thing):
                assert_takes_no_more(thing, getattr(nccl, name))
    assert (nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64) == (module.NCCL_FLOAT32, module.NCCL_FLOAT64)
    for name in ("allGather", "send", "recv"):
        assert_takes_no_more(getattr(emulated_nccl.NcclCommunicator, name), getattr(nccl.NcclCommunicator, name))


# ---- launches --------------------------------------------------------------------------------------------------------


NUMBERS = [kind(3) for kind in (np.bool_, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.float32, np.float64)]


@pytest.mark.parametrize("number", [*NUMBERS, np.uint64(0), np.int64(-3)], ids=repr)
def test_a_number_reaches_a_kernel_as_it_is(number: Any) -> None:
    """A launch hands on the address of such an object; 0 as uint64 is a null pointer."""
    scalar: Any = importlib.import_module("cupy._core._scalar").CScalar
    held = scalar(number)
    assert ctypes.string_at(held.ptr, number.nbytes) == number.tobytes()


def test_a_text_is_no_more_than_a_text_until_it_is_launched() -> None:
    """So that `Kernels` can be made where nothing is compiled yet."""
    for text in texts("float"):
        assert cupy.RawModule(code=text, options=OPTIONS) is not None
    with pytest.raises(TypeError):
        cupy.RawModule(code="", options=[*OPTIONS])

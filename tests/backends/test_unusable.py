"""Libraries and GPUs that cannot be used: the sentence that says why, and the kind of the error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest

from backends import DeviceError, ErrorKind, available, get_backend
from backends.registry import WHY_NO_GPU, choose, find_device
from tests.helpers.broken_cupy import BROKEN, broken_import, cupy_with


class StandInArray:
    """Just enough of an array to be proved."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __mul__(self, other: float) -> StandInArray:
        return type(self)(self.array * other)

    def __add__(self, other: float) -> StandInArray:
        return type(self)(self.array + other)

    def __getitem__(self, key: Any) -> StandInArray:
        return type(self)(self.array[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[key] = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array, dtype)


class Frozen(StandInArray):
    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("Frozen does not support item assignment")


class Copying(StandInArray):
    def __getitem__(self, key: Any) -> StandInArray:
        return Copying(self.array[key].copy())


class Narrow(StandInArray):
    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array.astype(np.int32) if array.dtype == np.int64 else array)


def library_of(kind: type[StandInArray]) -> ModuleType:
    library = ModuleType("standin")
    info = SimpleNamespace(default_device=lambda: None, devices=lambda: [None], dtypes=lambda device: {"float64": None})
    contents = {
        "__array_namespace_info__": lambda: info,
        "asarray": lambda x, device: kind(x),
        "matmul": lambda a, b: kind(a.array @ b.array),
        "reshape": lambda x, shape: kind(x.array.reshape(shape)),
        "zeros_like": lambda x: np.zeros_like(x.array),
        "int64": np.dtype(np.int64),
    }
    vars(library).update(contents)
    return library


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            Frozen,
            "its arrays cannot be written in place, which xpnet needs (Frozen does not support item assignment)",
        ),
        (Copying, "it has no views of arrays, which xpnet needs"),
        (Narrow, "it has no 64-bit integers, which xpnet needs"),
    ],
)
def test_library_that_lacks_something(monkeypatch: pytest.MonkeyPatch, kind: type[StandInArray], reason: str) -> None:
    monkeypatch.setitem(sys.modules, "standin", library_of(kind))
    with pytest.raises(DeviceError) as caught:
        get_backend("standin")
    assert str(caught.value) == f"standin: {reason}"
    assert caught.value.kind is ErrorKind.LACKS_FEATURE


@pytest.mark.usefixtures("nothing_found_yet")
def test_library_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_api_strict, "matmul", lambda a, b: a)
    with pytest.raises(DeviceError, match=r"^array_api_strict: a 2x2 product came out as ") as caught:
        get_backend("array_api_strict")
    assert caught.value.kind is ErrorKind.CANNOT_COMPUTE


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("no room"), ErrorKind.NO_MEMORY),
        (type("OutOfMemoryError", (RuntimeError,), {})("no room"), ErrorKind.NO_MEMORY),
        (RuntimeError("no kernel image"), ErrorKind.CANNOT_COMPUTE),
    ],
)
def test_library_that_fails(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: ErrorKind) -> None:
    def matmul(a: Any, b: Any) -> None:
        raise error

    monkeypatch.setattr(array_api_strict, "matmul", matmul)
    with pytest.raises(DeviceError) as caught:
        get_backend("array_api_strict")
    assert str(caught.value) == f"array_api_strict: it cannot compute: {type(error).__name__}: {error}"
    assert caught.value.kind is kind


@pytest.mark.usefixtures("nothing_found_yet")
def test_library_whose_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_import(TypeError("metaclass conflict"), "array_api_strict")(monkeypatch)
    with pytest.raises(DeviceError) as caught:
        get_backend("array_api_strict")
    message = "array_api_strict: array-api-strict is installed but cannot be imported: metaclass conflict"
    assert (str(caught.value), caught.value.kind) == (message, ErrorKind.CANNOT_IMPORT)


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(("breaks", "reason", "kind", "why"), BROKEN.values(), ids=BROKEN)
def test_gpu_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
    reason: str,
    kind: ErrorKind,
    why: str,
) -> None:
    """Asked for, it is an error that says why; ``auto`` falls back to the CPU and says why in a short line."""
    breaks(monkeypatch)
    with pytest.raises(DeviceError) as caught:
        get_backend("cuda")
    assert (str(caught.value), caught.value.reason) == (f"cuda: {reason}", reason)
    assert caught.value.kind is kind
    assert choose(fused=False) == (find_device("cpu"), why)
    backend = get_backend("auto")
    with_numba = backend.device.spec == "numba"
    assert with_numba or backend.device is find_device("cpu")
    assert backend.why_device == (f"{why}; Numba compiles at first use" if with_numba else why)
    assert [str(error) for spec, error in available() if spec.startswith("cuda")] == [f"cuda:0: {reason}"]


def test_every_kind_of_failure_of_a_gpu_has_a_short_line() -> None:
    kinds = {kind for _, _, kind, _ in BROKEN.values()}
    assert kinds == WHY_NO_GPU.keys()
    assert all(len(why) <= 60 and "GPU" in why for why in WHY_NO_GPU.values())


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(("count", "have"), [(1, "only cuda:0"), (2, "cuda:0 to cuda:1")])
def test_gpu_number_too_high(monkeypatch: pytest.MonkeyPatch, count: int, have: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: count))
    with pytest.raises(DeviceError) as caught:
        get_backend(f"cuda:{count}")
    assert str(caught.value) == f"cuda:{count}: there is no GPU of that number; this machine has {have}"
    assert caught.value.kind is ErrorKind.NO_SUCH_DEVICE

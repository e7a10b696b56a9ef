"""Devices by name, the sentences that say why one cannot be used, and arrays from elsewhere."""

from __future__ import annotations

import importlib
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend, Device, DeviceError, ErrorKind, available, device_help, get_backend, registry
from backends.cpu.device import NumpyDevice
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.device import CupyDevice
from backends.devices import ArrayApiDevice, Library
from backends.registry import LIBRARIES, WHY_NO_GPU, choose, find_device, find_library, forget_devices
from tests.helpers.backends import make_backend
from tests.helpers.broken_cupy import BROKEN, broken_import, cupy_with
from tests.helpers.emulated_cuda import EmulatedCudaDevice, emulated_cupy

# ---- by name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "canonical", "library"),
    [
        ("cpu", "cpu", "numpy"),
        ("numpy", "cpu", "numpy"),
        ("array_api_strict", "array_api_strict", "array_api_strict"),
        ("array_api_strict:device1", "array_api_strict:device1", "array_api_strict"),
        ("array_api_strict:Device1", "array_api_strict:device1", "array_api_strict"),
        ("numba", "numba", "numba"),
        ("torch", "torch:cpu", "torch"),
        ("torch:cpu", "torch:cpu", "torch"),
        pytest.param("cuda", "cuda:0", "cupy", marks=pytest.mark.gpu),
        pytest.param("cuda:0", "cuda:0", "cupy", marks=pytest.mark.gpu),
        pytest.param("cupy", "cuda:0", "cupy", marks=pytest.mark.gpu),
    ],
)
def test_spec(spec: str, canonical: str, library: str) -> None:
    device = make_backend((spec, True)).device
    assert device.spec == canonical
    assert device.library == library
    assert device.version().startswith(f"{library} ")
    assert device.hardware()
    assert find_device(spec) is device
    assert get_backend(canonical).device.spec == canonical


@pytest.mark.parametrize("module", ["numpy", "numba", "array_api_strict", "torch"])
def test_a_library_that_can_be_imported_computes(module: str) -> None:
    """Else its tests, here and elsewhere, would be skipped for our own mistakes."""
    try:
        importlib.import_module(module)
    except Exception as error:  # such as Numba's of a NumPy that is too new for it
        pytest.skip(f"{module} cannot be imported: {error}")
    library = find_library(module)
    for spec in (*library.names, *(f"{library.names[0]}:{name}" for name in library.listed() if name)):
        device = find_device(spec)
        x = device.asarray([[1.0, 2.0]], "float32")
        np.testing.assert_array_equal(device.to_numpy(x + x), [[2.0, 4.0]])


def test_the_cpu_is_numpys_device_and_other_libraries_have_one_for_all() -> None:
    assert type(find_device("cpu")) is NumpyDevice
    assert find_device("cpu").has_overrides
    assert type(find_device("array_api_strict")) is ArrayApiDevice
    library = find_library("json")  # installed, and not in the table
    assert (library.names, library.title, library.module) == (("json",), "json", "json")


def test_auto_takes_what_works_and_says_why() -> None:
    backend = get_backend("auto")
    assert backend.device.spec in ("cpu", "numba", "cuda:0")
    starts = ("no GPU: ", "GPU not used: ") if backend.device.spec != "cuda:0" else ("auto: a GPU that works",)
    assert backend.why_device.startswith(starts)
    assert backend.why_device.endswith("; Numba compiles at first use") is (backend.device.spec == "numba")
    assert get_backend().device is backend.device is find_device("auto") is find_device(backend.device.spec)
    assert get_backend(backend.device.spec).why_device == ""


@pytest.mark.usefixtures("nothing_found_yet")
def test_auto_takes_numba_where_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside NumPy, where there is no GPU: every network that was measured was faster with it."""
    BROKEN["not installed"][0](monkeypatch)
    numba = make_backend(("numba", True)).device
    backend = get_backend("auto")
    assert (backend.device, backend.why_device) == (numba, "no GPU: CuPy is not installed; Numba compiles at first use")
    plain = get_backend("auto", fused=False)  # no loops there
    assert (plain.device.spec, plain.why_device) == ("cpu", "no GPU: CuPy is not installed")


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize("missing", [True, False])
def test_auto_without_numba_is_numpy(monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    BROKEN["not installed"][0](monkeypatch)
    if missing:
        monkeypatch.setitem(sys.modules, "numba", None)
    else:
        pytest.importorskip("numba")
        monkeypatch.setattr("backends.cpu.numba_kernels.half_and_half", broken_import)
    backend = get_backend("auto")
    assert (backend.device.spec, backend.why_device) == ("cpu", "no GPU: CuPy is not installed")


def test_fused_or_reference() -> None:
    assert type(get_backend("cpu", fused=False)) is Backend
    assert get_backend("cpu").fused
    assert type(get_backend("array_api_strict")) is Backend


def test_a_backend_is_its_own_spec() -> None:
    backend = get_backend("cpu", "float64")
    assert get_backend(backend) is backend


def test_available_lists_devices_and_errors() -> None:
    found = dict(available())
    assert list(found)[:2] == ["cpu", "cuda:0"]
    assert isinstance(found["cpu"], Device)
    assert isinstance(found["array_api_strict:device1"], Device)
    gpu = found["cuda:0"]
    assert isinstance(gpu, Device) or str(gpu).startswith("cuda:0: ")


@pytest.mark.usefixtures("nothing_found_yet")
def test_what_cannot_be_imported_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    (error,) = [found for spec, found in available() if spec.startswith("array_api_strict")]
    assert isinstance(error, DeviceError)
    assert (error.kind, error.spec) == (ErrorKind.NOT_INSTALLED, "array_api_strict")
    assert error.reason == "array-api-strict is not installed (pip install array-api-strict)"


KNOWN = "auto, cpu, cuda, cuda:N, numba, torch, array_api_strict, or another installed array-API library"


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("gpu", "cuda"), ("GPU", "cuda"), ("gpu:1", "cuda:1"), ("nvidia", "cuda"), ("cude:2", "cuda:2"),
        ("cupi", "cupy"), ("CPU", "cpu"), ("cpuu:0", "cpu"), ("nunba", "numba"), ("pytorch:cuda", "torch:cuda"),
        ("torhc", "torch"), ("strict", "array_api_strict"), ("array-api-strict", "array_api_strict"),
        ("auto:1", "auto"), ("numppy", "numpy"), ("no_such_lib:0", ""), ("nonsense", ""), ("", ""), (":1", ""),
        ("numpy.linalg", ""), ("../no/device", ""),
    ],
)  # fmt: skip
def test_unknown_name(spec: str, meant: str) -> None:
    """What may have been meant is asked; nothing is offered for installation by the name of a typing error."""
    with pytest.raises(DeviceError) as caught:
        get_backend(spec)
    question = f" (did you mean {meant}?)" if meant else ""
    assert str(caught.value) == f"unknown device {spec!r}{question}; known are {KNOWN}"
    assert caught.value.kind is ErrorKind.UNKNOWN
    assert "pip" not in str(caught.value)


@pytest.mark.parametrize("is_imported", [False, True])
def test_a_folder_that_packages_share_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_imported: bool
) -> None:
    """NVIDIA's wheels put ``nvidia/cu13/lib`` beside the other packages."""
    (tmp_path / "gpuu" / "cu13" / "lib").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    if is_imported:
        monkeypatch.setitem(sys.modules, "gpuu", importlib.import_module("gpuu"))
    with pytest.raises(DeviceError, match=r"^unknown device 'gpuu' \(did you mean cuda\?\)"):
        get_backend("gpuu")


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the DeviceError that it raises."""
    try:
        return call(*arguments)
    except DeviceError as error:
        return error


@given(spec=st.text(max_size=12) | st.from_regex(r"\A[a-z_]{1,8}(:[a-z0-9]{0,3})?\Z"))
def test_whatever_is_written_is_a_library_or_an_unknown_name(spec: str) -> None:
    found = outcome(find_library, spec)
    if isinstance(found, Library):
        assert spec.partition(":")[0] in found.names
    else:
        assert found.kind is ErrorKind.UNKNOWN
        assert str(found).startswith(f"unknown device {spec!r}")
        assert "pip install" not in str(found)


@given(library=st.sampled_from(LIBRARIES), name=st.text(max_size=6) | st.integers(0, 2000).map("{:04}".format))
def test_the_full_spelling_of_a_device_is_its_own(library: Library, name: str) -> None:
    spec = outcome(library.spec, name)
    if isinstance(spec, DeviceError):
        assert spec.kind is ErrorKind.NO_SUCH_DEVICE
    else:
        assert find_library(spec) is library
        assert library.spec(spec.partition(":")[2]) == spec


@pytest.mark.parametrize(
    ("spec", "message", "kind"),
    [
        ("cpu:0", "cpu:0: NumPy has one device; say 'cpu'", ErrorKind.NO_SUCH_DEVICE),
        ("numpy:1", "numpy:1: NumPy has one device; say 'cpu'", ErrorKind.NO_SUCH_DEVICE),
        ("numba:0", "numba:0: Numba has one device; say 'numba'", ErrorKind.NO_SUCH_DEVICE),
        (
            "cuda:one",
            "cuda:one: the number of a device must follow 'cuda:', as in cuda:0",
            ErrorKind.NO_SUCH_DEVICE,
        ),
        (
            "cupy:-1",
            "cupy:-1: the number of a device must follow 'cuda:', as in cuda:0",
            ErrorKind.NO_SUCH_DEVICE,
        ),
        (
            "json",
            "json: json is not an array-API library: it has no __array_namespace_info__()",
            ErrorKind.LACKS_FEATURE,
        ),
        (
            "array_api_strict:gpu",
            "array_api_strict:gpu: array_api_strict has no device 'gpu'; it has cpu_device, device1, device2",
            ErrorKind.NO_SUCH_DEVICE,
        ),
    ],
)
def test_spec_that_names_no_device(spec: str, message: str, kind: ErrorKind) -> None:
    with pytest.raises(DeviceError) as caught:
        get_backend(spec)
    assert (caught.value.kind, caught.value.spec) == (kind, spec)
    assert str(caught.value).startswith(message)


def test_unknown_torch_device() -> None:
    pytest.importorskip("torch")
    message = "PyTorch knows no device 'disk'; say torch:cpu, torch:cuda or torch:cuda:N"
    with pytest.raises(DeviceError, match=message) as caught:
        get_backend("torch:disk")
    assert caught.value.kind is ErrorKind.NO_SUCH_DEVICE
    with pytest.raises(DeviceError, match=r"^torch:meta: it cannot compute: ") as caught:
        get_backend("torch:meta")
    assert caught.value.kind is ErrorKind.CANNOT_COMPUTE


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DeviceError("there is no GPU", ErrorKind.NO_GPU, "cuda")))
    assert (str(error), error.reason) == ("cuda: there is no GPU", "there is no GPU")
    assert (error.kind, error.spec) == (ErrorKind.NO_GPU, "cuda")


@pytest.mark.parametrize("spec", [None, 0, np, ("cpu",)])
def test_spec_that_is_no_string(spec: Any) -> None:
    with pytest.raises(TypeError, match="a device is named by a string such as 'cpu' or 'cuda:0', not by "):
        get_backend(spec)


@pytest.mark.parametrize("dtype", ["float16", "double", np.float16, float, 5, None])
def test_dtype_that_there_is_not(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', not "):
        get_backend("cpu", dtype)


def test_device_without_float64() -> None:
    backend = make_backend(("array_api_strict:no_float64", False))
    with pytest.raises(DeviceError, match="array_api_strict:no_float64 has no float64; ask for dtype=") as caught:
        get_backend("array_api_strict:no_float64", "float64")
    assert caught.value.kind is ErrorKind.LACKS_PRECISION
    assert backend.wide == backend.xp.float32
    totals, _ = backend.squared_error(backend.asarray([[1.0, 3.0]]), backend.asarray([[0.0, 1.0]]))
    assert backend.to_numpy(totals).tolist() == [2.5, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: get_backend("cpu", precision="tf32"),
        lambda: get_backend("cpu", fused=False, precision="bf16"),
        lambda: CupyBackend(EmulatedCudaDevice(compute_capability="75"), precision="tf32"),
    ],
)
def test_precision_that_a_device_lacks(call: Callable[[], Backend]) -> None:
    error = outcome(call)
    assert error.kind is ErrorKind.LACKS_PRECISION
    assert re.search("(cpu|cuda:0) has no (tf32|bf16) products", str(error))


@pytest.mark.usefixtures("nothing_found_yet")
def test_precision_of_the_reference_operations(emulated_gpus: list[EmulatedCudaDevice]) -> None:
    with pytest.raises(DeviceError, match="the reference operations have no tf32 products") as caught:
        get_backend("cuda", fused=False, precision="tf32")
    assert caught.value.kind is ErrorKind.LACKS_PRECISION


# ---- libraries that cannot be used -----------------------------------------------------------------------------------


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


# ---- the table -------------------------------------------------------------------------------------------------------


class OwnBackend(NumpyBackend):
    """Operations of a library's own."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, nothing_found_yet: None) -> Library:
    """One more row: a library with two spellings, a device of its own making, and operations of its own."""
    row = Library(
        names=("fake", "faked"),
        title="Fake",
        module="array_api_strict",
        about="a library for this test",
        install="pip install fake",
        takes="a number",
        default="1",
        find=lambda number: ArrayApiDevice("array_api_strict", f"device{number}"),
        listed=lambda: ("1", "2"),
        backend=lambda: OwnBackend,
        precisions=("float32", "bf16"),
        also_called=("phony",),
    )
    monkeypatch.setattr(registry, "LIBRARIES", [*LIBRARIES, row])
    return row


@pytest.mark.usefixtures("fake")
def test_a_library_is_added_by_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    device = find_device("fake")
    assert device.spec == "fake:1"
    assert device is find_device("fake:1") is find_device("faked") is find_device("fake:01")
    assert device is not find_device("fake:2")
    assert type(get_backend("fake")) is OwnBackend
    assert type(get_backend("fake", fused=False)) is Backend
    assert [spec for spec, _ in available()][-2:] == ["fake:1", "fake:2"]
    assert device_help().endswith("fake or fake:N (a library for this test), or another installed array-API library")
    for spec, meant in (("phony:2", "fake:2"), ("fakee", "fake"), ("phony", "fake")):
        with pytest.raises(DeviceError, match=rf"\(did you mean {meant}\?\); known are .*, fake, fake:N, or another"):
            get_backend(spec)
    with pytest.raises(DeviceError, match="fake:1 has no tf32 products") as caught:
        get_backend("fake", precision="tf32")
    assert caught.value.kind is ErrorKind.LACKS_PRECISION


@pytest.mark.usefixtures("fake")
def test_only_libraries_of_the_table_are_offered_for_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    with pytest.raises(DeviceError, match=r"^fake: Fake is not installed \(pip install fake\)$") as caught:
        get_backend("fake")
    assert caught.value.kind is ErrorKind.NOT_INSTALLED


@pytest.mark.usefixtures("nothing_found_yet")
def test_a_row_needs_no_more_than_names(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Library(names=("plain",), title="Plain", module="array_api_strict")
    monkeypatch.setattr(registry, "LIBRARIES", [row])
    assert find_device("plain:Device1") is find_device("plain:device1")
    backend = get_backend("plain:device1")
    assert (type(backend), backend.device.spec) == (Backend, "plain:device1")
    assert backend.to_numpy(backend.asarray([1.0])).tolist() == [1.0]


@pytest.mark.usefixtures("nothing_found_yet")
def test_a_library_that_is_not_installed_and_names_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Library(names=("plain",), title="Plain", module="no_such_module_anywhere")
    monkeypatch.setattr(registry, "LIBRARIES", [row])
    with pytest.raises(DeviceError, match=r"^plain: Plain is not installed$") as caught:
        find_device("plain")
    assert caught.value.kind is ErrorKind.NOT_INSTALLED


def test_the_help_names_every_library() -> None:
    assert device_help() == (
        "auto (a GPU that works, else the CPU, with Numba where that works), cpu (NumPy), cuda or cuda:N (an NVIDIA "
        "GPU, through CuPy), numba (NumPy, with loops compiled by Numba), torch (PyTorch), array_api_strict (the "
        "array-API standard and nothing else, for tests), or another installed array-API library"
    )


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.title)
def test_rows_are_complete(library: Library) -> None:
    assert library.about
    assert "pip install" in library.install
    assert [find_library(name) for name in library.names] == [library] * len(library.names)
    names = [name for other in LIBRARIES for name in (*other.names, *other.also_called)]
    assert all(names.count(name) == 1 for name in (*library.names, *library.also_called))


@pytest.mark.parametrize(
    "spec", ["cpu", "numba", pytest.param("cuda", marks=pytest.mark.gpu), "torch", "array_api_strict"]
)
def test_a_device_says_whether_its_library_has_a_backend(spec: str) -> None:
    device = make_backend((spec, True)).device
    assert device.has_overrides == (find_library(spec).backend is not None)
    assert get_backend(spec).fused == device.has_overrides


# ---- one device for each GPU -----------------------------------------------------------------------------------------


@pytest.fixture
def emulated_gpus(monkeypatch: pytest.MonkeyPatch, nothing_found_yet: None) -> list[EmulatedCudaDevice]:
    """A machine on which CuPy sees two GPUs, emulated ones; and those that were made."""
    made: list[EmulatedCudaDevice] = []

    def new(cls: type[CupyDevice], index: int = 0) -> EmulatedCudaDevice:
        device = EmulatedCudaDevice()
        device.index = index
        made.append(device)
        return device

    monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: 2))
    monkeypatch.setattr("backends.cuda.device.CupyDevice", partial(new, CupyDevice))
    return made


def test_a_gpu_is_one_device_however_it_is_spelled(emulated_gpus: list[EmulatedCudaDevice]) -> None:
    """And so has one stream: arrays that pass between two streams are not ordered."""
    devices = [get_backend(spec).device for spec in ("cupy", "auto", "cuda", "cuda:0", "cupy:0", "cuda:00")]
    assert all(device is devices[0] for device in devices)
    assert emulated_gpus == [devices[0]]
    assert devices[0].spec == "cuda:0"
    second = get_backend("cuda:1").device
    assert (second.spec, len(emulated_gpus)) == ("cuda:1", 2)
    assert find_device("cupy:1") is second is not devices[0]
    assert [spec for spec, _ in available()][1:3] == ["cuda:0", "cuda:1"]
    assert len(emulated_gpus) == 2


def test_why_auto_chose_belongs_to_the_choice(emulated_gpus: list[EmulatedCudaDevice]) -> None:
    assert get_backend("auto").why_device == "auto: a GPU that works"
    assert get_backend("cuda").why_device == ""


def test_threads_get_the_same_device(monkeypatch: pytest.MonkeyPatch, emulated_gpus: list[EmulatedCudaDevice]) -> None:
    def count() -> int:
        time.sleep(0.02)  # long enough for the other threads to come by
        return 1

    monkeypatch.setitem(sys.modules, "cupy", cupy_with(count))
    start, found = threading.Barrier(8), []

    def find(spec: str) -> None:
        start.wait()
        found.append(find_device(spec))

    threads = [threading.Thread(target=find, args=(spec,)) for spec in ("cuda", "cuda:0", "cupy", "auto") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == set(emulated_gpus)
    assert len(emulated_gpus) == 1


def test_the_stream_of_a_gpu_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends from before ``forget_devices`` and after it share memory, and a thread's handle of cuBLAS."""
    cupy: Any = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(Device=nullcontext, Stream=object)
    for name, module in (("cupy", cupy), ("array_api_compat.cupy", array_api_compat.numpy)):
        monkeypatch.setitem(sys.modules, name, module)
    first, again, other = CupyDevice(0), CupyDevice(0), CupyDevice(1)
    assert first.stream is again.stream is not other.stream


def test_devices_can_be_forgotten(emulated_gpus: list[EmulatedCudaDevice]) -> None:
    before = get_backend("auto").device
    forget_devices()
    assert get_backend("auto").device is not before


# ---- CuPy that cannot be used: stand-ins that fail as it does --------------------------------------------------------


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


# ---- arrays from elsewhere -------------------------------------------------------------------------------------------


class Frame:
    """A table as pandas has it: no array, but it can become one."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values, dtype)


class Capsule:
    """Something with DLPack and nothing else."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


def torch_tensor(values: Any, **options: Any) -> Any:
    return pytest.importorskip("torch").tensor(values, **options)


def locked(values: Any) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


FLOATS: dict[str, Callable[[], Any]] = {
    "list": lambda: [[1.0, 2.5], [-3.0, 0.0]],
    "tuple": lambda: ((1, 2.5), (-3, 0)),
    "float64": lambda: np.array([[1.0, 2.5], [-3.0, 0.0]]),
    "float32": lambda: np.array([[1.0, 2.5], [-3.0, 0.0]], np.float32),
    "float16": lambda: np.array([[1.0, 2.5], [-3.0, 0.0]], np.float16),
    "long double": lambda: np.array([[1.0, 2.5], [-3.0, 0.0]], np.longdouble),
    "big-endian": lambda: np.array([[1.0, 2.5], [-3.0, 0.0]], ">f8"),
    "negative strides": lambda: np.array([[0.0, -3.0], [2.5, 1.0]])[::-1, ::-1],
    "column-major": lambda: np.asfortranarray([[1.0, 2.5], [-3.0, 0.0]]),
    "read-only": lambda: locked([[1.0, 2.5], [-3.0, 0.0]]),
    "tensor": lambda: torch_tensor([[1.0, 2.5], [-3.0, 0.0]]),
    "tensor with gradient": lambda: torch_tensor([[1.0, 2.5], [-3.0, 0.0]], requires_grad=True),
    "bfloat16 tensor": lambda: torch_tensor([[1.0, 2.5], [-3.0, 0.0]]).bfloat16(),
    "transposed tensor": lambda: torch_tensor([[1.0, -3.0], [2.5, 0.0]]).T,
    "array-api-strict": lambda: array_api_strict.asarray([[1.0, 2.5], [-3.0, 0.0]]),
    "array-api-strict elsewhere": lambda: array_api_strict.asarray(
        [[1.0, 2.5], [-3.0, 0.0]], device=array_api_strict.Device("device1")
    ),
    "__array__": lambda: Frame([[1.0, 2.5], [-3.0, 0.0]]),
    "DLPack": lambda: Capsule([[1.0, 2.5], [-3.0, 0.0]]),
}


@pytest.mark.parametrize("make", FLOATS.values(), ids=FLOATS)
def test_floats_become_those_of_the_backend(backend: Backend, make: Callable[[], Any]) -> None:
    array = backend.asarray(make())
    assert array.dtype == backend.dtype
    assert backend.to_numpy(array).tolist() == [[1.0, 2.5], [-3.0, 0.0]]
    double = backend.multiply(array, array)  # it is here, and what it is next to is too
    assert backend.to_numpy(double).tolist() == [[1.0, 6.25], [9.0, 0.0]]


class CudaTensor:
    """A PyTorch tensor in the memory of a GPU; what DLPack refuses of it is what PyTorch refuses."""

    def __init__(self, values: Any, dtype: str = "torch.float32", layout: str = "torch.strided", **state: Any) -> None:
        self.values = np.asarray(values, np.float32)
        self.dtype = dtype
        self.layout = layout
        self.requires_grad = state.get("requires_grad", False)

    def detach(self) -> CudaTensor:
        return CudaTensor(self.values, self.dtype, self.layout)

    def float(self) -> CudaTensor:
        assert not self.requires_grad
        return CudaTensor(self.values)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if self.layout != "torch.strided":
            raise BufferError("Can't export tensors with layout other than torch.strided")
        if self.dtype == "torch.bfloat16":
            raise BufferError("bfloat16 is not supported")
        return self.values


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> EmulatedCudaDevice:
    """An emulated GPU, whose CuPy takes what DLPack hands over, and tensors that look like those of PyTorch."""
    device = EmulatedCudaDevice()
    monkeypatch.setattr(emulated_cupy(1), "from_dlpack", lambda x: x.__dlpack__(), raising=False)
    monkeypatch.setattr(CudaTensor, "__module__", "torch")
    return device


@pytest.mark.parametrize(
    "state",
    [{}, {"requires_grad": True}, {"dtype": "torch.bfloat16"}, {"dtype": "torch.bfloat16", "requires_grad": True}],
    ids=str,
)
def test_tensor_of_a_gpu(gpu: EmulatedCudaDevice, state: dict[str, Any]) -> None:
    array = gpu.asarray(CudaTensor([[1.0, 2.5]], **state))
    assert type(array) is gpu.cupy.ndarray
    assert gpu.to_numpy(array).tolist() == [[1.0, 2.5]]


def test_sparse_tensor_of_a_gpu_is_refused(gpu: EmulatedCudaDevice) -> None:
    with pytest.raises(TypeError, match=r"a sparse tensor cannot be used here; pass its \.to_dense\(\)"):
        gpu.asarray(CudaTensor([[1.0]], layout="torch.sparse_coo"))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("kind", [np.array, Frame, Capsule, torch_tensor])
def test_integers_and_booleans_stay(backend: Backend, kind: Callable[[Any], Any], dtype: str) -> None:
    values = np.array([0, 1, 1], dtype)
    array = backend.asarray(kind(values))
    assert array.dtype == getattr(backend.xp, dtype)
    assert backend.to_numpy(array).tolist() == values.tolist()
    assert backend.asarray(array).dtype == array.dtype
    floats = backend.asarray(kind(values), backend.dtype)
    assert floats.dtype == backend.dtype
    assert backend.to_numpy(floats).tolist() == [0, 1, 1]


def test_big_endian_integers(backend: Backend) -> None:
    array = backend.asarray(np.array([1, 256], ">i4"))
    assert array.dtype == backend.xp.int32
    assert backend.to_numpy(array).tolist() == [1, 256]


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (3, "int64"),
        (True, "bool"),
        (2.5, None),
        (np.float64(2.5), None),
        (np.float32(2.5), None),
        (np.int64(3), "int64"),
    ],
)
def test_numbers(backend: Backend, x: Any, dtype: str | None) -> None:
    array = backend.asarray(x)
    assert array.shape == ()
    assert array.dtype == (backend.dtype if dtype is None else getattr(backend.xp, dtype))
    assert backend.item(array) == x


def test_empty_list(backend: Backend) -> None:
    array = backend.asarray([])
    assert (array.shape, array.dtype) == ((0,), backend.dtype)


def test_subclasses_become_plain_arrays() -> None:
    """np.matrix, whose ``*`` multiplies matrices, is a reason."""
    assert type(get_backend("cpu").asarray(np.ones((2, 2), np.float32).view(np.recarray))) is np.ndarray


def test_memory_is_shared_on_the_cpu() -> None:
    numpy = get_backend("cpu")
    x = np.zeros(3, np.float32)
    assert numpy.asarray(x) is x
    assert not np.shares_memory(get_backend("cpu", "float64").asarray(x), x)
    assert np.shares_memory(numpy.asarray(Capsule(x)), x)
    assert np.shares_memory(numpy.to_numpy(x), x)


def test_memory_is_shared_with_torch() -> None:
    x, numpy, torch = np.zeros(3, np.float32), get_backend("cpu"), make_backend(("torch", False))
    tensor = torch_tensor([0.0, 0.0])
    numpy.asarray(tensor)[...] = 1.0
    assert tensor.tolist() == [1, 1]
    torch.asarray(x)[...] = 2.0
    assert x.tolist() == [2, 2, 2]
    torch.asarray(tensor)[...] = 3.0
    assert tensor.tolist() == [3, 3]


def test_dlpack_leaves_too(backend: Backend) -> None:
    """What a backend makes can be taken by others, where they can read that device's memory."""
    x = backend.asarray([[1.0, 2.0]])
    if backend.device.spec in ("array_api_strict:device1", "cuda:0"):
        pytest.skip("NumPy cannot read the memory of that device")
    assert np.from_dlpack(x).tolist() == [[1, 2]]


@pytest.mark.parametrize("spec", ["cpu", "torch", "array_api_strict", "array_api_strict:device1"])
def test_between_any_two_backends(backend: Backend, spec: str) -> None:
    there = make_backend((spec, False), backend.dtype_name).asarray([[1.0, 2.0]])
    assert backend.to_numpy(backend.asarray(there)).tolist() == [[1, 2]]


def sparse(kind: str) -> Any:
    return getattr(pytest.importorskip("scipy.sparse"), kind)(np.eye(2))


NOT_NUMBERS: dict[str, tuple[Callable[[], Any], str]] = {
    "ragged": (lambda: [[1.0, 2.0], [3.0]], "this cannot be an array of numbers: setting an array element"),
    "text": (lambda: "abc", "an array of numbers is needed, not of dtype <U3"),
    "texts": (lambda: np.array(["1", "2"]), "an array of numbers is needed, not of dtype <U1"),
    "bytes": (lambda: b"abc", r"an array of numbers is needed, not of dtype \|S3"),
    "None": (lambda: None, "an array of numbers is needed, not of dtype object"),
    "objects": (lambda: np.array([1, None], object), "an array of numbers is needed, not of dtype object"),
    "table of objects": (lambda: Frame(np.array(["a", 1], object)), "array of numbers is needed, not of dtype object"),
    "complex number": (lambda: 1j, "an array of numbers is needed, not of dtype complex128"),
    "complex array": (lambda: np.array([1j]), "an array of numbers is needed, not of dtype complex128"),
    "complex tensor": (lambda: torch_tensor([1j]), "an array of numbers is needed, not of dtype .*complex64"),
    "complex array-api-strict": (lambda: array_api_strict.asarray([1j]), "array of numbers is needed, .*complex128"),
    "dates": (
        lambda: np.array(["2020-01-01"], "M8[D]"),
        r"an array of numbers is needed, not of dtype datetime64\[D\]",
    ),
    "records": (lambda: np.zeros(2, [("a", "f4")]), "an array of numbers is needed, not of dtype "),
    "sparse matrix": (lambda: sparse("csr_matrix"), r"a sparse matrix cannot be used here; pass its \.toarray\(\)"),
    "sparse array": (lambda: sparse("coo_array"), r"a sparse matrix cannot be used here; pass its \.toarray\(\)"),
    "sparse tensor": (
        lambda: torch_tensor([[1.0]]).to_sparse(),
        r"a sparse tensor cannot be used here; pass its \.to_dense\(\)",
    ),
}


@pytest.mark.parametrize(("make", "message"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_what_is_not_numbers_is_refused(which_backend: tuple[str, bool], make: Callable[[], Any], message: str) -> None:
    backend = make_backend(which_backend)
    with pytest.raises(TypeError, match=message):
        backend.asarray(make())


def test_memory_that_numpy_cannot_read_is_refused() -> None:
    class Elsewhere:
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("not on the host")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 4, 0  # OpenCL

    with pytest.raises(TypeError, match="NumPy cannot read this Elsewhere: "):
        get_backend("cpu").asarray(Elsewhere())

"""Devices by name, and one device for each GPU."""

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
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend, Device, DeviceError, ErrorKind, available, get_backend
from backends.arguments import shown
from backends.cpu.device import NumpyDevice
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.device import DIRECTLY_FROM, CupyDevice
from backends.devices import ArrayApiDevice, Library
from backends.registry import LIBRARIES, find_device, find_library, forget_devices
from tests.helpers.backends import make_backend
from tests.helpers.broken_cupy import BROKEN, broken_import, cupy_with
from tests.helpers.emulated_cuda import EmulatedCudaDevice


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


def test_what_is_large_goes_to_a_gpu_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """``asarray`` of CuPy would keep as much page-locked memory as the next power of two."""
    device, copied = EmulatedCudaDevice(), list[int]()
    asarray = device.cupy.asarray

    def told(a: np.ndarray) -> Any:
        copied.append(a.nbytes)
        return asarray(a)

    monkeypatch.setattr(device.cupy, "asarray", told)
    for size in (10, DIRECTLY_FROM):
        x = np.arange(2 * size, dtype=np.uint8)[::2]
        assert np.array_equal(device.to_numpy(device.from_numpy(x)), x)
    assert copied == [10]


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
        assert str(found).startswith(f"unknown device {shown(spec)}")
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

"""Devices by name, the sentences that say why one cannot be used, and arrays from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest

from backends import Backend, Device, DeviceError, available, get_backend
from backends.registry import find_device
from tests.helpers.backends import make_backend
from tests.helpers.broken_cupy import BROKEN, cupy_with

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


def test_auto_takes_what_works_and_says_why() -> None:
    device = get_backend("auto").device
    assert device.spec in ("cpu", "cuda:0")
    assert device.why.startswith("auto chose the CPU: cuda:0: " if device.spec == "cpu" else "auto chose the GPU")
    assert get_backend().device is device
    assert find_device("cpu").why == ""


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


KNOWN = "known are auto, cpu, numba, cuda, cuda:N, torch, array_api_strict, or another installed array-API library"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpu", f"'gpu': no library 'gpu' is installed (pip install gpu); {KNOWN}"),
        ("no_such_lib:0", f"'no_such_lib:0': no library 'no_such_lib' is installed (pip install no-such-lib); {KNOWN}"),
        ("", f"'' is not the name of a device; {KNOWN}"),
        ("numpy.linalg", f"'numpy.linalg' is not the name of a device; {KNOWN}"),
        ("auto:1", f"'auto:1': no library 'auto' is installed (pip install auto); {KNOWN}"),
        ("cpu:0", "'cpu:0': NumPy has one device; say 'cpu'"),
        ("numpy:1", "'numpy:1': NumPy has one device; say 'cpu'"),
        ("numba:0", "'numba:0': Numba compiles for one CPU; say 'numba'"),
        ("cuda:one", "'cuda:one': the number of a GPU must follow 'cuda:', as in cuda:0"),
        ("cupy:-1", "'cupy:-1': the number of a GPU must follow 'cuda:', as in cuda:0"),
        ("json", "json is not an array-API library: it has no __array_namespace_info__()"),
    ],
)
def test_spec_that_names_no_device(spec: str, message: str) -> None:
    with pytest.raises(DeviceError) as caught:
        get_backend(spec)
    assert str(caught.value) == message


def test_unknown_device_of_a_library() -> None:
    with pytest.raises(DeviceError, match="array_api_strict has no device 'gpu'; it has cpu_device, device1, device2"):
        get_backend("array_api_strict:gpu")


def test_unknown_torch_device() -> None:
    pytest.importorskip("torch")
    with pytest.raises(DeviceError, match="PyTorch knows no device 'disk'; say torch:cpu, torch:cuda or torch:cuda:N"):
        get_backend("torch:disk")
    with pytest.raises(DeviceError, match="'torch:meta' cannot be used: "):
        get_backend("torch:meta")


@pytest.mark.parametrize("spec", [None, 0, np, ("cpu",)])
def test_spec_that_is_no_string(spec: Any) -> None:
    with pytest.raises(TypeError, match="a device is named by a string such as 'cpu' or 'cuda:0', not by "):
        get_backend(spec)


@pytest.mark.parametrize("dtype", ["float16", "double", np.float32])
def test_dtype_that_there_is_not(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype must be one of float32, float64, not "):
        get_backend("cpu", dtype)


def test_device_without_float64() -> None:
    backend = make_backend(("array_api_strict:no_float64", False))
    with pytest.raises(ValueError, match="array_api_strict:no_float64 has no float64; ask for dtype='float32'"):
        get_backend("array_api_strict:no_float64", "float64")
    assert backend.wide == backend.xp.float32
    totals, _ = backend.squared_error(backend.asarray([[1.0, 3.0]]), backend.asarray([[0.0, 1.0]]))
    assert backend.to_numpy(totals).tolist() == [2.5, 1]


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
            "standin arrays cannot be written in place, which xpnet needs (Frozen does not support item assignment)",
        ),
        (Copying, "standin has no views of arrays, which xpnet needs"),
        (Narrow, "standin has no 64-bit integers there, which xpnet needs"),
    ],
)
def test_library_that_lacks_something(monkeypatch: pytest.MonkeyPatch, kind: type[StandInArray], reason: str) -> None:
    monkeypatch.setitem(sys.modules, "standin", library_of(kind))
    with pytest.raises(DeviceError) as caught:
        get_backend("standin")
    assert str(caught.value) == f"'standin' cannot be used: TypeError: {reason}"


@pytest.mark.usefixtures("nothing_found_yet")
def test_library_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_api_strict, "matmul", lambda a, b: a)
    with pytest.raises(DeviceError, match="'array_api_strict' cannot be used: ArithmeticError: a 2x2 product came out"):
        get_backend("array_api_strict")


# ---- CuPy that cannot be used: stand-ins that fail as it does --------------------------------------------------------


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(("breaks", "reason"), BROKEN.values(), ids=BROKEN)
def test_gpu_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, breaks: Callable[[pytest.MonkeyPatch], None], reason: str
) -> None:
    """Asked for, it is an error that says why; ``auto`` falls back to the CPU and says the same."""
    breaks(monkeypatch)
    with pytest.raises(DeviceError) as caught:
        get_backend("cuda")
    assert str(caught.value) == f"cuda: {reason}"
    device = find_device("auto")
    assert device.spec == "cpu"
    assert device.why == f"auto chose the CPU: cuda:0: {reason}"
    assert str(dict(available())["cuda:0"]) == f"cuda:0: {reason}"


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(("count", "have"), [(1, "only cuda:0"), (2, "cuda:0 to cuda:1")])
def test_gpu_number_too_high(monkeypatch: pytest.MonkeyPatch, count: int, have: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: count))
    with pytest.raises(DeviceError) as caught:
        get_backend(f"cuda:{count}")
    assert str(caught.value) == f"cuda:{count}: there is no GPU of that number; this machine has {have}"


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

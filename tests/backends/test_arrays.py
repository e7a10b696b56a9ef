"""Arrays from elsewhere: what becomes of them on a device, what is shared, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest

from backends import Backend, get_backend
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, emulated_cupy


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

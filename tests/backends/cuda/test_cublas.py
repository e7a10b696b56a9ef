"""cuBLAS called directly: the library's own names, what a product asks of it, and the precisions of products."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import train
from backends import DeviceError, get_backend
from backends.cuda import cublas
from backends.cuda.cublas import Cublas, CublasError, declared
from backends.cuda.cupy_backend import CupyBackend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, Stream, ndarray, needs_compiler, stand_in_cublas

emulated = needs_compiler


# ---- the library -----------------------------------------------------------------------------------------------------


def real_cublas() -> ctypes.CDLL:
    """NVIDIA's library from a wheel or a toolkit; it loads without a driver."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [] if spec is not None else [])]
    places += Path("/usr/local").glob("cuda*/lib64")
    for folder in {path.parent for place in places for path in place.glob("**/libcublas.so.*")}:
        for name in ("libcublasLt.so", "libcublas.so"):
            path = next(folder.glob(f"{name}.*"))
            library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        return library
    pytest.skip("NVIDIA's cuBLAS is not here")


def test_nvidias_library_has_what_is_called() -> None:
    library: Any = declared(real_cublas())
    names = {number: library.cublasGetStatusName(number).decode() for number in (0, 1, 3, 7, 13, 15)}
    assert names[0] == "CUBLAS_STATUS_SUCCESS"
    assert names[15] == "CUBLAS_STATUS_NOT_SUPPORTED"
    with pytest.raises(CublasError, match=r"^cublasSetStream_v2: CUBLAS_STATUS_NOT_INITIALIZED$"):
        library.cublasSetStream_v2(None, None)


def test_the_library_is_that_of_cupys_cuda_version(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy: Any = ModuleType("cupy_of_cuda_12")
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=lambda: 12090))
    imported: list[str] = []
    monkeypatch.setattr(importlib, "import_module", imported.append)

    def not_there(name: str) -> None:
        assert imported == ["cupy_of_cuda_12.cublas"]  # which loads it
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", not_there)
    for platform, name in (("linux", "libcublas.so.12"), ("win32", "cublas64_12.dll")):
        imported.clear()
        monkeypatch.setattr(sys, "platform", platform)
        with pytest.raises(OSError, match=f"^{name}$"):
            cublas.load(cupy)


# ---- products --------------------------------------------------------------------------------------------------------


@pytest.fixture
def backend() -> CupyBackend:
    return CupyBackend(EmulatedCudaDevice())


@emulated
def test_an_error_has_cublass_name(backend: CupyBackend) -> None:
    x = backend.zeros((3, 3))
    small = Cublas(backend.cupy, backend.device.cublas(), backend.empty((1024,), np.uint8))
    with pytest.raises(CublasError, match=r"^cublasSetWorkspace_v2: CUBLAS_STATUS_INVALID_VALUE$"):
        small.gemm(x, x, backend.zeros((3, 3)), False, False, 1.0, 0.0)


@emulated
def test_a_matrix_that_cublas_cannot_count_is_refused(backend: CupyBackend) -> None:
    """ctypes would cut the number of columns down to 32 bits."""
    workspace = backend.empty((cublas.WORKSPACE_BYTES,), np.uint8)
    gemm = Cublas(backend.cupy, backend.device.cublas(), workspace).gemm
    huge: Any = SimpleNamespace(shape=(1, 2**31))
    with pytest.raises(
        ValueError, match=r"^matmul: cuBLAS takes no matrix of more than 2,147,483,647 rows or columns$"
    ):
        gemm(huge, huge, backend.zeros((1, 1)), False, True, 1.0, 0.0)


@emulated
def test_a_handle_for_each_backend_and_thread() -> None:
    library = stand_in_cublas()
    before = library.stand_in_handles()
    backend = CupyBackend(EmulatedCudaDevice())
    x = backend.zeros((3, 3))

    handles = []

    def multiply(backend: CupyBackend) -> None:
        backend.matmul(x, x)
        backend.matmul(x, x)
        handles.append(library.stand_in_handles() - before)

    multiply(backend)
    thread = threading.Thread(target=multiply, args=(backend,))
    thread.start()
    thread.join()
    assert handles == [1, 2]
    del backend, thread
    assert library.stand_in_handles() == before


# ---- precision -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cuda_is_emulated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """``--device cuda`` and ``get_backend("cuda")`` are the emulated device, of this compute capability."""
    capability = ["80"]
    monkeypatch.setattr(
        "backends.registry.find_device", lambda spec: EmulatedCudaDevice(compute_capability=capability[0])
    )
    return capability


@emulated
@pytest.mark.usefixtures("cuda_is_emulated")
@pytest.mark.parametrize(("precision", "bits"), [("float32", 23), ("tf32", 10), ("bf16", 7)])
def test_a_product_has_the_precision_that_was_asked_for(precision: str, bits: int) -> None:
    backend = get_backend("cuda", precision=precision)
    for digits in range(1, 24):
        x = np.array([[1.0 + 2.0**-digits]], np.float32)
        product = backend.to_numpy(backend.matmul(backend.asarray(x), backend.asarray([[1.0]])))
        assert (product[0, 0] == x[0, 0]) == (digits <= bits)


@emulated
def test_precision_that_cannot_be_had(cuda_is_emulated: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(error: type[Exception], message: str, *arguments: Any) -> None:
        with pytest.raises(error) as caught:
            get_backend(*arguments)
        assert str(caught.value) == message

    refused(ValueError, "precision must be one of float32, tf32, bf16, not 'fp8'", "cuda", "float32", True, "fp8")
    message = "precision 'tf32' is of float32 products; leave it out for float64"
    refused(ValueError, message, "cuda", "float64", True, "tf32")
    message = "the reference operations have no tf32 products; leave out the precision"
    refused(DeviceError, message, "cuda", "float32", False, "tf32")
    cuda_is_emulated[0] = "75"
    message = (
        "cuda:0 has no bf16 products: its compute capability is 7.5, and they need 8.0 or newer; "
        "leave out the precision"
    )
    refused(DeviceError, message, "cuda", "float32", True, "bf16")
    assert get_backend("cuda").dtype_name == "float32"
    cuda_is_emulated[0] = "120"
    assert get_backend("cuda", precision="bf16").dtype_name == "float32"

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    message = "cuda:0: NVIDIA_TF32_OVERRIDE=0 forbids tf32: unset it, or ask for float32"
    refused(DeviceError, message, "cuda", "float32", True, "tf32")
    get_backend("cuda", "float32", True, "bf16")
    get_backend("cuda")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    message = "cuda:0: NVIDIA_TF32_OVERRIDE=1 rounds float32 products to tf32: unset it, or ask for tf32"
    refused(DeviceError, message, "cuda")
    get_backend("cuda", "float64")
    get_backend("cuda", "float32", True, "tf32")

    def not_found(self: Any) -> None:
        raise OSError("libcublas.so.13: no such file")

    monkeypatch.setattr(EmulatedCudaDevice, "cublas", not_found)
    message = "cuda:0: tf32 products need cuBLAS, which cannot be loaded: libcublas.so.13: no such file"
    refused(DeviceError, message, "cuda", "float32", True, "tf32")


def test_precision_of_other_devices() -> None:
    with pytest.raises(DeviceError) as caught:
        get_backend("cpu", precision="tf32")
    assert str(caught.value) == "cpu has no tf32 products; leave out the precision, or name a GPU: cuda"


@emulated
@pytest.mark.usefixtures("cuda_is_emulated")
def test_train_py_prints_and_keeps_the_precision(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--device", "cuda", "--epochs", "1", "--limit", "100", "--hidden", "8", "--output", str(tmp_path)]
    outputs = []
    for more in ([], ["--precision", "tf32"]):
        assert train.main([*flags, *more]) == 0
        outputs.append(capsys.readouterr().out)
    assert "an emulated GPU, float32\n" in outputs[0]
    assert "an emulated GPU, float32, products in tf32\n" in outputs[1]
    assert "not recorded" not in "".join(outputs)
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["precision"] == "tf32"


@emulated
@pytest.mark.usefixtures("cuda_is_emulated")
def test_train_py_says_why_steps_are_not_recorded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_cublas().stand_in_fail(3)
    try:
        assert train.main(["--device", "cuda", "--epochs", "1", "--limit", "100", "--hidden", "8"]) == 0
    finally:
        stand_in_cublas().stand_in_fail(0)
    line = next(line for line in capsys.readouterr().out.splitlines() if "not recorded" in line)
    assert line == (
        "steps were not recorded as a CUDA graph, which is slower: cuBLAS cannot be called directly "
        "(cublasCreate_v2: CUBLAS_STATUS_ALLOC_FAILED)"
    )


@emulated
def test_the_stand_in_says_so_where_it_cannot_note_a_product(capfd: pytest.CaptureFixture[str]) -> None:
    """An error inside the callback of the stand-in is a status, as any other of cuBLAS, and not lost."""
    device = EmulatedCudaDevice()
    backend = CupyBackend(device)
    a, b, out = (np.ones((2, 2), np.float32).view(ndarray) for _ in range(3))  # not in memory of the device
    stream = Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(CublasError, match="cublasGemmEx: CUBLAS_STATUS_EXECUTION_FAILED"):
            backend.matmul(a, b, out=out)
        assert not stream.end_capture().nodes
    assert "there is no memory of the device at 0x" in capfd.readouterr().err

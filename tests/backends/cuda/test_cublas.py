"""cuBLAS called directly: the library's own names, what a product asks of it, and the precisions of products."""

from __future__ import annotations

import ctypes
import gc
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
from backends.cuda.cublas import Cublas, CublasError, Handle, declared
from backends.cuda.cupy_backend import CupyBackend
from tests.helpers.emulated_cuda import (
    EmulatedCudaDevice,
    Stream,
    launched,
    ndarray,
    needs_compiler,
    new_stand_in_cublas,
)

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


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library of which there is no handle yet, for every emulated device."""
    library = new_stand_in_cublas()
    monkeypatch.setattr(EmulatedCudaDevice, "cublas", lambda self: library)
    return library


@emulated
def test_an_error_has_cublass_name(backend: CupyBackend) -> None:
    x = backend.zeros((3, 3))
    small = Cublas(backend.cupy, Handle(backend.device.cublas(), backend.empty((1024,), np.uint8)))
    for _ in range(2):  # the second one does not take the workspace for set
        with pytest.raises(CublasError, match=r"^cublasSetWorkspace_v2: CUBLAS_STATUS_INVALID_VALUE$"):
            small.gemm(x, x, backend.zeros((3, 3)), False, False, 1.0, 0.0)


@emulated
def test_a_matrix_that_cublas_cannot_count_is_refused(backend: CupyBackend) -> None:
    """ctypes would cut the number of columns down to 32 bits."""
    workspace = backend.empty((cublas.WORKSPACE_BYTES,), np.uint8)
    gemm = Cublas(backend.cupy, Handle(backend.device.cublas(), workspace)).gemm
    huge: Any = SimpleNamespace(shape=(1, 2**31))
    with pytest.raises(
        ValueError, match=r"^matmul: cuBLAS takes no matrix of more than 2,147,483,647 rows or columns$"
    ):
        gemm(huge, huge, backend.zeros((1, 1)), False, True, 1.0, 0.0)


@emulated
def test_a_handle_for_each_thread_and_device_as_long_as_the_process(library: Any) -> None:
    """Backends of one thread share it, an ended thread leaves it to the next one, and nobody destroys it."""

    def multiply(meanwhile: threading.Barrier | None = None) -> None:
        for dtype, precision in (("float32", "float32"), ("float64", "float32"), ("float32", "tf32")):
            backend = CupyBackend(EmulatedCudaDevice(), dtype, precision)
            x = np.array([[1.0, 2.0], [3.0, 4.0]])
            product = backend.matmul(*(backend.asarray(factor) for factor in (x, x)))
            np.testing.assert_array_equal(backend.to_numpy(product), x @ x)
        if meanwhile is not None:
            meanwhile.wait(60)

    def in_threads(count: int) -> None:
        barrier = threading.Barrier(count)
        threads = [threading.Thread(target=multiply, args=(barrier,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    multiply()
    assert library.stand_in_handles() == 1
    for threads, handles in ((1, 2), (1, 2), (3, 4), (2, 4)):
        in_threads(threads)
        assert library.stand_in_handles() == handles
    multiply()
    gc.collect()
    assert library.stand_in_handles() == 4


@emulated
def test_stream_and_workspace_are_set_only_where_the_stream_is_another(library: Any) -> None:
    backend = CupyBackend(EmulatedCudaDevice())
    x, out = backend.asarray([[2.0]]), backend.zeros((1, 1))

    def calls() -> tuple[int, int]:
        return library.stand_in_streams_set(), library.stand_in_workspaces_set()

    with backend.use():
        for _ in range(5):
            backend.matmul(x, x, out=out)
    assert calls() == (1, 1)
    for number in range(2, 6, 2):  # each capturing stream is gone when the next one comes
        stream = Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            for _ in range(3):
                backend.matmul(x, x, out=out, beta=1.0)
            graph = stream.end_capture()
        del stream
        assert calls() == (number, number)
        out[...] = 0.0
        graph.launch()
        assert backend.to_numpy(out) == 12.0
        launched.names.clear()
        with backend.use():
            backend.matmul(x, x, out=out, beta=1.0)
            backend.matmul(x, x, out=out, beta=1.0)
        assert launched.names == ["gemm", "gemm"]
        assert backend.to_numpy(out) == 20.0
        assert calls() == (number + 1, number + 1)


@emulated
def test_no_workspace_is_made_where_cublas_cannot_be_loaded(
    backend: CupyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_found(self: Any) -> None:
        raise ImportError("no module named cupy.cublas")

    monkeypatch.setattr(EmulatedCudaDevice, "cublas", not_found)
    monkeypatch.setattr(backend.cupy.allocate, "limit", cublas.WORKSPACE_BYTES // 2)
    assert backend.to_numpy(backend.matmul(backend.asarray([[2.0]]), backend.asarray([[3.0]]))) == 6.0
    assert backend.without_cublas == "cuBLAS cannot be called directly (no module named cupy.cublas)"


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

    refused(ValueError, "precision must be 'float32', 'tf32' or 'bf16', not 'fp8'", "cuda", "float32", True, "fp8")
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
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")

    monkeypatch.setenv("CUBLAS_EMULATE_SINGLE_PRECISION", "0")
    get_backend("cuda")
    monkeypatch.setenv("CUBLAS_EMULATE_SINGLE_PRECISION", "1")
    message = "cuda:0: CUBLAS_EMULATE_SINGLE_PRECISION=1 makes float32 products of bf16 ones: unset it"
    refused(DeviceError, message, "cuda")
    get_backend("cuda", "float64")
    get_backend("cuda", "float32", True, "bf16")

    monkeypatch.setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "0")
    get_backend("cuda", "float64")
    monkeypatch.setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "1")
    message = "cuda:0: CUBLAS_EMULATE_DOUBLE_PRECISION=1 makes float64 products of int8 ones: unset it"
    refused(DeviceError, message, "cuda", "float64")
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
    for more in ([], ["--precision", "tf32", "--overwrite"]):
        assert train.main([*flags, *more]) == 0
        outputs.append(capsys.readouterr().out)
    assert "an emulated GPU, float32\n" in outputs[0]
    assert "an emulated GPU, float32, products in tf32\n" in outputs[1]
    assert "not recorded" not in "".join(outputs)
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["precision"] == "tf32"


@emulated
@pytest.mark.usefixtures("cuda_is_emulated")
def test_train_py_says_why_steps_are_not_recorded(capsys: pytest.CaptureFixture[str], library: Any) -> None:
    library.stand_in_fail(3)  # (with one hidden layer a step takes none of its products)
    assert train.main(["--device", "cuda", "--epochs", "1", "--limit", "100", "--hidden", "8", "8"]) == 0
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


@emulated
def test_the_stand_in_destroys_no_handle_while_a_stream_captures(library: Any) -> None:
    """And the capture is lost, as it is in CUDA."""
    handle = ctypes.c_void_p()
    library.cublasCreate_v2(ctypes.byref(handle))
    stream = Stream(non_blocking=True)
    stream.begin_capture()
    assert library.cublasDestroy_v2(handle) == 13
    assert library.stand_in_handles() == 1
    with pytest.raises(RuntimeError, match=r"^cudaErrorStreamCaptureInvalidated: "):
        stream.end_capture()
    assert library.cublasDestroy_v2(handle) == 0
    assert library.stand_in_handles() == 0

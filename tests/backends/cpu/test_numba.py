"""What is particular to the backend with Numba: when its loops run, how long sums come out, what is said without it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from backends import Backend, DeviceError, ErrorKind, get_backend, registry
from backends.base import DTYPES
from backends.check import compare, formulas
from backends.cpu.numpy_backend import NumpyBackend
from nn import SGD, Adam, Dropout, Linear, ReLU, Sequential, Sigmoid, Softmax, Tanh, Trainer
from tests.helpers.backends import make_backend
from tests.helpers.broken_cupy import broken_import

LOOPS = ["bias_activation", "bias_activation_backward", "softmax_cross_entropy", "binary_cross_entropy"]
LOOPS += ["squared_error", "update", "dropout_mask"]


@pytest.fixture(params=DTYPES)
def numba(request: pytest.FixtureRequest) -> Backend:
    return make_backend(("numba", True), request.param)


def test_it_is_a_device_of_its_own(numba: Backend) -> None:
    assert isinstance(numba, NumpyBackend)
    assert numba.device.spec == "numba"
    assert type(get_backend("numba", fused=False)) is Backend
    assert type(get_backend("cpu")) is NumpyBackend


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy", "mean_squared_error"])
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_training_step_goes_through_the_loops(
    numba: Backend, monkeypatch: pytest.MonkeyPatch, loss: str, optimizer: Any
) -> None:
    """Every call has the arrays that they take: nothing is left to the operations of NumpyBackend."""
    for name in LOOPS:
        monkeypatch.setattr(NumpyBackend, name, None)
    ends: dict[str, Any] = {"softmax_cross_entropy": [Softmax()], "binary_cross_entropy": [Sigmoid()]}
    hidden = (Linear(5, 7), Sigmoid(), Linear(7, 7), Tanh(), Linear(7, 7), ReLU(), Dropout(0.3), Linear(7, 3))
    rng = np.random.default_rng(0)
    classes = loss == "softmax_cross_entropy"
    targets = rng.integers(0, 3, 40) if classes else rng.uniform(size=(40, 3))
    settings = {"momentum": 0.9, "nesterov": True} if optimizer is SGD else {"weight_decay": 0.1}
    trainer = Trainer(Sequential(*hidden, *ends.get(loss, []), backend=numba), loss, optimizer(0.01, **settings))
    trainer.fit((rng.normal(size=(40, 5)), targets), epochs=1, batch_size=16)
    assert np.isfinite(trainer.history["loss"]).all()


def test_column_sums_of_many_rows_are_far_within_their_bound(numba: Backend) -> None:
    rng = np.random.default_rng(1)
    dy, y = (rng.uniform(size=(50_000, 3)).astype(numba.dtype_name) for _ in range(2))
    for activation in ("identity", "sigmoid", "tanh", "relu"):
        bounded = formulas(numba).bias_activation_backward(dy, y, activation, np.empty(3))
        buffer = dy.copy()
        sums = np.empty(3, numba.dtype)
        found = numba.bias_activation_backward(buffer, y, activation, out=buffer, bias_gradient=sums)
        with np.errstate(all="ignore"):
            assert compare(found, bounded).complaint == ""
            assert compare(found[1:], bounded[1:]).ratio < 0.01


def test_pixels_are_gathered_into_memory_with_gaps(numba: Backend) -> None:
    """A loop that took such an array as one row would write into a copy of it."""
    rows = np.arange(12, dtype=np.uint8).reshape(4, 3)
    buffer = np.full((2, 5), 7, numba.dtype)
    found = numba.take_rows(rows, np.array([3, 1, 0, 2]), 0, 2, scale=0.5, out=buffer[:, :3])
    assert found.tolist() == buffer[:, :3].tolist() == [[4.5, 5.0, 5.5], [1.5, 2.0, 2.5]]
    assert (buffer[:, 3:] == 7).all()


@pytest.mark.parametrize("label", [-1, 3, 10**9])
def test_a_label_that_is_no_class_writes_nowhere_else(numba: Backend, label: int) -> None:
    logits = np.arange(12, dtype=numba.dtype).reshape(4, 3)
    labels = np.array([0, label, 2, 1])
    buffer = np.full((6, 3), 7, numba.dtype)
    reference = get_backend("cpu", numba.dtype_name, fused=False)
    found = numba.softmax_cross_entropy(logits, labels, out=buffer[1:5])
    expected = reference.softmax_cross_entropy(logits, labels)
    for result, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(numba.to_numpy(result), reference.to_numpy(value), atol=1e-6)
    assert (buffer[[0, 5]] == 7).all()


# ---- where it is not, or not asked for -------------------------------------------------------------------------------


def test_the_cpu_does_without_it() -> None:
    program = "import sys, backends; backends.get_backend('cpu'); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.usefixtures("nothing_found_yet")
def test_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(DeviceError) as caught:
        get_backend("numba")
    assert str(caught.value) == "numba: Numba is not installed (pip install numba)"
    assert caught.value.kind is ErrorKind.NOT_INSTALLED


@pytest.mark.usefixtures("nothing_found_yet")
def test_it_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_import(ImportError("Numba needs NumPy 2.4 or less."), "numba")(monkeypatch)
    with pytest.raises(DeviceError, match=r"^numba: Numba is installed but cannot be imported: Numba needs") as caught:
        get_backend("numba")
    assert caught.value.kind is ErrorKind.CANNOT_IMPORT


@pytest.mark.usefixtures("nothing_found_yet")
def test_it_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_and_half(z: Any) -> None:
        raise RuntimeError("no locator available")

    make_backend(("numba", True))
    registry.forget_devices()
    monkeypatch.setattr("backends.cpu.numba_kernels.half_and_half", half_and_half)
    with pytest.raises(DeviceError, match=r"^numba: Numba cannot compile: RuntimeError: no locator avail") as caught:
        get_backend("numba")
    assert caught.value.kind is ErrorKind.CANNOT_COMPUTE


@pytest.mark.usefixtures("nothing_found_yet")
def test_it_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    make_backend(("numba", True))
    registry.forget_devices()
    monkeypatch.setattr("backends.cpu.numba_kernels.half_and_half", lambda z: None)
    with pytest.raises(DeviceError, match=r"^numba: Numba cannot compile: ArithmeticError"):
        get_backend("numba")


def test_arrays_that_do_not_fit_are_not_read_beyond_their_ends(numba: Backend) -> None:
    z, short, flat = numba.zeros((4, 6)), numba.zeros((5,)), numba.zeros((24,))
    calls: list[Any] = [
        lambda: numba.bias_activation(z, short, "relu", out=z),
        lambda: numba.bias_activation_backward(z, z, "tanh", out=z, bias_gradient=short),
        lambda: numba.softmax_cross_entropy(z, np.zeros(3, np.int64), out=z),
        lambda: numba.softmax_cross_entropy(z, np.zeros(4, np.int64), out=numba.zeros((2, 6))),
        lambda: numba.softmax_cross_entropy(z, np.zeros(4, np.int64), out=numba.zeros((4, 5))),
        lambda: numba.squared_error(z, numba.zeros((4, 7)), out=z),
        lambda: numba.binary_cross_entropy(z, numba.zeros((4, 7)), out=z),
        lambda: numba.binary_cross_entropy(z, z, out=numba.zeros((3, 6))),
        lambda: numba.update("sgd", flat, short, {}, learning_rate=0.1),
        lambda: numba.update("sgd", flat, short, {"velocity": flat}, learning_rate=0.1, momentum=0.9),
        lambda: numba.update("sgd", flat, flat, {"velocity": short}, learning_rate=0.1, momentum=0.9),
        lambda: numba.update("sgd", flat, short, {}, learning_rate=0.1, weight_decay=0.1, n_decayed=3),
        lambda: numba.update("adam", flat, short, {"mean": flat, "square": flat}, learning_rate=0.1),
        lambda: numba.update("adam", flat, flat, {"mean": flat, "square": short}, learning_rate=0.1),
        lambda: numba.update("adam", flat, flat, {"mean": short, "square": flat}, learning_rate=0.1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"shape|broadcast|mismatch"):
            call()

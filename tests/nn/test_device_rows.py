"""Rows to predict that lie on the device: they do not go by way of the host, and mean what they mean there."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.cuda.device import CupyDevice
from nn import Conv2d, Flatten, Linear, ReLU, Sequential, Softmax, Trainer
from nn.data import DataError, Dataset, UnitsWarning

X = np.random.default_rng(0).uniform(0, 200, size=(20, 3)).astype("float32")
LABELS = np.arange(20) % 2


class WentToTheHost(Exception):
    pass


@pytest.fixture(params=["torch:cpu", "array_api_strict", "array_api_strict:device1"])
def model(request: pytest.FixtureRequest) -> Sequential:
    """Trained on rows that are scaled and shifted."""
    pytest.importorskip(request.param.partition(":")[0], reason="it is not installed")
    model = Sequential(Linear(3, 2), Softmax(), backend=request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(model).fit(Dataset(X, LABELS, scale=1 / 64, shift=-1.0))
    return model


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that go to the host are noticed."""
    monkeypatch.setattr("nn.model.as_rows", went_to_the_host)


def went_to_the_host(*given: Any) -> Any:
    raise WentToTheHost


def on_device(model: Sequential, x: Any) -> Any:
    """An array of the model's library, on its device, of the dtype of ``x``."""
    return model.backend.xp.asarray(x, device=model.backend.device.handle)


@pytest.mark.parametrize("which", ["torch:cpu", "array_api_strict:device1"])
def test_pictures_are_predicted_where_they_are(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(which.partition(":")[0], reason="it is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 5, 4), dtype=np.uint8)
    model = Sequential(Conv2d(1, 3, 2), ReLU(), Flatten(), Linear(36, 2), Softmax(), backend=which)
    Trainer(model).fit(pixels, LABELS)
    expected = model(pixels)
    monkeypatch.setattr("nn.model.as_rows", went_to_the_host)
    np.testing.assert_array_equal(model(on_device(model, pixels)), expected)


@pytest.mark.usefixtures("no_host")
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_they_are_predicted_where_they_are(model: Sequential, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = on_device(model, X.astype(dtype))
    found = model(x, like=x), model.predict(x, batch_size=7), model.predict_proba(x)
    with pytest.raises(WentToTheHost):
        model(X.astype(dtype))
    monkeypatch.undo()
    assert found[0].device == x.device
    expected = X.astype(dtype)
    for one, other in zip(
        found, (model(expected), model.predict(expected), model.predict_proba(expected)), strict=True
    ):
        np.testing.assert_array_equal(model.backend.to_numpy(one) if one is found[0] else one, other)


@pytest.mark.parametrize(
    "bad", [np.full((2, 3), np.nan), np.array([[1.0, np.inf, 2.0]]), np.array([[1.0, -np.inf, 2.0]])]
)
def test_what_is_not_finite_is_named(model: Sequential, bad: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"x\[0, \d\] is -?(nan|inf); remove the row"):
        model(on_device(model, bad.astype("float32")))


def test_too_large_numbers_are_named(model: Sequential) -> None:
    with pytest.raises(DataError, match="the network computes in float32"):
        model(on_device(model, np.full((2, 3), 1e300)))


def test_other_shapes_and_dtypes_mean_what_they_mean_on_the_host(model: Sequential) -> None:
    one = model(on_device(model, X[0]))
    np.testing.assert_array_equal(one, model(X[0]))
    np.testing.assert_array_equal(model(on_device(model, X.astype("int64"))), model(X.astype("int64")))
    for wrong in (X[:, :2], X[:0]):
        with pytest.raises(DataError):
            model(on_device(model, wrong))


def test_rows_that_do_not_lie_row_by_row() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = Sequential(Linear(3, 2), backend="torch:cpu")
    Trainer(model).fit(Dataset(X, LABELS, scale=1 / 64))
    x = torch.from_numpy(X.T.copy()).T
    assert not x.is_contiguous()
    np.testing.assert_array_equal(model(x), model(X))
    np.testing.assert_array_equal(model(torch.from_numpy(X).requires_grad_()), model(X))
    np.testing.assert_array_equal(model(torch.from_numpy(X).bfloat16()), model(torch.from_numpy(X).bfloat16().float()))
    with pytest.raises(DataError, match=r"x cannot be used: a sparse tensor cannot be used here; pass its"):
        model(torch.from_numpy(X).to_sparse())


def test_a_gpu_holds_arrays_of_any_library_on_it() -> None:
    class OnDevice:
        def __init__(self, kind: int, number: int) -> None:
            self.device = kind, number

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.device

    second: Any = SimpleNamespace(index=1)
    assert CupyDevice.holds(second, OnDevice(2, 1))
    assert not any(CupyDevice.holds(second, x) for x in (OnDevice(2, 0), OnDevice(1, 1), X, [1.0]))


def test_other_units_are_warned_of(model: Sequential) -> None:
    with pytest.warns(UnitsWarning, match="the training rows went from"):
        model(on_device(model, X / 200))


def test_a_network_that_was_not_trained_looks_at_them_on_the_host() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = Sequential(Linear(64, 2), backend="torch:cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64), dtype=np.uint8)
    np.testing.assert_array_equal(model(torch.from_numpy(pixels)), model(pixels))  # scaled by 1/255

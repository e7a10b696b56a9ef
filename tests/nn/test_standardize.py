"""Standardization inside the network: what fit learns, on every backend; what is kept; advice where it is missing."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from nn import SGD, Flatten, Layer, Linear, ReLU, Sequential, Standardize, Trainer, load_model, save_model
from nn.data import DataError, Dataset, from_frame
from nn.data.statistics import ScaleWarning, advice, column_statistics, picture_advice, target_advice
from nn.verify import compare
from tests.helpers.backends import make_backend
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(0)
X = RNG.normal([0.0, 1000.0, -5.0, 7.0], [1.0, 300.0, 0.01, 0.0], (50, 4))
Y = (X[:, 0] > 0).astype(int)


def standardizing(backend: Any = "cpu", **options: Any) -> Sequential:
    return Sequential(Standardize(4), Linear(4, 8), ReLU(), Linear(8, 2), backend=backend, seed=1, **options)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Any:
    return made(request.param, "float64")


def test_fit_on_raw_rows_is_fit_on_scaled_ones(backend: Any) -> None:
    raw = Trainer(standardizing(backend), optimizer=SGD(0.1))
    raw.fit((X, Y), 3, 16)
    scaled = Trainer(Sequential(Linear(4, 8), ReLU(), Linear(8, 2), backend=backend, seed=1), optimizer=SGD(0.1))
    initial = standardizing(backend).state_dict()
    names = {"0": "1", "2": "3"}
    equal = {f"{a}.{n}": initial[f"{b}.{n}"] for a, b in names.items() for n in ("weight", "bias")}
    scaled.model.load_state_dict(equal)
    scaled.fit((StandardScaler().fit_transform(X), Y), 3, 16)
    np.testing.assert_allclose(raw.history["loss"], scaled.history["loss"], rtol=1e-9)
    assert not raw.backend.why_eager
    np.testing.assert_allclose(
        raw.model.predict_proba(X), scaled.model.predict_proba(StandardScaler().fit_transform(X)), rtol=1e-9
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000), n=st.integers(1, 40), scale=st.sampled_from([1.0, 1 / 255]), chunk=st.booleans(),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
)  # fmt: skip
def test_statistics_are_those_of_scikit_learn(seed: int, n: int, scale: float, chunk: bool, dtype: str) -> None:
    x = np.random.default_rng(seed).integers(0, 9, (n, 5)).astype(dtype)
    x[:, 1] = 3
    if chunk:
        x = np.tile(x, (1 + (1 << 20) // (5 * n), 1))
    data = Dataset(x, np.zeros(len(x)), scale=scale, shift=0.5)
    mean, variance = column_statistics(data)
    seen = x[:n].astype(np.float64) * scale + 0.5  # the others are the same again
    scaler = StandardScaler().fit(seen)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(variance), scaler.scale_, rtol=1e-9)


def test_statistics_are_of_the_training_rows_and_learnt_once() -> None:
    trainer = Trainer(standardizing())
    held_out = trainer.fit((X, Y), 1, validation=0.2)
    rest, _ = trainer.model.dataset((X, Y)).split(0.2, seed=1)
    assert len(held_out) == 1
    np.testing.assert_allclose(trainer.model.store.state["0.mean"], rest.x.mean(axis=0), rtol=1e-6)
    learnt = trainer.model.store.state["0.mean"].copy()
    trainer.fit((10 * X, Y), 1)
    np.testing.assert_array_equal(trainer.model.store.state["0.mean"], learnt)
    trainer.model.reset()
    assert trainer.model.store.state["0.learnt"] == 0
    trainer.fit((10 * X, Y), 1)
    np.testing.assert_allclose(trainer.model.store.state["0.mean"], 10 * X.mean(axis=0), rtol=1e-5)


def test_what_is_learnt_is_kept(tmp_path: Path) -> None:
    trainer = Trainer(standardizing())
    trainer.fit((X, Y), 2)
    save_model(trainer.model, tmp_path / "m.safetensors")
    wanted = trainer.model.predict_proba(X)
    for model in (load_model(tmp_path / "m.safetensors", "cpu"), copy.deepcopy(trainer.model)):
        np.testing.assert_array_equal(model.predict_proba(X), wanted)
        before = model.store.state["0.mean"].copy()
        Trainer(model).fit((X + 1.0, Y), 1)
        np.testing.assert_array_equal(model.store.state["0.mean"], before)


def test_statistics_given_beforehand() -> None:
    layer = Standardize.from_data(X)
    model = Sequential(layer, Linear(4, 2), backend="cpu", dtype="float64")
    np.testing.assert_allclose(model.layer_outputs(X)["0"], StandardScaler().fit_transform(X), atol=1e-9)
    Trainer(model).fit((2 * X, Y), 1)
    np.testing.assert_allclose(model.layer_outputs(X)["0"], StandardScaler().fit_transform(X), atol=1e-9)


def test_pictures_are_standardized_pixel_by_pixel() -> None:
    x = RNG.integers(0, 256, (20, 8, 8), dtype=np.uint8)
    model = Sequential(Flatten(), Standardize(64), Linear(64, 2), backend="cpu")
    Trainer(model).fit((x, np.arange(20) % 2), 1)
    np.testing.assert_allclose(model.layer_outputs(x)["1"].std(axis=0), 1.0, rtol=1e-4)


def test_devices_agree() -> None:
    devices = {name: make_backend((name, name != "torch")) for name in ("cpu", "numba", "torch")}
    comparison = compare(lambda backend: Trainer(standardizing(backend)), devices, (X, Y), 2, 16)
    assert comparison.agrees, str(comparison)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standardize(0), "features must be a whole number of at least 1, not 0"),
        (lambda: Standardize(2, mean_init=(1.0, 2.0)), "give both mean_init and variance_init, or neither"),
        (lambda: Standardize(2, (1.0,), (1.0, 1.0)), "mean_init must have 2 numbers, not 1"),
        (lambda: Standardize(2, (1.0, 1.0), (1.0, 0.0)), "each variance must be above 0; say 1 for a constant"),
        (lambda: Sequential(Linear(2, 2), Standardize(2), backend="cpu"), r"layer 1 is Standardize\(2\), .*begin"),
        (lambda: Sequential(Standardize(3), Linear(2, 2), backend="cpu"), "layer 1 does not fit"),
        (lambda: Standardize(4).output_shape((2, 2)), r"takes rows of 4 numbers, not of shape \(2, 2\); put Flatten"),
    ],
)
def test_what_cannot_be_standardized(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_columns_beyond_float32_are_refused() -> None:
    x = X.copy()
    x[:, 2] *= 1e25
    trainer = Trainer(standardizing())
    with pytest.raises(DataError, match=r"column 2 cannot be standardized: its variance, \S+, is beyond"):
        trainer.fit((x, Y))
    Trainer(standardizing(dtype="float64")).fit((x, Y))


def test_advice_is_given_once_where_columns_differ() -> None:
    trainer = Trainer(Sequential(Linear(4, 2), backend="cpu"), optimizer=SGD(1e-9))
    with pytest.warns(ScaleWarning, match="column 1 varies more than 10,000 times as much as column 2: begin the net"):
        trainer.fit((X, Y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit((X, Y))
        Trainer(standardizing()).fit((X, Y))
        Trainer(Sequential(Linear(4, 2), backend="cpu")).fit((StandardScaler().fit_transform(X), Y))


def test_advice_names_the_columns() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame({"wage": X[:, 1] * 100, "sex": ["m", "f"] * 25, "label": Y})
    data = from_frame(frame, categorical=["sex"])
    assert advice(data) == "column wage varies more than 10,000 times as much as column sex=f"
    assert advice(Dataset(X[:, [3, 3]], Y)) == ""
    assert advice(Dataset(X[:, [0, 2]], Y)) == ""


def test_advice_on_pictures_of_floats_that_nothing_scales() -> None:
    """Such as the means of pixels. Whole numbers are scaled by themselves, and so is what a Dataset says how."""
    pictures = np.random.default_rng(0).uniform(0, 254, (20, 6, 7)).astype(np.float32)
    pictures[0, 0, :2] = 0.0, 254.5
    y = np.arange(20) % 2

    def fitted(*rows: Any, begin: Layer | None = None) -> None:
        layers = [begin or Flatten(), Linear(42, 2)]
        Trainer(Sequential(*layers, backend="cpu"), optimizer=SGD(1e-9)).fit(*rows, epochs=1)

    text = "the pixels of the training pictures go from 0 to 254.5, and nothing scales them; divide by 255"
    for rows in ((pictures, y), (Dataset(pictures.reshape(20, 42), y, image_shape=(6, 7)),)):
        with pytest.warns(ScaleWarning, match=rf"^{text}, or pass a Dataset with scale=1/255$"):
            fitted(*rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(pictures.round(), y)
        fitted(pictures / 255, y)
        fitted(pictures - 1, y)
        fitted(Dataset(pictures, y, scale=1 / 255))
        fitted(pictures, y, begin=Standardize(42))
        fitted(pictures.reshape(20, 42), y)  # of which nothing says that they are pictures
    assert picture_advice(Dataset(pictures, y)) == text


def test_advice_on_targets_that_are_far_from_where_a_network_begins() -> None:
    far, near = np.array([100.0, 200.0]), np.array([-1.0, 1.0])
    text = target_advice(Dataset(np.zeros((2, 3)), far))
    assert text.startswith("the targets have mean 150 and deviation 50, and a network begins near 0")
    assert target_advice(Dataset(np.zeros((2, 3)), near)) == ""
    assert target_advice(Dataset(np.zeros((2, 3)), np.array([0, 1]))) == ""

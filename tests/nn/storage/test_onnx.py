"""ONNX files: onnxruntime computes from them what the model does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.activations import ACTIVATIONS, BUILT_IN, Activation, register_activation
from nn import (
    Adam,
    AvgPool2d,
    BatchNorm2d,
    ChannelsLast,
    Context,
    Conv2d,
    Dataset,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    export_onnx,
)
from nn.data import from_frame
from nn.initializers import Constant
from nn.layers import LAYERS, ElementwiseActivation
from nn.storage.onnx_file import WRITERS
from nn.storage.onnx_graph import OnnxGraph
from tests.helpers.networks import fill, networks, rows_for
from tests.helpers.picture_networks import drawn

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

RNG = np.random.default_rng(0)
OPSETS = [17, 20, 21]


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path: Path, x: Any) -> np.ndarray:
    """What onnxruntime makes of the file."""
    (output,) = session(path).run(None, x if isinstance(x, dict) else {"input": x})
    return np.asarray(output)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=networks(), opset=st.sampled_from(OPSETS), seed=st.integers(0, 2**32 - 1))
def test_random_networks_of_all_layers(tmp_path: Path, model: Sequential, opset: int, seed: int) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(model, path, opset=opset)
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    assert file.opset_import[0].version == opset
    for rows in (1, 7):
        x = rows_for(model, rows, seed)
        found, expected = run(path, x), model(x)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_layer_of_xpnet_is_written() -> None:
    ours = {name: layer for name, layer in LAYERS.items() if "." not in name}
    assert len(ours) > 10
    assert [name for name, layer in ours.items() if layer.forward not in WRITERS] == []


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*sorted(BUILT_IN), "leaky_relu(0.3)", "elu(2.0)"])
def test_every_activation_of_xpnet_is_written(tmp_path: Path, name: str, dtype: str, opset: int) -> None:
    x = np.linspace(-30, 30, 601)[:, None].astype(dtype)
    model = Sequential(Linear(1, 1, weight_init=Constant(1.0), activation=name), backend="cpu", dtype=dtype)
    export_onnx(model, tmp_path / "m.onnx", opset=opset)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), rtol=1e-5, atol=1e-5)


def test_rows_are_in_the_units_of_the_training_rows(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    model = Sequential(Linear(64, 5), ReLU(), Linear(5, 3), Softmax(), backend="cpu")
    Trainer(model, optimizer=Adam()).fit(pixels, RNG.integers(0, 3, 40))
    raw = pixels.reshape(40, 64).astype("float32")
    export_onnx(model, tmp_path / "raw.onnx")
    np.testing.assert_allclose(run(tmp_path / "raw.onnx", raw), model(pixels), rtol=1e-5, atol=1e-6)
    export_onnx(model, tmp_path / "scaled.onnx", preprocessing=False)
    np.testing.assert_allclose(run(tmp_path / "scaled.onnx", raw / 255), model(pixels), rtol=1e-5, atol=1e-6)


def test_columns_far_from_0_keep_their_digits(tmp_path: Path) -> None:
    x = (2e5 + RNG.normal(size=(50, 3))).astype("float32")
    model = Sequential(Standardize.from_data(x), Linear(3, 2), backend="cpu")
    export_onnx(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), rtol=1e-5, atol=1e-5)


def test_the_metadata_says_what_the_outputs_are(tmp_path: Path) -> None:
    x = RNG.normal(size=(30, 4)).astype("float32")
    model = Sequential(Linear(4, 2), backend="cpu")
    Trainer(model).fit(Dataset(x, np.arange(30) % 2, class_names=("no", "yes"), scale=0.5))
    export_onnx(model, tmp_path / "m.onnx")
    meta = session(tmp_path / "m.onnx").get_modelmeta()
    found = meta.custom_metadata_map
    assert json.loads(found["class_names"]) == ["no", "yes"]
    assert json.loads(found["units"])["scale"] == 0.5
    assert (found["task"], found["output_activation"], found["loss"]) == ("classes", "softmax", "softmax_cross_entropy")
    assert meta.producer_name == "xpnet"


@pytest.mark.parametrize(("outputs", "loss"), [(3, "softmax_cross_entropy"), (1, "binary_cross_entropy")])
def test_probabilities_of_a_network_that_ends_before_them(tmp_path: Path, outputs: int, loss: str) -> None:
    x, y = RNG.normal(size=(30, 4)).astype("float32"), np.arange(30) % max(outputs, 2)
    model = Sequential(Linear(4, outputs), backend="cpu")
    Trainer(model, loss).fit(x, y)
    export_onnx(model, tmp_path / "m.onnx", probabilities=True)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model.predict_proba(x), rtol=1e-5)
    assert not np.allclose(model(x), model.predict_proba(x))
    ended = Sequential(*model.layers, Softmax() if outputs > 1 else Sigmoid(), backend="cpu")
    export_onnx(ended, tmp_path / "m.onnx", probabilities=True)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), ended(x), rtol=1e-5)
    with pytest.raises(ValueError, match="gives no probabilities"):
        export_onnx(Sequential(Linear(4, 1), backend="cpu"), tmp_path / "m.onnx", probabilities=True)


def test_a_table_with_categories_and_missing_values(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(
        {
            "age": [30, 40, np.nan, 60, 50, 20],
            "size": ["S", "L", "S", None, "M", "M"],
            "weight": [1.5, np.nan, 2.5, 1.0, 3.0, 2.0],
            "label": ["a", "b", "a", "b", "b", "a"],
        }
    )
    data = from_frame(frame, label="label", impute="mean", categorical=["size"])
    model = Sequential(Standardize(5), Linear(5, 4), ReLU(), Linear(4, 2), Softmax(), backend="cpu", dtype="float64")
    Trainer(model, optimizer=Adam()).fit(data, batch_size=2)
    export_onnx(model, tmp_path / "m.onnx")
    inputs = {
        "age": frame[["age"]].to_numpy(),
        "size": frame[["size"]].fillna("").to_numpy(dtype=object),
        "weight": frame[["weight"]].to_numpy(),
    }
    expected = model(frame.drop(columns="label"))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", inputs), expected, rtol=1e-5, atol=1e-6)
    inputs["size"] = np.full((6, 1), "unheard of", object)
    no_size = data.x.copy()
    no_size[:, 1:4] = 0
    np.testing.assert_allclose(run(tmp_path / "m.onnx", inputs), model(no_size), rtol=1e-5, atol=1e-6)
    export_onnx(model, tmp_path / "encoded.onnx", preprocessing=False)
    np.testing.assert_allclose(run(tmp_path / "encoded.onnx", data.x), expected, rtol=1e-5, atol=1e-6)


def test_missing_numbers_are_filled_without_categories(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.0], "b": [1.0, 2.0, 3.0, np.nan], "y": [0, 1, 0, 1]})
    model = Sequential(Linear(2, 2), backend="cpu")
    Trainer(model).fit(from_frame(frame, label="y", impute="mean"))
    export_onnx(model, tmp_path / "m.onnx")
    x = frame[["a", "b"]]
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x.to_numpy(dtype="float32")), model(x), rtol=1e-5)


def test_equal_numbers_are_kept_once_unless_their_dtypes_differ() -> None:
    graph = OnnxGraph("float64", 17)
    assert graph.constant(0.0) == graph.constant(0) != graph.constant(0, "int64")
    assert graph.constant([0.0]) != graph.constant(0.0)


# ---- layers and activations of one's own -----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Scaled(Layer):
    """y = scale x"""

    features: int

    def parameters(self) -> dict[str, Any]:
        return {"scale": ((self.features,), Constant(3.0))}

    def output_shape(self, shape: Any) -> Any:
        return (self.features,)

    def forward(self, x: Any, ctx: Context) -> Any:
        return x * ctx.parameters["scale"]

    def to_onnx(self, x: str, graph: Any) -> str:
        product: str = graph.add("Mul", x, graph.array("scale"))
        return product


class Shifted(Scaled):
    def forward(self, x: Any, ctx: Context) -> Any:
        return x + ctx.parameters["scale"]


class Nameless(Scaled):
    def to_onnx(self, x: str, graph: Any) -> Any:
        graph.add("Identity", x)


class WiderLinear(Linear):
    """Computes as its parent does."""


class Doubled(Linear):
    def forward(self, x: Any, ctx: Context) -> Any:
        return 2.0 * super().forward(x, ctx)


def test_layers_of_ones_own(tmp_path: Path) -> None:
    x = RNG.normal(size=(5, 4)).astype("float32")
    model = Sequential(Scaled(4), WiderLinear(4, 3), Scaled(3), backend="cpu")
    export_onnx(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [Shifted(3), Doubled(3, 3)], ids=["Shifted", "Doubled"])
def test_a_layer_that_computes_otherwise_than_its_parent_is_refused(tmp_path: Path, layer: Layer) -> None:
    model = Sequential(Linear(4, 3), layer, backend="cpu")
    with pytest.raises(TypeError, match=r"layer 1, \w+\(3.*\), cannot be written to an ONNX file: its class has no "):
        export_onnx(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_names_no_output_is_named(tmp_path: Path) -> None:
    model = Sequential(Linear(4, 3), Nameless(3), backend="cpu")
    with pytest.raises(TypeError, match=r"layer 1, Nameless\(3\): to_onnx gave NoneType instead of the name"):
        export_onnx(model, tmp_path / "m.onnx")


@dataclass(frozen=True, repr=False)
class OwnActivation(ElementwiseActivation):
    function: ClassVar[str] = "own_for_onnx"


FORMULAS = [
    lambda xp, z: z / (1.0 + xp.abs(z)),
    lambda xp, z: xp.where((z > -1) & ~(z >= 2), 2.0 - z, xp.zeros_like(z)) ** 2,
    lambda xp, z: xp.sign(z) * xp.log1p(xp.square(z)) - xp.expm1(-abs(z)),
    lambda xp, z: xp.astype(z <= 0.5, z.dtype) + 1.0 / (xp.cos(z) + xp.full_like(z, 3.0)) - 0.5 * xp.ones_like(z),
]


def register(formula: Any) -> None:
    register_activation(Activation("own_for_onnx", formula, lambda xp, y: y))


@pytest.fixture
def tables() -> Any:
    """What a test adds is forgotten afterwards."""
    every: list[dict[str, Any]] = [ACTIVATIONS, LAYERS]
    before = [dict(table) for table in every]
    yield
    for table, content in zip(every, before, strict=True):
        table.clear()
        table.update(content)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formulas_of_activations_of_ones_own_are_written(tmp_path: Path, formula: Any, dtype: str) -> None:
    register(formula)
    layers = [Linear(4, 3, activation="own_for_onnx"), Linear(3, 3), OwnActivation(), Flatten()]
    model = Sequential(layers, backend="cpu", dtype=dtype)
    export_onnx(model, tmp_path / "m.onnx")
    x = 3 * RNG.normal(size=(9, 4)).astype(dtype)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("formula", "why"),
    [
        (lambda xp, z: xp.cumulative_sum(z), "calls xp.cumulative_sum, for which ONNX has no operator"),
        (lambda xp, z: z if z > 0 else -z, "asks for a truth value; use xp.where"),
        (lambda xp, z: 3.0, "gives float, not an array"),
    ],
)
def test_formulas_that_cannot_be_written(tmp_path: Path, formula: Any, why: str) -> None:
    register(formula)
    model = Sequential(Linear(4, 3), OwnActivation(), Linear(3, 2), backend="cpu")
    with pytest.raises(TypeError, match=rf"layer 1, OwnActivation\(\), cannot be written .*{why}"):
        export_onnx(model, tmp_path / "m.onnx")


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [16, 10_000, 17.0, True, None])
def test_versions_of_operators_that_are_not_known(tmp_path: Path, opset: Any) -> None:
    with pytest.raises(ValueError, match=r"opset must be a whole number from 17 to \d+, not"):
        export_onnx(Sequential(Linear(4, 2), backend="cpu"), tmp_path / "m.onnx", opset=opset)


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="export_onnx needs onnx, which is not installed: pip install onnx"):
        export_onnx(Sequential(Linear(4, 2), backend="cpu"), tmp_path / "m.onnx")


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_networks_on_pictures(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 20):
        network = drawn(seed, rows=6, dropout=True)
        dtype = ("float32", "float64")[seed % 2]
        model = Sequential(network.layers, backend="cpu", dtype=dtype, seed=seed)
        fill(model, seed)
        x = network.x.astype(dtype)
        if seed % 3 == 0 or len(network.shape) == 2:  # (height, width) is known of rows that were seen
            Trainer(model, optimizer=Adam()).fit(Dataset(x, network.labels, scale=0.5, shift=0.1))
        export_onnx(model, tmp_path / "m.onnx", opset=OPSETS[seed % len(OPSETS)])
        onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
        for rows in (x, x[:1]):
            found, expected = run(tmp_path / "m.onnx", rows), model(rows)
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=f"{seed}: {model}")


def test_pictures_are_transposed_where_that_is_needed_and_nowhere_else(tmp_path: Path) -> None:
    def operators(*layers: Layer) -> list[str]:
        export_onnx(Sequential(*layers, backend="cpu"), tmp_path / "m.onnx")
        return [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]

    convolutions = [
        Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), MaxPool2d(2), Dropout(0.1), Conv2d(4, 5, 3, activation="relu"),
        AvgPool2d(2), GlobalAvgPool2d(), Linear(5, 2),
    ]  # fmt: skip
    written = [
        "Conv", "BatchNormalization", "Relu", "MaxPool", "Conv", "Relu", "AveragePool", "GlobalAveragePool", "Flatten",
        "Gemm", "Identity",
    ]  # fmt: skip
    assert operators(*convolutions) == ["Transpose", *written]
    assert operators(ChannelsLast(), *convolutions) == written
    assert operators(Reshape(28, 28, 1), Conv2d(1, 2, 3), Flatten(), Linear(1352, 2)) == [
        "Reshape", "Conv", "Transpose", "Flatten", "Gemm", "Identity",
    ]  # fmt: skip
    assert operators(Reshape(4, 4, 2), Flatten(), Linear(32, 2)) == ["Reshape", "Flatten", "Gemm", "Identity"]


def test_pixels_of_a_network_on_pictures_are_taken_as_the_model_takes_them(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    layers = [Conv2d(1, 4, 3, padding="same"), ReLU(), MaxPool2d(2), Flatten(), Linear(64, 3), Softmax()]
    model = Sequential(layers, backend="cpu")
    Trainer(model, optimizer=Adam()).fit(pixels, RNG.integers(0, 3, 40))
    export_onnx(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", pixels.astype("float32")), model(pixels), rtol=1e-5, atol=1e-6)
    flat = Sequential(Reshape(8, 8, 1), *layers, backend="cpu")
    Trainer(flat, optimizer=Adam()).fit(pixels, RNG.integers(0, 3, 40))
    export_onnx(flat, tmp_path / "m.onnx")
    raw = pixels.reshape(40, 64).astype("float32")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", raw), flat(pixels), rtol=1e-5, atol=1e-6)

"""Networks to and from PyTorch, Keras and scikit-learn: the same outputs, both ways."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import (
    GELU,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dataset,
    Dropout,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    MLPClassifier,
    ReLU,
    Sequential,
    SiLU,
    Softmax,
    Standardize,
    Tanh,
    Trainer,
    from_keras,
    from_sklearn,
    from_torch,
    to_keras,
    to_sklearn,
    to_torch,
)
from nn.data import Units
from nn.layers import Layer
from tests.helpers.networks import fill, networks, rows_for
from tests.helpers.picture_networks import drawn

RNG = np.random.default_rng(0)
#: Of Keras's own code, with the newest NumPy.
of_keras = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ.setdefault("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras", reason="Keras is not installed")


def same(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def statistics_of(model: Sequential) -> dict[str, Any]:
    """What ``Standardize`` has learnt, which is no weight elsewhere."""
    learnt = {str(index) for index, layer in enumerate(model) if isinstance(layer, Standardize)}
    return {name: array for name, array in model.state_dict().items() if name.partition(".")[0] in learnt}


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(model=networks(), seed=SEEDS)
def test_random_networks_to_pytorch_and_back(model: Sequential, seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = rows_for(model, 7, seed)
    module = to_torch(model)
    assert not module.training
    same(module(torch.from_numpy(x)).detach().numpy(), model(x))
    back = from_torch(module, "cpu")
    assert back.backend.dtype_name == model.backend.dtype_name
    same(back(x), model(x))
    for name, array in to_torch(back).state_dict().items():
        np.testing.assert_array_equal(array, module.state_dict()[name])
    other = Sequential(model.layers, backend="cpu", dtype=model.backend.dtype_name, seed=model.seed + 1)
    other.units = model.units
    other.load_state_dict(other.state_dict() | statistics_of(model))
    assert from_torch(module.state_dict(), into=other) is other
    same(other(x), model(x))


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_networks_on_pictures_to_pytorch_and_back(first: int, torch: Any) -> None:
    for seed in range(first, first + 20):
        network = drawn(seed, rows=6, dropout=True)
        dtype = ("float32", "float64")[seed % 2]
        model = Sequential(network.layers, backend="cpu", dtype=dtype, seed=seed)
        fill(model, seed)
        x = network.x.astype(dtype)
        if seed % 3 == 0:
            model.units = Units(scale=0.5, shift=0.25)
        module = to_torch(model)
        same(module(torch.from_numpy(x)).detach().numpy(), model(x))
        back = from_torch(module, "cpu")
        same(back(x), model(x))
        same(to_torch(back)(torch.from_numpy(x)).detach().numpy(), model(x))
        other = Sequential(model.layers, backend="cpu", dtype=dtype, seed=seed + 1)
        other.units = model.units
        same(from_torch(module.state_dict(), into=other)(x), model(x))


def test_modules_of_pytorch_on_pictures(torch: Any) -> None:
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding="same"), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, (3, 1), stride=(2, 1), padding=1, groups=2, bias=False), nn.Tanh(), nn.AvgPool2d(2, padding=1),
        nn.Dropout(0.1), nn.Flatten(), nn.LayerNorm(4 * 2 * 4), nn.GELU(), nn.BatchNorm1d(4 * 2 * 4), nn.Linear(32, 3),
    )  # fmt: skip
    for _ in range(3):
        module(torch.randn(9, 2, 8, 9))
    x = torch.randn(5, 2, 8, 9)
    model = from_torch(module, "cpu")
    assert repr(model[1]) == "Conv2d(2, 6, 3, padding='same')"
    assert [type(layer).__name__ for layer in model][:4] == ["ChannelsLast", "Conv2d", "BatchNorm2d", "ReLU"]
    assert repr(model[4]) == "MaxPool2d(2)"
    same(model(x), module.eval()(x).detach().numpy())
    pooled = nn.Sequential(
        nn.Unflatten(1, (1, 8, 9)), nn.Conv2d(1, 4, 3, padding="valid"), nn.AdaptiveMaxPool2d(1), nn.SiLU(),
        nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    x = torch.randn(5, 72)
    model = from_torch(pooled, "cpu")
    assert [repr(layer) for layer in model][:3] == ["Reshape(8, 9, 1)", "Conv2d(1, 4, 3)", "GlobalMaxPool2d()"]
    same(model(x), pooled(x).detach().numpy())


def test_weights_of_a_module_on_pictures_go_into_a_model(torch: Any) -> None:
    """Its first linear layer has the columns of pictures with their channels first."""

    class Mine(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.filters = torch.nn.Conv2d(1, 5, 3)
            self.norm = torch.nn.BatchNorm2d(5)
            self.hidden = torch.nn.Linear(5 * 4 * 3, 6)
            self.out = torch.nn.Linear(6, 2)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.norm(self.filters(x))).flatten(1)
            return self.out(torch.tanh(self.hidden(y)))

    layers = [
        Conv2d(1, 5, 3), BatchNorm2d(5), ReLU(), Flatten(), Linear(60, 6, activation="tanh"), Linear(6, 2),
    ]  # fmt: skip
    mine, model = Mine().eval(), Sequential(*layers, backend="cpu")
    x = torch.randn(4, 1, 6, 5)
    from_torch(mine.state_dict(), into=model)
    same(model(x[:, 0]), mine(x).detach().numpy())
    unknown = Sequential(MaxPool2d(2), Flatten(), Linear(60, 6), backend="cpu")
    with pytest.raises(ValueError, match=r"layer 2, Linear\(60, 6\): it is not known how many channels .* Reshape\("):
        from_torch(torch.nn.Linear(60, 6).state_dict(), into=unknown)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda nn: nn.Conv2d(2, 4, 3, dilation=2), "xpnet has no dilation"),
        (lambda nn: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), "cannot be expressed in xpnet$"),
        (lambda nn: nn.Conv2d(2, 4, 4, padding="same"), "needs a kernel_size of odd numbers, not 4"),
        (lambda nn: nn.MaxPool2d(2, ceil_mode=True), "neither ceil_mode nor return_indices"),
        (lambda nn: nn.AvgPool2d(2, divisor_override=3), "cannot be expressed in xpnet$"),
        (lambda nn: nn.AdaptiveAvgPool2d(2), "whole pictures to one number for each channel"),
        (lambda nn: nn.Dropout2d(0.5), "cannot be expressed in xpnet$"),
        (lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(4, 3)), "takes rows of numbers; put Flatten before it"),
        (lambda nn: nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), "how many channels its pictures have is not known"),
        (
            lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.ReLU()),
            "last; let a linear layer follow",
        ),
        (lambda nn: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 4, 1)), "xpnet has none of after global pool"),
    ],
)
def test_modules_on_pictures_that_cannot_be_expressed(torch: Any, make: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        from_torch(make(torch.nn), "cpu")


def test_weights_lie_as_pytorch_keeps_them(torch: Any) -> None:
    model = Sequential(Linear(3, 2), BatchNorm(2), Linear(2, 1, bias=False), backend="cpu")
    state = to_torch(model).state_dict()
    assert state["0.weight"].shape == (2, 3)
    assert state["0.weight"].is_contiguous()
    np.testing.assert_array_equal(state["0.weight"], model.state_dict()["0.weight"].T)
    assert set(state) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
        "2.weight",
    }  # fmt: skip


def test_modules_of_pytorch(torch: Any) -> None:
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8, momentum=0.3, affine=False), nn.LeakyReLU(0.0)),
        nn.Identity(), nn.Linear(8, 8, bias=False), nn.LayerNorm(8, elementwise_affine=False), nn.ELU(0.3),
        nn.Dropout(0.2), nn.Linear(8, 8), nn.LayerNorm(8, bias=False), nn.GELU("tanh"), nn.Softplus(),
        nn.Linear(8, 3), nn.Softmax(dim=-1),
    )  # fmt: skip
    for _ in range(3):
        module(torch.randn(9, 3, 4))
    x = torch.randn(5, 3, 4)
    model = from_torch(module, "cpu")
    assert [type(layer).__name__ for layer in model][:4] == ["Flatten", "Linear", "BatchNorm", "ReLU"]
    assert model[2] == BatchNorm(8, affine=False, momentum=0.3)
    assert module.training
    same(model(x), module.eval()(x).detach().numpy())
    assert from_torch(module.double(), "cpu").backend.dtype_name == "float64"
    assert from_torch(module.half(), "cpu").backend.dtype_name == "float32"


def test_a_state_dict_of_a_module_of_ones_own(torch: Any) -> None:
    class Mine(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 3)
            self.norm = torch.nn.BatchNorm1d(3)
            self.last = torch.nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.last(torch.relu(self.norm(self.first(x))))

    module, x = Mine().eval(), torch.randn(5, 4)
    model = Sequential(Linear(4, 3), BatchNorm(3), ReLU(), Linear(3, 2), backend="cpu")
    for source in (module, module.state_dict()):
        model.reset(1)
        from_torch(source, into=model)
        same(model(x), module(x).detach().numpy())
    with pytest.raises(TypeError, match=r"PyTorch's module, Mine, cannot be expressed in xpnet"):
        from_torch(module)
    with pytest.raises(TypeError, match="does not say which layers there are; give from_torch"):
        from_torch(module.state_dict())


def test_state_dicts_that_do_not_fit_change_nothing(torch: Any) -> None:
    model = Sequential(Linear(4, 3), ReLU(), Linear(3, 2), backend="cpu")
    before = model.state_dict()
    wrong = {
        r"have 1 layers with weights, but the model has 2": torch.nn.Linear(4, 3),
        r"do not fit layer 2, Linear\(3, 2\): they have no bias": torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False)
        ),
        r"layer 2, Linear\(3, 2\): its weight has shape \(3, 2\), not \(3, 5\)": torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.Linear(3, 5)
        ),
        r"layer 0, Linear\(4, 3\): they have a running_mean that the model has not": torch.nn.Sequential(
            torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2)
        ),
    }
    for match, module in wrong.items():
        with pytest.raises(ValueError, match=match):
            from_torch(module.state_dict(), into=model)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match=r"takes a torch.nn.Module or its state_dict\(\), not list"):
        from_torch([], into=model)
    with pytest.raises(TypeError, match=r"takes a torch.nn.Sequential or a state_dict, not int"):
        from_torch(3)


@pytest.mark.parametrize(
    "make",
    [
        "torch.nn.Hardswish()", "torch.nn.Conv1d(1, 1, 1)", "torch.nn.Softmax(dim=0)", "torch.nn.LeakyReLU(2.0)",
        "torch.nn.Softplus(beta=2)", "torch.nn.Softplus(threshold=1)", "torch.nn.Dropout(1.0)",
        "torch.nn.Flatten(0)", "torch.nn.LayerNorm((2, 2))", "torch.nn.BatchNorm1d(4, track_running_stats=False)",
        "torch.nn.BatchNorm1d(4, momentum=None)",
    ],
)  # fmt: skip
def test_modules_that_cannot_be_expressed_are_named(torch: Any, make: str) -> None:
    part = eval(make, {"torch": torch})
    name = type(part).__name__
    with pytest.raises(TypeError, match=rf"PyTorch's module 1.0, {name}\(.*cannot be expressed in xpnet"):
        from_torch(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sequential(part)))


def test_logits_mean_what_the_loss_says(torch: Any) -> None:
    module, x = torch.nn.Sequential(torch.nn.Linear(4, 3)), RNG.normal(size=(9, 4)).astype("float32")
    assert from_torch(module, "cpu").task == "values"
    model = from_torch(module, "cpu", loss="cross_entropy")
    assert (model.task, model.loss_name) == ("classes", "softmax_cross_entropy")
    np.testing.assert_array_equal(model.predict(x), module(torch.from_numpy(x)).argmax(dim=1))
    Trainer(model).fit(x, np.arange(9) % 3)


def test_pixels_of_an_imported_network_are_not_scaled(torch: Any) -> None:
    module, x = torch.nn.Sequential(torch.nn.Linear(64, 3)), RNG.integers(0, 256, (9, 64))
    same(from_torch(module, "cpu")(x), module(torch.from_numpy(x).float()).detach().numpy())


# ---- Keras -----------------------------------------------------------------------------------------------------------


@of_keras
@settings(max_examples=30)
@given(model=networks(), seed=SEEDS)
def test_random_networks_to_keras_and_back(keras: Any, model: Sequential, seed: int) -> None:
    x = rows_for(model, 7, seed)
    made = to_keras(model)
    # Most of Keras's backends compute in float32, whatever a layer's dtype; and LayerNormalization by mean(x^2) -
    # mean(x)^2, which loses digits where the numbers of a row are nearly equal.
    tolerance = 1e-3 if any(isinstance(layer, LayerNorm) for layer in model) else 1e-5
    np.testing.assert_allclose(made(x), model(x), rtol=tolerance, atol=tolerance)
    back = from_keras(made, "cpu")
    assert back.backend.dtype_name == model.backend.dtype_name
    same(back(x), model(x))
    for array, other in zip(to_keras(back).get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(array, other)
    weights = made.get_weights()
    statistics = statistics_of(model)
    model.reset(model.seed + 1)
    model.load_state_dict(model.state_dict() | statistics)
    assert from_keras(weights, into=model) is model
    same(model(x), back(x))


@of_keras
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_networks_on_pictures_to_keras_and_back(first: int, keras: Any) -> None:
    expressed = 0
    for seed in range(first, first + 20):
        network = drawn(seed, rows=6, dropout=True)
        model = Sequential(network.layers, backend="cpu", seed=seed)
        fill(model, seed)
        x = network.x.astype("float32")
        model.units = Units(scale=0.5 if seed % 3 == 0 else 1.0, row_shape=network.shape)
        pooling = [layer for layer in model if isinstance(layer, MaxPool2d | AvgPool2d) and layer.padding != 0]
        if not all(isinstance(layer, AvgPool2d) and layer.count_include_pad for layer in pooling):
            with pytest.raises(TypeError, match="it pads with zeros, which count"):
                to_keras(model)
            continue
        made = to_keras(model)
        expressed += 1
        np.testing.assert_allclose(made(x), model(x), rtol=1e-5, atol=1e-5)
        back = from_keras(made, "cpu")
        same(back(x), model(x))
        for array, other in zip(to_keras(back).get_weights(), made.get_weights(), strict=True):
            np.testing.assert_array_equal(array, other)
        other = Sequential(model.layers, backend="cpu", seed=seed + 1)
        other.units = model.units
        same(from_keras(made.get_weights(), into=other)(x), model(x))
    assert expressed >= 10


@of_keras
def test_layers_of_keras_on_pictures(keras: Any) -> None:
    kinds = keras.layers
    made = keras.Sequential(
        [
            keras.Input((72,)), kinds.Reshape((8, 9, 1)), kinds.Conv2D(4, 3, padding="same", activation="relu"),
            kinds.BatchNormalization(), kinds.MaxPooling2D(2), kinds.ZeroPadding2D((1, 2)), kinds.Conv2D(6, (2, 3), 2),
            kinds.DepthwiseConv2D(1, depth_multiplier=2, use_bias=False, activation="tanh"),
            kinds.AveragePooling2D(3, strides=2, padding="same"), kinds.Flatten(), kinds.Dense(3, "softmax"),
        ]
    )  # fmt: skip
    made.set_weights([RNG.uniform(0.5, 1.5, array.shape) - 0.8 * (array.ndim > 1) for array in made.get_weights()])
    x = RNG.normal(size=(5, 72)).astype("float32")
    model = from_keras(made, "cpu")
    assert [repr(layer) for layer in model] == [
        "Reshape(8, 9, 1)", "Conv2d(1, 4, 3, padding='same')", "ReLU()",
        "BatchNorm2d(4, epsilon=0.001, momentum=0.010000000000000009)", "MaxPool2d(2)",
        "Conv2d(4, 6, (2, 3), stride=2, padding=(1, 2))", "Conv2d(6, 12, 1, groups=6, bias=False)", "Tanh()",
        "AvgPool2d(3, stride=2, padding=1, count_include_pad=False)", "Flatten()", "Linear(48, 3)", "Softmax()",
    ]  # fmt: skip
    same(model(x), made(x))
    pooled = keras.Sequential(
        [
            keras.Input((3, 8, 9)), kinds.Permute((2, 3, 1)), kinds.Conv2D(4, 3, 2, padding="same"),
            kinds.MaxPooling2D(3, strides=1, padding="same"), kinds.GlobalMaxPooling2D(), kinds.Dense(2),
        ]
    )  # fmt: skip
    with pytest.raises(TypeError, match="pads more on one side than on the other"):
        from_keras(pooled, "cpu")
    odd = keras.Sequential([keras.Input((3, 9, 9)), *pooled.layers])
    x = RNG.normal(size=(5, 3, 9, 9)).astype("float32")
    assert repr(from_keras(odd, "cpu")[1]) == "Conv2d(3, 4, 3, stride=2, padding=1)"
    same(from_keras(odd, "cpu")(x), odd(x))


@of_keras
@pytest.mark.parametrize(
    ("make", "why"),
    [
        ("kinds.Conv2D(4, 3, dilation_rate=2)", "xpnet has no dilation"),
        ("kinds.Conv2D(4, 2, padding='same')", "pads more on one side than on the other"),
        ("kinds.ZeroPadding2D(((1, 0), (0, 0)))", "pads more on one side than on the other"),
        ("kinds.SpatialDropout2D(0.5)", ""),
        ("kinds.Permute((2, 1, 3))", ""),
        ("kinds.GlobalAveragePooling2D(keepdims=True)", ""),
    ],
)
def test_layers_of_keras_on_pictures_that_cannot_be_expressed(keras: Any, make: str, why: str) -> None:
    layer = eval(make, {"kinds": keras.layers})
    made = keras.Sequential([keras.Input((8, 8, 2)), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(TypeError, match=rf"Keras's layer '{layer.name}', \w+, cannot be expressed in xpnet.*{why}"):
        from_keras(made)


@of_keras
def test_the_size_of_pictures_is_asked_for_where_keras_needs_it(keras: Any) -> None:
    layers = [Conv2d(2, 3, 3), Flatten(), Linear(12, 2)]
    with pytest.raises(ValueError, match=r"Reshape\(height, width, channels\)"):
        to_keras(Sequential(*layers, backend="cpu"))


@of_keras
def test_layers_of_keras(keras: Any) -> None:
    kinds = keras.layers
    made = keras.Sequential(
        [
            keras.Input((3, 4)), kinds.Rescaling(2.0, offset=-1.0), kinds.Rescaling(0.5), kinds.Flatten(),
            kinds.Dense(8, activation="relu"), kinds.BatchNormalization(center=False),
            kinds.Dense(8, activation="leaky_relu"), kinds.LayerNormalization(scale=False), kinds.ReLU(),
            kinds.Dense(8, activation="swish"), kinds.ReLU(negative_slope=0.1), kinds.Activation("elu"),
            kinds.Dense(8, activation=keras.activations.gelu), kinds.Dropout(0.5), kinds.Activation("linear"),
            kinds.Dense(3, "softmax"),
        ]
    )  # fmt: skip
    made.set_weights([RNG.uniform(0.5, 1.5, array.shape) for array in made.get_weights()])
    x = RNG.normal(size=(5, 3, 4)).astype("float32")
    model = from_keras(made, "cpu")
    assert model.units == Units(1.0, -0.5)
    assert model[3] == BatchNorm(8, 1e-3, momentum=1 - 0.99)
    assert to_keras(Sequential(Linear(3, 2), BatchNorm(2, momentum=0.25), backend="cpu")).layers[1].momentum == 0.75
    assert model[5] == LeakyReLU(0.2)
    assert model[-1] == Softmax()
    same(model(x), made(x))


@of_keras
def test_statistics_that_keras_has_learnt(keras: Any) -> None:
    x = (5 + 3 * RNG.normal(size=(50, 3))).astype("float32")
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    made = keras.Sequential([keras.Input((3,)), normalization, keras.layers.Dense(2)])
    same(from_keras(made, "cpu")(x), made(x))


@of_keras
def test_gelu_by_tanh_survives_a_file_of_keras(keras: Any, tmp_path: Path) -> None:
    model, x = Sequential(Linear(3, 2), GELU("tanh"), backend="cpu"), RNG.normal(size=(4, 3)).astype("float32")
    to_keras(model).save(tmp_path / "m.keras")
    same(keras.models.load_model(tmp_path / "m.keras")(x), model(x))


@of_keras
@pytest.mark.parametrize(
    "make",
    [
        "kinds.Dense(4, activation='mish')", "kinds.Dense(4, activation=lambda x: x)", "kinds.RepeatVector(2)",
        "kinds.ReLU(max_value=6)", "kinds.Rescaling(2.0)", "kinds.LayerNormalization(axis=[-1, 1])",
        "kinds.ELU(alpha=-1.0)", "kinds.Softmax(axis=0)",
    ],
)  # fmt: skip
def test_layers_of_keras_that_cannot_be_expressed_are_named(keras: Any, make: str) -> None:
    layer = eval(make, {"kinds": keras.layers})
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), layer])
    with pytest.raises(TypeError, match=rf"Keras's layer '{layer.name}', \w+, cannot be expressed in xpnet"):
        from_keras(made)


@of_keras
def test_models_of_keras_that_are_refused(keras: Any) -> None:
    with pytest.raises(ValueError, match=r"is not built: give it keras.Input\(shape\) first"):
        from_keras(keras.Sequential([keras.layers.Dense(4)]))
    inputs = keras.Input((4,))
    with pytest.raises(TypeError, match=r"takes a keras\.Sequential or its get_weights"):
        from_keras(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
    with pytest.raises(TypeError, match="does not say which layers there are; give from_keras"):
        from_keras([np.ones((2, 2))])
    model = Sequential(Linear(2, 2), backend="cpu")
    with pytest.raises(ValueError, match="have 1 arrays more than"):
        from_keras([np.ones((2, 2)), np.ones(2), np.ones(2)], into=model)
    with pytest.raises(ValueError, match=r"they have no bias"):
        from_keras([np.ones((2, 2))], into=model)


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(["sigmoid", "tanh", "relu", "identity"]), seed=SEEDS)
def test_random_networks_to_scikit_learn_and_back(data: Any, name: str, seed: int) -> None:
    parts = ("standardize", "dropout", "flatten", "units")
    model = data.draw(networks(parts, activations=[Dropout(0.1)], names=[name]))
    x = rows_for(model, 7, seed)
    estimator = to_sklearn(model)
    back = from_sklearn(estimator, "cpu")
    assert back.backend.dtype_name == model.backend.dtype_name
    assert back.task == model.task
    if model.task == "values":
        expected = model(x)
        same(np.reshape(estimator.predict(x), expected.shape), expected)
        same(back(x), expected)
        return
    probabilities = model.predict_proba(x)
    if model.task == "classes" and probabilities.shape[1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    same(estimator.predict_proba(x), probabilities)
    np.testing.assert_array_equal(estimator.predict(x), model.predict(x))
    np.testing.assert_array_equal(back.predict(x), model.predict(x))


@pytest.mark.parametrize("names", [("no", "yes"), ("a", "b", "c"), ("0", "1", "2")])
def test_names_of_classes_go_both_ways(names: tuple[str, ...]) -> None:
    x, y = RNG.normal(size=(30, 4)).astype("float32"), np.arange(30) % len(names)
    model = Sequential(Linear(4, 5), ReLU(), Linear(5, len(names)), backend="cpu")
    Trainer(model).fit(Dataset(x, y, class_names=names))
    estimator = to_sklearn(model)
    assert estimator.predict(x).astype(str).tolist() == model.predict_names(x)
    assert estimator.classes_.dtype.kind == ("i" if names[0] == "0" else "U")
    back = from_sklearn(estimator, "cpu")
    assert back.class_names == names
    assert back.predict_names(x) == model.predict_names(x)


def test_a_network_goes_on_training_in_scikit_learn_and_here() -> None:
    x = RNG.normal(size=(200, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    model = Sequential(Linear(4, 16), Tanh(), Linear(16, 3), Softmax(), backend="cpu", dtype="float64")
    Trainer(model).fit(x, y, epochs=2)
    estimator = to_sklearn(model)
    before, coef = estimator.score(x, y), estimator.coefs_[0].copy()
    estimator.partial_fit(x, y)
    assert np.abs(estimator.coefs_[0] - coef).max() == pytest.approx(0.001, rel=1e-3)  # the first step of Adam
    for _ in range(40):
        estimator.partial_fit(x, y)
    assert estimator.score(x, y) > before
    back = from_sklearn(estimator, "cpu")
    Trainer(back).fit(x, y, epochs=30)
    assert back.loss_name == "softmax_cross_entropy"
    assert (back.predict(x) == y).mean() >= estimator.score(x, y) - 0.02


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("targets", ["two classes", "three classes", "labels", "a value", "values"])
def test_estimators_of_scikit_learn(activation: str, targets: str) -> None:
    from sklearn.neural_network import MLPClassifier as Classifier
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = 5 + RNG.normal(size=(40, 4))
    y = {
        "two classes": np.array(["no", "yes"])[np.arange(40) % 2],
        "three classes": np.arange(40) % 3 + 1,
        "labels": RNG.integers(0, 2, (40, 3)),
        "a value": x[:, 0],
        "values": x[:, :2],
    }[targets]
    kind = MLPRegressor if "value" in targets else Classifier
    settings = {"hidden_layer_sizes": (6, 5), "activation": activation, "max_iter": 5, "random_state": 0}
    estimator = make_pipeline(
        StandardScaler(with_mean=False),
        "passthrough",
        StandardScaler(),
        StandardScaler(with_std=False),
        kind(**settings),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        estimator.fit(x, y)
    model = from_sklearn(estimator, "cpu")
    if "value" in targets:
        same(model.predict(x), estimator.predict(x))
        return
    probabilities = estimator.predict_proba(x)
    same(model.predict_proba(x), probabilities[:, 1:] if targets == "two classes" else probabilities)
    if targets == "labels":
        np.testing.assert_array_equal(model.predict(x), estimator.predict(x))
    else:
        assert model.predict_names(x) == estimator.predict(x).astype(str).tolist()


@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", LeakyReLU(0.2)])
def test_estimators_of_xpnet(activation: Any) -> None:
    x = RNG.normal(size=(40, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        estimator = MLPClassifier((6, 5), activation=activation, max_iter=5, device="cpu").fit(x, np.arange(40) % 3 + 1)
    model = from_sklearn(estimator, "cpu")
    same(model.predict_proba(x), estimator.predict_proba(x))
    assert model.class_names == ("1", "2", "3")


def test_estimators_that_are_refused() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    x = RNG.uniform(size=(20, 2))
    with pytest.raises(TypeError, match="ends in one, not LogisticRegression"):
        from_sklearn(LogisticRegression())
    with pytest.raises(ValueError, match="this MLPRegressor is not fitted yet; call its fit first"):
        from_sklearn(MLPRegressor())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = make_pipeline(MinMaxScaler(), MLPRegressor(max_iter=2)).fit(x, x[:, 0])
    with pytest.raises(TypeError, match="step 'minmaxscaler', MinMaxScaler, cannot be expressed in xpnet"):
        from_sklearn(fitted)


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ([Linear(4, 3), SiLU(), Linear(3, 2)], r"layer 1, SiLU\(\), cannot be expressed in scikit-learn: it has id"),
        ([Linear(4, 3), BatchNorm(3), Linear(3, 2)], r"layer 1, BatchNorm\(3\), cannot be expressed in scikit-learn"),
        ([Linear(4, 3), ReLU(), Linear(3, 3), Tanh(), Linear(3, 2)], "different activations, relu, tanh"),
        ([Linear(4, 3), ReLU(), Tanh(), Linear(3, 2)], r"layer 2, Tanh\(\), cannot .* follows a linear layer"),
        ([Linear(4, 2), ReLU()], "it ends in the activation relu"),
    ],
)  # fmt: skip
def test_networks_that_scikit_learn_has_not(layers: list[Layer], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        to_sklearn(Sequential(layers, backend="cpu"))


# ---- what all refuse -------------------------------------------------------------------------------------------------


class Doubled(Linear):
    def forward(self, x: Any, ctx: Any) -> Any:
        return 2.0 * super().forward(x, ctx)


@pytest.mark.parametrize("to", [to_torch, to_keras, to_sklearn])
def test_a_layer_of_ones_own_is_named(to: Any, keras: Any) -> None:
    model = Sequential(Linear(3, 3), Doubled(3, 2), backend="cpu")
    with pytest.raises(
        TypeError, match=r"layer 1, Doubled\(3, 2\), cannot be expressed in .*: its class computes in a way"
    ):
        to(model)


@pytest.mark.parametrize(
    ("call", "module", "install"),
    [
        (to_torch, "torch", "torch"), (from_torch, "torch", "torch"), (to_keras, "keras", "keras"),
        (from_keras, "keras", "keras"), (to_sklearn, "sklearn.neural_network", "scikit-learn"),
    ],
)  # fmt: skip
def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, call: Any, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"nn.{call.__name__} needs {install}, .*: pip install {install}"):
        call(Sequential(Linear(3, 2), backend="cpu"))

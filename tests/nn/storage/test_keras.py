"""Networks to and from Keras: the same outputs, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from nn import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Sequential,
    Softmax,
    from_keras,
    to_keras,
)
from nn.data import Units
from tests.helpers.exchanged import SEEDS, same, statistics_of
from tests.helpers.networks import fill, networks, rows_for
from tests.helpers.picture_networks import drawn

RNG = np.random.default_rng(0)
#: Of Keras's own code, with the newest NumPy.
of_keras = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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

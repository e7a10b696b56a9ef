from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import (
    ELU,
    GELU,
    SGD,
    Context,
    Dataset,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    load_data,
)
from tests.helpers.backends import make_backend

RNG = np.random.default_rng(0)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p: np.ndarray = e / e.sum(axis=1, keepdims=True)
    return p


def test_forward_is_the_formula_on_every_backend(backend: Backend) -> None:
    model = Sequential(
        Linear(5, 4), Tanh(), Linear(4, 3), ReLU(), Linear(3, 6, bias=False), Sigmoid(), Linear(6, 2), Softmax(),
        backend=backend, seed=3,
    )  # fmt: skip
    p = {name: value.astype("f8") for name, value in model.state_dict().items()}
    x = RNG.normal(size=(7, 5))
    h = np.tanh(x @ p["0.weight"] + p["0.bias"])
    h = np.maximum(h @ p["2.weight"] + p["2.bias"], 0)
    h = 1 / (1 + np.exp(-(h @ p["4.weight"])))
    expected = softmax(h @ p["6.weight"] + p["6.bias"])
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-5
    np.testing.assert_allclose(model(x), expected, rtol=tolerance)
    np.testing.assert_array_equal(model.predict(x), expected.argmax(axis=1))
    assert model(x).dtype == backend.dtype_name


def test_start_values_are_equal_on_every_backend_and_in_both_dtypes(backend: Backend) -> None:
    here = Sequential(Linear(9, 8), ReLU(), Linear(8, 2), backend=backend, seed=11).state_dict()
    cpu = Sequential(Linear(9, 8), ReLU(), Linear(8, 2), backend="cpu", dtype="float64", seed=11).state_dict()
    for name, values in here.items():
        np.testing.assert_array_equal(values, cpu[name].astype(backend.dtype_name))


def test_a_layers_start_values_do_not_depend_on_the_layers_after_it() -> None:
    short = Sequential(Linear(3, 4), Linear(4, 2), backend="cpu").state_dict()
    long = Sequential(Linear(3, 4), Linear(4, 2), Linear(2, 7), backend="cpu").state_dict()
    np.testing.assert_array_equal(short["1.weight"], long["1.weight"])
    other = Sequential(Linear(3, 4), Linear(4, 2), backend="cpu", seed=1).state_dict()
    assert not np.any(short["0.weight"] == other["0.weight"])


def test_parameters_are_views_into_one_aligned_buffer(which_backend: tuple[str, bool]) -> None:
    backend = make_backend(which_backend)
    model = Sequential(Linear(3, 5), Linear(5, 2), backend=backend)
    assert model.parameter_count == 3 * 5 + 5 + 5 * 2 + 2
    model.flat_parameters[...] = backend.asarray(np.arange(model.flat_parameters.shape[0], dtype="f4"))
    state, layout = model.state_dict(), model.store.layout
    for name, values in state.items():
        start = layout.offsets[name]
        assert start % 16 == 0
        np.testing.assert_array_equal(values.ravel(), np.arange(start, start + values.size))
    assert layout.offsets["1.weight"] < layout.n_decayed <= layout.offsets["0.bias"]


def test_an_activation_is_joined_to_its_linear_layer_and_means_the_same() -> None:
    apart = Sequential(Linear(4, 3), Tanh(), Linear(3, 2), Tanh(), backend="cpu")
    inside = Sequential(Linear(4, 3, activation="tanh"), Linear(3, 2, activation="tanh"), backend="cpu")
    inside.load_state_dict(dict(zip(inside.parameters, apart.state_dict().values(), strict=True)))
    x = RNG.normal(size=(5, 4)).astype("f4")
    np.testing.assert_array_equal(apart(x), inside(x))


def test_an_activation_may_stand_anywhere() -> None:
    model = Sequential(Tanh(), Linear(4, 3), Sigmoid(), ReLU(), Dropout(0.5), Tanh(), Linear(3, 2), backend="cpu")
    p = model.state_dict()
    x = RNG.normal(size=(5, 4)).astype("f4")
    h = np.tanh(np.maximum(1 / (1 + np.exp(-(np.tanh(x) @ p["1.weight"] + p["1.bias"]))), 0))
    np.testing.assert_allclose(model(x), h @ p["6.weight"] + p["6.bias"], rtol=1e-5)


def test_pictures_are_flattened() -> None:
    pictures = RNG.integers(0, 256, size=(6, 8, 8), dtype=np.uint8)
    model = Sequential(Flatten(), Linear(64, 3), backend="cpu")
    np.testing.assert_array_equal(model(pictures), model(pictures.reshape(6, 64)))


class Picture(Layer):
    """A layer of a user's own: rows of 4 numbers as 2 x 2 pictures."""

    def output_shape(self, shape: Any) -> Any:
        return None if shape is None else (2, 2)

    def forward(self, x: Any, ctx: Context) -> Any:
        return ctx.backend.xp.reshape(x, (x.shape[0], 2, 2))

    def backward(self, dy: Any, ctx: Context) -> Any:
        return ctx.backend.xp.reshape(dy, (dy.shape[0], 4))


def test_flatten_and_a_layer_of_ones_own_go_both_ways() -> None:
    plain = Sequential(Linear(3, 4), Linear(4, 2), Softmax(), backend="cpu")
    shaped = Sequential(Linear(3, 4), Picture(), Flatten(), Linear(4, 2), Softmax(), backend="cpu")
    shaped.load_state_dict(dict(zip(shaped.parameters, plain.state_dict().values(), strict=True)))
    data = (RNG.normal(size=(8, 3)), RNG.integers(0, 2, 8))
    for model in (plain, shaped):
        Trainer(model).fit(data, 2, 4)
    for a, b in zip(plain.state_dict().values(), shaped.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_predictions_do_not_depend_on_the_batch_size_nor_disturb_the_rows() -> None:
    model = Sequential(Linear(4, 3), Sigmoid(), Linear(3, 3), Softmax(), backend="cpu", dtype="float64")
    x = RNG.normal(size=(10, 4))
    before = x.copy()
    np.testing.assert_allclose(model(x, batch_size=3), model(x), rtol=1e-14)
    np.testing.assert_array_equal(x, before)


def test_predictions_keep_no_reference_to_memory_of_the_model() -> None:
    model = Sequential(Linear(4, 3), Softmax(), backend="cpu")
    first = model(np.ones((2, 4)))
    kept = first.copy()
    model(np.zeros((2, 4)))
    np.testing.assert_array_equal(first, kept)


def test_one_sigmoid_output_predicts_0_and_1() -> None:
    model = Sequential(Linear(2, 1, weight_init=[[1.0], [1.0]]), Sigmoid(), backend="cpu")
    x = [[-1.0, 0.0], [2.0, 1.0]]
    np.testing.assert_array_equal(model.predict(x), [0, 1])
    np.testing.assert_allclose(model.predict_proba(x)[:, 0], 1 / (1 + np.exp([1.0, -3.0])), rtol=1e-6)


def test_a_network_that_ends_in_logits_gives_probabilities_once_its_loss_is_known() -> None:
    model = Sequential(Linear(4, 3), backend="cpu", dtype="float64")
    x = RNG.normal(size=(5, 4))
    with pytest.raises(ValueError, match=r"gives no probabilities; end it with Softmax\(\) or Sigmoid\(\)"):
        model.predict_proba(x)
    Trainer(model, "softmax_cross_entropy")
    np.testing.assert_allclose(model.predict_proba(x), softmax(model(x)), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), model(x).argmax(axis=1))

    model = Sequential(Linear(4, 1), backend="cpu", dtype="float64")
    Trainer(model, "binary_cross_entropy")
    np.testing.assert_allclose(model.predict_proba(x), 1 / (1 + np.exp(-model(x))), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), (model(x)[:, 0] > 0).astype(int))


def test_numbers_of_any_dtype_are_scaled_as_in_training() -> None:
    pixels = RNG.integers(0, 17, size=(30, 4), dtype=np.uint8)
    data = Dataset(pixels, RNG.integers(0, 2, 30), scale=1 / 16, shift=-0.5)
    model = Sequential(Linear(4, 2), Softmax(), backend="cpu")
    Trainer(model).fit(data)
    np.testing.assert_array_equal(model(data), model(pixels))
    for dtype in ("int64", "float32", "float64"):
        np.testing.assert_array_equal(model(data), model(pixels.astype(dtype)))
    np.testing.assert_allclose(model(pixels), model(Dataset(pixels / 16 - 0.5, data.y)), rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "at least one layer"),
        (
            [Linear(3, 4), Linear(5, 2)],
            ValueError,
            r"layer 1 does not fit .*takes rows of 5 numbers, not of shape \(4,\)$",
        ),
        ([Linear(3, 4), ReLU], TypeError, r"layer 1 is <class .*ReLU'>, not a layer; write ReLU\(\)$"),
        ([Linear, ReLU()], TypeError, r"layer 0 is <class .*Linear'>, not a layer; write Linear\(\.\.\.\)$"),
        ([Linear(3, 4), "relu"], TypeError, r"layer 1 is 'relu', not a layer; write ReLU\(\)$"),
        ([Linear(3, 4), "leaky_relu"], TypeError, r"layer 1 is 'leaky_relu', not a layer; write LeakyReLU\(\)$"),
        (["linear", Linear(3, 4)], TypeError, r"layer 0 is 'linear', not a layer; write Linear\(\.\.\.\)$"),
        ([Linear(3, 4), "swish"], TypeError, "layer 1 is 'swish', not a layer$"),
        ([Linear(3, 4), int], TypeError, "layer 1 is <class 'int'>, not a layer$"),
        ([Softmax(), Linear(3, 4)], ValueError, "layer 0 is Softmax.*belongs at the end"),
        ([ReLU()], ValueError, "needs a Linear layer"),
        ([Linear(4, 4), Picture(), Linear(4, 1)], ValueError, r"not of shape \(2, 2\); put Flatten\(\) before it"),
    ],
)
def test_networks_that_do_not_fit_together(layers: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sequential(*layers, backend="cpu")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0, 3), "in_features must be a whole number of at least 1, not 0"),
        (lambda: Linear(3, 2.5), "out_features must be a whole number"),  # type: ignore[arg-type]
        (lambda: Linear(3, 2, activation="swish"), "unknown activation 'swish'; known are identity, sigmoid"),
        (lambda: Linear(3, 2, activation="elu(-1)"), "^elu: alpha must be a number above 0, not -1.0"),
        (lambda: GELU("erf"), "^GELU: approximate must be 'none' or 'tanh', not 'erf'"),
        (
            lambda: LeakyReLU(0.0),
            "^LeakyReLU: negative_slope must be a number above 0 and below 1, not 0.0; ReLU.. has 0",
        ),
        (lambda: LeakyReLU(1.0), "^LeakyReLU: negative_slope must be a number above 0 and below 1, not 1.0"),
        (lambda: ELU(float("inf")), "^ELU: alpha must be a number above 0, not inf"),
        (lambda: ELU(0.0), "^ELU: alpha must be a number above 0, not 0.0"),
        (lambda: Linear(3, 2, weight_init="xavier"), "unknown initial values"),
        (lambda: Dropout(1.0), "at least 0 and below 1"),
        (lambda: Dropout(-0.1), "at least 0 and below 1"),
    ],
)
def test_settings_of_layers_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_rows_that_do_not_fit_are_named() -> None:
    model = Sequential(Linear(4, 2), backend="cpu")
    with pytest.raises(ValueError, match=r"rows of the data, of shape \(5,\), do not fit: Linear\(4, 2\) takes"):
        model(np.ones((3, 5)))


def test_rows_that_fit_neither_flat_nor_as_pictures_are_named_as_they_are() -> None:
    model = Sequential(Linear(4, 2), backend="cpu")
    with pytest.raises(ValueError, match=r"^the rows of the data, of shape \(3, 3\), do not fit: Linear\(4, 2\) takes"):
        Trainer(model).fit(Dataset(np.ones((2, 3, 3)), np.array([0, 1])))


def test_layer_outputs_are_those_of_rows_as_the_network_sees_them() -> None:
    pixels = RNG.integers(0, 17, size=(7, 4), dtype=np.uint8)
    model = Sequential(Linear(4, 3), Tanh(), Linear(3, 2), Softmax(), backend="cpu", dtype="float64")
    found = model.layer_outputs(Dataset(pixels, np.zeros(7, int), scale=1 / 16, shift=-0.5))
    p = model.state_dict()
    hidden = np.tanh((pixels / 16 - 0.5) @ p["0.weight"] + p["0.bias"])
    assert list(found) == ["0", "2", "3"]
    np.testing.assert_allclose(found["0"], hidden, rtol=1e-12)
    np.testing.assert_allclose(found["2"], hidden @ p["2.weight"] + p["2.bias"], rtol=1e-12)
    np.testing.assert_allclose(found["3"], softmax(found["2"]), rtol=1e-12)


def test_a_new_model_has_gradients_of_zero() -> None:
    model = Sequential(Linear(4, 2), backend="cpu")
    assert list(model.gradients) == ["0.weight", "0.bias"]
    assert not any(gradient.any() for gradient in model.gradients.values())


def test_state_that_does_not_fit_changes_nothing() -> None:
    model = Sequential(Linear(2, 2), backend="cpu")
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"missing \['0.bias'\], unknown \['b'\]"):
        model.load_state_dict({"0.weight": np.zeros((2, 2)), "b": np.zeros(2)})
    with pytest.raises(ValueError, match=r"parameter 0.bias has shape \(2,\), but the values \(3,\)"):
        model.load_state_dict({"0.weight": np.zeros((2, 2)), "0.bias": np.zeros(3)})
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("seed", [-1, 1.0, True, "one", None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    """Streams are keyed by the seed as text: 1.0 would be another seed than 1."""
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, not "):
        Sequential(Linear(2, 2), backend="cpu", seed=seed)
    model = Sequential(Linear(2, 2), backend="cpu", seed=np.int64(1))  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        model.state_dict()["0.weight"], Sequential(Linear(2, 2), backend="cpu", seed=1).state_dict()["0.weight"]
    )
    if seed is not None:  # which means the model's own
        with pytest.raises(ValueError, match="seed must be a whole number of at least 0, not "):
            model.reset(seed)
        assert model.seed == 1


def test_start_values_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0.weight has shape \(2, 1\), but the values \(2,\)"):
        Sequential(Linear(2, 1, weight_init=[1.0, 2.0]), backend="cpu")


def test_a_model_shows_itself_as_it_is_written() -> None:
    model = Sequential(Linear(784, 64, weight_init="normal"), Sigmoid(), Dropout(0.2), Linear(64, 10), backend="cpu")
    assert repr(model) == (
        "Sequential(\n    Linear(784, 64, weight_init='normal'),\n    Sigmoid(),\n    Dropout(rate=0.2),\n"
        "    Linear(64, 10),\n    backend='cpu', dtype='float32')"
    )


def test_a_model_is_the_sequence_of_its_layers() -> None:
    layers = [Linear(4, 3), Tanh(), Linear(3, 2), Softmax()]
    model = Sequential(*layers, backend="cpu")
    assert len(model) == 4
    assert [*model] == layers
    assert [*reversed(model)] == layers[::-1]
    assert (model[0], model[-1], model[2]) == (layers[0], layers[-1], layers[2])
    assert model[:2] == (layers[0], layers[1])
    assert model[::-2] == (layers[3], layers[1])
    assert layers[1] in model
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"this network has 4 layers, 0 to 3; there is none of {index}"):
            model[index]
    wrong: Any = "0.weight"
    with pytest.raises(TypeError, match=r"a layer is taken by its number, .*, not by '0.weight'; model.parameters has"):
        model[wrong]


def test_classes_are_predicted_by_their_names() -> None:
    x, y = np.eye(4), np.arange(4) % 3
    model = Sequential(Linear(4, 5), Softmax(), backend="cpu")
    with pytest.raises(ValueError, match="was not trained on classes"):
        model.predict_names(x)
    Trainer(model, optimizer=SGD(1.0)).fit(Dataset(x, y, class_names=("ant", "bee", "cat")), 50)
    assert model.predict_names(x) == ["ant", "bee", "cat", "ant"]
    assert model.predict_names(x[1]) == ["bee"]
    bias = model.state_dict() | {"0.bias": np.array([0, 0, 0, 0, 99.0])}  # a class that no training row had
    model.load_state_dict(bias)
    assert model.predict_names(x[:1]) == ["4"]
    Trainer(model, "mse").fit(x, np.zeros((4, 5)))
    assert model.class_names is None


class Halves(Layer):
    """The left and the right half of a picture (8, 8), summed: a first layer that takes pictures and no flat rows."""

    def input_shape(self) -> Any:
        return (8, 8)

    def output_shape(self, shape: Any) -> Any:
        if shape not in (None, (8, 8)):
            raise ValueError(f"Halves takes pictures of 8 x 8, not rows of shape {shape}")
        return (2,)

    def forward(self, x: Any, ctx: Context) -> Any:
        xp = ctx.backend.xp
        return xp.stack([xp.sum(x[:, :, :4], axis=(1, 2)), xp.sum(x[:, :, 4:], axis=(1, 2))], axis=1)


def test_the_shape_of_a_picture_reaches_the_network(which_backend: tuple[str, bool]) -> None:
    """Whether rows come flat with an ``image_shape``, as pictures, or as one picture."""
    data = load_data("digits", limit=90).train
    model = Sequential(Halves(), Linear(2, 10), Softmax(), backend=make_backend(which_backend), seed=1)
    trainer = Trainer(model)
    trainer.fit(data, 2, 32, validation=data)
    pictures = data.features().reshape(-1, 8, 8)
    halves = np.stack([pictures[:, :, :4].sum(axis=(1, 2)), pictures[:, :, 4:].sum(axis=(1, 2))], axis=1)
    expected = halves @ model.state_dict()["1.weight"] + model.state_dict()["1.bias"]
    np.testing.assert_array_equal(model.predict(data), expected.argmax(axis=1))
    np.testing.assert_array_equal(model.predict(data.x.reshape(-1, 8, 8)), model.predict(data))
    np.testing.assert_allclose(model(data.x[3].reshape(8, 8)), model(data)[3:4], rtol=1e-5)
    assert trainer.evaluate(data)["accuracy"] == np.mean(model.predict(data) == data.y)
    with pytest.raises(ValueError, match=r"of shape \(9,\), do not fit: Halves takes pictures of 8 x 8"):
        model.predict(np.full((3, 9), 5))


@pytest.mark.parametrize("leaves", [False, True])
def test_a_model_predicts_in_two_threads_at_once(leaves: bool) -> None:
    """While one thread is between two layers, another one computes other rows with the same model; also where a layer
    reads what it has left for backward."""
    other: list[Any] = []

    class Between(Layer):
        def forward(self, x: Any, ctx: Context) -> Any:
            ctx.saved = x
            if threading.current_thread() is threading.main_thread() and meanwhile:
                meanwhile.pop()()
            return ctx.saved if leaves else x

    def predict_others() -> None:
        thread = threading.Thread(target=lambda: other.append(model(x2)))
        thread.start()
        thread.join()

    meanwhile: list[Any] = []
    model = Sequential(Linear(4, 6), Tanh(), Between(), Linear(6, 3), Softmax(), backend="cpu", seed=1)
    x1, x2 = np.random.default_rng(0).normal(size=(2, 9, 4))
    expected = model(x1), model(x2)
    meanwhile.append(predict_others)
    np.testing.assert_array_equal(model(x1), expected[0])
    np.testing.assert_array_equal(other[0], expected[1])


def test_what_a_trained_network_predicts_changes_by_training_alone() -> None:
    x, y = RNG.normal(size=(40, 4)), RNG.integers(0, 2, 40)
    model = Sequential(Linear(4, 2), backend="cpu", seed=3)
    Trainer(model).fit((x, y), 2, 10)
    before = model.predict_proba(x)
    Trainer(model, "binary_cross_entropy")
    Trainer(model, "mse")
    np.testing.assert_array_equal(model.predict_proba(x), before)
    Trainer(model, "mse").fit((x, RNG.normal(size=(40, 2))), 1, 10)
    np.testing.assert_array_equal(model.predict(x), model(x))
    with pytest.raises(ValueError, match="gives no probabilities"):
        model.predict_proba(x)


def test_a_parameter_may_not_have_the_name_of_the_result() -> None:
    class Named(Layer):
        def parameters(self) -> Any:
            return {"output": ((4,), None)}

    with pytest.raises(ValueError, match="layer 0 names a parameter `output`"):
        Sequential(Named(), Linear(4, 2), backend="cpu")

"""Networks on pictures: convolution, pooling, normalization and shapes, from the first row to the last."""

from __future__ import annotations

import copy
import pickle
import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.core import Core
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.rules import EXACT, RULES
from nn import (
    GELU,
    SGD,
    Adam,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Callback,
    ChannelsLast,
    Checkpoint,
    Conv2d,
    Dataset,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Optimizer,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    compare_backends,
    load_data,
    load_model,
    save_model,
)
from nn.sinks import takes_input_scale
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler
from tests.helpers.recorded_runs import Eager
from tests.helpers.resumed import Kill, Killed
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED, made

DIGITS = load_data("digits", limit=1200)
RNG = np.random.default_rng(14)
PIXELS = RNG.integers(0, 256, size=(30, 6, 6), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 30)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "plain": lambda: SGD(0.2),
    "momentum": lambda: SGD(0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.02),
}


def small() -> list[Layer]:
    """A network of all layers, for pictures of 6 x 6 with one channel."""
    return [
        Reshape(1, 6, 6), ChannelsLast(), Conv2d(1, 4, 3, padding="same"), ReLU(), MaxPool2d(2),
        Conv2d(4, 6, 2, bias=False, groups=2), BatchNorm2d(6), Tanh(), AvgPool2d(2, stride=1, padding=1),
        Dropout(0.2), Conv2d(6, 5, 2, activation="gelu"), Flatten(), Linear(20, 3), Softmax(),
    ]  # fmt: skip


class Reads(Callback):
    """Reads the gradients of each batch, so that they are kept."""

    def on_batch_end(self, *_: Any) -> None:
        pass


def eager(backend: Backend) -> Backend:
    """A backend that records nothing."""
    backend.record = partial(Core.record, backend)  # type: ignore[method-assign]
    return backend


# ---- training -------------------------------------------------------------------------------------------------------

NETWORKS: dict[str, list[Layer]] = {
    "flat rows": [
        Reshape(8, 8, 1), Conv2d(1, 8, 3, padding="same"), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Conv2d(8, 16, 3, padding=1, groups=2), Tanh(), AvgPool2d(2), Flatten(), Linear(64, 10), Softmax(),
    ],
    "pictures": [Conv2d(1, 16, 3), ReLU(), Conv2d(16, 32, 3), ReLU(), GlobalMaxPool2d(), Linear(32, 10), Softmax()],
    "channels first": [
        Reshape(1, 8, 8), ChannelsLast(), Conv2d(1, 16, 3), MaxPool2d(3, stride=1, padding=1), ReLU(),
        Conv2d(16, 24, 3), ReLU(), GlobalAvgPool2d(), Linear(24, 10),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("network", "least"), [("flat rows", 0.9), ("pictures", 0.85), ("channels first", 0.7)])
def test_a_network_learns_digits(network: str, least: float) -> None:
    model = Sequential(*NETWORKS[network], backend="cpu", seed=1)
    trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    history = trainer.fit(DIGITS.train, epochs=4, batch_size=32, validation=DIGITS.test)
    assert history[-1]["val_accuracy"] >= least


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_a_run_is_alike_on_every_backend(which: tuple[str, bool]) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)
    runs = []
    for on in (made(which, "float64"), make_backend(("cpu", False), "float64")):
        model = Sequential(small(), backend=on, seed=2)
        trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9))
        history = trainer.fit(data, 4, 8, validation=data[:9])  # the last batch of each epoch is a short one
        runs.append((history["loss"] + history["val_loss"], model.state_dict()))
        assert on.why_eager == ""
    for losses, state in runs[1:]:
        np.testing.assert_allclose(losses, runs[0][0], rtol=1e-8)
        for name, values in state.items():
            np.testing.assert_allclose(values, runs[0][1][name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "settings", [{}, {"clip_norm": 0.5}, {"clip_value": 0.01}, {"accumulate": 3}, {"average": 0.9}]
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_recorded_run_is_the_eager_one_bit_for_bit(settings: dict[str, Any], momentum: float) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)
    runs = []
    for on in (get_backend("cpu"), eager(get_backend("cpu"))):
        model = Sequential(small(), backend=on, seed=2)
        trainer = Trainer(model, optimizer=SGD(0.05, momentum=momentum), **settings)
        runs.append((trainer.fit(data, 4, 8)["loss"], model.state_dict()))
    assert runs[0][0] == runs[1][0]
    for name, values in runs[0][1].items():
        np.testing.assert_array_equal(runs[1][1][name], values, err_msg=name)


@needs_compiler
@pytest.mark.parametrize("filters", [64, 0], ids=["direct", "patches"])
@pytest.mark.parametrize("optimizer", ["plain", "momentum", "adam"])
def test_a_recorded_run_on_a_gpu_is_the_eager_one_bit_for_bit(optimizer: str, filters: int) -> None:
    """As long as its launches are joined alike. Where an eager step joins none, what differs are the rules that sum
    products in an order of their own, and nothing else: without them the bits are the same."""
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)

    def run(on: CupyBackend, rules: Any = RULES) -> dict[str, Any]:
        on.rules, on.direct_filters = rules, filters
        model = Sequential(small(), backend=on, seed=2)
        losses = Trainer(model, optimizer=OPTIMIZERS[optimizer]()).fit(data, 3, 8)["loss"]
        assert on.why_eager == ""
        return {"loss": np.array(losses), **model.state_dict()}

    recorded, joined, single = (kind(EmulatedCudaDevice()) for kind in (CupyBackend, Eager, CupyBackend))
    eager(single)
    for found, expected in ((run(recorded), run(joined)), (run(recorded, EXACT), run(single))):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


# ---- the plan -------------------------------------------------------------------------------------------------------


def sinks_of(trainer: Trainer, data: Dataset, **options: Any) -> dict[str, dict[str, Any]]:
    plan = trainer.plan(trainer.upload(data), optimizer=trainer.optimizer, **options)
    return {f"{ctx.name}.{name}": sink for _, ctx in plan.stages for name, sink in ctx.sinks.items() if name != "bias"}


def test_activations_are_joined_as_to_linear_layers() -> None:
    model = Sequential(small(), backend="cpu")
    plan = Trainer(model).plan(Trainer(model).upload(model.dataset((PIXELS, LABELS))))
    assert [repr(layer) for layer, _ in plan.stages] == [
        "Reshape(1, 6, 6)", "ChannelsLast()", "Conv2d(1, 4, 3, padding='same', activation='relu')", "MaxPool2d(2)",
        "Conv2d(4, 6, 2, groups=2, bias=False)", "BatchNorm2d(6)", "Tanh()", "AvgPool2d(2, stride=1, padding=1)",
        "Dropout(rate=0.2)", "Conv2d(6, 5, 2, activation='gelu')", "Flatten()", "Linear(20, 3)",
    ]  # fmt: skip
    assert [ctx.needs_dx for _, ctx in plan.stages] == [False] * 3 + [True] * 9


def test_the_first_product_takes_the_input_scale_whatever_moves_the_rows_before_it() -> None:
    assert takes_input_scale(small())
    assert takes_input_scale([Conv2d(1, 2, 3)])
    assert takes_input_scale([Flatten(), Reshape(6, 6, 1), Conv2d(1, 2, 3)])
    assert not takes_input_scale([Reshape(6, 6, 1), MaxPool2d(2), Conv2d(1, 2, 3)])
    trainer = Trainer(Sequential(small(), backend="cpu"), optimizer=SGD(0.1))
    sinks = sinks_of(trainer, Dataset(PIXELS.reshape(30, 36), LABELS, scale=0.5), keep=True)
    assert (sinks["2.output"]["alpha"], sinks["2.weight"]["alpha"]) == (0.5, 0.5)
    assert [name for name, sink in sinks.items() if "alpha" in sink] == ["2.output", "2.weight"]


def test_gradients_of_filters_are_folded_into_the_velocity_and_the_first_filters_moved_at_once() -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS)
    trainer = Trainer(Sequential(small(), backend="cpu"), optimizer=SGD(0.1, momentum=0.9))
    if not trainer.backend.accumulates:
        pytest.skip("NumPy's BLAS is not found here, so nothing is folded")
    velocity = trainer.optimizer.state["velocity"]
    filters = {"2.weight", "5.weight", "10.weight"}
    targets = {name: sink["weight_gradient"] for name, sink in sinks_of(trainer, data).items() if name in filters}
    assert targets.keys() == filters
    assert all(np.shares_memory(target, velocity) for target in targets.values())
    trainer = Trainer(Sequential(small(), backend="cpu"), optimizer=SGD(0.1))
    sinks = sinks_of(trainer, data)
    assert sinks["2.weight"]["weight_gradient"] is trainer.model.parameters["2.weight"]
    assert sinks["5.weight"]["weight_gradient"] is trainer.model.gradients["5.weight"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_whose_gradients_are_read_trains_as_whose_are_folded(optimizer: str) -> None:
    """And pixels whose scale the first convolution takes as numbers that are scaled before."""
    scaled = Dataset(PIXELS.reshape(30, 36).astype("float64") / 255, LABELS)
    runs = []
    for data in (Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255), scaled):
        for callbacks in ([], [Reads()]):
            model = Sequential(small(), backend="cpu", dtype="float64", seed=3)
            history = Trainer(model, optimizer=OPTIMIZERS[optimizer](), callbacks=callbacks).fit(data, 3, 7)
            runs.append((history["loss"], model.state_dict()))
    atol = 1e-7 if optimizer == "adam" else 1e-9  # Adam divides by the root of squares that may be tiny
    for losses, state in runs[1:]:
        np.testing.assert_allclose(losses, runs[0][0], rtol=1e-8)
        for name, values in state.items():
            np.testing.assert_allclose(values, runs[0][1][name], rtol=1e-6, atol=atol, err_msg=name)


@pytest.mark.parametrize(("end", "loss"), [("sigmoid", "binary_cross_entropy"), ("identity", "mean_squared_error")])
def test_a_convolution_may_be_the_last_layer_that_computes(end: str, loss: str) -> None:
    """Its output activation goes to the loss, as that of a Linear layer does."""
    x, y = RNG.normal(size=(8, 3, 3)), RNG.integers(0, 2, (8, 4)).astype(float)
    runs = []
    for last in ([Conv2d(1, 1, 2, activation=end)], [Conv2d(1, 1, 2), *([Sigmoid()] if end == "sigmoid" else [])]):
        model = Sequential(Reshape(3, 3, 1), *last, Flatten(), backend="cpu", dtype="float64", seed=1)
        history = Trainer(model, loss, SGD(0.5)).fit(x, y, epochs=5)
        runs.append((history["loss"], model(x)))
        assert model.output_activation == ("sigmoid" if end == "sigmoid" else "")
    assert runs[0][0] == runs[1][0]
    assert runs[0][0][-1] < runs[0][0][0]
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-12)


class Doubled(Conv2d):
    """A layer of a user's own, whose activation is not joined and whose product nobody scales."""

    def forward(self, x: Any, ctx: Any) -> Any:
        return 2.0 * super().forward(x, ctx)

    def backward(self, dy: Any, ctx: Any) -> Any:
        return super().backward(2.0 * dy, ctx)


def test_a_convolution_of_ones_own_is_left_as_it_is() -> None:
    assert not takes_input_scale([Doubled(1, 2, 3)])
    model = Sequential(Doubled(1, 2, 3), ReLU(), GlobalAvgPool2d(), Reshape(2), Linear(2, 3), backend="cpu")
    plan = Trainer(model).plan(Trainer(model).upload(model.dataset((PIXELS, LABELS))))
    assert [type(layer).__name__ for layer, _ in plan.stages][:2] == ["Doubled", "ReLU"]


# ---- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv2d(1, 8, 3), (28, 28, 1), (26, 26, 8)),
        (Conv2d(1, 8, 3), (28, 28), (26, 26, 8)),
        (Conv2d(3, 8, (3, 5), padding="same"), (9, 7, 3), (9, 7, 8)),
        (Conv2d(4, 8, 3, stride=(2, 1), padding=(1, 0), groups=4), (9, 7, 4), (5, 5, 8)),
        (MaxPool2d(2), (7, 6, 3), (3, 3, 3)),
        (MaxPool2d(2), (6, 6), (3, 3, 1)),
        (AvgPool2d((3, 2), stride=(1, 2), padding=(1, 1)), (5, 5, 2), (5, 3, 2)),
        (GlobalAvgPool2d(), (5, 4, 3), (3,)),
        (GlobalMaxPool2d(), (5, 4), (1,)),
        (BatchNorm2d(3), (5, 4, 3), (5, 4, 3)),
        (Reshape(4, 5, 2), (40,), (4, 5, 2)),
        (Reshape(4, 5, 2), None, (4, 5, 2)),
        (ChannelsLast(), (3, 32, 30), (32, 30, 3)),
        *((layer, None, None) for layer in (Conv2d(1, 8, 3), MaxPool2d(2), GlobalAvgPool2d(), BatchNorm2d(3))),
    ],
)
def test_shapes_of_rows(layer: Layer, shape: Any, expected: Any) -> None:
    assert layer.output_shape(shape) == expected
    if shape is not None:
        model = Sequential(layer, Flatten(), Linear(int(np.prod(expected)), 2), backend="cpu")
        assert model(np.ones((3, *shape))).shape == (3, 2)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(1, 8, 3), (784,), "not rows of shape (784,); put Reshape(28, 28, 1) before it"),
        (Conv2d(3, 8, 3), (3072,), "not rows of shape (3072,); put Reshape(32, 32, 3) before it"),
        (Conv2d(1, 8, 3), (20,), "not rows of shape (20,); put Reshape(height, width, 1) before it"),
        (Conv2d(3, 8, 3), (3, 32, 32), "(height, width, 3), not rows of shape (3, 32, 32); put ChannelsLast() before"),
        (Conv2d(3, 8, 3), (32, 32, 4), "rows of shape (32, 32, 4); let it take 4 channels, or give it others"),
        (Conv2d(1, 8, 5), (4, 9, 1), "has windows of 5 x 5, which are larger than pictures of 4 x 9"),
        (Conv2d(1, 8, 7, padding=1), (4, 9, 1), "larger than pictures of 4 x 9 and a padding of 1 x 1"),
        (MaxPool2d(4), (3, 9, 2), "MaxPool2d(4) has windows of 4 x 4, which are larger than pictures of 3 x 9"),
        (MaxPool2d(2), (784,), "takes pictures (height, width, channels), not rows of shape (784,)"),
        (GlobalAvgPool2d(), (10,), "takes pictures (height, width, channels), not rows of shape (10,)"),
        (BatchNorm2d(3), (5, 5, 4), "takes pictures (height, width, 3), not rows of shape (5, 5, 4)"),
        (BatchNorm2d(8), (8,), "not rows of shape (8,); put BatchNorm(8) in its place"),
        (BatchNorm(8), (5, 5, 8), "not of shape (5, 5, 8); put BatchNorm2d(8) in its place"),
        (BatchNorm(8), (5, 5, 4), "not of shape (5, 5, 4); put Flatten() before it, and let it take 100"),
        (Linear(100, 8), (5, 5, 4), "not of shape (5, 5, 4); put Flatten() before it"),
        (BatchNorm2d(1), (5, 5), "not rows of shape (5, 5); put Reshape(5, 5, 1) before it"),
        (Reshape(4, 5, 2), (41,), "Reshape(4, 5, 2) takes rows of 40 numbers, not of shape (41,)"),
        (ChannelsLast(), (32, 30), "takes pictures (channels, height, width), not rows of shape (32, 30)"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_a_remedy(layer: Layer, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        layer.output_shape(shape)
    assert repr(layer) in str(refused.value)
    with pytest.raises(ValueError, match="not fit"):
        Sequential(layer, Flatten(), Linear(7, 2), backend="cpu").dataset((np.ones((2, *shape)), [0, 1]))


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        # Flat rows of these sizes would fit Reshape(9, 9, 3), and be other pictures: the shape that was given is named.
        ((Conv2d(3, 8, 3),), (3, 9, 9), "the rows of the data, of shape (3, 9, 9), do not fit: Conv2d(3, 8, 3) takes"),
        ((Conv2d(3, 8, 3),), (3, 9, 9), "put ChannelsLast() before it"),
        ((Reshape(9, 9, 3), GlobalAvgPool2d(), Reshape(3, 1)), (3, 9, 9), "put ChannelsLast() in its place"),
        ((Conv2d(1, 8, 3),), (9, 9, 3), "of shape (9, 9, 3); let it take 3 channels, or give it others"),
        ((MaxPool2d(10),), (9, 9), "windows of 10 x 10, which are larger than pictures of 9 x 9"),
        ((Conv2d(1, 8, 3),), (81,), "not rows of shape (81,); put Reshape(9, 9, 1) before it"),
    ],
)
def test_pictures_that_do_not_fit_are_named_in_the_shape_they_were_given(
    layers: tuple[Layer, ...], shape: Any, message: str
) -> None:
    units = 3 if isinstance(layers[0], Reshape) else 7
    model = Sequential(*layers, Flatten(), Linear(units, 2), backend="cpu")
    with pytest.raises(ValueError, match=re.escape(message)):
        model(np.ones((2, *shape)))
    if isinstance(layers[0], Reshape):  # flat rows say nothing of an order, and grey pictures have none
        assert model(np.ones((2, 243))).shape == model(np.ones((2, *layers[0].shape))).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(0, 8, 3), "Conv2d: in_channels must be a whole number of at least 1, not 0"),
        (lambda: Conv2d(1, 8, 0), "Conv2d: kernel_size must be a whole number of at least 1, not 0"),
        (
            lambda: Conv2d(1, 8, (3, 3, 3)),  # type: ignore[arg-type]
            "Conv2d: kernel_size must be a whole number, or two for height and width",
        ),
        (lambda: Conv2d(1, 8, (3, 0)), r"Conv2d: kernel_size[1] must be a whole number of at least 1, not 0"),
        (lambda: Conv2d(1, 8, 3, stride=0), "Conv2d: stride must be a whole number of at least 1, not 0"),
        (lambda: Conv2d(1, 8, 3, padding=-1), "Conv2d: padding must be a whole number of at least 0, not -1"),
        (lambda: Conv2d(1, 8, 3, padding="valid"), 'numbers or "same", not \'valid\'; "valid" is padding=0'),
        (lambda: Conv2d(1, 8, 3, 2, "same"), "needs a stride of 1, not 2; give the padding in numbers, as padding=1"),
        (lambda: Conv2d(1, 8, (4, 3), padding="same"), "needs a kernel_size of odd numbers, not (4, 3)"),
        (lambda: Conv2d(3, 8, 3, groups=2), "Conv2d: in_channels (3) cannot be split into 2 groups of equal size"),
        (lambda: Conv2d(4, 9, 3, groups=2), "Conv2d: out_channels (9) cannot be split into 2 groups of equal size"),
        (lambda: Conv2d(1, 8, 3, activation="rleu"), "rleu"),
        (lambda: MaxPool2d(2, padding=2), "MaxPool2d: padding must be at most half of kernel_size (2), not 2"),
        (lambda: AvgPool2d((2, 4), padding=(0, 3)), "must be at most half of kernel_size ((2, 4)), not (0, 3)"),
        (lambda: Reshape(), "Reshape: give the shape of a row, as in Reshape(28, 28, 1)"),
        (lambda: Reshape(28, -1), "Reshape: shape must be a tuple of whole numbers above 0, not (28, -1)"),
        (
            lambda: Sequential(Conv2d(1, 10, 3), GlobalAvgPool2d(), backend="cpu"),
            "from which the number of its outputs follows; begin one on pictures with Reshape(height, width, channels)",
        ),
        (
            lambda: Sequential(Reshape(5, 5, 1), Conv2d(1, 2, 3), backend="cpu"),
            "but it ends in rows of shape (3, 3, 2); put Flatten() or GlobalAvgPool2d() after it",
        ),
        (
            lambda: Sequential(Reshape(28, 28, 1), Conv2d(1, 8, 3), Linear(8, 2), backend="cpu"),
            "layer 2 does not fit the one before it: Linear(8, 2) takes rows of 8 numbers, not of shape (26, 26, 8)",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_layers_are_written_as_one_would_write_them() -> None:
    for layer in [
        Conv2d(3, 8, 5), Conv2d(3, 6, (3, 5), 2, (1, 0), 3, activation="relu"), Conv2d(1, 2, 3, padding="same"),
        MaxPool2d(2), MaxPool2d((2, 3), 1, 1), AvgPool2d(2, count_include_pad=False), GlobalAvgPool2d(),
        GlobalMaxPool2d(), BatchNorm2d(3, momentum=0.2), Reshape(4, 5), ChannelsLast(),
    ]:  # fmt: skip
        assert eval(repr(layer)) == layer
        assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer
    assert repr(Conv2d(3, 8, (5, 5), [2, 2])) == "Conv2d(3, 8, 5, stride=2)"  # type: ignore[arg-type]
    assert Reshape((4, 5)) == Reshape(4, 5) == Reshape(shape=(4, 5)) == Reshape(np.int64(4), 5)  # type: ignore
    assert Conv2d(1, 2, np.int64(3)) == Conv2d(1, 2, 3)  # type: ignore[arg-type]


def test_rows_come_in_any_shape_that_has_the_pictures_in_it() -> None:
    model = Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 3), Softmax(), backend="cpu")
    Trainer(model).fit(PIXELS, LABELS, epochs=1)
    expected = model(PIXELS)
    np.testing.assert_array_equal(model(PIXELS[..., None]), expected)
    np.testing.assert_array_equal(model(PIXELS.reshape(30, 36)), expected)
    np.testing.assert_array_equal(model(Dataset(PIXELS.reshape(30, 36), LABELS, 1 / 255, image_shape=(6, 6))), expected)
    np.testing.assert_allclose(model(PIXELS[4]), expected[4:5], rtol=1e-6)


def test_pictures_with_their_channels_first_that_are_flattened_at_once_are_no_flat_rows() -> None:
    model = Sequential(ChannelsLast(), Flatten(), Linear(24, 2), backend="cpu")
    assert model.row_shape is None
    x = RNG.normal(size=(5, 2, 3, 4))
    flat = Sequential(Linear(24, 2), backend="cpu")
    flat.load_state_dict({f"0.{name.partition('.')[2]}": values for name, values in model.state_dict().items()})
    np.testing.assert_array_equal(model(x), flat(x.transpose(0, 2, 3, 1).reshape(5, 24)))


# ---- what is kept ---------------------------------------------------------------------------------------------------


def test_statistics_of_channels_are_those_of_all_their_numbers() -> None:
    x = RNG.normal(2.0, 3.0, size=(10, 4, 5, 3))
    model = Sequential(BatchNorm2d(3, momentum=1.0), Flatten(), Linear(60, 2), backend="cpu", dtype="float64")
    Trainer(model, optimizer=SGD(1e-3)).fit(x, np.arange(10) % 2, batch_size=None)
    state = model.state_dict()
    np.testing.assert_allclose(state["0.running_mean"], x.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(state["0.running_variance"], x.var(axis=(0, 1, 2), ddof=1), rtol=1e-12)


def test_a_batch_of_one_picture_has_a_variance() -> None:
    model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Flatten(), Linear(32, 3), backend="cpu")
    Trainer(model).fit(PIXELS[:3], LABELS[:3], batch_size=2)
    one = Sequential(Conv2d(1, 2, 6), BatchNorm2d(2), Flatten(), Linear(2, 3), backend="cpu")
    with pytest.raises(ValueError, match=r"^layer 1, BatchNorm2d\(2\): a training batch of one row has no variance"):
        Trainer(one).fit(PIXELS[:3], LABELS[:3], batch_size=2)


def test_filters_decay_and_nothing_else() -> None:
    layout = Sequential(small(), backend="cpu").store.layout
    decaying = sorted(name for name, offset in layout.offsets.items() if offset < layout.n_decayed)
    assert decaying == ["10.weight", "12.weight", "2.weight", "5.weight"]


def test_copies_pickles_and_files_are_the_same_network(tmp_path: Path) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)
    trainer = Trainer(Sequential(small(), backend="cpu", seed=2), optimizer=SGD(0.05, momentum=0.9))
    trainer.fit(data, 2, 8)
    expected = trainer.model(data)
    save_model(trainer.model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", "cpu")
    assert [*loaded] == small()
    np.testing.assert_array_equal(loaded(data), expected)
    others = [copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))]
    trainer.fit(data, 2, 8)
    for other in others:
        np.testing.assert_array_equal(other.model(data), expected)
        other.fit(data, 2, 8)
        np.testing.assert_array_equal(other.model.flat_parameters, trainer.model.flat_parameters)
        np.testing.assert_array_equal(other.model.store.flat_state, trainer.model.store.flat_state)


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)

    def trainer(*callbacks: Callback) -> Trainer:
        model = Sequential(small(), backend="cpu", seed=2)
        return Trainer(model, optimizer=SGD(0.05, momentum=0.9), callbacks=callbacks, clip_norm=1.0)

    whole = trainer()
    whole.fit(data, 4, 8)
    with pytest.raises(Killed):
        trainer(Checkpoint(tmp_path / "run", steps=3), Kill(10)).fit(data, 4, 8)
    resumed = trainer(Checkpoint(tmp_path / "run", steps=3))
    resumed.resume(tmp_path / "run")
    assert 0 < resumed.model.step < 10
    resumed.fit(data, 4, 8)
    np.testing.assert_array_equal(resumed.model.flat_parameters, whole.model.flat_parameters)
    np.testing.assert_array_equal(resumed.model.store.flat_state, whole.model.store.flat_state)
    assert resumed.history["loss"] == whole.history["loss"]


# ---- what it costs --------------------------------------------------------------------------------------------------


def test_a_summary_counts_each_window() -> None:
    model = Sequential(small(), backend="cpu")
    lines = {layer.name: layer for layer in model.summary(batch_size=1).layers}
    products = {"2": 36 * 9 * 4, "5": 4 * 4 * 2 * 6, "10": 4 * 4 * 6 * 5, "12": 20 * 3}
    assert {name: line.forward for name, line in lines.items() if line.forward} == {
        name: 2 * count for name, count in products.items()
    }
    assert (lines["2"].backward, lines["5"].backward) == (2 * products["2"], 4 * products["5"])
    assert (lines["5"].parameters, lines["6"].parameters, lines["6"].state) == (48, 12, 12)
    assert [line.output_shape for line in lines.values()][1:5] == [(6, 6, 1), (6, 6, 4), (6, 6, 4), (3, 3, 4)]
    unknown = Sequential(Conv2d(1, 4, 3), GlobalAvgPool2d(), Linear(4, 2), backend="cpu")
    assert [line.output_shape for line in unknown.summary().layers] == [None, None, (2,)]
    Trainer(unknown).fit(PIXELS, LABELS % 2)
    assert [line.output_shape for line in unknown.summary().layers] == [(4, 4, 4), (4,), (2,)]


# ---- devices beside each other --------------------------------------------------------------------------------------


def globally_pooled() -> list[Layer]:
    return [
        Conv2d(1, 4, (2, 3), stride=(1, 2), padding=(1, 0), activation="gelu"), GELU(), MaxPool2d(2, 1, padding=1),
        GlobalMaxPool2d(), Reshape(2, 2, 1), AvgPool2d(2, 1, padding=1, count_include_pad=False), BatchNorm2d(1),
        GlobalAvgPool2d(), Linear(1, 3), Softmax(),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [small, globally_pooled])
def test_backends_agree_step_by_step(layers: Callable[[], list[Layer]], dtype: str) -> None:
    """Within the bounds of each operation, which a fault of a ten-thousandth exceeds."""

    def make(on: Backend) -> Trainer:
        return Trainer(Sequential(layers(), backend=on), optimizer=SGD(0.1, momentum=0.9))

    which = [("cpu", True), ("cpu", False), ("array_api_strict", False), EMULATED]
    result = compare_backends(make, [made(each, dtype) for each in which], (PIXELS, LABELS), steps=6)
    assert result.agrees, str(result)


@pytest.mark.parametrize(
    ("operation", "position"),
    [
        ("conv2d", "2"),
        ("conv2d_backward", "10"),
        ("max_pool2d", "4"),
        ("avg_pool2d", "8"),
        ("avg_pool2d_backward", "8"),
    ],
)
def test_an_operation_that_is_off_is_found(monkeypatch: pytest.MonkeyPatch, operation: str, position: str) -> None:
    wrong = get_backend("cpu")
    right = getattr(wrong, operation)

    def off(*given: Any, **settings: Any) -> Any:
        result = right(*given, **settings)
        changed = result[2] if operation == "conv2d_backward" else result
        changed *= 1.0001
        return result

    monkeypatch.setattr(wrong, operation, off)
    result = compare_backends(
        lambda on: Trainer(Sequential(small(), backend=on), optimizer=SGD(0.1)),
        {"right": get_backend("cpu"), "wrong": wrong},
        (PIXELS, LABELS),
        steps=2,
    )
    assert not result.agrees
    assert result.findings["wrong"].position == position, str(result)


class Peaks(Callback):
    """How much memory was taken at most within each batch of the second epoch, beside what there was before."""

    reads_gradients = False

    def __init__(self) -> None:
        self.found: list[int] = []

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if trainer.epoch == 2:
            if tracemalloc.is_tracing():
                before, peak = tracemalloc.get_traced_memory()
                self.found.append(peak - before)
            else:
                tracemalloc.start()
            tracemalloc.reset_peak()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_step_takes_no_memory_once_every_shape_was_seen(recorded: bool) -> None:
    """Nothing as large as one of its arrays: the smallest on the way has 200,000 bytes. (NumPy takes 65,000 for
    buffers of its own.)"""
    layers = [
        Conv2d(1, 8, 3, padding="same"), BatchNorm2d(8), ReLU(), MaxPool2d(2), Dropout(0.1), Conv2d(8, 8, 3, 2, 1),
        AvgPool2d(2, padding=1), Conv2d(8, 128, 1, activation="gelu"),
        Conv2d(128, 128, 3, groups=128, activation="silu"), GlobalAvgPool2d(), Linear(128, 3), Softmax(),
    ]  # fmt: skip
    x, watching = RNG.normal(size=(256, 28, 28)).astype("float32"), Peaks()
    backend = get_backend("cpu") if recorded else eager(get_backend("cpu"))
    trainer = Trainer(Sequential(*layers, backend=backend), optimizer=SGD(0.1, momentum=0.9), callbacks=[watching])
    try:
        trainer.fit(x, RNG.integers(0, 3, 256), epochs=2, batch_size=64)
    finally:
        tracemalloc.stop()
    assert len(watching.found) >= 2
    assert max(watching.found) < 100_000


@pytest.mark.parametrize("channels", [1, 3])
def test_one_picture_alone_for_a_network_that_has_seen_none(channels: int) -> None:
    """Its first layer takes pictures of any size, and rows of a picture are none. Pixels are scaled as in an array."""
    layers = Conv2d(channels, 4, 3), ReLU(), GlobalAvgPool2d(), Linear(4, 3), Softmax()
    model = Sequential(*layers, backend="cpu", seed=1)
    pixels = RNG.integers(0, 256, size=(2, 9, 8, channels), dtype=np.uint8)
    shapes = [(9, 8, channels)] + ([(9, 8)] if channels == 1 else [])
    wanted = model(pixels)
    for shape in shapes:
        for one in (
            pixels[0].reshape(shape),
            pixels[0].reshape(shape).tolist(),
            pixels[0].reshape(shape).astype(float),
        ):
            np.testing.assert_array_equal(model(one), wanted[:1])
        trainer = Trainer(Sequential(*layers, backend="cpu", seed=1))
        assert trainer.evaluate((pixels[0].reshape(shape), [1])) == trainer.evaluate((pixels[:1], [1]))
    if channels == 1:
        np.testing.assert_array_equal(model(pixels[..., 0]), wanted)
    with pytest.raises(ValueError, match=r"do not fit: Conv2d\(.*\) takes pictures"):
        model(RNG.uniform(size=(5, 9, 8, 2)))
    Trainer(model).fit(pixels, [0, 1], epochs=1)
    larger = RNG.integers(0, 256, size=(12, 12, channels), dtype=np.uint8)
    np.testing.assert_array_equal(model(larger), model(larger[None]))


def test_what_may_be_several_pictures_is_several() -> None:
    model = Sequential(Conv2d(1, 4, 1), GlobalAvgPool2d(), Linear(4, 3), backend="cpu")
    assert model(RNG.uniform(size=(5, 4, 1))).shape == model(RNG.uniform(size=(5, 4, 3))).shape == (5, 3)

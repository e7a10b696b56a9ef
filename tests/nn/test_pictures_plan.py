"""The plan of a network on pictures: what is joined, what takes the input scale, and what is folded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import (
    SGD,
    Conv2d,
    Dataset,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Trainer,
)
from nn.sinks import takes_input_scale
from tests.helpers.small_pictures import LABELS, OPTIMIZERS, PIXELS, Reads, small

RNG = np.random.default_rng(14)


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

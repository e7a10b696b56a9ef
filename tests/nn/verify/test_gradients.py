"""Backpropagation against central differences: every layer, activation and loss; and that the check sees mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.activations import ACTIVATIONS
from nn import (
    ELU,
    GELU,
    LOSSES,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    GradientError,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
    check_gradients,
)
from nn.layers import LAYERS
from tests.helpers.backends import make_backend

RNG = np.random.default_rng(1)
X = RNG.normal(size=(6, 4))
LABELS = np.array([0, 2, 1, 2, 0, 1])
TARGETS = {
    "softmax_cross_entropy": LABELS,
    "binary_cross_entropy": RNG.uniform(size=(6, 3)),
    "mean_squared_error": RNG.normal(size=(6, 3)),
}
TARGETS |= {
    "focal": TARGETS["binary_cross_entropy"],
    "mean_absolute_error": TARGETS["mean_squared_error"],
    "huber": TARGETS["mean_squared_error"],
}
#: Networks that between them hold every layer, alone and after a Linear layer, in the middle and at the end.
NETWORKS: dict[str, list[Layer]] = {
    "linear": [Linear(4, 3)],
    "without bias": [Linear(4, 5, bias=False), Tanh(), Linear(5, 3, bias=False)],
    "flatten": [Flatten(), Linear(4, 5), Sigmoid(), Flatten(), Linear(5, 3)],
    "alone": [Linear(4, 5), Dropout(0.2), Tanh(), Sigmoid(), ReLU(), Linear(5, 3)],
    "deep": [Linear(4, 6), ReLU(), Linear(6, 5), Tanh(), Dropout(0.4), Linear(5, 4), Sigmoid(), Linear(4, 3)],
    "smooth": [GELU(), Linear(4, 5), GELU("tanh"), SiLU(), Softplus(), Linear(5, 3)],
    "normalized": [LayerNorm(4), Linear(4, 5), BatchNorm(5), Tanh(), Linear(5, 5), LayerNorm(5), Linear(5, 3)],
    "standardized": [Standardize(4, (0.5, -1.0, 0.0, 2.0), (1.0, 4.0, 0.25, 9.0)), Linear(4, 5), Tanh(), Linear(5, 3)],
    "bent": [LeakyReLU(0.2), Linear(4, 5), LeakyReLU(), ELU(0.5), ELU(), Linear(5, 3)],
    "pictures": [
        Reshape(2, 2, 1), Conv2d(1, 4, 3, padding="same"), Tanh(), MaxPool2d(2, stride=1, padding=1),
        Conv2d(4, 6, 2, groups=2, bias=False), BatchNorm2d(6), GELU(), AvgPool2d(2, stride=1, padding=1),
        GlobalAvgPool2d(), Linear(6, 3),
    ],
    "channels first": [
        Reshape(1, 2, 2), ChannelsLast(), Conv2d(1, 5, (1, 2), stride=(2, 1), padding=(1, 0), activation="tanh"),
        AvgPool2d((2, 1), padding=(1, 0), count_include_pad=False), Conv2d(5, 4, 1, activation="gelu"), SiLU(),
        GlobalMaxPool2d(), Linear(4, 3),
    ],
    **{name: [Linear(4, 5, activation=name), Linear(5, 3)] for name in ACTIVATIONS},
}  # fmt: skip
ENDS: dict[str, list[list[Layer]]] = {
    "softmax_cross_entropy": [[], [Softmax()]],
    "binary_cross_entropy": [[], [Sigmoid()]],
    "mean_squared_error": [[], [Softmax()], [Sigmoid()], [Tanh()], [ReLU()]],
}
CASES: list[Any] = [("deep", loss, []) for loss in LOSSES if loss not in ENDS]
for number, network in enumerate(NETWORKS):
    for loss, ends in ENDS.items():
        for which, end in enumerate(ends):
            # Every network with every loss, and each end of a loss after other networks; "alone" and "linear" with all
            # ends. The rest takes three times as long, and is tried where that is asked for.
            is_chosen = which == number % len(ends) or network in ("alone", "linear")
            CASES.append(pytest.param(network, loss, end, marks=[] if is_chosen else pytest.mark.slow))


@pytest.mark.parametrize(("network", "loss", "end"), CASES, ids=lambda case: str(case))
def test_backpropagation_agrees_with_central_differences(network: str, loss: str, end: list[Layer]) -> None:
    model = Sequential(*NETWORKS[network], *end, backend="cpu", dtype="float64", seed=5)
    report = check_gradients(model, loss, X, TARGETS[loss], directions=3, coordinates=network != "deep")
    expected = 3 + (model.parameter_count if network != "deep" else 0)
    assert report.worst <= 1e-6
    assert report.checked >= 0.9 * expected


@pytest.mark.parametrize("loss", LOSSES)
def test_on_every_backend(which_backend: tuple[str, bool], loss: str) -> None:
    backend = make_backend(which_backend, "float64")
    model = Sequential(*NETWORKS["deep"], backend=backend, seed=2)
    assert check_gradients(model, loss, X, TARGETS[loss], directions=5).checked == 5


def test_every_layer_is_checked() -> None:
    used = {type(layer).__name__ for layers in NETWORKS.values() for layer in layers} | {"Softmax"}
    assert used == {name for name in LAYERS if "." not in name}


class WrongSign(Tanh):
    def backward(self, dy: Any, ctx: Any) -> Any:
        dx: Any = super().backward(dy, ctx)
        return -dx


class ForgetsHalf(Tanh):
    """Wrong in one column only, by a little."""

    def backward(self, dy: Any, ctx: Any) -> Any:
        dx: Any = super().backward(dy, ctx)
        dx[:, 0] *= 1.00001
        return dx


@pytest.mark.parametrize("wrong", [WrongSign, ForgetsHalf])
def test_the_check_sees_a_wrong_gradient(wrong: type[Tanh]) -> None:
    model = Sequential(Linear(4, 5), Dropout(0.0), wrong(), Linear(5, 3), backend="cpu", dtype="float64")
    before = model.state_dict()
    with pytest.raises(GradientError, match=r"0\.weight\[\d+\]: backpropagation gives .* central differences"):
        check_gradients(model, "mean_squared_error", X, TARGETS["mean_squared_error"], directions=0, coordinates=True)
    with pytest.raises(GradientError, match="random direction 0: backpropagation gives"):
        check_gradients(model, "mean_squared_error", X, TARGETS["mean_squared_error"])
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_a_kink_is_seen_and_counted_not_reported_as_an_error() -> None:
    # Biases 0 and rows of zeros: every ReLU stands exactly at its kink along every bias.
    model = Sequential(Linear(4, 5), ReLU(), Linear(5, 3), backend="cpu", dtype="float64")
    zeros = np.zeros((6, 4))
    report = check_gradients(model, "mean_squared_error", zeros, TARGETS["mean_squared_error"],
                             directions=0, coordinates=True)  # fmt: skip
    assert report.kinks == 5
    assert report.checked == model.parameter_count - 5
    with pytest.raises(ValueError, match="a kink along every direction"):
        check_gradients(model, "mean_squared_error", zeros, TARGETS["mean_squared_error"])


def test_where_nothing_differs_there_is_no_worst() -> None:
    model = Sequential(Linear(4, 3, bias=False), backend="cpu", dtype="float64")
    report = check_gradients(model, "mean_squared_error", np.zeros((6, 4)), TARGETS["mean_squared_error"])
    assert (report.worst, report.where, report.checked, report.kinks) == (0.0, "", 10, 0)


def test_float32_is_refused() -> None:
    model = Sequential(Linear(4, 3), backend="cpu")
    with pytest.raises(ValueError, match="build the model with dtype='float64'"):
        check_gradients(model, "mean_squared_error", X, TARGETS["mean_squared_error"])

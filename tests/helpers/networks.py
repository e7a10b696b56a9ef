"""Random networks of all layers, for tests of what they are exchanged with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from nn import (
    ELU,
    GELU,
    BatchNorm,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from nn.data import Units

ACTIVATIONS: list[Layer] = [
    Sigmoid(), Tanh(), ReLU(), LeakyReLU(), LeakyReLU(0.3), ELU(), ELU(0.5), GELU(), GELU("tanh"), SiLU(), Softplus(),
]  # fmt: skip
#: As ``Linear(..., activation=...)`` has them.
NAMES = ["identity", "sigmoid", "tanh", "relu", "leaky_relu(0.2)", "elu(1.5)", "gelu", "gelu_tanh", "silu", "softplus"]
EVERY = ("standardize", "batch", "layer", "dropout", "flatten", "units")


@st.composite
def networks(
    draw: Any,
    parts: Sequence[str] = EVERY,
    activations: Sequence[Layer] = ACTIVATIONS,
    names: Sequence[str] = NAMES,
    plain: bool = True,
) -> Sequential:
    """A network with random parameters and running statistics, of up to three hidden layers.

    Args:
        parts: which of ``EVERY`` may be in it.
        plain: whether norms may lack a weight and a bias, and ``Linear`` a bias.
    """
    some = st.sampled_from

    def flip() -> bool:
        return bool(draw(st.booleans()))

    width = draw(st.integers(2, 6))
    layers: list[Layer] = [Flatten()] if "flatten" in parts and flip() else []
    if "standardize" in parts and flip():
        layers.append(Standardize(width))
    n_in = width
    for _ in range(draw(st.integers(0, 3))):
        n_out = draw(st.integers(4, 9))
        layers.append(Linear(n_in, n_out, bias=not (plain and flip()), activation=draw(some(names))))
        if "batch" in parts and flip():
            layers.append(BatchNorm(n_out, affine=not (plain and flip()), epsilon=draw(some([1e-5, 1e-3]))))
        if "layer" in parts and flip():
            layers.append(LayerNorm(n_out, affine=not (plain and flip()), epsilon=draw(some([1e-5, 1e-3]))))
        if flip():
            layers.append(draw(some(activations)))
        if "dropout" in parts and flip():
            layers.append(Dropout(draw(some([0.0, 0.25]))))
        n_in = n_out
    n_out = draw(st.integers(1, 4))
    layers.append(Linear(n_in, n_out, bias=not (plain and flip())))
    layers += draw(some([[], [Sigmoid()], [Softmax()]] if n_out > 1 else [[], [Sigmoid()]]))
    model = Sequential(layers, backend="cpu", dtype=draw(some(["float32", "float64"])), seed=draw(st.integers(0, 99)))
    fill(model, draw(st.integers(0, 2**32 - 1)))
    if "units" in parts and flip():
        model.units = Units(scale=draw(some([1.0, 1 / 255, 2.0])), shift=draw(some([0.0, -0.5])))
    return model


def fill(model: Sequential, seed: int) -> None:
    """Give a network random biases, weights of norms and statistics, as training would."""
    rng, state = np.random.default_rng(seed), model.state_dict()
    for name, array in state.items():
        kind = name.partition(".")[2]
        if kind in ("bias", "running_mean", "mean"):
            state[name] = rng.normal(size=array.shape)
        elif kind in ("running_variance", "variance") or (kind == "weight" and array.ndim == 1):
            state[name] = rng.uniform(0.5, 2.0, array.shape)
        elif kind == "learnt":
            state[name] = np.ones(1)
    model.load_state_dict(state)


def rows_for(model: Sequential, rows: int, seed: int) -> np.ndarray:
    """Rows in the dtype of the network."""
    (width,) = model.row_shape or (1,)
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(model.backend.dtype_name)

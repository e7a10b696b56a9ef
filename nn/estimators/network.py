"""From the parameters of an estimator to a network, with the initial values of scikit-learn's MLP."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np

from ..layers import Dropout, Layer, Linear, Sigmoid, Softmax
from ..layers.activations import ACTIVATION_LAYERS, ElementwiseActivation
from ..model import Sequential

#: Names of scikit-learn for functions that have another one here.
ALIASES = {"logistic": "sigmoid"}
#: All names of activations: scikit-learn's and ours.
ACTIVATION_NAMES = {"identity", *ALIASES, *ACTIVATION_LAYERS}
#: What an output activation of scikit-learn is as a layer; the others need none.
OUTPUT_LAYERS: dict[str, type[Layer]] = {"softmax": Softmax, "logistic": Sigmoid}


def function_name(activation: str | ElementwiseActivation) -> str:
    """The name of an activation in ``backends.activations``."""
    return ALIASES.get(activation, activation) if isinstance(activation, str) else activation.activation


def build(
    units: list[int],
    activation: str | ElementwiseActivation,
    out_activation: str,
    dropout: float,
    device: str,
    dtype: str,
    random_state: Any,
) -> Sequential:
    """A network with these numbers of units, from the rows to the outputs.

    Args:
        units: at least two.
        activation: of hidden layers.
        out_activation: ``"softmax"`` or ``"logistic"``; any other leaves the outputs as they are.
        dropout: the part of the hidden units that a training step leaves out.
        device, dtype: where and in what to compute.
        random_state: a NumPy ``RandomState``. It draws the initial values in the order in which scikit-learn does, so
            equal ones give equal networks.
    """
    name, layers = function_name(activation), list[Layer]()
    state: dict[str, Any] = {}
    last = len(units) - 2
    for number, (n_in, n_out) in enumerate(pairwise(units)):
        index = len(layers)
        layers.append(Linear(n_in, n_out, activation="identity" if number == last else name))
        if dropout and number != last:
            layers.append(Dropout(dropout))
        # Glorot and Bengio, AISTATS 2010; scikit-learn halves the variance once more for the logistic function, and
        # draws the biases from the same range.
        bound = sqrt((2.0 if name == "sigmoid" else 6.0) / (n_in + n_out))
        state[f"{index}.weight"] = random_state.uniform(-bound, bound, (n_in, n_out))
        state[f"{index}.bias"] = random_state.uniform(-bound, bound, n_out)
    if out_activation in OUTPUT_LAYERS:
        layers.append(OUTPUT_LAYERS[out_activation]())
    model = Sequential(layers, backend=device, dtype=dtype)
    model.load_state_dict(state)
    return model


def parameter_names(model: Sequential, kind: str) -> list[str]:
    """The names of the parameters of that kind, ``"weight"`` or ``"bias"``, from the first layer to the last."""
    return [f"{index}.{kind}" for index, layer in enumerate(model.layers) if isinstance(layer, Linear)]


def shown(model: Sequential, kind: str) -> list[np.ndarray]:
    """The parameters of that kind as NumPy arrays: where the network computes with NumPy, the very arrays; else copies
    that cannot be written to, as that would change nothing."""
    found = []
    with model.backend.use():
        for name in parameter_names(model, kind):
            array = model.parameters[name]
            if type(array) is not np.ndarray:
                array = model.backend.to_numpy(array).copy()
                array.flags.writeable = False
            found.append(array)
    return found

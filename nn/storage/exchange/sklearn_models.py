"""Networks to and from scikit-learn's ``MLPClassifier`` and ``MLPRegressor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backends import Backend
from backends.devices import as_numpy

from ...data.labels import are_numbers
from ...layers import (
    ACTIVATION_LAYERS,
    Dropout,
    ElementwiseActivation,
    Flatten,
    Layer,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
)
from ...model import Sequential
from ...stages import output_activation_of
from ..optional import library
from .parts import Builder, Part, check_export, check_import, float_dtype, parts_of

#: The activations of hidden layers by scikit-learn's names.
ACTIVATIONS: dict[str, type[Layer] | None] = {"identity": None, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU}
LIBRARY = "scikit-learn"


class _Stack:
    """Affine layers, the activation between them, and the scalers before them, as scikit-learn has them."""

    def __init__(self) -> None:
        self.scalers: list[tuple[str, Any]] = []
        self.coefs: list[np.ndarray] = []
        self.intercepts: list[np.ndarray] = []
        self.between: list[str] = []


def to_sklearn(model: Sequential, *, preprocessing: bool = True) -> Any:
    """The network as a fitted ``MLPClassifier``, or an ``MLPRegressor`` where it predicts values, with the same
    outputs. ``partial_fit`` goes on training it. Where rows are scaled, or the network begins with ``Standardize``, it
    is a ``Pipeline`` with a ``StandardScaler`` for that.

    Two classes have one output there: of a network with two, it is their difference. ``Dropout`` is left out.

    Args:
        preprocessing: whether the estimator takes rows as ``model(x)`` does.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError: a layer cannot be expressed, or the hidden layers have not all the same activation: it says which.
    """
    check_export(model, preprocessing)
    network = library("sklearn.neural_network", "nn.to_sklearn", "scikit-learn")
    stack = _stack(model, preprocessing)
    between = {*stack.between}
    if len(between) > 1:
        raise TypeError(
            f"this network cannot be expressed in {LIBRARY}: its hidden layers have different activations, "
            f"{', '.join(sorted(between))}"
        )
    settings: dict[str, Any] = {
        "hidden_layer_sizes": tuple(coef.shape[1] for coef in stack.coefs[:-1]),
        "activation": between.pop() if between else "identity",
    }
    dtype = model.backend.dtype_name
    x = np.zeros((max(model.n_outputs, 2), len(stack.coefs[0])), dtype)
    if model.task == "values":
        y = np.zeros((len(x), model.n_outputs) if model.n_outputs > 1 else len(x))
        made = network.MLPRegressor(**settings).partial_fit(x, y)
    else:
        if model.output_activation == "softmax" and model.n_outputs == 2:
            # softmax(z)_1 = sigmoid(z_1 - z_0)
            stack.coefs[-1] = stack.coefs[-1][:, 1:] - stack.coefs[-1][:, :1]
            stack.intercepts[-1] = stack.intercepts[-1][1:] - stack.intercepts[-1][:1]
        labels = _labels(model)
        y = np.eye(len(labels), dtype=np.int64) if model.task == "labels" else labels
        x = np.zeros((len(y), x.shape[1]), dtype)
        made = network.MLPClassifier(**settings).partial_fit(x, y, classes=labels)
    for ours, theirs in ((stack.coefs, made.coefs_), (stack.intercepts, made.intercepts_)):
        for array, place in zip(ours, theirs, strict=True):
            place[...] = array
    # What partial_fit noted of the rows of zeros, which it was given to make the arrays.
    vars(made).pop("_optimizer", None)
    made.t_, made.n_iter_, made.loss_curve_ = 0, 0, []
    if not stack.scalers:
        return made
    return library("sklearn.pipeline", "nn.to_sklearn", "scikit-learn").Pipeline([*stack.scalers, ("mlp", made)])


def _labels(model: Sequential) -> np.ndarray:
    """The classes as scikit-learn is to name them: numbers, where they have no other names."""
    count = max(model.n_outputs, 2)
    names = model.class_names
    if model.task == "labels" or names is None or are_numbers(names) or len(names) != count:
        return np.arange(count)
    return np.array(names)


def _stack(model: Sequential, preprocessing: bool) -> _Stack:
    stack, units = _Stack(), model.units
    if preprocessing and units is not None and (units.scale, units.shift) != (1.0, 0.0):
        (width,) = model.row_shape or (1,)
        mean, variance = np.full(width, -units.shift / units.scale), np.full(width, units.scale**-2.0)
        stack.scalers.append(("units", _scaler(mean, variance)))
    activation = ""
    for part in parts_of(model, LIBRARY):
        if part.kind in (Dropout, Flatten):
            continue
        if part.kind is Standardize:
            stack.scalers.append(("standardize", _scaler(part.arrays["mean"], part.arrays["variance"])))
        elif part.kind is Linear:
            if stack.coefs:
                stack.between.append(activation or "identity")
            activation = ""
            stack.coefs.append(part.arrays["weight"])
            stack.intercepts.append(part.arrays.get("bias", np.zeros(part.layer.out_features)))
        elif part.kind in (Softmax, ElementwiseActivation):
            if activation or not stack.coefs:
                raise part.refused(LIBRARY, "an activation there follows a linear layer")
            activation = _name_of(part)
        else:
            raise part.refused(LIBRARY)
    if activation and not output_activation_of(model.layers):
        raise TypeError(f"this network cannot be expressed in {LIBRARY}: it ends in the activation {activation}")
    return stack


def _name_of(part: Part) -> str:
    if part.kind is Softmax:
        return "softmax"
    names = {layer: name for name, layer in ACTIVATIONS.items() if layer is not None}
    if type(part.layer) not in names:
        raise part.refused(LIBRARY, f"it has {', '.join(ACTIVATIONS)} alone")
    return names[type(part.layer)]


def _scaler(mean: np.ndarray, variance: np.ndarray) -> Any:
    """A fitted ``StandardScaler``."""
    made = library("sklearn.preprocessing", "nn.to_sklearn", "scikit-learn").StandardScaler()
    made.mean_, made.var_ = mean.astype(np.float64), variance.astype(np.float64)
    made.scale_, made.n_features_in_, made.n_samples_seen_ = np.sqrt(made.var_), len(mean), 1
    return made


def from_sklearn(
    estimator: Any, backend: str | Backend = "auto", dtype: str | None = None, *, seed: int = 0
) -> Sequential:
    """A network with the weights and the outputs of a fitted ``MLPClassifier`` or ``MLPRegressor``, scikit-learn's or
    ``nn``'s, alone or in a ``Pipeline`` after one ``StandardScaler`` or several; with the names of its classes and its
    loss.

    Args:
        backend, dtype, seed: of the new model; by default in the dtype of the weights.

    Raises:
        TypeError: it is no such estimator, or a part of it cannot be expressed: it says which.
        ValueError: it is not fitted yet.
    """
    dtype, seed = check_import(backend, dtype, seed)
    *before, (_, network) = getattr(estimator, "steps", [("", estimator)])
    kind = type(network).__name__
    if not (hasattr(network, "hidden_layer_sizes") and hasattr(network, "activation")):
        raise TypeError(
            f"from_sklearn takes an MLPClassifier, an MLPRegressor or a Pipeline that ends in one, not {kind}"
        )
    if not hasattr(network, "coefs_"):
        raise ValueError(f"this {kind} is not fitted yet; call its fit first")
    builder = Builder(LIBRARY)
    builder.dtype = float_dtype(network.coefs_)
    _add_scalers(builder, before)
    end = network.out_activation_
    known, between = _hidden(network.activation)
    if not known or end not in ("identity", "logistic", "softmax"):
        raise builder.refused(kind, f"its activations are {network.activation} and {end}")
    layers = [*zip(network.coefs_, network.intercepts_, strict=True)]
    for index, (coef, intercept) in enumerate(layers):
        builder.add(Linear(*coef.shape), weight=as_numpy(coef), bias=as_numpy(intercept))
        last: Layer | None = Sigmoid() if end == "logistic" else Softmax() if end == "softmax" else None
        activation = last if index == len(layers) - 1 else between
        if activation is not None:
            builder.add(activation)
    classes = getattr(network, "classes_", None)
    loss = "mean_squared_error" if classes is None else None
    if classes is not None:
        loss = "softmax_cross_entropy" if end == "softmax" else "binary_cross_entropy"
    model = builder.model(backend, dtype, seed, loss)
    if classes is None:
        model.target_shape = () if model.n_outputs == 1 else (model.n_outputs,)
    elif model.task == "classes":
        model.class_names = tuple(str(label) for label in classes)
    return model


def _hidden(activation: Any) -> tuple[bool, Layer | None]:
    """Whether the activation of hidden layers is known, and its layer; ``nn``'s estimators have all of xpnet's."""
    if isinstance(activation, ElementwiseActivation):
        return True, activation
    kind = ACTIVATIONS.get(activation) or ACTIVATION_LAYERS.get(activation)
    return activation in ACTIVATIONS or kind is not None, None if kind is None else kind()


def _add_scalers(builder: Builder, steps: Sequence[tuple[str, Any]]) -> None:
    """The scalers before a network as one layer: ((x - a) / b - c) / d is (x - (a + b c)) / (b d)."""
    mean: Any = 0.0
    scale: Any = 1.0
    for name, step in steps:
        if step is None or step == "passthrough":
            continue
        if type(step).__name__ != "StandardScaler":
            raise builder.refused(f"step {name!r}, {type(step).__name__},", "a StandardScaler can be")
        if step.with_mean:
            mean = mean + scale * step.mean_
        if step.with_std:
            scale = scale * step.scale_
    if np.ndim(mean) or np.ndim(scale):
        mean, scale = np.broadcast_arrays(mean, scale)
        builder.add_standardize(mean, scale**2)

"""Networks to and from Keras's models, and weights in the order of its ``get_weights``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backends import Backend
from backends.arguments import shown
from backends.devices import as_numpy

from ...layers import (
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
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from ...losses import Loss
from ...model import Sequential
from ..optional import library
from .parts import Builder, Part, check_export, check_import, elu, float_dtype, leaky, load_groups, parts_of

#: The activations by Keras's names, with the settings that these stand for.
ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "silu": SiLU,
    "softplus": Softplus,
    "gelu": GELU,
    "elu": ELU,
    "leaky_relu": lambda: LeakyReLU(0.2),
    "softmax": Softmax,
    "gelu_tanh": lambda: GELU("tanh"),
}


def to_keras(model: Sequential, *, preprocessing: bool = True) -> Any:
    """The network as a ``keras.Sequential`` in its dtype, with the same outputs (in float32 under
    most of Keras's backends), not compiled. Its ``get_weights()``
    are the weights as Keras keeps them. Activations inside ``Linear`` become layers of their own.

    Args:
        preprocessing: whether it takes rows as ``model(x)`` does: a first layer ``Rescaling`` then applies scale and
            shift of the training rows, where there are any.

    Raises:
        ImportError: Keras is not installed, or the library that it computes by.
        TypeError: a layer cannot be expressed: it says which.
    """
    check_export(model, preprocessing)
    keras = library("keras", "nn.to_keras")
    kinds, dtype = keras.layers, model.backend.dtype_name
    made = keras.Sequential([keras.Input(model.row_shape or (None,), dtype=dtype)])
    units = model.units
    if preprocessing and units is not None and (units.scale, units.shift) != (1.0, 0.0):
        made.add(kinds.Rescaling(units.scale, units.shift, dtype=dtype))
    for part in parts_of(model, "Keras"):
        layer = _made(keras, part, dtype)
        made.add(layer)
        if part.kind not in (Standardize, Flatten) and part.arrays:
            layer.set_weights([part.arrays[name] for name in _names(part.layer)])
    return made


def _made(keras: Any, part: Part, dtype: str) -> Any:
    """A layer of Keras, without its weights."""
    layer, kinds = part.layer, keras.layers
    if part.kind is Linear:
        return kinds.Dense(layer.out_features, use_bias=layer.bias, dtype=dtype)
    if part.kind is BatchNorm:
        of_weight = {"center": layer.affine, "scale": layer.affine}
        return kinds.BatchNormalization(momentum=1.0 - layer.momentum, epsilon=layer.epsilon, dtype=dtype, **of_weight)
    if part.kind is LayerNorm:
        return kinds.LayerNormalization(epsilon=layer.epsilon, center=layer.affine, scale=layer.affine, dtype=dtype)
    if part.kind is Standardize:
        return kinds.Normalization(mean=part.arrays["mean"], variance=part.arrays["variance"], dtype=dtype)
    if part.kind is Dropout:
        return kinds.Dropout(layer.rate, dtype=dtype)
    if part.kind is Flatten:
        return kinds.Flatten(dtype=dtype)
    if isinstance(layer, LeakyReLU):
        return kinds.LeakyReLU(negative_slope=layer.negative_slope, dtype=dtype)
    if isinstance(layer, ELU):
        return kinds.ELU(alpha=layer.alpha, dtype=dtype)
    if isinstance(layer, GELU) and layer.approximate == "tanh":
        from .keras_extra import gelu_tanh

        return kinds.Activation(gelu_tanh, dtype=dtype)
    return kinds.Activation(layer.function, dtype=dtype)


def _names(layer: Layer) -> list[str]:
    """The arrays of a layer in the order of Keras's weights."""
    return [*layer.parameters(), *layer.state()]


def from_keras(
    source: Any,
    backend: str | Backend = "auto",
    dtype: str | None = None,
    *,
    seed: int = 0,
    loss: str | Loss | None = None,
    into: Sequential | None = None,
) -> Sequential:
    """A network with the layers, the weights and the outputs of a Keras model.

    Args:
        source: a ``keras.Sequential`` of dense layers, activations, norms, dropout, ``Flatten``, and ``Rescaling`` or
            ``Normalization`` at its beginning; or the list that ``get_weights()`` gives, where ``into`` is given.
        backend, dtype, seed: of the new model; by default in the dtype of the weights.
        loss: what it was trained with. That says what its outputs mean: with ``"softmax_cross_entropy"`` those of a
            last dense layer are logits, and ``predict`` gives classes.
        into: a model that takes the weights instead, and is returned: those of its linear layers and norms in their
            order.

    Raises:
        ImportError: Keras is not installed. (A list of weights needs no Keras.)
        TypeError: a layer cannot be expressed: it says which; or ``source`` is neither.
        ValueError: the weights do not fit ``into``, or the model is not built yet.
    """
    dtype, seed = check_import(backend, dtype, seed, loss, into)
    if into is not None:
        weights = source.get_weights() if hasattr(source, "get_weights") else source
        if not isinstance(weights, list | tuple):
            raise TypeError(f"from_keras takes a keras.Sequential or its get_weights(), not {shown(weights)}")
        return load_groups(into, _groups(weights, into), "the weights of Keras")
    if isinstance(source, list | tuple):
        raise TypeError("a list of weights does not say which layers there are; give from_keras(weights, into=model)")
    keras = library("keras", "nn.from_keras")
    if not isinstance(source, keras.Sequential):
        raise TypeError(f"from_keras takes a keras.Sequential or its get_weights(), not {type(source).__name__}")
    if not source.built:
        raise ValueError("this Keras model is not built: give it keras.Input(shape) first, or call it once")
    builder = Builder("Keras")
    builder.dtype = float_dtype(source.get_weights())
    for layer in source.layers:
        _add(keras, builder, layer, f"layer {layer.name!r}, {type(layer).__name__},")
    return builder.model(backend, dtype, seed, loss)


def _add(keras: Any, builder: Builder, layer: Any, name: str) -> None:
    """The layers that compute as one of Keras."""
    kinds = keras.layers
    known = [
        kinds.Dense, kinds.BatchNormalization, kinds.LayerNormalization, kinds.Normalization, kinds.Rescaling,
        kinds.Activation, kinds.ReLU, kinds.LeakyReLU, kinds.ELU, kinds.Softmax, kinds.Dropout, kinds.Flatten,
        kinds.InputLayer, kinds.Identity,
    ]  # fmt: skip
    kind = next((kind for kind in known if isinstance(layer, kind) and type(layer).call is kind.call), None)
    if kind is kinds.Dense:
        kernel, *bias = _arrays(layer)
        n_in, n_out = kernel.shape
        builder.add(Linear(n_in, n_out, bias=layer.use_bias), weight=kernel, bias=bias[0] if bias else None)
        _add_activation(keras, builder, layer.activation, name)
    elif kind in (kinds.BatchNormalization, kinds.LayerNormalization):
        _add_norm(builder, layer, name, is_batch=kind is kinds.BatchNormalization)
    elif kind is kinds.Normalization:
        if layer.invert or tuple(layer.axis) not in ((-1,), (1,)):
            raise builder.refused(name, "xpnet standardizes the columns of rows")
        builder.add_standardize(as_numpy(layer.mean), as_numpy(layer.variance))
    elif kind is kinds.Rescaling:
        builder.add_units(layer.scale, layer.offset, name)
    elif kind is kinds.Activation:
        _add_activation(keras, builder, layer.activation, name)
    elif kind is kinds.Dropout and layer.rate < 1:
        builder.add(Dropout(layer.rate))
    elif kind is kinds.Flatten:
        builder.add(Flatten())
    elif kind is kinds.Softmax and layer.axis in (-1, 1):
        builder.add(Softmax())
    elif kind in (kinds.ReLU, kinds.LeakyReLU, kinds.ELU):
        capped = kind is kinds.ReLU and (layer.max_value is not None or layer.threshold)
        made = elu(float(layer.alpha)) if kind is kinds.ELU else leaky(float(layer.negative_slope))
        if made is None or capped:
            raise builder.refused(name)
        builder.add(made)
    elif kind not in (kinds.InputLayer, kinds.Identity):
        raise builder.refused(name)


def _add_norm(builder: Builder, layer: Any, name: str, is_batch: bool) -> None:
    axes = [layer.axis] if isinstance(layer.axis, int) else [*layer.axis]
    if axes not in ([-1], [1]) or getattr(layer, "rms_scaling", False) or getattr(layer, "renorm", False):
        raise builder.refused(name, "xpnet normalizes rows of numbers")
    arrays = _arrays(layer)
    features = int(layer.input.shape[-1])
    weight = arrays.pop(0) if layer.scale else np.ones(features)
    bias = arrays.pop(0) if layer.center else np.zeros(features)
    affine = layer.scale or layer.center
    settings = {"weight": weight, "bias": bias} if affine else {}
    if is_batch:
        mean, variance = arrays
        builder.add(
            BatchNorm(features, layer.epsilon, affine, momentum=1.0 - layer.momentum),
            running_mean=mean,
            running_variance=variance,
            **settings,
        )
    else:
        builder.add(LayerNorm(features, layer.epsilon, affine), **settings)


def _add_activation(keras: Any, builder: Builder, function: Any, name: str) -> None:
    """The layer of an activation function, which in Keras stands inside others."""
    known = getattr(function, "__name__", "")
    if function in (None, keras.activations.linear):
        return
    is_own = known != "gelu_tanh" and function is not getattr(keras.activations, known, None)
    if is_own or known not in ACTIVATIONS:
        raise builder.refused(name, f"the activation {known or function!r} is not known there")
    builder.add(ACTIVATIONS[known]())


def _arrays(layer: Any) -> list[np.ndarray]:
    return [as_numpy(array) for array in layer.get_weights()]


def _groups(weights: Sequence[Any], model: Sequential) -> list[dict[str, np.ndarray]]:
    """The arrays of ``get_weights()`` by layer, for the layers of a network, in xpnet's names."""
    left = [as_numpy(array) for array in weights]
    groups = []
    for layer in model.layers:
        names = [] if isinstance(layer, Standardize) else _names(layer)
        if names and left:
            groups.append(dict(zip(names, left, strict=False)))
            left = left[len(names) :]
    if left:
        raise ValueError(f"the weights of Keras have {len(left)} arrays more than the layers of the model")
    return groups

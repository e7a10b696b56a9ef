"""Networks to and from Keras's models, and weights in the order of its ``get_weights``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backends import Backend
from backends.arguments import shown
from backends.devices import as_numpy
from backends.pictures.windows import Pair

from ...layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from ...layers.conv import SAME
from ...layers.pictures import pair
from ...losses import Loss
from ...model import Sequential
from ..optional import library
from ..rows_taken import are_plain, row_shape_of
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
        ValueError: it is not known how large the pictures are that the network takes and flattens.
    """
    check_export(model, preprocessing)
    keras = library("keras", "nn.to_keras")
    kinds, dtype = keras.layers, model.backend.dtype_name
    shape = row_shape_of(model)
    if None in shape[1:] and any(isinstance(layer, Flatten) for layer in model):
        raise ValueError(
            "Keras must know how large the pictures are that this network flattens: train it, or let it begin with "
            "Reshape(height, width, channels)"
        )
    made = keras.Sequential([keras.Input(shape, dtype=dtype)])
    units = model.units
    if preprocessing and units is not None and (units.scale, units.shift) != (1.0, 0.0):
        made.add(kinds.Rescaling(units.scale, units.shift, dtype=dtype))
    if are_plain(model):
        made.add(kinds.Reshape((*shape, 1), dtype=dtype))
    for part in parts_of(model, "Keras"):
        if any(zeros := _padding(part)):
            made.add(kinds.ZeroPadding2D(zeros, dtype=dtype))
        layer = _made(keras, part, dtype)
        made.add(layer)
        if part.kind not in (Standardize, Flatten) and part.arrays:
            layer.set_weights([part.arrays[name] for name in _names(part.layer)])
    return made


def _padding(part: Part) -> Pair:
    """The zeros around pictures for which Keras has a layer of its own.

    Raises:
        TypeError: that would be another padding.
    """
    layer = part.layer
    if part.kind is Conv2d and layer.padding != SAME:
        return pair(layer.padding)
    if part.kind not in (MaxPool2d, AvgPool2d):
        return 0, 0
    around = pair(layer.padding)
    if any(around) and (part.kind is MaxPool2d or not layer.count_include_pad):
        raise part.refused("Keras", "it pads with zeros, which count")
    return around


def _made(keras: Any, part: Part, dtype: str) -> Any:
    """A layer of Keras, without its weights."""
    layer, kinds = part.layer, keras.layers
    if part.kind is Conv2d:
        padding = SAME if layer.padding == SAME else "valid"
        size, stride = pair(layer.kernel_size), pair(layer.stride)
        return kinds.Conv2D(
            layer.out_channels, size, stride, padding, groups=layer.groups, use_bias=layer.bias, dtype=dtype
        )
    if part.kind in (MaxPool2d, AvgPool2d):
        made = kinds.MaxPooling2D if part.kind is MaxPool2d else kinds.AveragePooling2D
        return made(pair(layer.kernel_size), pair(layer.stride or layer.kernel_size), dtype=dtype)
    if part.kind in (GlobalAvgPool2d, GlobalMaxPool2d):
        made = kinds.GlobalAveragePooling2D if part.kind is GlobalAvgPool2d else kinds.GlobalMaxPooling2D
        return made(dtype=dtype)
    if part.kind is Reshape:
        return kinds.Reshape(layer.shape, dtype=dtype)
    if part.kind is ChannelsLast:
        return kinds.Permute((2, 3, 1), dtype=dtype)
    if part.kind is Linear:
        return kinds.Dense(layer.out_features, use_bias=layer.bias, dtype=dtype)
    if part.kind in (BatchNorm, BatchNorm2d):
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
        source: a ``keras.Sequential`` of dense layers, convolutions and pooling (channels last), activations, norms,
            dropout, ``Flatten``, ``Reshape``, and ``Rescaling`` or ``Normalization`` at its beginning; or the list that
            ``get_weights()`` gives, where ``into`` is given.
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
    builder = _Builder("Keras")
    builder.dtype = float_dtype(source.get_weights())
    builder.shape = shape = tuple(source.input_shape[1:])
    for layer in source.layers:
        _add(keras, builder, layer, f"layer {layer.name!r}, {type(layer).__name__},")
        builder.shape = tuple(layer.compute_output_shape((None, *builder.shape))[1:])
    if len(shape) > 2 and None not in shape:  # pictures
        builder.units = replace(builder.units, row_shape=shape)
    return builder.model(backend, dtype, seed, loss)


class _Builder(Builder):
    """A network in the making.

    Attributes:
        shape: of a row that the next layer is given; None for an extent that is not known.
        zeros: around the pictures that the next layer is given.
    """

    shape: tuple[int | None, ...] = ()
    zeros: Pair = (0, 0)


def _add(keras: Any, builder: _Builder, layer: Any, name: str) -> None:
    """The layers that compute as one of Keras."""
    kinds = keras.layers
    known = [
        kinds.Dense, kinds.BatchNormalization, kinds.LayerNormalization, kinds.Normalization, kinds.Rescaling,
        kinds.Activation, kinds.ReLU, kinds.LeakyReLU, kinds.ELU, kinds.Softmax, kinds.Dropout, kinds.Flatten,
        kinds.InputLayer, kinds.Identity, kinds.Conv2D, kinds.DepthwiseConv2D, kinds.MaxPooling2D,
        kinds.AveragePooling2D, kinds.GlobalAveragePooling2D, kinds.GlobalMaxPooling2D, kinds.ZeroPadding2D,
        kinds.Reshape, kinds.Permute,
    ]  # fmt: skip
    kind = next((kind for kind in known if isinstance(layer, kind) and type(layer).call is kind.call), None)
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise builder.refused(name, "its pictures have their channels first; let the model begin with a Permute")
    if kind in (kinds.Conv2D, kinds.DepthwiseConv2D, kinds.MaxPooling2D, kinds.AveragePooling2D):
        _add_windows(keras, builder, layer, kind, name)
    elif builder.zeros != (0, 0):
        raise builder.refused(name, "xpnet pads with zeros in a convolution or mean pooling alone")
    elif kind is kinds.ZeroPadding2D:
        (above, below), (left, right) = layer.padding
        if (above, left) != (below, right):
            raise builder.refused(name, ONE_SIDE)
        builder.zeros = above, left
    elif kind in (kinds.GlobalAveragePooling2D, kinds.GlobalMaxPooling2D) and not layer.keepdims:
        builder.add(GlobalAvgPool2d() if kind is kinds.GlobalAveragePooling2D else GlobalMaxPool2d())
    elif kind is kinds.Reshape and None not in (shape := layer.compute_output_shape((None, *builder.shape))[1:]):
        builder.add(Reshape(*shape))
    elif kind is kinds.Permute and tuple(layer.dims) == (2, 3, 1):
        builder.add(ChannelsLast())
    elif kind is kinds.Dense:
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


#: Why windows that keep the size of pictures cannot come in.
ONE_SIDE = "it pads more on one side than on the other"


def _add_windows(keras: Any, builder: _Builder, layer: Any, kind: Any, name: str) -> None:
    """Convolution and pooling."""
    kinds, is_pooling = keras.layers, kind in (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
    size, stride = tuple(layer.pool_size if is_pooling else layer.kernel_size), tuple(layer.strides)
    zeros, builder.zeros = builder.zeros, (0, 0)
    if any(zeros) and (layer.padding != "valid" or kind is kinds.MaxPooling2D):
        raise builder.refused(name, "xpnet has one padding for each layer, which is never the largest in pooling")
    keeps = layer.padding == "same" and stride == (1, 1) and not is_pooling
    around = _same(builder, size, stride, name) if layer.padding == "same" else zeros
    if is_pooling:
        step = None if stride == size else stride
        counted = {"count_include_pad": layer.padding != "same" or not any(around)}
        builder.add(
            MaxPool2d(size, step, around) if kind is kinds.MaxPooling2D else AvgPool2d(size, step, around, **counted)
        )
        return
    if any(rate != 1 for rate in layer.dilation_rate):
        raise builder.refused(name, "xpnet has no dilation")
    kernel, *bias = _arrays(layer)
    groups = getattr(layer, "groups", 1)
    if kind is kinds.DepthwiseConv2D:
        groups = kernel.shape[2]
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    n_in, n_out = kernel.shape[2] * groups, kernel.shape[3]
    made = Conv2d(n_in, n_out, size, stride, SAME if keeps else around, groups, bias=layer.use_bias)
    builder.add(made, weight=kernel, bias=bias[0] if bias else None)
    _add_activation(keras, builder, layer.activation, name)


def _same(builder: _Builder, size: Pair, stride: Pair, name: str) -> Pair:
    """The zeros on each side for ``padding="same"`` of Keras, which are as many as are needed in all."""
    around = []
    for extent, window, step in zip(builder.shape[:2], size, stride, strict=True):
        if step == 1:
            needed = window - 1
        elif extent is not None:
            needed = max((-(-extent // step) - 1) * step + window - extent, 0)
        else:
            raise builder.refused(name, "how large its pictures are is not known")
        if needed % 2:
            raise builder.refused(name, ONE_SIDE)
        around.append(needed // 2)
    return around[0], around[1]


def _add_norm(builder: _Builder, layer: Any, name: str, is_batch: bool) -> None:
    axes = [layer.axis] if isinstance(layer.axis, int) else [*layer.axis]
    of_pictures = is_batch and len(builder.shape) == 3
    is_last = axes in ([-1], [len(builder.shape)])
    if not is_last or getattr(layer, "rms_scaling", False) or getattr(layer, "renorm", False):
        raise builder.refused(name, "xpnet normalizes rows of numbers")
    arrays = _arrays(layer)
    features = int(builder.shape[-1] or 0)
    weight = arrays.pop(0) if layer.scale else np.ones(features)
    bias = arrays.pop(0) if layer.center else np.zeros(features)
    affine = layer.scale or layer.center
    settings = {"weight": weight, "bias": bias} if affine else {}
    if is_batch:
        mean, variance = arrays
        kind = BatchNorm2d if of_pictures else BatchNorm
        builder.add(
            kind(features, layer.epsilon, affine, momentum=1.0 - layer.momentum),
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

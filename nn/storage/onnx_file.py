"""Networks as ONNX files, which onnxruntime, browsers, phones and most other tools for inference read.

Each kind of layer is a function below, chosen by the ``forward`` that the layer computes by: a subclass that only sets
other defaults is written like its parent, one that computes otherwise is not. A layer of one's own writes itself, by
``Layer.to_onnx``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.activations import get_activation
from backends.arguments import check_flag, check_kind, check_path, is_whole_number, shown

from ..data.columns import Column
from ..files import write_atomically
from ..layers import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Dropout,
    ElementwiseActivation,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    Reshape,
    Softmax,
    Standardize,
)
from ..layers.pictures import pair
from ..messages import first_line
from ..model import Sequential
from ..stages import output_activation_of
from ..version import __version__
from .onnx_graph import OnnxGraph
from .rows_taken import ON_PICTURES, are_plain, row_shape_of

#: LayerNormalization is an operator since this version.
OLDEST_OPSET = 17
#: Since 2022 in all readers.
DEFAULT_OPSET = 17
#: A file cannot be larger: it is one protocol buffer.
MOST_BYTES = 2**31 - 1


def export_onnx(
    model: Sequential,
    path: str | Path,
    *,
    preprocessing: bool = True,
    probabilities: bool = False,
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write ``model`` to ``path`` (by custom ``.onnx``) as it predicts, whole or not at all.

    The graph has an input ``input``, (rows, ...) in the model's dtype, any number of rows, and an output ``output``,
    what ``model(x)`` gives. Pictures are as the model takes them; inside they have their channels first, as ONNX wants
    them. Convolutions, mean and global pooling are computed in float32, which is all that onnxruntime has for them. The
    names of the classes, the task, the loss and the units stand in the file's metadata, as
    JSON. It needs the package onnx.

    Args:
        preprocessing: whether the graph takes rows as ``model(x)`` does, in the units of the training rows; without it,
            as the first layer sees them. With it and a table with columns of categories there is an input for each
            column, (rows, 1), by its name, text for categories; a category that is not known is all zeros.
        probabilities: whether ``output`` is what ``model.predict_proba(x)`` gives, for a network that ends before its
            softmax or sigmoid.
        opset: the version of ONNX's operators.

    Raises:
        ImportError: onnx is not installed.
        TypeError: a layer cannot be written: it says which.
        ValueError: onnx does not know this ``opset``, the network gives no probabilities, or is larger than 2 GiB.
        OSError: the file cannot be written.
    """
    check_kind("model", model, Sequential, "a Sequential")
    path = check_path("path", path)
    preprocessing = check_flag("preprocessing", preprocessing)
    probabilities = check_flag("probabilities", probabilities)
    graph = OnnxGraph(model.backend.dtype_name, opset)
    onnx, helper = graph.onnx, graph.onnx.helper
    newest = onnx.defs.onnx_opset_version()
    if not is_whole_number(opset) or not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"opset must be a whole number from {OLDEST_OPSET} to {newest}, not {shown(opset)}")
    if probabilities and not model.output_activation:
        raise ValueError("this network gives no probabilities; end it with Softmax() or Sigmoid()")
    arrays = model.state_dict()
    if sum(array.nbytes for array in arrays.values()) > MOST_BYTES:
        raise ValueError("the network is larger than 2 GiB, which no ONNX file may be; save_model has no such limit")
    columns = None if model.units is None else model.units.columns
    if preprocessing and columns and any(column.categories is not None for column in columns):
        inputs, x = _columns(graph, columns)
    else:
        shape = ["rows", *row_shape_of(model)]
        inputs, x = [helper.make_tensor_value_info("input", graph.type_of(graph.dtype), shape)], "input"
        if preprocessing and columns:
            x = _filled(graph, x, [column.fill for column in columns])
    if preprocessing and model.units is not None:
        x = _in_units(graph, x, model.units.scale, model.units.shift)
    if are_plain(model):
        x = graph.with_channels_first(graph.add("Unsqueeze", x, graph.constant([1], "int64")))
    for index, layer in enumerate(model.layers):
        prefix = f"{index}."
        graph.begin(prefix, {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)})
        x = _written(graph, layer, x, index)
    graph.begin("", {})
    x = graph.channels_last(x)
    if probabilities and not output_activation_of(model.layers):
        x = graph.add("Softmax", x, axis=1) if model.output_activation == "softmax" else graph.add("Sigmoid", x)
    graph.nodes.append(helper.make_node("Identity", [x], ["output"], name="output"))
    output = helper.make_tensor_value_info("output", graph.type_of(graph.dtype), ["rows", model.n_outputs])
    file = helper.make_model(
        helper.make_graph(graph.nodes, "xpnet", inputs, [output], graph.initializers),
        producer_name="xpnet",
        producer_version=__version__,
        doc_string=repr(model),
        opset_imports=(versions := [helper.make_opsetid(domain, version) for domain, version in graph.domains.items()]),
        ir_version=helper.find_min_ir_version_for(versions),
    )
    helper.set_model_props(file, _metadata(model))
    _check(graph, file)
    write_atomically(Path(path), file.SerializeToString())


def _check(graph: OnnxGraph, file: Any) -> None:
    onnx = graph.onnx
    try:
        onnx.checker.check_model(file, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TypeError(f"onnx refuses the graph of this network: {first_line(error, 200)}") from None


def _metadata(model: Sequential) -> dict[str, str]:
    return {
        "task": model.task,
        "output_activation": model.output_activation,
        "class_names": json.dumps(model.class_names),
        "units": json.dumps(None if model.units is None else model.units.to_dict()),
        "loss": model.loss_name,
    }


# ---- what rows become before the first layer -------------------------------------------------------------------------


def _in_units(graph: OnnxGraph, x: str, scale: float, shift: float) -> str:
    if scale != 1.0:
        x = graph.add("Mul", x, graph.constant(scale))
    return x if shift == 0.0 else graph.add("Add", x, graph.constant(shift))


def _filled(graph: OnnxGraph, x: str, fills: Sequence[float | str | None]) -> str:
    """``x``, (rows, columns), with what stands for missing values, NaN, in each column."""
    if all(fill is None for fill in fills):
        return x
    instead = [np.nan if fill is None else float(fill) for fill in fills]
    return graph.add("Where", graph.add("IsNaN", x), graph.constant(instead), x)


def _columns(graph: OnnxGraph, columns: Sequence[Column]) -> tuple[list[Any], str]:
    """An input for each column, and the row of numbers that all of them make."""
    inputs, parts = [], []
    for index, column in enumerate(columns):
        name = column.name or f"column_{index}"
        is_text = column.categories is not None
        inputs.append(
            graph.onnx.helper.make_tensor_value_info(
                name, graph.type_of("str" if is_text else graph.dtype), ["rows", 1]
            )
        )
        parts.append(_one_hot(graph, name, column) if is_text else _filled(graph, name, [column.fill]))
    return inputs, graph.add("Concat", *parts, axis=1)


def _one_hot(graph: OnnxGraph, x: str, column: Column) -> str:
    """(rows, categories) zeros and ones; an empty text is a missing value."""
    categories = [*(column.categories or ())]
    keys, numbers = [*categories], [*range(len(categories))]
    if column.fill is not None and "" not in keys:
        keys, numbers = [*keys, ""], [*numbers, categories.index(str(column.fill))]
    number = graph.add(
        "LabelEncoder", x, domain="ai.onnx.ml", keys_strings=keys, values_int64s=numbers, default_int64=-1
    )
    return graph.cast(graph.add("Equal", number, graph.constant([range(len(categories))], "int64")))


# ---- layers ----------------------------------------------------------------------------------------------------------


def _written(graph: OnnxGraph, layer: Layer, x: str, index: int) -> str:
    """Write a layer; the name of its output."""
    by_hand = _definer(layer, "to_onnx")
    if by_hand is not Layer and issubclass(by_hand, _definer(layer, "forward")):
        result: Any = layer.to_onnx(graph.channels_last(x), graph)
        if not isinstance(result, str):
            raise TypeError(
                f"layer {index}, {layer!r}: to_onnx gave {type(result).__name__} instead of the name of its output, "
                "which graph.add gives"
            )
        return result
    kind = type(layer).forward
    write = WRITERS.get(kind)
    if write is None:
        raise TypeError(
            f"layer {index}, {layer!r}, cannot be written to an ONNX file: its class has no to_onnx(x, graph) for its "
            "forward; docs/extending.md shows one"
        )
    is_first = graph.has_channels_first(x)
    try:
        if kind not in OF_ELEMENTS:
            return write(graph, layer, x if kind in TRANSPOSING else graph.channels_last(x))
        y = write(graph, layer, x)
        return graph.with_channels_first(y) if is_first else y
    except TypeError as error:
        raise TypeError(f"layer {index}, {layer!r}, cannot be written to an ONNX file: {error}") from None


def _definer(layer: Layer, method: str) -> type:
    """The class that a layer has a method from."""
    return next(cls for cls in type(layer).__mro__ if method in vars(cls))


def _linear(graph: OnnxGraph, layer: Any, x: str) -> str:
    z = graph.add("Gemm", x, graph.array("weight"), *([graph.array("bias")] if layer.bias else []))
    return activation(graph, layer.activation, z)


def _elementwise(graph: OnnxGraph, layer: Any, x: str) -> str:
    return activation(graph, layer.activation, x)


def _softmax(graph: OnnxGraph, layer: Layer, x: str) -> str:
    return graph.add("Softmax", x, axis=1)


def _nothing(graph: OnnxGraph, layer: Layer, x: str) -> str:
    return x


def _flatten(graph: OnnxGraph, layer: Layer, x: str) -> str:
    return graph.add("Flatten", x, axis=1)


def _layer_norm(graph: OnnxGraph, layer: Any, x: str) -> str:
    if layer.affine:
        weight, bias = [graph.array("weight")], [graph.array("bias")]
    else:
        weight, bias = [graph.constant(np.ones(layer.features))], []
    return graph.add("LayerNormalization", x, *weight, *bias, axis=-1, epsilon=layer.epsilon)


def _batch_norm(graph: OnnxGraph, layer: Any, x: str) -> str:
    y = _normalized(graph, x, "running_mean", "running_variance", layer.epsilon)
    if not layer.affine:
        return y
    return graph.add("Add", graph.add("Mul", y, graph.array("weight")), graph.array("bias"))


def _standardize(graph: OnnxGraph, layer: Layer, x: str) -> str:
    return _normalized(graph, x, "mean", "variance", 0.0)


def _normalized(graph: OnnxGraph, x: str, mean: str, variance: str, epsilon: float) -> str:
    """(x - mean) / sqrt(variance + epsilon). ONNX's BatchNormalization is x s + (bias - mean s) in its readers, which
    loses the digits of a column whose mean is large."""
    spread = graph.array(variance)
    if epsilon:
        spread = graph.add("Add", spread, graph.constant(epsilon))
    return graph.add("Div", graph.add("Sub", x, graph.array(mean)), graph.add("Sqrt", spread))


def _reshape(graph: OnnxGraph, layer: Reshape, x: str) -> str:
    if len(layer.shape) == 3 and layer.shape[2] == 1:  # channels first and last are the same
        shape = -1, 1, *layer.shape[:2]
        return graph.with_channels_first(graph.add("Reshape", x, graph.constant(shape, "int64")))
    return graph.add("Reshape", x, graph.constant((-1, *layer.shape), "int64"))


def _channels_last(graph: OnnxGraph, layer: Layer, x: str) -> str:
    return graph.with_channels_first(x)


def _conv2d(graph: OnnxGraph, layer: Conv2d, x: str) -> str:
    arrays = [graph.array("weight", (3, 2, 0, 1)), *([graph.array("bias")] if layer.bias else [])]
    settings = {"kernel_shape": pair(layer.kernel_size), "strides": pair(layer.stride), "pads": layer.around * 2}
    z = _in_float32(graph, "Conv", x, *arrays, group=layer.groups, **settings)
    return graph.with_channels_first(activation(graph, layer.activation, z))


def _max_pool(graph: OnnxGraph, layer: MaxPool2d, x: str) -> str:
    return graph.with_channels_first(graph.add("MaxPool", graph.channels_first(x), **_windows(layer)))


def _avg_pool(graph: OnnxGraph, layer: AvgPool2d, x: str) -> str:
    counted = int(layer.count_include_pad)
    return graph.with_channels_first(_in_float32(graph, "AveragePool", x, count_include_pad=counted, **_windows(layer)))


def _windows(layer: MaxPool2d | AvgPool2d) -> dict[str, Any]:
    size = pair(layer.kernel_size)
    return {"kernel_shape": size, "strides": pair(layer.stride or size), "pads": pair(layer.padding) * 2}


def _global_pool(operator: str) -> Callable[[OnnxGraph, Any, str], str]:
    def write(graph: OnnxGraph, layer: Layer, x: str) -> str:
        return graph.add("Flatten", _in_float32(graph, operator, x), axis=1)

    return write


def _batch_norm2d(graph: OnnxGraph, layer: BatchNorm2d, x: str) -> str:
    """By the operator, which readers join with the convolution before it."""
    if layer.affine:
        weight, bias = graph.array("weight"), graph.array("bias")
    else:
        weight, bias = graph.constant(np.ones(layer.features)), graph.constant(np.zeros(layer.features))
    statistics = graph.array("running_mean"), graph.array("running_variance")
    arrays = graph.channels_first(x), weight, bias, *statistics
    return graph.with_channels_first(graph.add("BatchNormalization", *arrays, epsilon=layer.epsilon))


def _in_float32(graph: OnnxGraph, operator: str, x: str, *arrays: str, **settings: Any) -> str:
    """An operator on pictures with their channels first that onnxruntime has for float32 alone."""
    names = [graph.channels_first(x), *arrays]
    if graph.dtype == "float32":
        return graph.add(operator, *names, **settings)
    return graph.cast(graph.add(operator, *(graph.cast(name, "float32") for name in names), **settings))


WRITERS: dict[Any, Callable[[OnnxGraph, Any, str], str]] = {
    Linear.forward: _linear,
    ElementwiseActivation.forward: _elementwise,
    Softmax.forward: _softmax,
    Dropout.forward: _nothing,
    Flatten.forward: _flatten,
    LayerNorm.forward: _layer_norm,
    BatchNorm.forward: _batch_norm,
    Standardize.forward: _standardize,
    Reshape.forward: _reshape,
    ChannelsLast.forward: _channels_last,
    Conv2d.forward: _conv2d,
    MaxPool2d.forward: _max_pool,
    AvgPool2d.forward: _avg_pool,
    GlobalAvgPool2d.forward: _global_pool("GlobalAveragePool"),
    GlobalMaxPool2d.forward: _global_pool("GlobalMaxPool"),
    BatchNorm2d.forward: _batch_norm2d,
}
#: Those that compute element by element, of pictures with their channels first as well.
OF_ELEMENTS = {ElementwiseActivation.forward, Dropout.forward}
#: Those that bring pictures into the order that they need themselves.
TRANSPOSING = {layer.forward for layer in ON_PICTURES}


# ---- activations -----------------------------------------------------------------------------------------------------


def activation(graph: OnnxGraph, name: str, z: str) -> str:
    """f(z): by an operator of ONNX where there is one, else by the formula of the table.

    Raises:
        TypeError: the formula of an activation of one's own calls what ONNX has not.
    """
    function, _, number = name.rstrip(")").partition("(")
    if function in OPERATORS:
        return graph.add(OPERATORS[function], z) if OPERATORS[function] else z
    if function == "silu":
        return graph.add("Mul", z, graph.add("Sigmoid", z))
    if graph.dtype == "float32":  # onnxruntime has these for float32 alone
        if function in IN_FLOAT32:
            operator, default = IN_FLOAT32[function]
            settings: dict[str, Any] = {} if default is None else {"alpha": float(number or default)}
            return graph.add(operator, z, **settings)
        if function == "gelu":
            tail = graph.add("Erf", graph.add("Mul", z, graph.constant(np.sqrt(0.5))))
            half = graph.add("Mul", z, graph.constant(0.5))
            return graph.add("Mul", half, graph.add("Add", tail, graph.constant(1.0)))
    return graph.formula(get_activation(name).forward, z)


OPERATORS = {"identity": "", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}
#: With the number that they have where none is given.
IN_FLOAT32 = {"leaky_relu": ("LeakyRelu", 0.01), "elu": ("Elu", 1.0), "softplus": ("Softplus", None)}

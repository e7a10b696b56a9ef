"""Networks to and from PyTorch's modules and state dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from backends import Backend
from backends.devices import as_numpy

from ...layers import (
    ELU,
    GELU,
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
from ...losses import Loss
from ...model import Sequential
from ..optional import library
from .parts import (
    TO_FIRST,
    Builder,
    Part,
    check_export,
    check_import,
    elu,
    flattened_pictures,
    float_dtype,
    in_order,
    leaky,
    load_groups,
    parts_of,
    to_channels_last,
)

#: Above this PyTorch's Softplus gives x itself, which is then off by less than 1e-6.
LEAST_THRESHOLD = 14


def to_torch(model: Sequential, *, preprocessing: bool = True) -> Any:
    """The network as a ``torch.nn.Sequential`` on the CPU, in ``eval()``, with the same outputs. Its ``state_dict()``
    has the weights as PyTorch keeps them. Activations inside ``Linear`` become modules of their own.

    Args:
        preprocessing: whether the module takes rows as ``model(x)`` does: the first module then applies scale and shift
            of the training rows, where there are any.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: a layer cannot be expressed: it says which.
    """
    check_export(model, preprocessing)
    torch = library("torch", "nn.to_torch")
    from . import torch_extra

    def linear(layer: Linear) -> Any:
        return torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)

    def batch_norm(layer: BatchNorm) -> Any:
        return torch.nn.BatchNorm1d(layer.features, layer.epsilon, layer.momentum, layer.affine)

    def batch_norm2d(layer: BatchNorm2d) -> Any:
        return torch.nn.BatchNorm2d(layer.features, layer.epsilon, layer.momentum, layer.affine)

    def avg_pool(layer: AvgPool2d) -> Any:
        counted = layer.count_include_pad
        return torch.nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, count_include_pad=counted)

    make: dict[type, Callable[[Any], Any]] = {
        Linear: linear,
        Conv2d: lambda layer: torch.nn.Conv2d(*_of_conv2d(layer), groups=layer.groups, bias=layer.bias),
        MaxPool2d: lambda layer: torch.nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding),
        AvgPool2d: avg_pool,
        GlobalAvgPool2d: lambda layer: torch.nn.AdaptiveAvgPool2d(1),
        GlobalMaxPool2d: lambda layer: torch.nn.AdaptiveMaxPool2d(1),
        BatchNorm2d: batch_norm2d,
        Softmax: lambda layer: torch.nn.Softmax(dim=1),
        Dropout: lambda layer: torch.nn.Dropout(layer.rate),
        Flatten: lambda layer: torch.nn.Flatten(),
        BatchNorm: batch_norm,
        LayerNorm: lambda layer: torch.nn.LayerNorm(layer.features, layer.epsilon, layer.affine),
        Standardize: lambda layer: torch_extra.Standardize(layer.features),
        Sigmoid: lambda layer: torch.nn.Sigmoid(),
        Tanh: lambda layer: torch.nn.Tanh(),
        ReLU: lambda layer: torch.nn.ReLU(),
        LeakyReLU: lambda layer: torch.nn.LeakyReLU(layer.negative_slope),
        ELU: lambda layer: torch.nn.ELU(layer.alpha),
        GELU: lambda layer: torch.nn.GELU(approximate=layer.approximate),
        SiLU: lambda layer: torch.nn.SiLU(),
        Softplus: lambda layer: torch.nn.Softplus(),
    }
    dtype = getattr(torch, model.backend.dtype_name)
    modules: list[Any] = []
    units = model.units
    if preprocessing and units is not None and (units.scale, units.shift) != (1.0, 0.0):
        modules.append(torch_extra.Rescale(units.scale, units.shift))
    for part in in_order(parts_of(model, "PyTorch")):
        if isinstance(part, str):
            modules.append(torch_extra.ChannelsFirst() if part == TO_FIRST else torch_extra.ChannelsLast())
        elif part.kind is Reshape:
            modules += [torch.nn.Flatten()] * bool(modules) + [torch.nn.Unflatten(1, part.layer.shape)]
        else:
            kind = type(part.layer) if part.kind is ElementwiseActivation else part.kind
            module = make[kind](part.layer).to(dtype)
            own = module.state_dict()
            own |= {name: torch.from_numpy(array) for name, array in _as_torch(part).items()}
            module.load_state_dict(own)
            modules.append(module)
            if part.kind in (GlobalAvgPool2d, GlobalMaxPool2d):
                modules.append(torch.nn.Flatten())
    return torch.nn.Sequential(*modules).eval()


def _of_conv2d(layer: Conv2d) -> tuple[Any, ...]:
    return layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding


def _as_torch(part: Part) -> dict[str, np.ndarray]:
    """The arrays of a layer by PyTorch's names and in its shapes."""
    names = {"running_variance": "running_var"}
    return {
        names.get(name, name): _turned(array, (3, 2, 0, 1))
        for name, array in part.arrays.items()
        if not (part.kind is Standardize and name == "learnt")
    }


def _turned(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A matrix transposed; filters with their axes in this order."""
    return np.ascontiguousarray(array.transpose(axes)) if array.ndim == 4 else array.T


def from_torch(
    source: Any,
    backend: str | Backend = "auto",
    dtype: str | None = None,
    *,
    seed: int = 0,
    loss: str | Loss | None = None,
    into: Sequential | None = None,
) -> Sequential:
    """A network with the layers, the weights and the outputs of a PyTorch module.

    Args:
        source: a ``torch.nn.Sequential`` of linear layers, activations, norms, dropout and ``Flatten``, also nested; or
            a ``state_dict()``, where ``into`` is given.
        backend, dtype, seed: of the new model; by default in the dtype of the weights.
        loss: what it was trained with. That says what its outputs mean: with ``"softmax_cross_entropy"`` those of a
            last linear layer are logits, and ``predict`` gives classes.
        into: a model that takes the weights instead, and is returned: those of the module's linear layers and norms,
            in the order of their definition, whatever its forward looks like.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: a module cannot be expressed: it says which; or ``source`` is neither.
        ValueError: the weights do not fit ``into``.
    """
    dtype, seed = check_import(backend, dtype, seed, loss, into)
    torch = library("torch", "nn.from_torch")
    if into is not None:
        state = source.state_dict() if isinstance(source, torch.nn.Module) else source
        return load_groups(into, _groups(state), "the weights of PyTorch", flattened_pictures(into))
    if isinstance(source, Mapping):
        raise TypeError("a state_dict does not say which layers there are; give from_torch(state_dict, into=model)")
    if not isinstance(source, torch.nn.Module):
        raise TypeError(f"from_torch takes a torch.nn.Sequential or a state_dict, not {type(source).__name__}")
    builder = _Builder("PyTorch")
    builder.dtype = float_dtype([*source.parameters(), *source.buffers()])
    modules = [*_flat(torch, source, "")]
    beside = [None, *(module for _, module in modules), None]
    for (name, module), before, after in zip(modules, beside, beside[2:], strict=False):
        shown = type(module).__name__ if "\n" in repr(module) else repr(module)
        _add(torch, builder, module, f"{name}, {shown},", before, after)
    if builder.flat:
        raise builder.refused("Flatten", FLATTENED)
    return builder.model(backend, dtype, seed, loss)


#: Why columns cannot come in the order of PyTorch.
FLATTENED = "xpnet flattens pictures with their channels last; let a linear layer follow"


class _Builder(Builder):
    """A network in the making whose pictures have their channels last, where PyTorch has them first.

    Attributes:
        has_pictures: whether rows are pictures here, (height, width, channels).
        channels: how many they have; 0 where that is not known.
        is_pooled: whether they were pooled to one number for each channel, which PyTorch calls pictures still.
        flat: how many channels the flattened pictures have whose numbers the columns are; 0 where these are in order.
    """

    def __init__(self, library: str) -> None:
        super().__init__(library)
        self.has_pictures = self.is_pooled = False
        self.channels = self.flat = 0

    def begin_pictures(self, name: str) -> None:
        """What comes next takes pictures."""
        if self.is_pooled or self.flat:
            raise self.refused(name, "it takes pictures, which xpnet has none of after global pooling or Flatten")
        if not self.has_pictures:
            self.add(ChannelsLast())
            self.has_pictures = True

    def reshape(self, shape: tuple[int, ...], channels_last: bool) -> None:
        """Rows of numbers in another shape; one of three numbers is that of pictures (channels, height, width), or of
        (height, width, channels) where PyTorch brings these into its order next."""
        is_one = len(shape) == 3 and shape[0] == 1 and not channels_last
        self.add(Reshape(*shape[1:], 1) if is_one else Reshape(*shape))
        self.has_pictures = len(shape) == 3
        if self.has_pictures:
            self.channels = shape[2 if channels_last else 0]
            if not (is_one or channels_last):
                self.add(ChannelsLast())

    def flatten(self, name: str) -> None:
        """Rows of any shape as rows of numbers."""
        if self.has_pictures:
            if not self.channels:
                raise self.refused(name, "how many channels its pictures have is not known; put Unflatten before them")
            self.flat = self.channels
        if not self.is_pooled:
            self.add(Flatten())
        self.has_pictures = self.is_pooled = False

    def columns(self, array: Any, name: str, is_last: bool = False) -> Any:
        """An array whose first axis are the columns of rows, in xpnet's order; ``is_last`` where columns of another
        layer follow."""
        if self.has_pictures or self.is_pooled:
            raise self.refused(name, "it takes rows of numbers; put Flatten before it")
        flat, self.flat = self.flat, 0 if is_last else self.flat
        return to_channels_last(array, flat) if flat and array is not None else array


def _flat(torch: Any, module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The modules of nested Sequentials, without those that do nothing."""
    if type(module).forward is torch.nn.Sequential.forward:
        for inner, part in module.named_children():
            yield from _flat(torch, part, f"{name}.{inner}" if name else f"module {inner}")
    elif type(module) is not torch.nn.Identity:
        yield name or "module", module


def _add(torch: Any, builder: _Builder, module: Any, name: str, before: Any, after: Any) -> None:
    """The layer that computes as a module, between two others."""
    from . import torch_extra

    nn = torch.nn
    arrays = {key: as_numpy(value) for key, value in module.state_dict().items()}
    weight, bias = arrays.get("weight"), arrays.get("bias")
    kinds = [
        torch_extra.Rescale, torch_extra.Standardize, torch_extra.ChannelsFirst, torch_extra.ChannelsLast, nn.Linear,
        nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
        nn.AdaptiveMaxPool2d, nn.Flatten, nn.Unflatten, *_simple(nn),
    ]  # fmt: skip
    kind = next((kind for kind in kinds if isinstance(module, kind) and _computes_as(module, kind)), None)
    if kind is torch_extra.Rescale:
        builder.add_units(module.scale, module.shift, name)
    elif kind is torch_extra.Standardize:
        builder.add_standardize(arrays["mean"], arrays["variance"])
    elif kind is torch_extra.ChannelsFirst and isinstance(before, nn.Unflatten):
        pass
    elif kind is torch_extra.ChannelsFirst and not builder.has_pictures:
        builder.has_pictures = True
    elif kind is torch_extra.ChannelsLast and builder.has_pictures:
        builder.has_pictures = False
    elif kind is nn.Linear:
        layer = Linear(module.in_features, module.out_features, bias=bias is not None)
        builder.add(layer, weight=builder.columns(None if weight is None else weight.T, name, is_last=True), bias=bias)
    elif kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        _add_batch_norm(builder, module, arrays, name, BatchNorm if kind is nn.BatchNorm1d else BatchNorm2d)
    elif kind is nn.LayerNorm:
        if len(module.normalized_shape) != 1:
            raise builder.refused(name, "xpnet normalizes rows of numbers")
        (features,) = module.normalized_shape
        if weight is not None and bias is None:
            bias = np.zeros(features)
        weight, bias = (builder.columns(array, name) for array in (weight, bias))
        builder.add(LayerNorm(features, module.eps, weight is not None), weight=weight, bias=bias)
    elif kind in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d):
        _add_of_pictures(nn, builder, module, kind, arrays, name)
    elif kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        builder.flatten(name)
    elif kind is nn.Unflatten and module.dim == 1 and all(isinstance(side, int) for side in module.unflattened_size):
        builder.reshape(tuple(module.unflattened_size), isinstance(after, torch_extra.ChannelsFirst))
    else:
        if kind is nn.Softmax:
            builder.columns(None, name)
        layer_of = None if kind is None else _simple(nn).get(kind)
        made = None if layer_of is None else layer_of(module)
        if made is None:
            raise builder.refused(name)
        builder.add(made)


def _add_batch_norm(builder: _Builder, module: Any, arrays: dict[str, Any], name: str, layer: type[BatchNorm]) -> None:
    if not module.track_running_stats or module.momentum is None:
        raise builder.refused(name, "xpnet's running statistics are moving averages")
    own = {"running_variance": "running_var"}
    named = {key: arrays.get(own.get(key, key)) for key in ("weight", "bias", "running_mean", "running_variance")}
    if layer is BatchNorm2d:
        builder.begin_pictures(name)
        builder.channels = module.num_features
    else:
        named = {key: builder.columns(array, name) for key, array in named.items()}
    builder.add(layer(module.num_features, module.eps, module.affine, momentum=module.momentum), **named)


def _add_of_pictures(nn: Any, builder: _Builder, module: Any, kind: Any, arrays: dict[str, Any], name: str) -> None:
    """Convolution and pooling."""
    builder.begin_pictures(name)
    if kind in (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d):
        if module.output_size not in (1, (1, 1)) or getattr(module, "return_indices", False):
            raise builder.refused(name, "xpnet pools whole pictures to one number for each channel")
        builder.add(GlobalAvgPool2d() if kind is nn.AdaptiveAvgPool2d else GlobalMaxPool2d())
        builder.has_pictures, builder.is_pooled = False, True
        return
    size, stride, padding = module.kernel_size, module.stride, module.padding
    if kind is not nn.Conv2d and stride == size:
        stride = None
    if getattr(module, "ceil_mode", False) or getattr(module, "return_indices", False):
        raise builder.refused(name, "xpnet has neither ceil_mode nor return_indices")
    if getattr(module, "dilation", 1) not in (1, (1, 1)):
        raise builder.refused(name, "xpnet has no dilation")
    try:
        if kind is nn.MaxPool2d:
            builder.add(MaxPool2d(size, stride, padding))
        elif kind is nn.AvgPool2d and module.divisor_override is None:
            builder.add(AvgPool2d(size, stride, padding, module.count_include_pad))
        elif kind is nn.Conv2d and module.padding_mode == "zeros":
            bias, padding = arrays.get("bias"), 0 if padding == "valid" else padding
            channels = module.in_channels, module.out_channels
            layer = Conv2d(*channels, size, module.stride, padding, module.groups, bias is not None)
            builder.add(layer, weight=_turned(arrays["weight"], (2, 3, 1, 0)), bias=bias)
            builder.channels = module.out_channels
        else:
            raise builder.refused(name)
    except ValueError as error:
        raise builder.refused(name, str(error)) from None


def _computes_as(module: Any, kind: type) -> bool:
    method: Any = kind
    return type(module).forward is method.forward


def _simple(nn: Any) -> dict[type, Callable[[Any], Any]]:
    """The layers without parameters by the classes of PyTorch; None where the settings cannot be expressed."""
    return {
        nn.Sigmoid: lambda module: Sigmoid(),
        nn.Tanh: lambda module: Tanh(),
        nn.ReLU: lambda module: ReLU(),
        nn.LeakyReLU: lambda module: leaky(module.negative_slope),
        nn.ELU: lambda module: elu(module.alpha),
        nn.GELU: lambda module: GELU(module.approximate),
        nn.SiLU: lambda module: SiLU(),
        nn.Softplus: lambda m: Softplus() if m.beta == 1 and m.threshold >= LEAST_THRESHOLD else None,
        nn.Softmax: lambda module: Softmax() if module.dim in (1, -1) else None,
        nn.Dropout: lambda module: Dropout(module.p) if module.p < 1 else None,
    }


def _groups(state: Any) -> list[dict[str, np.ndarray]]:
    """The arrays of a state dictionary by module, in xpnet's names and shapes."""
    if not isinstance(state, Mapping):
        raise TypeError(f"from_torch takes a torch.nn.Module or its state_dict(), not {type(state).__name__}")
    names = {"running_var": "running_variance"}
    groups: dict[str, dict[str, np.ndarray]] = {}
    for full, value in state.items():
        prefix, _, name = full.rpartition(".")
        if name != "num_batches_tracked":
            groups.setdefault(prefix, {})[names.get(name, name)] = _turned(as_numpy(value), (2, 3, 1, 0))
    return [group for group in groups.values() if {*group} != {"mean", "variance"}]

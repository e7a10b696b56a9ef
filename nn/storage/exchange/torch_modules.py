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
    BatchNorm,
    Dropout,
    ElementwiseActivation,
    Flatten,
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
    from .torch_extra import Rescale
    from .torch_extra import Standardize as StandardizeModule

    def linear(layer: Linear) -> Any:
        return torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)

    def batch_norm(layer: BatchNorm) -> Any:
        return torch.nn.BatchNorm1d(layer.features, layer.epsilon, layer.momentum, layer.affine)

    make: dict[type, Callable[[Any], Any]] = {
        Linear: linear,
        Softmax: lambda layer: torch.nn.Softmax(dim=1),
        Dropout: lambda layer: torch.nn.Dropout(layer.rate),
        Flatten: lambda layer: torch.nn.Flatten(),
        BatchNorm: batch_norm,
        LayerNorm: lambda layer: torch.nn.LayerNorm(layer.features, layer.epsilon, layer.affine),
        Standardize: lambda layer: StandardizeModule(layer.features),
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
    modules = []
    units = model.units
    if preprocessing and units is not None and (units.scale, units.shift) != (1.0, 0.0):
        modules.append(Rescale(units.scale, units.shift))
    for part in parts_of(model, "PyTorch"):
        kind = type(part.layer) if part.kind is ElementwiseActivation else part.kind
        module = make[kind](part.layer).to(dtype)
        own = module.state_dict()
        own |= {name: torch.from_numpy(array) for name, array in _as_torch(part).items()}
        module.load_state_dict(own)
        modules.append(module)
    return torch.nn.Sequential(*modules).eval()


def _as_torch(part: Part) -> dict[str, np.ndarray]:
    """The arrays of a layer by PyTorch's names and in its shapes."""
    names = {"running_variance": "running_var"}
    return {
        names.get(name, name): array.T
        for name, array in part.arrays.items()
        if not (part.kind is Standardize and name == "learnt")
    }


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
        return load_groups(into, _groups(state), "the weights of PyTorch")
    if isinstance(source, Mapping):
        raise TypeError("a state_dict does not say which layers there are; give from_torch(state_dict, into=model)")
    if not isinstance(source, torch.nn.Module):
        raise TypeError(f"from_torch takes a torch.nn.Sequential or a state_dict, not {type(source).__name__}")
    builder = Builder("PyTorch")
    builder.dtype = float_dtype([*source.parameters(), *source.buffers()])
    for name, module in _flat(torch, source, ""):
        shown = type(module).__name__ if "\n" in repr(module) else repr(module)
        _add(torch, builder, module, f"{name}, {shown},")
    return builder.model(backend, dtype, seed, loss)


def _flat(torch: Any, module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The modules of nested Sequentials, without those that do nothing."""
    if type(module).forward is torch.nn.Sequential.forward:
        for inner, part in module.named_children():
            yield from _flat(torch, part, f"{name}.{inner}" if name else f"module {inner}")
    elif type(module) is not torch.nn.Identity:
        yield name or "module", module


def _add(torch: Any, builder: Builder, module: Any, name: str) -> None:
    """The layer that computes as a module."""
    from .torch_extra import Rescale
    from .torch_extra import Standardize as StandardizeModule

    nn = torch.nn
    arrays = {key: as_numpy(value) for key, value in module.state_dict().items()}
    weight, bias = arrays.get("weight"), arrays.get("bias")
    kinds = [Rescale, StandardizeModule, nn.Linear, nn.BatchNorm1d, nn.LayerNorm, *_simple(nn)]
    kind = next((kind for kind in kinds if isinstance(module, kind) and _computes_as(module, kind)), None)
    if kind is Rescale:
        builder.add_units(module.scale, module.shift, name)
    elif kind is StandardizeModule:
        builder.add_standardize(arrays["mean"], arrays["variance"])
    elif kind is nn.Linear:
        layer = Linear(module.in_features, module.out_features, bias=bias is not None)
        builder.add(layer, weight=None if weight is None else weight.T, bias=bias)
    elif kind is nn.BatchNorm1d:
        if not module.track_running_stats or module.momentum is None:
            raise builder.refused(name, "xpnet's running statistics are moving averages")
        builder.add(
            BatchNorm(module.num_features, module.eps, module.affine, momentum=module.momentum),
            weight=weight,
            bias=bias,
            running_mean=arrays["running_mean"],
            running_variance=arrays["running_var"],
        )
    elif kind is nn.LayerNorm:
        if len(module.normalized_shape) != 1:
            raise builder.refused(name, "xpnet normalizes rows of numbers")
        (features,) = module.normalized_shape
        if weight is not None and bias is None:
            bias = np.zeros(features)
        builder.add(LayerNorm(features, module.eps, weight is not None), weight=weight, bias=bias)
    else:
        layer_of = None if kind is None else _simple(nn)[kind]
        made = None if layer_of is None else layer_of(module)
        if made is None:
            raise builder.refused(name)
        builder.add(made)


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
        nn.Flatten: lambda module: Flatten() if (module.start_dim, module.end_dim) == (1, -1) else None,
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
            groups.setdefault(prefix, {})[names.get(name, name)] = as_numpy(value).T
    return [group for group in groups.values() if {*group} != {"mean", "variance"}]

"""What all exchanges need: the parts of a network as others have them, and a network from such parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backends import Backend
from backends.arguments import check_dtype, check_flag, check_kind, check_seed

from ...data import Units
from ...layers import (
    ACTIVATION_LAYERS,
    ELU,
    GELU,
    BatchNorm,
    Dropout,
    ElementwiseActivation,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Softmax,
    Standardize,
)
from ...losses import Loss, get_loss
from ...model import Sequential

#: The classes by how they compute; a subclass that computes otherwise is none of them.
KINDS = (Linear, ElementwiseActivation, Softmax, Dropout, Flatten, BatchNorm, LayerNorm, Standardize)


def check_export(model: Any, preprocessing: Any) -> None:
    """Raise an error unless these are a network and True or False."""
    check_kind("model", model, Sequential, "a Sequential")
    check_flag("preprocessing", preprocessing)


def check_import(backend: Any, dtype: Any, seed: Any, loss: Any = None, into: Any = None) -> tuple[str | None, int]:
    """The dtype and the seed of a network to be made; an error, if they or the others cannot be."""
    check_kind("backend", backend, (str, Backend), "the name of a device, or a Backend")
    if loss is not None:
        get_loss(loss)
    check_kind("into, unless it is None,", into, (Sequential, type(None)), "a Sequential")
    return None if dtype is None else check_dtype("dtype, unless it is None,", dtype), check_seed("seed", seed)


class Part(NamedTuple):
    """A layer as others have it, where ``Linear`` has no activation in it.

    Attributes:
        layer: it, or the activation that was in it.
        kind: one of ``KINDS``.
        arrays: its parameters and state, NumPy, by name.
        name: for messages.
    """

    layer: Any
    kind: type[Layer]
    arrays: dict[str, np.ndarray]
    name: str

    def refused(self, library: str, why: str = "") -> TypeError:
        """The error that says that ``library`` has no such layer."""
        return TypeError(f"{self.name}, cannot be expressed in {library}{why and ': '}{why}")


def parts_of(model: Sequential, library: str) -> Iterator[Part]:
    """The layers of a network, one after the other.

    Raises:
        TypeError: a layer, or an activation in it, is somebody's own.
    """
    state = model.state_dict()
    layer: Any
    for index, layer in enumerate(model.layers):
        prefix, name = f"{index}.", f"layer {index}, {layer!r}"
        arrays = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
        kind = next((kind for kind in KINDS if type(layer).forward is kind.forward), None)
        if kind is None:
            raise Part(layer, Layer, {}, name).refused(library, "its class computes in a way of its own")
        if kind is ElementwiseActivation:
            layer = _activation(layer, name, library)
        yield Part(layer, kind, arrays, name)
        if kind is Linear and layer.activation != "identity":
            yield Part(_activation(layer, name, library), ElementwiseActivation, {}, name)


def _activation(layer: Any, name: str, library: str) -> Layer:
    """The activation of xpnet that a layer is, or has in it."""
    function, _, number = layer.activation.rstrip(")").partition("(")
    if function == "gelu_tanh":
        return GELU("tanh")
    if function not in ACTIVATION_LAYERS:
        raise Part(layer, Layer, {}, name).refused(library, f"{layer.activation!r} is not known there")
    made: Layer = ACTIVATION_LAYERS[function](*([float(number)] if number else []))
    return made


class Builder:
    """A network in the making, from the layers of another library.

    Args:
        library: what messages call it.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        self.layers: list[Layer] = []
        self.state: dict[str, Any] = {}
        self.units = Units()
        self.dtype = "float32"

    def add(self, layer: Layer, **arrays: Any) -> None:
        """The next layer and its parameters and state, by name; what is None the layer has not."""
        self.state |= {f"{len(self.layers)}.{name}": array for name, array in arrays.items() if array is not None}
        self.layers.append(layer)

    def add_units(self, scale: Any, shift: Any, name: str) -> None:
        """What rows are multiplied by and what is added to them, before the first layer."""
        if self.layers:
            raise self.refused(name, "xpnet scales rows before the first layer only")
        if np.size(scale) != 1 or np.size(shift) != 1:
            raise self.refused(name, "xpnet scales all columns by one number; say Standardize for one each")
        scale, shift = float(np.reshape(scale, ())), float(np.reshape(shift, ()))
        self.units = Units(self.units.scale * scale, self.units.shift * scale + shift)

    def add_standardize(self, mean: Any, variance: Any) -> None:
        """(x - mean) / sqrt(variance), of each column."""
        mean, variance = np.ravel(mean), np.ravel(variance)
        self.add(Standardize(len(mean)), mean=mean, variance=variance, learnt=np.ones(1))

    def refused(self, name: str, why: str = "") -> TypeError:
        """The error that says that xpnet has no such layer."""
        return TypeError(f"{self.library}'s {name} cannot be expressed in xpnet{why and ': '}{why}")

    def model(self, backend: str | Backend, dtype: str | None, seed: int, loss: str | Loss | None) -> Sequential:
        """The network, in the dtype asked for, or of the arrays."""
        model = Sequential(self.layers, backend=backend, dtype=dtype or self.dtype, seed=seed)
        model.load_state_dict(self.state)
        if loss is not None:
            loss = get_loss(loss)
            model.accept_loss(loss.output_activation)
            model.loss_name, model.loss_settings = loss.name, loss.own_settings
        # Known units: rows of pixels are not divided by 255 behind the back of a network that was trained elsewhere.
        model.units = self.units
        return model


def leaky(slope: float) -> Layer | None:
    """y = x above 0, slope x below, for a slope from 0 to 1; None for another."""
    if slope == 0.0:
        return ACTIVATION_LAYERS["relu"]()
    return LeakyReLU(slope) if 0.0 < slope < 1.0 else None


def elu(alpha: float) -> Layer | None:
    return ELU(alpha) if 0.0 < alpha < float("inf") else None


def float_dtype(arrays: Sequence[Any]) -> str:
    """float64 where the first array is, else float32."""
    return "float64" if arrays and "float64" in str(arrays[0].dtype) else "float32"


def load_groups(model: Sequential, groups: Sequence[Mapping[str, np.ndarray]], what: str) -> Sequential:
    """Put arrays into a network: a group for each of its layers that has any but ``Standardize``, in their order.

    Args:
        groups: arrays by xpnet's names, shaped as there; names that the layer has not are left out.
        what: what messages call them.

    Raises:
        ValueError: they do not fit; nothing is changed then.
    """
    state = model.state_dict()
    named: dict[str, list[str]] = {}
    for full in state:
        index, _, name = full.partition(".")
        if not isinstance(model.layers[int(index)], Standardize):
            named.setdefault(index, []).append(name)
    if len(groups) != len(named):
        raise ValueError(f"{what} have {len(groups)} layers with weights, but the model has {len(named)}")
    for (index, names), group in zip(sorted(named.items(), key=lambda item: int(item[0])), groups, strict=True):
        layer = f"layer {index}, {model.layers[int(index)]!r}"
        wrong = [f"no {name}" for name in names if name not in group]
        wrong += [f"a {name} that the model has not" for name in group if name not in names]
        if wrong:
            raise ValueError(f"{what} do not fit {layer}: they have {', '.join(wrong)}")
        for name in names:
            if group[name].shape != state[f"{index}.{name}"].shape:
                raise ValueError(
                    f"{what} do not fit {layer}: its {name} has shape {state[f'{index}.{name}'].shape}, not "
                    f"{group[name].shape}"
                )
            state[f"{index}.{name}"] = group[name]
    model.load_state_dict(state)
    return model

"""What all exchanges need: the parts of a network as others have them, and a network from such parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backends import Backend
from backends.arguments import check_dtype, check_flag, check_kind, check_seed

from ...data import Units
from ...layers import (
    ACTIVATION_LAYERS,
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
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Reshape,
    Softmax,
    Standardize,
)
from ...losses import Loss, get_loss
from ...model import Sequential
from ..rows_taken import ON_PICTURES

#: The classes by how they compute; a subclass that computes otherwise is none of them.
KINDS = (
    Linear, ElementwiseActivation, Softmax, Dropout, Flatten, BatchNorm, LayerNorm, Standardize, Conv2d, MaxPool2d,
    AvgPool2d, GlobalAvgPool2d, GlobalMaxPool2d, BatchNorm2d, Reshape, ChannelsLast,
)  # fmt: skip


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
    """A layer as others have it, where ``Linear`` and ``Conv2d`` have no activation in them.

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
        if layer.ends_in_activation and layer.activation != "identity":
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


# ---- pictures that others have with their channels first -------------------------------------------------------------


def to_channels_last(array: np.ndarray, channels: int) -> np.ndarray:
    """Numbers of the columns of flattened pictures (channels, height, width) for those of (height, width, channels)."""
    return np.swapaxes(array.reshape(channels, -1, *array.shape[1:]), 0, 1).reshape(array.shape)


def to_channels_first(array: np.ndarray, channels: int) -> np.ndarray:
    """Numbers of the columns of flattened pictures (height, width, channels) for those of (channels, height, width)."""
    return to_channels_last(array, array.shape[0] // channels)


def flattened_pictures(model: Sequential) -> dict[int, int]:
    """The layers whose columns are flattened pictures, by their indices, and how many channels these have.

    Raises:
        ValueError: that is not known.
    """
    found: dict[int, int] = {}
    flat: int | None = None
    channels: int | None = None  # 0 for a number that is not known; None outside of pictures
    before: Layer | None = None
    for index, layer in enumerate(model.layers):
        if isinstance(layer, Flatten) and channels is not None:
            channels, flat = None, channels
        elif layer.parameters() and flat is not None and not isinstance(layer, Conv2d | BatchNorm2d):
            if flat == 0:
                raise ValueError(
                    f"layer {index}, {layer!r}: it is not known how many channels the pictures have that are flattened "
                    "before it; let the network begin with Reshape(height, width, channels)"
                )
            found[index] = flat
            flat = None if isinstance(layer, Linear) else flat
        channels, before = _channels_after(layer, before, channels), layer
    return found


def _channels_after(layer: Layer, before: Layer | None, channels: int | None) -> int | None:
    """How many channels pictures have after a layer, if there are pictures; 0 where that is not known."""
    if isinstance(layer, Conv2d):
        return layer.out_channels
    if isinstance(layer, BatchNorm2d):
        return layer.features
    if isinstance(layer, Reshape):
        return layer.shape[2] if len(layer.shape) == 3 else None
    if isinstance(layer, ChannelsLast):
        return before.shape[0] if isinstance(before, Reshape) else 0
    if isinstance(layer, MaxPool2d | AvgPool2d):
        return channels or 0
    return channels if isinstance(layer, ElementwiseActivation | Dropout) else None


#: What ``in_order`` puts between layers.
TO_FIRST, TO_LAST = "channels first", "channels last"


def in_order(parts: Iterable[Part]) -> Iterator[Part | str]:
    """The parts of a network as a library has them whose pictures have their channels first: with ``TO_FIRST`` where
    pictures are to be brought into that order, and ``TO_LAST`` where they are to be brought back.

    ``ChannelsLast`` is left out, as is the one channel of ``Reshape``, whose place does not matter; and what a linear
    layer takes of flattened pictures has its columns in the order that these have there.
    """
    left = [*parts]
    is_first, flat = False, 0
    channels: int | None = None
    before: Layer | None = None
    for number, part in enumerate(left):
        layer, kind = part.layer, part.kind
        following = [p.kind for p in left[number + 1 :] if p.kind not in (ElementwiseActivation, Dropout)]
        if kind in ON_PICTURES:
            if not is_first:
                yield TO_FIRST
            is_first = kind not in (GlobalAvgPool2d, GlobalMaxPool2d)
        elif is_first and kind not in (ElementwiseActivation, Dropout):
            if kind is Flatten and following[:1] == [Linear] and channels:
                flat = channels
            else:
                yield TO_LAST
            is_first = False
        if kind is Linear and flat:
            part.arrays["weight"], flat = to_channels_first(part.arrays["weight"], flat), 0
        channels, before = _channels_after(layer, before, channels), layer
        if kind is ChannelsLast:
            is_first = True
            continue
        if kind is Reshape and len(layer.shape) == 3 and layer.shape[2] == 1 and following[:1] != [ChannelsLast]:
            is_first, part = True, part._replace(layer=Reshape(1, *layer.shape[:2]))
        yield part


def load_groups(
    model: Sequential, groups: Sequence[Mapping[str, np.ndarray]], what: str, channels: Mapping[int, int] | None = None
) -> Sequential:
    """Put arrays into a network: a group for each of its layers that has any but ``Standardize``, in their order.

    Args:
        groups: arrays by xpnet's names, shaped as there; names that the layer has not are left out.
        what: what messages call them.
        channels: the layers whose columns are flattened pictures with their channels first there, and how many channels
            these have.

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
            is_of_columns = isinstance(model.layers[int(index)], Linear) <= (name == "weight")
            flat = (channels or {}).get(int(index)) if is_of_columns else None
            state[f"{index}.{name}"] = group[name] if flat is None else to_channels_last(group[name], flat)
    model.load_state_dict(state)
    return model

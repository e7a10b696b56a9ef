"""Trained models on disk: one safetensors file with the parameters, and the network's description in its header.

A model trained on any device loads on any other.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from backends import Backend

from ..data import Units
from ..files import write_atomically
from ..layers import LAYERS, Layer
from ..model import Sequential


def save_model(model: Sequential, path: str | Path) -> None:
    """Write ``model`` to ``path`` (by custom ``.safetensors``), whole or not at all.

    Layers of your own are saved like those of xpnet, by their settings, if they are dataclasses. A setting that is a
    list or a tuple is loaded as a tuple.

    Raises:
        TypeError: a layer is no dataclass, or has a setting that is no number, text, list, tuple or None.
    """
    from safetensors.numpy import save

    description = {
        "layers": [_layer_to_dict(layer) for layer in model.layers],
        "dtype": model.backend.dtype_name,
        "seed": model.seed,
        "step": model.step,
        "output_activation": model.output_activation,
        "task": model.task,
        "units": None if model.units is None else model.units.to_dict(),
        "class_names": model.class_names,
        "target_shape": model.target_shape,
        "loss": model.loss_name,
        "loss_settings": model.loss_settings,
    }
    write_atomically(Path(path), save(model.state_dict(), metadata={"xpnet": json.dumps(description)}))


def load_model(path: str | Path, backend: str | Backend = "auto", dtype: str | None = None) -> Sequential:
    """The model that ``save_model`` wrote, on the device named by ``backend``, in its own dtype or another.

    Raises:
        ValueError: the file is not a model of xpnet, or has a layer that nobody has defined: import its module first.
        FileNotFoundError: there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads((file.metadata() or {})["xpnet"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a model that xpnet saved ({type(error).__name__}: {error})") from None
    layers = [_layer_from_dict(settings, path) for settings in description["layers"]]
    model = Sequential(layers, backend=backend, dtype=dtype or description["dtype"], seed=description["seed"])
    model.load_state_dict(state)
    model.step = description["step"]
    model.output_activation = description.get("output_activation", description.get("link"))  # version 0.1 said link
    model.task = description["task"]
    model.units = _units(description)
    # Earlier files have none of these.
    model.class_names = _as_tuple(description.get("class_names"))
    model.target_shape = _as_tuple(description.get("target_shape"))
    model.loss_name = description.get("loss", "")
    model.loss_settings = description.get("loss_settings", {})
    return model


def _units(description: dict[str, Any]) -> Units | None:
    if "input_scale" in description:  # version 0.1
        return Units(description["input_scale"], description["input_shift"])
    units = description["units"]
    return None if units is None else Units.from_dict(units)


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    name = layer.registered_name
    if LAYERS.get(name) is not type(layer) or not dataclasses.is_dataclass(layer):
        raise TypeError(
            f"{layer!r} cannot be saved by its settings: make its class a frozen dataclass, or save state_dict()"
        )
    settings = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    # Initial values are of no use to a trained model, and may be objects that a file cannot hold.
    kept = {key: value for key, value in settings.items() if not key.endswith("_init")}
    try:
        json.dumps(kept)
    except TypeError as error:
        raise TypeError(f"{layer!r} cannot be saved: {error}") from None
    return {"type": name} | kept


def _layer_from_dict(settings: dict[str, Any], path: str | Path) -> Layer:
    settings = dict(settings)
    name = settings.pop("type")
    if name not in LAYERS:
        raise ValueError(
            f"{path} has a layer {name!r} that is not known here; import the module that defines it, or update xpnet"
        )
    return LAYERS[name](**{key: _as_tuple(value) for key, value in settings.items()})


def _as_tuple(value: Any) -> Any:
    """Lists as tuples: JSON has no tuples, and the settings of a frozen layer are not lists."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value

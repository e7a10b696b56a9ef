"""Trained models on disk: one safetensors file with the parameters, and the network's description in its header.

A model trained on any device loads on any other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from backends import Backend
from backends.arguments import check_dtype, check_kind, check_path, check_text

from ..data import Units
from ..files import what_is_no_file, write_atomically
from ..layers import LAYERS, Layer
from ..messages import OneSentence, first_line, sentence
from ..model import Sequential
from ..stages import output_activation_of

#: The version of the format: 2 since files have a checksum.
FORMAT = 2
DTYPES = ("float32", "float64")
#: What a run calls its model in its folder, and the file that is written last and tells of the others.
WEIGHTS, SETTINGS = "weights.safetensors", "settings.json"


class ModelFileError(OneSentence, ValueError):
    """A file that is no model, is damaged, or is of a newer version; the message is one sentence."""


def save_model(model: Sequential, path: str | Path, *, run: str = "") -> None:
    """Write ``model`` to ``path`` (by custom ``.safetensors``), whole or not at all.

    Layers of your own are saved like those of xpnet, by their settings, if they are dataclasses. A setting that is a
    list or a tuple is loaded as a tuple.

    Args:
        run: the id of the run that trained it, to stand in the file's description.

    Raises:
        TypeError: a layer is no dataclass, or has a setting that is no number, text, list, tuple or None.
    """
    check_kind("model", model, Sequential, "a Sequential")
    write_atomically(check_path("path", path), model_bytes(model, check_text("run", run)))


def model_bytes(model: Sequential, run: str = "") -> bytes:
    """The file that ``save_model`` writes."""
    from safetensors.numpy import save

    description = {
        "format": FORMAT,
        "layers": [layer_to_dict(layer) for layer in model.layers],
        "dtype": model.backend.dtype_name,
        "seed": model.seed,
        "step": model.step,
        **learnt_of(model),
    }
    state = model.state_dict()
    description["sha256"] = checksum(description, state)
    if run:  # not part of the checksum: files of equal networks from two runs differ in the id alone
        description["run"] = run
    # One entry of metadata: of several, safetensors writes now one first and now another.
    content: bytes = save(state, metadata={"xpnet": json.dumps(description)})
    return content


def checksum(description: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """SHA-256 of a description and of names, dtypes, shapes and numbers of arrays: finds any bit that has changed."""
    digest = sha256(json.dumps(description).encode())
    for name in sorted(state):
        array = state[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load_model(path: str | Path, backend: str | Backend = "auto", dtype: str | None = None) -> Sequential:
    """The model that ``save_model`` wrote, on the device named by ``backend``, in its own dtype or another.

    Nothing in the file is executed, and no more memory is taken than it has numbers.

    Args:
        path: of the file; or of the folder that ``train.py --output`` wrote, in which it is then the file that the
            folder's ``settings.json`` tells of, bit for bit.

    Raises:
        ModelFileError: (a ValueError) the file is not a model of xpnet, is damaged, is of a newer version, or has a
            layer that nobody has defined: import its module first; or it is not of the run that its folder holds.
        FileNotFoundError: there is no such file, or no model in this folder.
        OSError: it cannot be read.
    """
    path = check_path("path", path)
    if dtype is not None:
        dtype = check_dtype("dtype, unless it is None,", dtype, DTYPES)
    if path.is_dir():
        path = _model_of_run(path)
    if kind := what_is_no_file(path):
        raise ModelFileError(f"{path} is {kind}, not a file; give the file of a model that xpnet saved")
    with reading(path):
        description, state = _read(path)
        layers = [_layer_from_dict(settings) for settings in description["layers"]]
        _check_arrays(layers, state)
        check_description(description, layers)
        units = units_of(description)
    model = Sequential(layers, backend=backend, dtype=dtype or description["dtype"], seed=description["seed"])
    model.load_state_dict(state)
    model.step = description["step"]
    learn(model, description, units)
    return model


def _model_of_run(folder: Path) -> Path:
    """The model in the folder of a run, where it is the one that was written with the rest of it."""
    path, settings = folder / WEIGHTS, folder / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is a folder without {WEIGHTS}, so it holds no model; name the file of one")
    if not settings.is_file():  # of an earlier version, or a run that was killed while it wrote its files
        return path
    try:
        told = json.loads(settings.read_text(encoding="utf-8"))
    except ValueError:
        raise ModelFileError(f"{settings} is no JSON text, so something in it has changed; name {path}") from None
    sums = told.get("sha256") if isinstance(told, dict) else None
    written = sums.get(WEIGHTS) if isinstance(sums, dict) else None
    if written is not None and written != sha256(path.read_bytes()).hexdigest():
        raise ModelFileError(
            f"{path} is not the file that {settings} tells of: it is of another run, or something in it has changed; "
            "name the file itself if it is what you want"
        )
    return path


def learnt_of(model: Sequential) -> dict[str, Any]:
    """What a model has learnt beside numbers: of the rows, the classes and the loss that it was trained with."""
    return {
        "output_activation": model.output_activation,
        "task": model.task,
        "units": None if model.units is None else model.units.to_dict(),
        "class_names": model.class_names,
        "target_shape": model.target_shape,
        "loss": model.loss_name,
        "loss_settings": model.loss_settings,
    }


def learn(model: Sequential, description: Mapping[str, Any], units: Units | None) -> None:
    """Let ``model`` know what ``learnt_of`` has told."""
    model.output_activation = _output_activation(description)
    model.task = description["task"]
    model.units = units
    # Earlier files have none of these.
    model.class_names = _as_tuple(description.get("class_names"))
    model.target_shape = _as_tuple(description.get("target_shape"))
    model.loss_name = description.get("loss", "")
    model.loss_settings = description.get("loss_settings", {})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever damaged bytes make the libraries raise into a ModelFileError that names the file."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise FileNotFoundError(sentence(f"{path}: there is no such file")) from None
    except OSError as error:
        raise OSError(error.errno, sentence(error.strerror or str(error)), str(path)) from None
    except Exception as error:
        what = f"{type(error).__name__}: {first_line(error, 100)}"
        raise ModelFileError(f"{path} is not a model that xpnet saved ({what})") from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description and the arrays of a file, whose bits are as they were written."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        description = json.loads((file.metadata() or {})["xpnet"])
        if not isinstance(description, dict):
            raise ModelFileError("the description is no JSON object; save the model again")
        written = description.get("format", 1)
        if not isinstance(written, int) or written > FORMAT:
            raise ModelFileError(f"a newer version of xpnet wrote it (model format {written!r}); update xpnet")
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
    is_checked = written > 1 or "sha256" in description
    description.pop("run", None)
    if is_checked and description.pop("sha256", None) != checksum(description, state):
        raise ModelFileError("its checksum is wrong, so something in it has changed; copy it again, or save it again")
    return description, state


def _check_arrays(layers: list[Layer], state: Mapping[str, Any]) -> None:
    """Whether the arrays are those of the layers, which is known before any memory is taken for these."""
    expected = {
        f"{index}.{name}": shape
        for index, layer in enumerate(layers)
        for name, (shape, _) in (layer.parameters() | layer.state()).items()
    }
    for name in sorted({*expected, *state}):
        if name not in state or name not in expected:
            raise ModelFileError(f"array {name} is {'missing' if name in expected else 'not one of its layers'}")
        array = state[name]
        if tuple(array.shape) != tuple(expected[name]):
            raise ModelFileError(f"array {name} has shape {array.shape}, but its layer says {tuple(expected[name])}")
        if array.dtype.name not in DTYPES:
            raise ModelFileError(f"array {name} is of dtype {array.dtype}, not {' or '.join(DTYPES)}")
        if not bool(abs(array).max(initial=0.0) < inf):  # false for NaN, too
            raise ModelFileError(f"array {name} has NaN or infinite numbers; train the model again")


def check_description(description: dict[str, Any], layers: list[Layer]) -> None:
    """Whether what it says makes sense, by itself and with the layers."""

    def check(name: str, makes_sense: bool) -> None:
        if not makes_sense:
            raise ModelFileError(f"its {name} makes no sense: {description.get(name)!r}")

    def is_count(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**63

    own, activation = output_activation_of(layers), _output_activation(description)
    names, shape = description.get("class_names"), description.get("target_shape")
    check("dtype", description["dtype"] in DTYPES)
    check("seed", type(description["seed"]) is int and description["seed"] >= 0)
    check("step", is_count(description["step"]))
    check("output_activation", activation in ("", "softmax", "sigmoid") and own in ("", activation))
    check("task", description["task"] in ("classes", "labels", "values"))
    check("task", description["task"] != "labels" or activation == "sigmoid")
    check("class_names", names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names)))
    check("target_shape", shape is None or (isinstance(shape, list) and all(map(is_count, shape))))
    check("loss", isinstance(description.get("loss", ""), str))
    check("loss_settings", isinstance(description.get("loss_settings", {}), dict))


def _output_activation(description: Mapping[str, Any]) -> Any:
    return description.get("output_activation", description.get("link"))  # version 0.1 said link


def units_of(description: Mapping[str, Any]) -> Units | None:
    """The units that a description tells of."""
    if "input_scale" in description:  # version 0.1
        return Units(description["input_scale"], description["input_shift"])
    units = description["units"]
    return None if units is None else Units.from_dict(units)


def layer_to_dict(layer: Layer) -> dict[str, Any]:
    """A layer's name and settings, without initial values.

    Raises:
        TypeError: it is no dataclass, or has a setting that no file can hold.
    """
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


def _layer_from_dict(settings: dict[str, Any]) -> Layer:
    settings = dict(settings)
    name = settings.pop("type")
    if name not in LAYERS:
        raise ModelFileError(
            f"it has a layer {name!r} that is not known here; import the module that defines it, or update xpnet"
        )
    return LAYERS[name](**{key: _as_tuple(value) for key, value in settings.items()})


def _as_tuple(value: Any) -> Any:
    """Lists as tuples: JSON has no tuples, and the settings of a frozen layer are not lists."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value

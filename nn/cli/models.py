"""Trained models that a command line names."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..data.columns import check_columns
from ..data.labels import are_numbers
from ..data.values import listed
from ..layers import Dropout, Layer
from ..model import Sequential
from ..storage import load_model
from .kinds import UsageError
from .run_folder import WEIGHTS
from .settings import Settings


def model_path(given: str) -> Path:
    """The file of a model; in the folder of a run, if that is named.

    Raises:
        UsageError: there is none.
    """
    path = Path(given)
    if path.is_dir():
        inside = path / WEIGHTS
        if not inside.is_file():
            raise UsageError(
                f"{given} is a folder without {WEIGHTS}, so it holds no model; train.py --output DIR writes one"
            )
        return inside
    if not path.is_file():
        raise UsageError(f"{given}: there is no such file, so there is no model; train.py --output DIR writes one")
    return path


def start_from(model: Sequential, settings: Settings, training: Dataset) -> None:
    """Let ``model``, which is to be trained on these rows, begin as the trained one that ``settings`` name, if they
    name one: with its parameters, the state of its layers, how many steps it has made, and its units.

    Layers of dropout may be others, or at other indices: they hold nothing that was trained.

    Raises:
        UsageError: there is no such model, it has another architecture, or it was trained on rows of other classes,
            columns or scale; the message names the difference.
        ValueError: the file cannot be read.
    """
    given = settings.start_from
    if given is None:
        return
    path = model_path(given)
    if settings.output is not None and path.resolve().parent == Path(settings.output).resolve():
        raise UsageError(f"--weights {given}: it is in the folder that the run is written to; name another --output")
    trained = load_model(given, "cpu")
    own, others = _without_dropout(model), _without_dropout(trained)
    pairs = zip_longest(own, others, fillvalue=(0, None))
    for position, (here, there) in enumerate((_written(layer), _written(other)) for (_, layer), (_, other) in pairs):
        if here != there:
            raise UsageError(
                f"--weights {given}: another architecture was trained; its layer {position} is {there}, but the flags "
                f"say {here}"
            )
    _check_rows(trained, given, training)
    state = trained.state_dict()
    model.load_state_dict(
        {
            f"{index}.{name}": state[f"{other}.{name}"]
            for (index, layer), (other, _) in zip(own, others, strict=True)
            for name in layer.parameters() | layer.state()
        }
    )
    model.step, model.units, model.class_names = trained.step, trained.units, trained.class_names


def _without_dropout(model: Sequential) -> list[tuple[int, Layer]]:
    return [(index, layer) for index, layer in enumerate(model) if not isinstance(layer, Dropout)]


def _written(layer: Layer | None) -> str:
    """A layer as one would write it without its initial values, which are no part of what was trained."""
    if layer is None:
        return "none"
    described: Any = layer
    if is_dataclass(described) and not isinstance(described, type):
        initial = {entry.name: entry.default for entry in fields(described) if entry.name.endswith("_init")}
        described = replace(described, **initial)
    return repr(described)


def _check_rows(trained: Sequential, given: str, training: Dataset) -> None:
    """Whether rows mean the same to the trained model."""
    units, names = trained.units, trained.class_names
    own = training.class_names
    if names is not None and own is not None and names != own and not (are_numbers(names) and are_numbers(own)):
        raise UsageError(
            f"--weights {given}: it was trained on the classes {listed(names)}, but the rows have {listed(own)}"
        )
    if units is None:
        return
    if (units.scale, units.shift) != (training.scale, training.shift):
        raise UsageError(
            f"--weights {given}: its rows were scaled by {units.scale:g} and shifted by {units.shift:g}, but these by "
            f"{training.scale:g} and {training.shift:g}"
        )
    try:
        check_columns(training.columns, units.columns)
    except ValueError as error:
        raise UsageError(f"--weights {given}: {str(error).partition(';')[0]}") from None

"""The words MODEL and --device of a command."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from backends import device_help

from ..cli import UsageError
from ..model import Sequential
from ..storage import load_model

#: What a run calls its model in its folder.
WEIGHTS = "weights.safetensors"


def add_model(parser: ArgumentParser, *, device: bool = True) -> None:
    """Declare MODEL, and --device where something is computed."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model: a file .safetensors, or the folder that train.py --output wrote"
    )
    if device:
        parser.add_argument("--device", default="auto", metavar="DEVICE", help=f"{device_help()} (default: auto)")


def model_path(given: str) -> Path:
    """The file of a model.

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


def open_model(options: Namespace) -> Sequential:
    """The model that MODEL names, on the device that --device names.

    Raises:
        UsageError, ValueError: there is none, it cannot be used, or the device cannot.
    """
    return load_model(model_path(options.model), options.device)

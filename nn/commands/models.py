"""The words MODEL and --device of a command."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from backends import device_help

from ..cli.models import model_path
from ..model import Sequential
from ..storage import load_model


def add_model(parser: ArgumentParser, *, device: bool = True) -> None:
    """Declare MODEL, and --device where something is computed."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model: a file .safetensors, or the folder that train.py --output wrote"
    )
    if device:
        parser.add_argument("--device", default="auto", metavar="DEVICE", help=f"{device_help()} (default: auto)")


def open_model(options: Namespace) -> Sequential:
    """The model that MODEL names, on the device that --device names.

    Raises:
        UsageError, ValueError: there is none, it cannot be used, or the device cannot.
    """
    model_path(options.model)
    return load_model(options.model, options.device)

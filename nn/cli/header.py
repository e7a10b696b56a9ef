"""The header of a run: what is computed, where and how."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from textwrap import wrap
from typing import SupportsFloat

from backends import Backend

from ..data import Dataset, StreamedDataset
from ..data.labels import are_numbers
from ..data.statistics import advice, picture_advice, target_advice
from ..data.streamed.order import Order
from ..data.values import listed
from ..layers import Reshape
from ..messages import printable
from ..optimizers import Optimizer
from ..trainer import Trainer
from ..verify.rounding import rounding_text
from .architecture import read_layers, write_layers
from .settings import Settings, has_hidden

#: Columns of a terminal, and how many of them the words at the left have.
WIDTH = 80
INDENT = 10


def header_text(
    settings: Settings,
    version: str,
    name: str,
    trainer: Trainer,
    training: Dataset,
    validation: Dataset | None = None,
    test: Dataset | None = None,
    compared: Mapping[str, Backend] | None = None,
) -> str:
    """Everything needed to know what a run computes, in lines of at most 80 columns.

    Args:
        version: of xpnet.
        name: of the data.
        training, validation, test: the rows.
        compared: the backends of ``--compare`` by name; then the device of ``trainer`` is not told.
    """
    lines = [("recipe", f"{settings.recipe}: {settings.title}")] if settings.title else []
    lines.append(("xpnet", f"{version}, Python {platform.python_version()}, {platform.system()}"))
    lines += _device(settings, trainer.backend) if compared is None else _devices(settings, compared)
    lines += [
        ("data", _data(name, training, validation, test) + _windows(settings, training) + _classes(training)),
        *_advice(settings, training),
        *([] if trainer.augment is None else [("augment", str(trainer.augment))]),
        ("model", _model(settings, trainer, training.n_features)),
        ("training", _training(settings, trainer)),
        *_processes(trainer),
    ]
    return "\n".join([*(line for word, text in lines for line in entry(word, text)), ""])


def entry(word: str, text: str) -> list[str]:
    """The lines of one entry: its word at the left, the text beside it."""
    pieces = wrap(printable(text), WIDTH - INDENT, break_on_hyphens=False)
    return [f"{word if number == 0 else '':<{INDENT}}{piece}" for number, piece in enumerate(pieces)]


def _device(settings: Settings, backend: Backend) -> list[tuple[str, str]]:
    device = backend.device
    text = f"{device.spec}: {device.version()} on {device.hardware()}, {settings.dtype}"
    if settings.precision != "float32":
        text += f", products in {settings.precision}"
    if settings.threads is not None:
        text += f", BLAS threads: {settings.threads}"
    if settings.reference:
        text += ", reference operations"
    return [("device", text), *([("", backend.why_device)] if backend.why_device else [])]


def _processes(trainer: Trainer) -> list[tuple[str, str]]:
    """How many train together, and in how many blocks each batch is cut, where it is."""
    if trainer.blocks is None:
        return []
    backend, blocks = trainer.backend, f"batches in {trainer.blocks.count} blocks of rows"
    size, engine = backend.collectives.size, backend.sums_by or backend.collectives.engine
    return [("processes", f"{'this one alone' if size == 1 else f'{size}, by {engine}'}; {blocks}")]


def _devices(settings: Settings, compared: Mapping[str, Backend]) -> list[tuple[str, str]]:
    lines = []
    for number, (name, backend) in enumerate(compared.items()):
        text = f"{name}: {backend.device.version()} on {backend.device.hardware()}, {settings.dtype}"
        text += ", reference operations" if name.endswith("/reference") else ""
        lines.append(("compare" if number == 0 else "", text))
    steps = f"every tensor of at most {settings.compare_steps:,} steps, each operation from equal numbers"
    return [*lines, ("", steps), ("allowed", rounding_text(settings.dtype))]


def _data(name: str, training: Dataset | StreamedDataset, validation: Dataset | None, test: Dataset | None) -> str:
    text = f"{name}: {len(training):,} training rows"
    text += f", {len(validation):,} for validation" if validation is not None else ""
    text += f", {len(test):,} test rows" if test is not None else ""
    return text + f", {training.n_features} inputs"


def _windows(settings: Settings, training: Dataset | StreamedDataset) -> str:
    """How many rows are in memory at a time: whole batches, which may be others than were asked for."""
    if not isinstance(training, StreamedDataset) or len(training) <= training.window:
        return ""
    batch, asked = settings.batch_size or 1, training.window
    window = Order.of(len(training), asked, training.block, batch).window
    why = f" (a batch, as {asked:,} would be less)" if asked < batch else " (whole batches)" * (window < asked)
    return f", read in windows of {window:,} rows{why}"


def _classes(training: Dataset) -> str:
    if not training.has_classes:
        return ""
    names = "" if are_numbers(training.class_names) else f": {listed(training.class_names or ())}"
    return f", {training.n_classes} classes{names}"


def _advice(settings: Settings, training: Dataset) -> list[tuple[str, str]]:
    if settings.epochs == 0:
        return []
    text = "" if settings.standardize else advice(training)
    of_columns = [("advice", f"{text}; --standardize brings all columns to one size")] if text else []
    of_pictures = "" if settings.standardize else picture_advice(training)
    return of_columns + [("advice", text) for text in [of_pictures, target_advice(training)] if text]


def _model(settings: Settings, trainer: Trainer, n_features: int) -> str:
    model = trainer.model
    text = network_text(settings, trainer, n_features)
    text += f", {settings.loss}: {model.parameter_count:,} parameters, "
    if settings.start_from is not None:
        text += f"as trained in {settings.start_from}"
    else:
        text += "given initial values" if settings.weights is not None else f"initial values {settings.init}"
    text += f", {settings.norm} normalization" if settings.norm and has_hidden(settings) else ""
    return text + (f", dropout {settings.dropout:g}" if settings.dropout else "")


def network_text(settings: Settings, trainer: Trainer, n_features: int) -> str:
    """The network in a few words, as in ``784-64-10, relu`` or ``28x28-32C3-MP2-128N-10, relu``."""
    if settings.layers is None:
        inside, begin = [*map(str, settings.hidden)], str(n_features)
    else:
        inside = [write_layers(read_layers(settings.layers))]
        picture = next((layer.shape for layer in trainer.model.layers if isinstance(layer, Reshape)), (n_features,))
        begin = "x".join(map(str, picture[:2] if picture[2:] == (1,) else picture))
    text = "-".join([begin, *inside, str(trainer.model.n_outputs)])
    return text + (f", {settings.activation}" if has_hidden(settings) else "")


def _training(settings: Settings, trainer: Trainer) -> str:
    if settings.epochs == 0:
        return "none"
    batches = "all rows at once" if settings.batch_size is None else f"batches of {settings.batch_size}"
    optimizer = f"{settings.optimizer}: {_optimizer(trainer.optimizer)}"
    optimizer += ", learning rate lowered on plateaus" if settings.schedule == "plateau" else ""
    return f"{settings.epochs} epochs, {batches}, {optimizer}{_around_update(settings)}, seed {settings.seed}"


def _around_update(settings: Settings) -> str:
    """What is done beside an update."""
    given = {name: getattr(settings, name) for name in ("clip_norm", "clip_value", "average")}
    words = [f"{name} {value:g}" for name, value in given.items() if value is not None]
    if settings.accumulate > 1:
        words.append(f"an update of {settings.accumulate} batches")
    return "".join(f", {word}" for word in words)


def _optimizer(optimizer: Optimizer) -> str:
    """Its settings, without those that are 0 or False."""
    words = []
    for name, value in optimizer.telling().items():
        if value is False:
            words.append(f"not {name}")
        elif value is True:
            words.append(name)
        else:
            words.append(f"{name} {value:g}" if isinstance(value, SupportsFloat) else f"{name} {value}")
    return ", ".join(words)

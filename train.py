#!/usr/bin/env python3
"""Train a network: ``python train.py --help``.

Read from ``main`` down, this is what a training run is: settings, device, data, model, the run, its report, its files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends import Backend, get_backend
from backends.activations import ACTIVATIONS
from nn import (
    LOSSES,
    SGD,
    Data,
    Dropout,
    Linear,
    PrintEpochs,
    ProgressBar,
    Sequential,
    Sigmoid,
    Softmax,
    Trainer,
    TrainingDiverged,
    load_data,
    save_model,
)
from nn.activations import ACTIVATION_LAYERS
from nn.checkpoint import write_atomically
from nn.initializers import get_initializer, initializer_names
from nn.losses import ALIASES, get_loss
from nn.optimizers import OPTIMIZERS

VERSION = "0.1.0"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script with the command line ``argv``; the exit code: 0, 1 (training diverged), 2 (a user's mistake)."""
    parser = build_parser()
    settings = parser.parse_args(argv)

    def say(text: str = "") -> None:
        if not settings.quiet:
            print(text, flush=True)

    try:
        check(settings)
        backend = get_backend(settings.device, settings.dtype, fused=not settings.reference)
        data = load_data(settings.data, settings.data_dir, limit=settings.limit, progress=not settings.quiet)
        model = build_model(settings, data, backend)
        trainer = build_trainer(settings, model)
        output = make_output(settings)
        training, validation = hold_out(settings, data)
    except (ValueError, TypeError, OSError, MemoryError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    say(describe(settings, data, training, validation, trainer))
    try:
        with ctrl_c_stops(trainer):
            trainer.fit(training, settings.epochs, settings.batch_size, shuffle=settings.shuffle, validation=validation)
    except (TrainingDiverged, MemoryError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    if trainer.history.stopped:
        say(f"stopped by {trainer.history.stopped}")
    say()
    print(report(trainer, data, settings.quiet))
    if output:
        save(output, settings, trainer, data)
        say(f"\nwrote {', '.join(sorted(path.name for path in output.iterdir()))} to {output}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train a network of fully connected layers on labelled rows, on the CPU or the GPU.",
        epilog="Without flags: a network with 64 hidden units on scikit-learn's handwritten digits, in a few seconds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"xpnet {VERSION}")

    group = parser.add_argument_group("where to compute")
    group.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU that works, else the CPU), cpu, cuda, cuda:N, torch, array_api_strict, or another installed "
        "array-API library",
    )
    group.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="precision of everything")
    group.add_argument(
        "--reference", action="store_true", help="use the reference operations instead of those written for the device"
    )

    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="digits (comes with scikit-learn), mnist, or a file: .npz or .h5 with x_train, y_train, x_test, y_test; "
        ".csv with a column `label`, or the labels in the last column",
    )
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the four MNIST files; else the environment variable XPNET_DATA, else the user's cache, else "
        "they are downloaded",
    )
    group.add_argument(
        "--limit", type=int, metavar="ROWS", help="use only the first ROWS rows for training, and for testing"
    )
    group.add_argument(
        "--validation",
        type=float,
        metavar="FRACTION",
        help="hold out this fraction of the training rows, stratified by class, and evaluate on it after each epoch",
    )

    group = parser.add_argument_group("network")
    group.add_argument(
        "--hidden", "--n_h", type=int, nargs="*", default=[64], metavar="UNITS",
        help="units of each hidden layer, as in --hidden 300 100; none at all is a linear model",
    )  # fmt: skip
    group.add_argument("--activation", choices=list(ACTIVATIONS), default="relu", help="of the hidden layers")
    group.add_argument(
        "--init", default="glorot_uniform", metavar="NAME", help=f"start values of the weights: {initializer_names()}"
    )
    group.add_argument("--dropout", type=float, default=0.0, metavar="RATE", help="dropout after each hidden layer")
    group.add_argument(
        "--loss", choices=[*LOSSES, *ALIASES], default="softmax_cross_entropy", help="what training makes small",
        metavar="NAME",
    )  # fmt: skip

    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=int, default=30, help="passes over the training rows")
    group.add_argument(
        "--batch-size", "--batch_size", type=batch_size, default=32, metavar="ROWS",
        help="rows per update, or `full`: all rows at once",
    )  # fmt: skip
    group.add_argument("--no-shuffle", dest="shuffle", action="store_false", help="visit the rows in their order")
    group.add_argument("--optimizer", choices=list(OPTIMIZERS), default="sgd", help="how parameters are updated")
    group.add_argument("--lr", "--learning-rate", type=float, default=0.5, metavar="RATE", help="learning rate")
    group.add_argument(
        "--momentum", "--beta", type=float, default=0.9, help="how much of the velocity stays; 0 for none"
    )
    group.add_argument(
        "--dampening",
        type=float,
        help="the gradient enters the velocity times 1 - dampening; by default the momentum, which makes the velocity "
        "a moving average of the gradients; 0 is classical momentum, as if with a learning rate 1 / (1 - momentum) "
        "times as large",
    )
    group.add_argument("--nesterov", action="store_true", help="Nesterov's momentum")
    group.add_argument(
        "--weight-decay", type=float, default=0.0, metavar="RATE", help="decoupled decay of the weights, not the biases"
    )
    group.add_argument("--seed", type=int, default=0, help="of start values, shuffles, dropout and splits")

    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", metavar="DIR", help="write weights.safetensors, history.jsonl and settings.json to this folder"
    )
    group.add_argument("--quiet", action="store_true", help="print only the test result")
    return parser


def batch_size(text: str) -> int | None:
    """The value of --batch-size; None for all rows at once."""
    if text == "full":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or `full`, not {text!r}") from None


def check(settings: argparse.Namespace) -> None:
    """Raise a ValueError for settings that argparse lets through."""
    for flag, value, least in (
        ("--epochs", settings.epochs, 0),
        ("--batch-size", settings.batch_size, 1),
        ("--limit", settings.limit, 1),
        ("--seed", settings.seed, 0),
        *(("--hidden", units, 1) for units in settings.hidden),
    ):
        if value is not None and value < least:
            raise ValueError(f"{flag} must be at least {least}, not {value}")
    get_initializer(settings.init)


def build_model(settings: argparse.Namespace, data: Data, backend: Backend) -> Sequential:
    """Hidden layers, an output for each class (one for two classes and binary cross-entropy), and the loss's link."""
    loss, classes = get_loss(settings.loss), data.train.n_classes
    binary = loss.name == "binary_cross_entropy"
    if binary and classes != 2:
        raise ValueError(
            f"--loss {settings.loss} tells two classes apart, but {data.name} has {classes}; use softmax_cross_entropy"
        )
    layers: list[Any] = []
    width = data.train.n_features
    for units in settings.hidden:
        layers.append(Linear(width, units, weight_init=settings.init))
        if settings.activation in ACTIVATION_LAYERS:
            layers.append(ACTIVATION_LAYERS[settings.activation]())
        if settings.dropout:
            layers.append(Dropout(settings.dropout))
        width = units
    layers += [
        Linear(width, 1 if binary else classes, weight_init=settings.init),
        Softmax() if loss.link == "softmax" else Sigmoid(),
    ]
    return Sequential(layers, backend=backend, seed=settings.seed)


def build_trainer(settings: argparse.Namespace, model: Sequential) -> Trainer:
    """The optimizer, the loss, and what is printed while they work."""
    optimizer = SGD(
        settings.lr,
        momentum=settings.momentum,
        dampening=settings.momentum if settings.dampening is None else settings.dampening,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )
    # The bar is cleared before the line of an epoch is printed, so it comes first.
    callbacks = [] if settings.quiet else [ProgressBar(), PrintEpochs()]
    return Trainer(model, settings.loss, optimizer, callbacks=callbacks)


def hold_out(settings: argparse.Namespace, data: Data) -> tuple[Any, Any]:
    """The rows to train on, and those to validate on or None."""
    if settings.validation is None:
        return data.train, None
    return data.train.split(settings.validation, seed=settings.seed)


def make_output(settings: argparse.Namespace) -> Path | None:
    """The output folder, made before training so that a typing error does not cost a run."""
    if settings.output is None:
        return None
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    if not os.access(output, os.W_OK):
        raise PermissionError(f"--output {output}: this folder cannot be written to")
    return output


def describe(settings: argparse.Namespace, data: Data, training: Any, validation: Any, trainer: Trainer) -> str:
    """The header of a run: everything needed to know what is computed, where and how."""
    model, device, optimizer = trainer.model, trainer.backend.device, trainer.optimizer
    why = f"\n          {device.why}" if device.why else ""
    reference = ", reference operations" if settings.reference else ""
    held_out = f", {len(validation):,} for validation" if validation is not None else ""
    tested = f"{len(data.test):,} test rows, " if data.test is not None else "no test rows, "
    hidden = "-".join(str(units) for units in [data.train.n_features, *settings.hidden, model.n_outputs])
    batches = "all rows at once" if settings.batch_size is None else f"batches of {settings.batch_size}"
    momentum = (
        f", momentum {optimizer.momentum:g} (dampening {optimizer.dampening:g}{', Nesterov' * optimizer.nesterov})"
    )
    decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
    return "\n".join(
        (
            f"xpnet     {VERSION}, Python {platform.python_version()}, {platform.system()}",
            f"device    {device.spec}: {device.version()} on {device.hardware()}, {settings.dtype}{reference}{why}",
            f"data      {data.name}: {len(training):,} training rows{held_out}, {tested}"
            f"{data.train.n_features} numbers a row, {data.train.n_classes} classes",
            f"model     {hidden}, {settings.activation}, {settings.loss}: {model.parameter_count:,} parameters, "
            f"start values {settings.init}" + (f", dropout {settings.dropout:g}" if settings.dropout else ""),
            f"training  {settings.epochs} epochs, {batches}, {settings.optimizer}, learning rate {settings.lr:g}"
            f"{momentum if optimizer.momentum else ''}{decay}, seed {settings.seed}",
            "",
        )
    )


@contextmanager
def ctrl_c_stops(trainer: Trainer) -> Any:
    """Let the first Ctrl-C end training after the current batch, and the second one end the program."""

    def stop(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, previous)
        trainer.stop(f"Ctrl-C in epoch {trainer.epoch}")

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def report(trainer: Trainer, data: Data, brief: bool) -> str:
    """Test accuracy and loss and, unless ``brief``, precision and recall of each class and the confusion matrix."""
    if data.test is None:
        return "there are no test rows"
    result, rows = trainer.evaluate(data.test), len(data.test)
    right = round(result["accuracy"] * rows)
    headline = f"test accuracy {result['accuracy']:.2%} ({right:,} of {rows:,}), loss {result['loss']:.5f}"
    if brief:
        return headline
    from sklearn.metrics import classification_report, confusion_matrix

    predicted, labels = trainer.predict(data.test), list(range(data.test.n_classes))
    names = list(data.test.class_names or ())
    table = classification_report(data.test.y, predicted, labels=labels, target_names=names, digits=4, zero_division=0)
    matrix = confusion_matrix(data.test.y, predicted, labels=labels)
    width = max(len(str(matrix.max())), *(len(name) for name in names)) + 2
    lines = ["".join(f"{cell:>{width}}" for cell in ["", *names])]
    lines += ["".join(f"{cell:>{width}}" for cell in [name, *row]) for name, row in zip(names, matrix, strict=True)]
    return f"{headline}\n\n{table}\nconfusion matrix: rows are the true classes, columns the predicted\n" + "\n".join(
        lines
    )


def save(output: Path, settings: argparse.Namespace, trainer: Trainer, data: Data) -> None:
    """Write the weights, the history and the settings; each file whole or not at all."""
    save_model(trainer.model, output / "weights.safetensors")
    write_atomically(output / "history.jsonl", trainer.history.to_json_lines().encode())
    record = {
        "xpnet": VERSION,
        "device": trainer.backend.device.version(),
        "settings": vars(settings),
        "optimizer": asdict(trainer.optimizer),
        "stopped": trainer.history.stopped,
    }
    if data.test is not None:
        record["test"] = trainer.evaluate(data.test)
    write_atomically(output / "settings.json", (json.dumps(record, indent=2) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())

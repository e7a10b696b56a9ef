#!/usr/bin/env python3
"""Train a network: ``python train.py --help``.

Read from ``main`` down, this is what a training run is: settings, data, network, training, report, files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import recipes
from backends import PRECISIONS, Backend, device_help, get_backend
from backends.activations import ACTIVATIONS
from nn import (
    LOSSES,
    Data,
    Dataset,
    Dropout,
    Layer,
    Linear,
    PrintEpochs,
    ProgressBar,
    Sequential,
    Sigmoid,
    Softmax,
    Trainer,
    TrainingDiverged,
    __version__,
    compare_backends,
    load_data,
    save_model,
)
from nn.data import as_dataset
from nn.files import write_atomically
from nn.initializers import get_initializer, initializer_names
from nn.layers import ACTIVATION_LAYERS
from nn.losses import ALIASES, get_loss
from nn.optimizers import OPTIMIZERS, SGD, Optimizer, get_optimizer
from nn.report import classification_text, figures, inside_text, predictions_text, reproduced_text
from nn.verify.compare import named_backends, write_comparison
from nn.verify.rounding import rounding_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script with the command line ``argv``.

    Returns:
        The exit code: 0; 1 if training diverged or ran out of memory, or if devices that were to be compared differ;
        2 for a user's mistake; 130 for Ctrl-C before or twice during training, and 141 where the output is read no
        further, as a shell has it.
    """
    agree = True
    try:
        for settings in parse(argv):
            with blas_threads(settings.threads):
                if settings.compare:
                    agree &= compare_devices(settings)
                    continue
                run = prepare(settings)
                say(settings, describe(run))
                train(run)
                print(report(run), flush=True)
                save(run)
    except (TrainingDiverged, MemoryError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 1
    except (UsersMistake, recipes.RecipeError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output, `head` for instance, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0 if agree else 1


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Let the matrix products of the CPU use so many threads meanwhile; None: as many as they like."""
    if count is None or count < 1:  # `check` says that this is wrong
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count, user_api="blas"):
        yield


@dataclass
class Run:
    """A training run, ready to begin."""

    settings: argparse.Namespace
    name: str
    training: Dataset
    validation: Dataset | None
    test: Dataset | None
    trainer: Trainer
    output: Path | None

    @cached_property
    def test_result(self) -> dict[str, float] | None:
        """Loss and accuracy on the test rows, once training is over."""
        return None if self.test is None else self.trainer.evaluate(self.test)


class UsersMistake(Exception):
    """A setting or a file that cannot be used."""


def prepare(settings: argparse.Namespace) -> Run:
    """Everything that can fail because of a setting or a file: checked before anything is trained.

    Raises:
        UsersMistake: in one sentence.
    """
    try:
        check(settings)
        backend = get_backend(settings.device, settings.dtype, not settings.reference, settings.precision)
        data = load(settings)
        training, validation = hold_out(settings, data)
        trainer = build_trainer(settings, data.train, backend)
        return Run(settings, data.name, training, validation, data.test, trainer, make_output(settings, data.name))
    except (ValueError, TypeError, OSError) as error:
        raise UsersMistake(error) from None


def train(run: Run) -> None:
    """Train until the last epoch or Ctrl-C."""
    settings = run.settings
    if settings.epochs == 0:
        return
    try:
        with ctrl_c_stops(run.trainer):
            history = run.trainer.fit(
                run.training,
                settings.epochs,
                settings.batch_size,
                shuffle=settings.shuffle,
                validation=run.validation,
                validation_every=settings.every,
            )
    except ValueError as error:  # rows that do not fit the network or the loss
        raise UsersMistake(error) from None
    if history.stopped:
        say(settings, f"stopped by {history.stopped}")
    if run.trainer.backend.why_eager:
        say(settings, f"steps were not recorded as a CUDA graph, which is slower: {run.trainer.backend.why_eager}")


def compare_devices(settings: argparse.Namespace) -> bool:
    """Make the same steps on each device of --compare, print where they differ beyond rounding, and whether none does.

    Raises:
        UsersMistake: in one sentence.
    """
    try:
        if (settings.device, settings.reference) != ("auto", False):
            raise ValueError(
                "--compare names the devices itself, as in cpu,cuda/reference; leave out --device, --reference"
            )
        if settings.precision != "float32":
            raise ValueError("--compare allows for the rounding of --dtype alone; leave out --precision")
        if settings.epochs == 0:
            raise ValueError(
                "--compare needs steps to compare, but nothing is trained here; say how long with --epochs"
            )
        devices = named_backends(settings.compare, settings.dtype)
        settings.device = settings.compare[0].partition("/")[0]
        run = prepare(settings)
        say(settings, describe(run, devices))
        comparison = compare_backends(
            lambda backend: build_trainer(settings, run.training, backend),
            devices,
            run.training,
            settings.epochs,
            settings.batch_size,
            shuffle=settings.shuffle,
            steps=settings.compare_steps,
            progress=not settings.quiet,
        )
    except (ValueError, TypeError) as error:
        raise UsersMistake(error) from None
    print(comparison if settings.quiet else f"{comparison}\n\n{comparison.curve_text()}", flush=True)
    if run.output is not None:
        written = write_comparison(comparison, run.output, lines=settings.output is not None, picture=settings.plots)
        say(settings, f"\nwrote {', '.join(written)} to {run.output}")
    return comparison.agrees


# ---- data, network, optimizer ----------------------------------------------------------------------------------------


def load(settings: argparse.Namespace) -> Data:
    """The rows of the source, with the classes that were asked for."""
    if settings.rows is not None:
        return Data("the recipe's rows", as_dataset((settings.rows, settings.targets)), None)
    data = load_data(
        settings.data,
        settings.data_dir,
        limit=settings.limit,
        test_fraction=settings.test_fraction,
        progress=not settings.quiet,
    )

    def chosen(rows: Dataset) -> Dataset:
        if settings.only:
            rows = rows.only(settings.only)
        if settings.positive is not None:
            rows = rows.one_against_rest(settings.positive)
        return rows if settings.shift is None else replace(rows, shift=rows.shift + settings.shift)

    return Data(data.name, chosen(data.train), None if data.test is None else chosen(data.test))


def hold_out(settings: argparse.Namespace, data: Data) -> tuple[Dataset, Dataset | None]:
    """The rows to train on, and those to evaluate on after each epoch."""
    if settings.validation is None:
        return data.train, None
    if settings.validation == "test":
        return data.train, data.test
    return data.train.split(settings.validation, seed=settings.seed)


def build_trainer(settings: argparse.Namespace, train: Dataset, backend: Backend) -> Trainer:
    """The network on its device, with its loss and its optimizer."""
    model = Sequential(build_layers(settings, train), backend=backend, seed=settings.seed)
    callbacks = [] if settings.quiet else [ProgressBar(), PrintEpochs(settings.every)]
    return Trainer(model, settings.loss, build_optimizer(settings), callbacks=callbacks)


def build_layers(settings: argparse.Namespace, train: Dataset) -> list[Layer]:
    """Hidden layers, an output for each class (one for two classes and binary cross-entropy), and the loss's link."""
    loss, classes = get_loss(settings.loss), train.n_classes
    binary = loss.name == "binary_cross_entropy"
    if binary and train.has_classes and classes != 2:
        raise ValueError(
            f"--loss {settings.loss} tells two classes apart, but there are {classes}; use softmax_cross_entropy, or "
            "--only or --positive to choose two"
        )
    outputs = settings.outputs or (1 if binary else classes or 1)
    widths = [train.n_features, *settings.hidden, outputs]
    weights = settings.weights or [settings.init] * (len(widths) - 1)
    biases = settings.biases or [settings.bias_init] * (len(widths) - 1)
    layers: list[Layer] = []
    for name, values in (("weights", weights), ("biases", biases)):
        if len(values) != len(widths) - 1:
            raise ValueError(f"{name} must hold one entry for each of the {len(widths) - 1} layers, not {len(values)}")
    for (n_in, n_out), weight_init, bias_init in zip(pairwise(widths), weights, biases, strict=True):
        if layers and settings.activation in ACTIVATION_LAYERS:
            layers.append(ACTIVATION_LAYERS[settings.activation]())
        if layers and settings.dropout:
            layers.append(Dropout(settings.dropout))
        layers.append(Linear(n_in, n_out, weight_init=weight_init, bias_init=bias_init))
    output = settings.output_activation or loss.output_activation or "sigmoid"
    if output != "identity":
        layers.append(Softmax() if output == "softmax" else Sigmoid())
    return layers


def build_optimizer(settings: argparse.Namespace) -> Optimizer:
    """The optimizer by its name, with the settings that it has."""
    if settings.optimizer == "sgd":
        return SGD(
            0.5 if settings.learning_rate is None else settings.learning_rate,
            momentum=settings.momentum,
            dampening=settings.momentum if settings.dampening is None else settings.dampening,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
    rate = {} if settings.learning_rate is None else {"learning_rate": settings.learning_rate}
    return get_optimizer(settings.optimizer, weight_decay=settings.weight_decay, **rate)


@contextmanager
def ctrl_c_stops(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C end training after the current batch, and the second one end the program."""

    def stop(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, previous)
        trainer.stop(f"Ctrl-C in epoch {trainer.epoch}")

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


# ---- what is printed and written -------------------------------------------------------------------------------------


def say(settings: argparse.Namespace, text: str) -> None:
    """Print, unless --quiet."""
    if not settings.quiet:
        print(text, flush=True)


def describe(run: Run, compared: dict[str, Backend] | None = None) -> str:
    """The header of a run: everything needed to know what is computed, where and how."""
    settings, model, device = run.settings, run.trainer.model, run.trainer.backend.device
    optimizer = ", ".join(f"{name} {value:g}" for name, value in run.trainer.optimizer.settings().items() if value)
    held_out = f", {len(run.validation):,} for validation" if run.validation is not None else ""
    tested = f", {len(run.test):,} test rows" if run.test is not None else ""
    classes = f", {run.training.n_classes} classes" if run.training.has_classes else ""
    widths = "-".join(str(width) for width in [run.training.n_features, *settings.hidden, model.n_outputs])
    hidden = f", {settings.activation}" if settings.hidden else ""
    start = "given start values" if settings.weights else f"start values {settings.init}"
    dropout = f", dropout {settings.dropout:g}" if settings.dropout else ""
    batches = "all rows at once" if settings.batch_size is None else f"batches of {settings.batch_size}"
    reference = ", reference operations" if settings.reference else ""
    products = f", products in {settings.precision}" if settings.precision != "float32" else ""
    products += f", BLAS threads: {settings.threads}" if settings.threads is not None else ""
    lines = [
        f"xpnet     {__version__}, Python {platform.python_version()}, {platform.system()}",
        f"device    {device.spec}: {device.version()} on {device.hardware()}, {settings.dtype}{products}{reference}",
        f"data      {run.name}: {len(run.training):,} training rows{held_out}{tested}, "
        f"{run.training.n_features} numbers a row{classes}",
        f"model     {widths}{hidden}, {settings.loss}: {model.parameter_count:,} parameters, {start}{dropout}",
        f"training  {settings.epochs} epochs, {batches}, {settings.optimizer}: {optimizer}, seed {settings.seed}"
        if settings.epochs
        else "training  none",
        "",
    ]
    if compared is not None:
        lines[1:2] = describe_comparison(settings, compared)
    elif run.trainer.backend.why_device:
        lines.insert(2, f"          {run.trainer.backend.why_device}")
    if settings.title:
        lines.insert(0, f"recipe    {settings.recipe}: {settings.title}")
    return "\n".join(lines)


def describe_comparison(settings: argparse.Namespace, compared: dict[str, Backend]) -> list[str]:
    """The lines of the header that tell which devices are compared, what of them, and how much they may differ."""
    width = max(map(len, compared))
    devices = [
        f"{name:<{width}}  {backend.device.version()} on {backend.device.hardware()}, {settings.dtype}"
        f"{', reference operations' if name.endswith('/reference') else ''}"
        for name, backend in compared.items()
    ]
    return [
        *(f"{'' if number else 'compare':<10}{line}" for number, line in enumerate(devices)),
        f"          every tensor of at most {settings.compare_steps:,} steps, each operation from equal numbers",
        f"allowed   {rounding_text(settings.dtype)}",
    ]


def report(run: Run) -> str:
    """The test result, with all that was asked for beside it."""
    settings, trainer = run.settings, run.trainer
    parts = []
    if run.test is not None and run.test_result is not None:
        result, rows = run.test_result, len(run.test)
        right = round(result["accuracy"] * rows)
        parts.append(f"test accuracy {result['accuracy']:.2%} ({right:,} of {rows:,}), loss {result['loss']:.5f}")
        if not settings.quiet:
            parts.append(classification_text(trainer, run.test, settings.confusion))
        if settings.predictions:
            parts.append(predictions_text(trainer, run.test, settings.predictions))
    if settings.show or settings.predict:
        parts.append(inside_text(trainer, run.training, settings.show, settings.predict))
    if settings.part is not None and settings.part.reproduced:
        found = figures(trainer, run.training, run.test, settings.predict)
        parts.append(reproduced_text(found, settings.part.author, settings.part.reproduced))
    return "\n" * (not settings.quiet) + "\n\n".join(parts or ["there are no test rows"]) + "\n" * bool(settings.title)


def make_output(settings: argparse.Namespace, name: str) -> Path | None:
    """The output folder, made before training so that a typing error does not cost a run."""
    if settings.output is None and not settings.plots:
        return None
    output = Path(settings.output or Path("runs") / (settings.recipe or Path(name).stem))
    output.mkdir(parents=True, exist_ok=True)
    if not os.access(output, os.W_OK):
        raise PermissionError(f"--output {output}: this folder cannot be written to")
    return output


def save(run: Run) -> None:
    """Write the weights, the history, the settings and the pictures; each file whole or not at all."""
    settings, trainer, output = run.settings, run.trainer, run.output
    if output is None:
        return
    written: list[str] = []
    if settings.output is not None:
        record = {
            "xpnet": __version__,
            "device": trainer.backend.device.version(),
            "settings": {key: value for key, value in vars(settings).items() if key != "part"},
            "optimizer": trainer.optimizer.settings(),
            "stopped": trainer.history.stopped,
            "test": run.test_result,
        }
        save_model(trainer.model, output / "weights.safetensors")
        write_atomically(output / "history.jsonl", trainer.history.to_json_lines().encode())
        write_atomically(output / "settings.json", (json.dumps(record, indent=2) + "\n").encode())
        written += ["weights.safetensors", "history.jsonl", "settings.json"]
    if settings.plots:
        from nn.report.plots import draw_all

        written += draw_all(trainer, run.test, output, settings.confusion)
    say(settings, f"\nwrote {', '.join(written)} to {output}")


# ---- flags and recipes -----------------------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> list[argparse.Namespace]:
    """The settings of each run: one, or those of a recipe's parts. Flags override the recipe, which overrides defaults.

    Raises:
        SystemExit, RecipeError: the flags or the recipe cannot be used.
    """
    flags = build_parser().parse_args(argv)
    if flags.list_recipes:
        width = max(len(name) for name in recipes.names())
        for name in recipes.names():
            print(f"{name:<{width}}  {recipes.load(name).title}")
        return []
    if flags.recipe is None:
        return [flags]
    recipe, runs = recipes.load(flags.recipe), []
    for part in recipe.parts:
        parser = build_parser()
        for action in parser._actions:
            value = part.settings.get(action.dest)
            if action.choices and value is not None and value not in action.choices:
                known = ", ".join(map(str, action.choices))
                raise recipes.RecipeError(f"{flags.recipe}: {action.dest} {value!r} is unknown; known are {known}")
        parser.set_defaults(**part.settings)
        settings = parser.parse_args(argv)
        if flags.learning_rate is None and settings.optimizer != part.settings.get("optimizer", "sgd"):
            settings.learning_rate = None  # the recipe's is for another optimizer
        settings.recipe, settings.title, settings.part = recipe.name, part.title, part
        runs.append(settings)
    return runs


def build_parser() -> argparse.ArgumentParser:
    """The command line. The names of the settings (``dest``) are those of the recipes."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train a network of fully connected layers on labelled rows, on the CPU or the GPU.",
        epilog="Without flags: a network with 64 hidden units on scikit-learn's handwritten digits, in a few seconds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"xpnet {__version__}")

    group = parser.add_argument_group("recipes")
    group.add_argument(
        "--recipe", metavar="NAME", help="run a recipe by name, or your own by its path (.toml); flags override it"
    )
    group.add_argument("--list-recipes", action="store_true", help="show the recipes, a line each, and exit")

    group = parser.add_argument_group("where to compute")
    group.add_argument(
        "--device",
        default="auto",
        help=device_help(),
    )
    group.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of every number")
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the matrix products on the CPU; all cores if not given. For small networks 1 may be quicker; "
        "another number may change the last bits of the results",
    )
    group.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        default="float32",
        help="of products of float32 matrices: tf32 and bf16 round the factors to 10 and 7 bits after the point, for "
        "the tensor cores of NVIDIA GPUs from Ampere on",
    )
    group.add_argument(
        "--reference", action="store_true", help="use the reference operations instead of those written for the device"
    )
    group.add_argument(
        "--compare",
        type=device_names,
        metavar="DEVICES",
        help="instead of training, make the same steps on two devices or more, as in cpu,cuda, and say where they "
        "first differ beyond rounding; cpu/reference are the reference operations of a device",
    )
    group.add_argument(
        "--compare-steps", type=int, default=200, metavar="N", help="compare at most N of the steps of --epochs"
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
    group.add_argument("--limit", type=int, metavar="ROWS", help="use only the first ROWS rows to train, and to test")
    group.add_argument(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="FRACTION",
        help="how much to set aside for the test, by class, of data that come without test rows; 0 for nothing",
    )
    group.add_argument(
        "--validation",
        type=validation,
        metavar="ROWS",
        help="evaluate after each epoch on so many of the training rows, held out by class: a fraction such as 0.1 or "
        "a number of rows; or `test`: on the test rows, holding out nothing",
    )
    group.add_argument("--only", type=int, nargs="+", metavar="CLASS", help="use only the rows of these classes")
    group.add_argument("--positive", type=int, metavar="CLASS", help="tell this class from all others")
    group.add_argument("--shift", type=float, metavar="X", help="add X to the scaled pixels")

    group = parser.add_argument_group("network")
    group.add_argument(
        "--hidden", "--n_h", type=int, nargs="*", default=[64], metavar="UNITS",
        help="units of each hidden layer, as in --hidden 300 100; none at all is a linear model",
    )  # fmt: skip
    group.add_argument("--activation", choices=list(ACTIVATIONS), default="relu", help="of the hidden layers")
    group.add_argument(
        "--init", default="glorot_uniform", metavar="NAME", help=f"start values of the weights: {initializer_names()}"
    )
    group.add_argument("--bias-init", default="zeros", metavar="NAME", help="start values of the biases, likewise")
    group.add_argument("--dropout", type=float, default=0.0, metavar="RATE", help="dropout after each hidden layer")
    group.add_argument(
        "--loss", choices=[*LOSSES, *ALIASES], metavar="NAME", default="softmax_cross_entropy",
        help=f"what training makes small: {', '.join([*LOSSES, *ALIASES])}",
    )  # fmt: skip

    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=int, default=30, help="passes over the training rows")
    group.add_argument(
        "--batch-size", "--batch_size", type=batch_size, default=32, metavar="ROWS",
        help="rows per update, or `full`: all rows at once",
    )  # fmt: skip
    group.add_argument("--no-shuffle", dest="shuffle", action="store_false", help="visit the rows in their order")
    group.add_argument("--optimizer", choices=list(OPTIMIZERS), default="sgd", help="how parameters are updated")
    group.add_argument(
        "--lr", "--learning-rate", type=float, dest="learning_rate", metavar="RATE",
        help="learning rate; 0.5 for sgd and 0.001 for adam if not given",
    )  # fmt: skip
    group.add_argument("--momentum", "--beta", type=float, default=0.9, help="of sgd: how much of the velocity stays")
    group.add_argument(
        "--dampening",
        type=float,
        help="of sgd: the gradient enters the velocity times 1 - dampening; by default the momentum, which makes the "
        "velocity a moving average of the gradients; 0 is classical momentum, which moves as if with a learning rate "
        "1 / (1 - momentum) times as large",
    )
    group.add_argument("--nesterov", action="store_true", help="of sgd: Nesterov's momentum")
    group.add_argument(
        "--weight-decay", type=float, default=0.0, metavar="RATE", help="decoupled decay of the weights, not the biases"
    )
    group.add_argument("--seed", type=int, default=0, help="of start values, shuffles, dropout and held-out rows")

    group = parser.add_argument_group("output")
    group.add_argument(
        "--every", type=int, default=1, metavar="N", help="print, and evaluate on, every N-th epoch only"
    )
    group.add_argument(
        "--confusion", choices=["true", "predicted"], default="true", help="what the rows of the confusion matrix are"
    )
    group.add_argument(
        "--predictions", type=int, default=0, metavar="N", help="print N predictions beside their labels"
    )
    group.add_argument("--plots", action="store_true", help="draw the cost curve and other pictures (needs matplotlib)")
    group.add_argument(
        "--output",
        metavar="DIR",
        help="write weights.safetensors, history.jsonl, settings.json and the pictures to this folder (pictures alone "
        "go to runs/NAME)",
    )
    group.add_argument("--quiet", action="store_true", help="print only the test result")
    # Only recipes say these: a network and rows that are written out, and what to show of them.
    parser.set_defaults(rows=None, targets=None, outputs=None, output_activation=None, weights=None, biases=None)
    parser.set_defaults(predict=None, show=[], title="", part=None)
    return parser


def batch_size(text: str) -> int | None:
    """The value of --batch-size; None for all rows at once."""
    if text == "full":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or `full`, not {text!r}") from None


def device_names(text: str) -> list[str]:
    """The value of --compare."""
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names):
        raise argparse.ArgumentTypeError(f"must be two devices or more with commas between them, not {text!r}")
    return names


def validation(text: str) -> int | float | str:
    """The value of --validation."""
    try:
        return text if text == "test" else int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a fraction, a number of rows or `test`, not {text!r}") from None


def check(settings: argparse.Namespace) -> None:
    """Raise a ValueError for settings that argparse lets through."""
    for flag, value, least in (
        ("--epochs", settings.epochs, 0),
        ("--batch-size", settings.batch_size, 1),
        ("--limit", settings.limit, 1),
        ("--seed", settings.seed, 0),
        ("--every", settings.every, 1),
        ("--predictions", settings.predictions, 0),
        ("--compare-steps", settings.compare_steps, 1),
        ("--threads", settings.threads, 1),
        *(("--hidden", units, 1) for units in settings.hidden),
    ):
        if value is not None and value < least:
            raise ValueError(f"{flag} must be at least {least}, not {value}")
    if settings.only and settings.positive is not None:
        raise ValueError("--only and --positive both say which classes there are; give one of them")
    get_initializer(settings.init)
    get_initializer(settings.bias_init)
    if settings.plots:
        from nn.report.plots import check_installed

        check_installed()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Train a network: ``python train.py --help``.

Read from ``main`` down, this is what a training run is: settings, data, network, training, report, files. What can be
set, and by which flag, is in ``nn/cli/settings.py``.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

try:
    import recipes
    from backends import Backend, get_backend
    from nn import (
        Data,
        Dataset,
        Dropout,
        LambdaCallback,
        Layer,
        Linear,
        Sequential,
        Softmax,
        Standardize,
        Trainer,
        TrainingDiverged,
        __version__,
        compare_backends,
        load_data,
    )
    from nn.callbacks import CallbackError
    from nn.cli import (
        Settings,
        UsageError,
        build_callbacks,
        build_loss,
        build_optimizer,
        combine,
        header_text,
        program,
        read_flags,
        refuse_idle_on_rows,
        start_from,
    )
    from nn.cli.console import OutputLost, lasting_streams
    from nn.cli.results import Saved, save_folder, save_report
    from nn.cli.run_folder import RunFolder, folder_of
    from nn.cli.run_record import RunRecord
    from nn.data import DataError, as_dataset
    from nn.data.statistics import ScaleWarning
    from nn.data.tables import is_table
    from nn.data.weights import by_class
    from nn.divergence import exploded_text
    from nn.files import check_writable
    from nn.layers import ACTIVATION_LAYERS, NORMS, check_batches
    from nn.losses import get_loss
    from nn.report import (
        classification_text,
        figures,
        inside_text,
        predictions_text,
        reproduced_text,
        result_text,
    )
    from nn.verify.compare import named_backends, write_comparison
except KeyboardInterrupt:  # Ctrl-C while the libraries are loaded, before ``main`` could say so
    if Path(sys.argv[0]).stem in ("train", "xpnet-train"):
        sys.exit(130)
    raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script with the command line ``argv``.

    Returns:
        The exit code: 0; 1 if training diverged or ran out of memory, if devices that were to be compared differ, or if
        something could not be written where it belongs; 2 for a flag, a recipe or a file that cannot be used; 130 for
        Ctrl-C before or twice during training, and 141 where the output is read no further and nothing else is left of
        the run, as a shell has it.
    """
    code = 0
    with lasting_streams(program()) as output:
        try:
            for settings in parse(argv):
                output.is_needed = not settings.leaves_files
                with blas_threads(settings.threads):
                    code = max(code, compare_devices(settings) if settings.compare else run_once(settings))
            output.flush()
        except (TrainingDiverged, MemoryError, UsageError) as error:
            complain(error)
            return 2 if isinstance(error, UsageError) else 1
        except KeyboardInterrupt:
            return 130
        except OutputLost as lost:
            if isinstance(lost.error, BrokenPipeError):  # whoever read the output, `head` for instance, has left
                return 141
            complain(f"the output cannot be written: {lost}")
            return 1
        return max(code, 0 if output.error is None or isinstance(output.error, BrokenPipeError) else 1)


def run_once(settings: Settings) -> int:
    """One run, from its settings to its files, and its exit code."""
    run = prepare(settings)
    try:
        say(settings, describe(run))
        train(run)
        with run.trainer.averaged():
            print(report(run), flush=True)
            return 1 if save(run).problems else 0
    finally:
        run.close()


def parse(argv: Sequence[str] | None) -> list[Settings]:
    """The settings of each run: one, or those of a recipe's parts. Flags override the recipe, which overrides defaults.

    Raises:
        UsageError: the flags or the recipe cannot be used.
        SystemExit: 0, after ``--help`` or ``--version``.
    """
    flags = read_flags(argv, __version__)
    if "list_recipes" in flags:
        width = max(len(name) for name in recipes.names())
        for name in recipes.names():
            print(f"{name:<{width}}  {recipes.load(name).title}")
        return []
    if "recipe" not in flags:
        return [combine(flags)]
    recipe = recipes.load(flags["recipe"])
    if "report" in flags and len(recipe.parts) > 1:
        raise UsageError(
            f"--report tells of one run, but the recipe {recipe.name} has {len(recipe.parts)}; leave it out"
        )
    runs = [part.run_with(flags | {"recipe": recipe.name}) for part in recipe.parts]
    return runs if len(runs) == 1 else [replace(run, part=number) for number, run in enumerate(runs, 1)]


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Let the matrix products of the CPU use so many threads meanwhile; None: as many as they like."""
    if count is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count, user_api="blas"):
        yield


@dataclass
class Run:
    """A training run, ready to begin."""

    settings: Settings
    name: str
    training: Dataset
    validation: Dataset | None
    test: Dataset | None
    trainer: Trainer
    record: RunRecord
    folder: RunFolder | None = None

    @cached_property
    def test_result(self) -> dict[str, float] | None:
        """Loss, accuracy or figures of values, and metrics on the test rows, once training is over."""
        if self.test is None:
            return None
        of_values = [] if self.test.has_classes or self.trainer.model.task != "values" else ["mae", "rmse", "r2"]
        return self.trainer.evaluate(self.test, metrics=dict.fromkeys([*of_values, *self.settings.metrics]))

    def close(self) -> None:
        """Let other processes write to the folder."""
        if self.folder is not None:
            self.folder.close()


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds say that a file, a device or a row cannot be used: the user's to change, exit code 2."""
    try:
        yield
    except kinds as error:
        raise UsageError(error) from None


def prepare(settings: Settings) -> Run:
    """Everything that can fail because of a setting or a file: checked before anything is trained.

    Raises:
        UsageError: in one sentence.
    """
    with usage_errors(ValueError, TypeError, OSError):
        if settings.plots:
            from nn.report.plots import check_installed

            check_installed()
        if settings.report is not None:
            check_writable(Path(settings.report), "--report")
            if Path(settings.report).suffix.lower() not in (".html", ".htm"):
                raise UsageError(f"--report {settings.report}: a report is a page; name a file that ends in .html")
        record = RunRecord.of(settings)
        folder = folder_of(settings, record)
        if folder is not None:
            folder.open(may_hold_run=settings.overwrite)
        backend = get_backend(settings.device, settings.dtype, not settings.reference, settings.precision)
        if "threads" in settings.given and backend.device.spec.startswith(("cuda", "torch")) and not settings.compare:
            raise UsageError(f"--threads would do nothing on {backend.device.spec}; leave it out, or say --device cpu")
        data = load(settings)
        training, validation = hold_out(settings, data)
        trainer = build_trainer(settings, data.train, backend, len(training))
        if settings.epochs > 0:
            check_batches(trainer.model.layers, len(training), settings.batch_size or len(training))
        record = replace(record, device=f"{backend.device.spec}: {backend.device.version()}")
        trainer.history.run = record.run
        if folder is not None:
            folder.record = record
            trainer.callbacks.append(LambdaCallback(on_fit_begin=lambda trainer, rows, epochs: folder.begin()))
        return Run(settings, data.name, training, validation, data.test, trainer, record, folder)


def train(run: Run) -> None:
    """Train until the last epoch or Ctrl-C."""
    settings = run.settings
    if settings.epochs == 0:
        if run.folder is not None:
            run.folder.begin()
        return
    try:
        # Rows that do not fit the network or the loss, and what callbacks cannot do: told before anything is trained.
        refused = usage_errors(DataError, CallbackError, FileNotFoundError)
        with refused, ctrl_c_stops(run.trainer), warnings.catch_warnings():
            warnings.simplefilter("ignore", ScaleWarning)  # the header gives this advice
            history = run.trainer.fit(
                run.training,
                settings.epochs,
                settings.batch_size,
                shuffle=settings.shuffle,
                validation=run.validation,
                validation_every=settings.every,
            )
    except TrainingDiverged as error:
        if error.weights_of:  # an epoch that went well
            with run.trainer.averaged():
                saved = save(run)
            error.saved_to = "" if settings.output is None else str(saved.folder)
        raise
    if history.stopped:
        say(settings, f"stopped by {history.stopped}")
    if len(history) and (text := exploded_text(history[-1], run.training.n_classes)):
        say(settings, text)
    if run.trainer.backend.why_eager:
        say(settings, f"steps were not recorded as a CUDA graph, which is slower: {run.trainer.backend.why_eager}")


def compare_devices(settings: Settings) -> int:
    """Make the same steps on each device of --compare and print where they differ beyond rounding; 1 if any does.

    Raises:
        UsageError: in one sentence.
    """
    with usage_errors(ValueError, TypeError):
        if settings.epochs == 0:
            raise UsageError("--compare needs steps to compare, but nothing is trained here; say how long by --epochs")
        devices = named_backends(settings.compare or [], settings.dtype)
        run = prepare(replace(settings, device=next(iter(devices)).partition("/")[0]))
        say(settings, describe(run, devices))
        comparison = compare_backends(
            lambda backend: build_trainer(settings, run.training, backend, len(run.training)),
            devices,
            run.training,
            settings.epochs,
            settings.batch_size,
            shuffle=settings.shuffle,
            steps=settings.compare_steps,
            progress=not settings.quiet,
        )
    print(comparison if settings.quiet else f"{comparison}\n\n{comparison.curve_text()}", flush=True)
    if run.folder is not None:
        run.folder.begin()
        path, lines = run.folder.path, not run.folder.pictures_alone
        with usage_errors(OSError):
            written = write_comparison(comparison, path, lines=lines, picture=settings.plots, run=run.record.run)
        say(settings, f"\nwrote {', '.join(written)} to {path}")
    run.close()
    return 0 if comparison.agrees else 1


# ---- data, network, optimizer ----------------------------------------------------------------------------------------


def load(settings: Settings) -> Data:
    """The rows of the recipe or of the source, with the classes that were asked for."""

    def chosen(rows: Dataset) -> Dataset:
        if settings.only is not None:
            rows = rows.only([class_of(name, rows) for name in settings.only])
        if settings.positive is not None:
            rows = rows.one_against_rest(class_of(settings.positive, rows))
        return rows if settings.shift is None else replace(rows, shift=rows.shift + settings.shift)

    def source(test_fraction: float) -> Data:
        return load_data(
            settings.data,
            settings.data_dir,
            limit=settings.limit,
            test_fraction=test_fraction,
            progress=not settings.quiet,
            **table_options(settings),
        )

    if settings.rows is not None:
        if settings.targets is None and settings.epochs:
            raise UsageError("the recipe's `rows` have no `targets` to train on; add them, or say epochs = 0")
        try:
            rows = as_dataset((settings.rows, settings.targets))[: settings.limit]
        except (ValueError, TypeError) as error:
            raise UsageError(f"the recipe's `rows` and `targets` cannot be used: {error}") from None
        data, own_test_rows = Data("the recipe's rows", rows, None), False
    else:
        own_test_rows = "test_fraction" in settings.given and source(0.0).test is not None
        data = source(settings.test_fraction)
    data = Data(data.name, chosen(data.train), None if data.test is None else chosen(data.test))
    refuse_other_task(settings, data)
    refuse_idle_on_rows(settings, data, own_test_rows)
    return data


def refuse_other_task(settings: Settings, data: Data) -> None:
    """Refuse values for a loss of classes, and classes of which there is only one."""
    train = data.train
    if settings.rows is not None or settings.epochs == 0:
        return
    if not train.has_classes and train.y.size == len(train) and get_loss(settings.loss).targets == "classes":
        raise UsageError(
            f"{data.name}: the targets are values, but {settings.loss} is a loss for classes; say --loss mse, or "
            "another loss for values"
        )
    if train.n_classes == 1:
        (name,) = train.class_names or ("0",)
        raise UsageError(f"{data.name}: all rows are of class {name}, so there is nothing to tell apart; add others")


def class_of(name: int | str, rows: Dataset) -> int | str:
    """A class that the user names: by its name as the file has it, else by its number."""
    return str(name) if str(name) in (rows.class_names or ()) else name


def table_options(settings: Settings) -> dict[str, Any]:
    """What to do with the columns of a table; nothing for other data."""
    if not is_table(settings.data):
        return {}
    loss = get_loss(settings.loss)
    fits_values = loss.targets == "values" and not loss.unit_interval
    return {
        "label": settings.label,
        "task": "values" if settings.task == "auto" and fits_values else settings.task,
        "impute": settings.impute,
        "categorical": settings.categorical,
    }


def hold_out(settings: Settings, data: Data) -> tuple[Dataset, Dataset | None]:
    """The rows to train on, and those to evaluate on after each epoch."""
    training, validation = data.train, None
    if isinstance(settings.validation, str):
        validation = data.test
    elif settings.validation is not None:
        training, validation = data.train.split(settings.validation, seed=settings.seed)
    return training if settings.class_weight is None else by_class(training, settings.class_weight), validation


def build_trainer(settings: Settings, train: Dataset, backend: Backend, rows: int) -> Trainer:
    """The network on its device, with its loss, and its optimizer for so many rows."""
    model = Sequential(build_layers(settings, train), backend=backend, seed=settings.seed)
    start_from(model, settings, train)
    return Trainer(
        model,
        build_loss(settings),
        build_optimizer(settings, rows),
        callbacks=build_callbacks(settings),
        metrics=settings.metrics,
        train_metrics=settings.train_metrics,
        clip_norm=settings.clip_norm,
        clip_value=settings.clip_value,
        accumulate=settings.accumulate,
        average=settings.average,
    )


def build_layers(settings: Settings, train: Dataset) -> list[Layer]:
    """Hidden layers, an output for each class (one for two classes and a sigmoid), and their activations."""
    loss, classes = get_loss(settings.loss), train.n_classes
    one_answer = classes == 2 and loss.output_activation == "sigmoid"
    targets = train.y.shape[1] if train.y.ndim == 2 else 1
    outputs = settings.outputs or (1 if one_answer else classes or targets)
    widths = [train.n_features, *settings.hidden, outputs]
    weights = settings.weights or [settings.init] * (len(widths) - 1)
    biases = settings.biases or [settings.bias_init] * (len(widths) - 1)
    layers: list[Layer] = [Standardize(train.n_features)] if settings.standardize else []
    for name, values in (("weights", weights), ("biases", biases)):
        if len(values) != len(widths) - 1:
            raise UsageError(f"{name} must hold one entry for each of the {len(widths) - 1} layers, not {len(values)}")
    for (n_in, n_out), weight_init, bias_init in zip(pairwise(widths), weights, biases, strict=True):
        if any(isinstance(layer, Linear) for layer in layers):
            layers += [NORMS[settings.norm](n_in)] if settings.norm else []
            layers += activation(settings.activation)
            if settings.dropout:
                layers.append(Dropout(settings.dropout))
        layers.append(Linear(n_in, n_out, weight_init=weight_init, bias_init=bias_init))
    default = "sigmoid" if train.has_classes or settings.rows is not None else "identity"
    return layers + activation(settings.output_activation or loss.output_activation or default)


def activation(name: str) -> list[Layer]:
    """The layer of an activation; none for the identity."""
    return [] if name == "identity" else [Softmax() if name == "softmax" else ACTIVATION_LAYERS[name]()]


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


def say(settings: Settings, text: str) -> None:
    """Print, unless --quiet."""
    if not settings.quiet:
        print(text, flush=True)


def describe(run: Run, compared: dict[str, Backend] | None = None) -> str:
    """The header of a run, or of a comparison of devices."""
    return header_text(
        run.settings, __version__, run.name, run.trainer, run.training, run.validation, run.test, compared
    )


def report(run: Run) -> str:
    """The test result, with all that was asked for beside it; --quiet: the result alone."""
    settings, trainer = run.settings, run.trainer
    result = "there are no test rows"
    shown = inside_text(trainer, run.training, list(settings.show), settings.predict)
    if run.test is not None and run.test_result is not None:
        result = result_text(run.test_result, len(run.test))
    elif shown:
        result, shown = shown, ""
    if settings.quiet:
        return result
    parts = [result]
    if run.test is not None:
        if run.test.has_classes:
            parts.append(classification_text(trainer, run.test, settings.confusion))
        if settings.predictions:
            parts.append(predictions_text(trainer, run.test, settings.predictions))
    if shown:
        parts.append(shown)
    if settings.reproduced:
        found = figures(trainer, run.training, run.test, settings.predict)
        changed = [*settings.changed, *([trainer.history.stopped] if trainer.history.stopped else [])]
        parts.append(reproduced_text(found, settings.author, settings.reproduced, changed))
    blank = "\n" * bool(settings.epochs)  # after the epochs; the header ends with one
    return blank + "\n\n".join(parts) + "\n" * bool(settings.title)


def save(run: Run) -> Saved:
    """Write the report, the weights, the history, the settings and the pictures; say what went where.

    Raises:
        UsageError: nothing could be written anywhere.
    """
    settings, saved = run.settings, []
    with usage_errors(OSError):
        if run.folder is not None:
            saved.append(save_folder(run.folder, settings, run.trainer, run.test, run.test_result))
        saved.append(save_report(settings, run.trainer, run.name, run.training, run.validation, run.test))
    for line in (line for each in saved for line in each.written):
        say(settings, f"\n{line}")
    problems = tuple(problem for each in saved for problem in each.problems)
    for problem in problems:
        complain(problem)
    return replace(saved[0], problems=problems)


def complain(what: object) -> None:
    """Say on standard error what went wrong."""
    print(f"{program()}: error: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Train a network: ``python train.py --help``.

Read from ``main`` down, this is what a training run is: settings, data, network, training, report, files. What can be
set, and by which flag, is in ``nn/cli/settings.py``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

try:
    import recipes
    from backends import Backend, get_backend
    from backends.collectives import Collectives, ProcessError
    from nn import (
        CheckpointError,
        Dataset,
        Layer,
        Sequential,
        Softmax,
        Standardize,
        Trainer,
        TrainingDiverged,
        __version__,
        compare_backends,
    )
    from nn.callbacks import CallbackError, Checkpoint
    from nn.cli import (
        Settings,
        UsageError,
        build_augment,
        build_callbacks,
        build_loss,
        build_optimizer,
        combine,
        header_text,
        program,
        read_flags,
        start_from,
    )
    from nn.cli.architecture import Units, read_layers, stack
    from nn.cli.console import OutputLost, lasting_streams
    from nn.cli.kinds import usage_errors
    from nn.cli.processes import (
        can_be_interrupted,
        first_tells,
        left,
        left_early,
        processes_of,
        processes_started,
        start_processes,
        threads_of,
        to_start,
    )
    from nn.cli.results import Saved, save_folder, save_report
    from nn.cli.resume import folder_callbacks, go_on, record_of, resumed_settings, started_again, way_to_go_on
    from nn.cli.rows import hold_out, load
    from nn.cli.run_folder import RunFolder, folder_of
    from nn.cli.run_record import RunRecord
    from nn.cli.signals import Ended, Signals, caught_signals, name_of
    from nn.data import DataError
    from nn.data.checks import UnreadableError
    from nn.data.statistics import ScaleWarning
    from nn.divergence import exploded_text
    from nn.files import check_writable
    from nn.layers import ACTIVATION_LAYERS, check_batches
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

#: A shell has this and the number of the signal for the exit code.
ENDED_BY_SIGNAL = 128


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script with the command line ``argv``.

    Returns:
        The exit code: 0; 1 if training diverged or ran out of memory, if devices that were to be compared differ, or if
        something could not be written where it belongs; 2 for a flag, a recipe or a file that cannot be used; and, as
        a shell has it, 130 for Ctrl-C, 143 and 129 for SIGTERM and SIGHUP, which a run with a folder goes on after,
        and 141 where the output is read no further and nothing else is left of the run.
    """
    code, together = 0, Collectives()
    with lasting_streams(program()) as output:
        output.is_needed = True
        try:
            runs = parse(argv)
            if runs and to_start(runs[0]) > 1:
                return start_processes(runs[0], argv, tell)
            for settings in runs:
                output.is_needed = not settings.leaves_files
                together = processes_of(settings)
                with first_tells(together), blas_threads(threads_of(settings, together)):
                    code = max(code, compare_devices(settings) if settings.compare else run_once(settings, together))
                if code > ENDED_BY_SIGNAL:
                    break
            output.flush()
        except (TrainingDiverged, MemoryError, UsageError) as error:
            text = str(error) or "out of memory"  # Python's own MemoryError says nothing
            processes_started(together).end(f"error: {text}", tell)
            return left(2 if isinstance(error, UsageError) else 1)
        except KeyboardInterrupt:
            return left_early(130)
        except OutputLost as lost:
            if isinstance(lost.error, BrokenPipeError):  # whoever read the output, `head` for instance, has left
                return 141
            complain(f"the output cannot be written: {lost}")
            return 1
        return left(max(code, 0 if output.error is None or isinstance(output.error, BrokenPipeError) else 1))


def run_once(settings: Settings, together: Collectives) -> int:
    """One run, from its settings to its files, and its exit code; of several processes the first prints and writes."""
    run = None
    try:
        with caught_signals(can_go_on=settings.output is not None) as signals:
            can_be_interrupted()
            run = prepare(settings, together)
            with usage_errors(DataError):  # rows that stay in their files are looked at
                say(settings, describe(run))
            train(run, signals)
            signals.caught = max(together.gather(signals.caught))
            if signals.ends and not run.checkpoint_failure:
                return stopped(settings, run, signals.caught)
            if together.rank > 0:
                return ENDED_BY_SIGNAL + signals.caught if signals.caught else 0
            if signals.caught and not signals.ends and run.test is not None:  # it takes long where these are many
                say(settings, f"measuring {len(run.test):,} test rows; Ctrl-C again ends the run without it")
            with run.trainer.averaged():
                problems = [] if signals.ends else told(run)
                problems += save(run).problems
            return stopped(settings, run, signals.caught) if signals.caught else 1 if problems else 0
    except Ended as ended:
        return stopped(settings, run, ended.signum)
    finally:
        if run is not None:
            run.close()


def stopped(settings: Settings, run: Run | None, signum: int) -> int:
    """Say how a run that a signal has ended goes on, if it can; the exit code."""
    by = (run is not None and run.trainer.history.stopped) or name_of(signum)
    if run is not None and run.trainer.backend.collectives.rank > 0:
        return ENDED_BY_SIGNAL + signum
    begun = run is not None and run.folder is not None and run.folder.has_begun
    if begun or settings.resume is not None:
        tell(f"stopped by {by}{way_to_go_on(settings)}")
    elif run is None:
        tell(f"stopped by {by} before training began")
    return ENDED_BY_SIGNAL + signum


def parse(argv: Sequence[str] | None) -> list[Settings]:
    """The settings of each run: one, or those of a recipe's parts. Flags override the recipe, which overrides defaults.

    Raises:
        UsageError: the flags or the recipe cannot be used.
        SystemExit: 0, after ``--help`` or ``--version``.
    """
    flags = started_again(read_flags(argv, __version__))
    if "list_recipes" in flags:
        width = max(len(name) for name in recipes.names())
        for name in recipes.names():
            print(f"{name:<{width}}  {recipes.load(name).title}")
        return []
    if "recipe" not in flags or "resume" in flags:
        return [resumed_settings(flags) if "resume" in flags else combine(flags)]
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
    goes_on: str = ""

    @property
    def checkpoint_failure(self) -> str:
        """Why the run, as it is now, could not go on; "" if it can."""
        last = next((callback for callback in self.trainer.callbacks if isinstance(callback, Checkpoint)), None)
        return last.failure if last is not None else "there are no checkpoints"

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


def prepare(settings: Settings, together: Collectives | None = None) -> Run:
    """Everything that can fail because of a setting or a file: checked before anything is trained.

    Args:
        together: the processes that train together; by default this one alone.

    Raises:
        UsageError: in one sentence.
    """
    together = together or Collectives()
    with usage_errors(ValueError, TypeError, OSError):
        if settings.plots:
            from nn.report.plots import check_installed

            check_installed()
        if settings.report is not None:
            together.by_first(partial(check_writable, Path(settings.report), "--report"))
            if Path(settings.report).suffix.lower() not in (".html", ".htm"):
                raise UsageError(f"--report {settings.report}: a report is a page; name a file that ends in .html")
        record = together.by_first(partial(record_of, settings))
        folder = folder_of(settings, record)
        if folder is not None:
            may_hold_run = settings.overwrite or settings.resume is not None
            together.by_first(partial(folder.open, may_hold_run=may_hold_run))
        backend = get_backend(settings.device, settings.dtype, not settings.reference, settings.precision)
        if "threads" in settings.given and backend.device.spec.startswith(("cuda", "torch")) and not settings.compare:
            raise UsageError(f"--threads would do nothing on {backend.device.spec}; leave it out, or say --device cpu")
        data = load(settings)
        training, validation = hold_out(settings, data)
        backend.train_with(together)
        trainer = build_trainer(settings, data.train, backend, len(training))
        if settings.epochs > 0:
            check_batches(trainer.model.layers, len(training), settings.batch_size or len(training))
        record = replace(record, device=f"{backend.device.spec}: {backend.device.version()}")
        trainer.history.run = record.run
        run = Run(settings, data.name, training, validation, data.test, trainer, record, folder)
        if folder is not None:
            folder.record = record
            trainer.callbacks += folder_callbacks(settings, folder)
            run.goes_on = go_on(settings, folder, trainer) if settings.resume else ""
        return run


def train(run: Run, signals: Signals | None = None) -> None:
    """Train until the last epoch or the first signal."""
    settings = run.settings
    if settings.epochs == 0:
        if run.folder is not None:
            run.folder.begin()
        return
    try:
        # Rows that do not fit the network or the loss, and what callbacks cannot do: told before anything is trained.
        refused = usage_errors(DataError, CallbackError, CheckpointError, ProcessError, OSError)
        with refused, (signals or Signals()).training(run.trainer), warnings.catch_warnings():
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
        together = run.trainer.backend.collectives
        if error.weights_of and together.rank == 0:  # an epoch that went well
            with run.trainer.averaged():
                saved = save(run)
            error.saved_to = "" if settings.output is None else str(saved.folder or "")
        error.saved_to = together.broadcast(error.saved_to)
        raise
    except UsageError as error:
        passes = isinstance(error.__context__, UnreadableError | OSError)  # a disk that is gone comes back
        if not passes or run.folder is None or not run.folder.has_begun:
            raise
        raise UsageError(f"{error}{way_to_go_on(settings)}") from None
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
        blocks=settings.blocks,
        augment=build_augment(settings),
    )


def build_layers(settings: Settings, train: Dataset) -> list[Layer]:
    """Hidden layers, an output for each class (one for two classes and a sigmoid), and their activations."""
    loss, classes = get_loss(settings.loss), train.n_classes
    one_answer = classes == 2 and loss.output_activation == "sigmoid"
    targets = train.target_shape[0] if train.target_shape else 1
    outputs = settings.outputs or (1 if one_answer else classes or targets)
    hidden = map(Units, settings.hidden) if settings.layers is None else read_layers(settings.layers)
    entries = [*hidden, Units(outputs)]
    count = sum(entry.has_weights for entry in entries)
    weights = settings.weights or [settings.init] * count
    biases = settings.biases or [settings.bias_init] * count
    for name, values in (("weights", weights), ("biases", biases)):
        if len(values) != count:
            raise UsageError(f"{name} must hold one entry for each of the {count} layers, not {len(values)}")
    layers: list[Layer] = [Standardize(train.n_features)] if settings.standardize else []
    layers += stack(
        entries,
        train,
        [{"weight_init": weight, "bias_init": bias} for weight, bias in zip(weights, biases, strict=True)],
        norm=settings.norm,
        activation=activation(settings.activation),
        dropout=settings.dropout,
    )
    default = "sigmoid" if train.has_classes or settings.rows is not None else "identity"
    return layers + activation(settings.output_activation or loss.output_activation or default)


def activation(name: str) -> list[Layer]:
    """The layer of an activation; none for the identity."""
    return [] if name == "identity" else [Softmax() if name == "softmax" else ACTIVATION_LAYERS[name]()]


# ---- what is printed and written -------------------------------------------------------------------------------------


def say(settings: Settings, text: str) -> None:
    """Print, unless --quiet."""
    if not settings.quiet:
        print(text, flush=True)


def describe(run: Run, compared: dict[str, Backend] | None = None) -> str:
    """The header of a run, or of a comparison of devices; and where a run goes on."""
    text = header_text(
        run.settings, __version__, run.name, run.trainer, run.training, run.validation, run.test, compared
    )
    return f"{text}\n{run.goes_on}\n" if run.goes_on else text


def told(run: Run) -> list[str]:
    """Print the test result; what is wrong with the test rows, where they are in a file that has changed since."""
    try:
        print(report(run), flush=True)
    except DataError as error:
        run.test = None  # what was trained is saved, without them
        complain(error)
        return [str(error)]
    return []


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
    """Write the report, the weights, the history, the settings and the pictures; say what went where."""
    settings, saved = run.settings, []
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
    tell(f"error: {what}")


def tell(text: str) -> None:
    """Say something on standard error, also where --quiet is given."""
    print(f"{program()}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

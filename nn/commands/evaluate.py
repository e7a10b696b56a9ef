"""Measure a model on rows with labels or values: loss, accuracy, and other metrics.

DATA is what train.py --data takes: digits, mnist, a file .npz, .h5, .npy, .csv, .tsv (either with .gz) or .parquet, or
a folder of .npy files or .zarr. As in train.py, the test rows are those that come with the data; else a fifth of the
rows, set aside by class: those that the run has held out, whose folder MODEL is. For a file of new rows, all of which
are to be evaluated, say --rows all. Without DATA it is what the run was trained on.

The columns of a table are taken by the names that the training rows had, and missing values and categories become what
those rows have taught.
"""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import SETTINGS, UsageError
from ..cli.flags import count
from ..cli.kinds import METRIC
from ..cli.run_record import RECORD, RunRecord
from ..data import Dataset, StreamedDataset, load_data, read_csv
from ..data.sources import OWN_SOURCES, limited, set_aside
from ..data.streamed.as_streamed import joined
from ..data.streamed.from_path import is_large_table
from ..data.tables import is_table
from ..data.tables.options import Task
from ..metrics import metric_names
from ..model import Sequential
from ..report import classification_text, result_text
from ..trainer import Trainer
from .models import add_model, open_model

EXAMPLES = (
    ("python -m nn evaluate out/", "on the test rows of the run"),
    ("python -m nn evaluate out/ mnist", "the accuracy on MNIST's 10,000 test rows"),
    ("python -m nn evaluate out/ new.csv --rows all --label price", "on every row of a table"),
    ("python -m nn evaluate out/ digits --metrics macro_f1 --by-class", "with another metric, and class by class"),
)
ROWS = ("test", "train", "all")
#: What follows from a run, where no DATA is named.
OF_THE_ROWS = ("test_fraction", "window", "data_dir", "limit", "label", "only", "positive")
#: What is said of values unless other metrics are asked for.
OF_VALUES = ("mae", "rmse", "r2")


def arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="digits, mnist, or a file, as train.py --data; that of the run's folder"
    )
    parser.add_argument("--rows", choices=ROWS, default="test", help="which rows (default: test)")
    parser.add_argument(
        "--test-fraction", type=float, metavar="FRACTION",
        help="how much train.py has set aside for the test (default: that of the run, or 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--window", metavar="ROWS",
        help="rows that are in memory at a time, or full, as train.py --window (default: that of the run)",
    )  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the four MNIST files")
    parser.add_argument("--limit", type=count, metavar="ROWS", help="the first ROWS rows only")
    parser.add_argument("--label", nargs="+", metavar="COLUMN", help="of a table: the column of the label, or several")
    parser.add_argument("--only", nargs="+", metavar="CLASS", help="the rows of these classes, in the model's order")
    parser.add_argument("--positive", metavar="CLASS", help="this class against all others")
    parser.add_argument(
        "--metrics", nargs="+", default=(), metavar="NAME", help=f"beside the loss: {', '.join(metric_names()[2:])}"
    )
    parser.add_argument("--loss", metavar="NAME", help="another loss than the model was trained with")
    parser.add_argument("--by-class", action="store_true", help="precision and recall by class, and confusion matrix")
    parser.add_argument("--json", action="store_true", help="JSON")
    parser.add_argument("--batch-size", type=count, default=1024, metavar="N", help="rows at a time (default: 1024)")


def run(options: Namespace) -> int:
    """Print the result.

    Raises:
        UsageError, ValueError: the model or the rows cannot be used, or do not fit each other.
    """
    if options.window is not None:
        options.window = SETTINGS["window"].from_words([options.window])
    if options.by_class and options.json:
        raise UsageError("--by-class would do nothing here, as --json tells of all classes together; leave it out")
    as_trained(options)
    if options.test_fraction is None:
        options.test_fraction = 0.2
    model = open_model(options)
    rows, which = rows_to_evaluate(model, options)
    if options.by_class and not rows.has_classes:
        raise UsageError("--by-class is for classes, but the targets are values; leave it out")
    trainer = Trainer(model) if options.loss is None else Trainer(model, options.loss)
    for name in options.metrics:
        if problem := METRIC.problem(name):
            raise UsageError(f"--metrics{problem}")
    metrics = options.metrics or ([] if rows.has_classes or model.task != "values" else OF_VALUES)
    result = trainer.evaluate(rows, options.batch_size, metrics=list(dict.fromkeys(metrics)))
    if options.json:
        about = {"model": options.model, "data": options.data, "rows": options.rows, "count": len(rows)}
        print(json.dumps({**about, "loss_name": trainer.loss.name, **{k: float(v) for k, v in result.items()}}))
        return 0
    print(which)
    print(result_text(result, len(rows)).removeprefix("test "))
    if options.by_class:
        print(f"\n{classification_text(trainer, rows)}")
    return 0


def as_trained(options: Namespace) -> None:
    """Fill in what is not said as the run, whose folder MODEL is, has it: without DATA all about its rows; where DATA
    is that of the run, how these were divided.

    Raises:
        UsageError: there is no DATA, and MODEL is no such folder, or the run had no data of this kind.
    """
    folder, is_given = Path(options.model), options.data is not None
    if is_given and not (folder / RECORD).is_file():
        return
    if not (folder / RECORD).is_file():
        raise UsageError(f"say on which DATA, digits or new.csv for instance: {options.model} is no folder of a run")
    try:
        record = RunRecord.read(folder)
        settings = record.restored()
    except UsageError:
        if is_given:  # the model may be used all the same
            return
        raise
    if settings.rows is not None:
        if is_given:
            return
        raise UsageError(f"the rows of this run stand in its recipe, {settings.recipe}; say on which DATA")
    data = path_of(settings.data, record.folder)
    if is_given and really(path_of(options.data, ".")) != really(data):
        return
    if not is_given:
        options.data = data
    for name in ("test_fraction", "window") if is_given else OF_THE_ROWS:
        if getattr(options, name) is None:
            value = getattr(settings, name)
            is_folder = name == "data_dir" and value is not None
            setattr(options, name, str(Path(record.folder) / value) if is_folder else value)


def path_of(data: str, folder: str) -> str:
    """DATA, whose paths start from ``folder``, from anywhere."""
    if data.lower() in OWN_SOURCES:
        return data.lower()
    return ",".join(str(Path(folder, part.strip())) for part in data.split(","))


def really(data: str) -> list[str]:
    """The paths that DATA is, without links."""
    return [os.path.realpath(path) for path in data.split(",")]


def rows_to_evaluate(model: Sequential, options: Namespace) -> tuple[Dataset, str]:
    """The rows that are asked for, with their classes numbered as the model's, and which they are, in words.

    Raises:
        UsageError, DataError: there are none, or they do not fit the model.
    """
    train, test, set_aside = divided(model, options)
    if options.rows == "test":
        if test is None:
            raise UsageError(f"{options.data} has no test rows; say --rows all")
        rows = test
    elif options.rows == "train" or test is None:
        rows = train
    elif isinstance(train, StreamedDataset):
        rows = joined(train, test)
    else:
        rows = replace(train, x=np.concatenate([train.x, test.x]), y=np.concatenate([train.y, test.y]))
    if options.limit is not None:
        rows = limited(rows, options.limit, set_aside)
    if options.only:
        rows = rows.only([_class_of(str(name), rows) for name in options.only])
    if options.positive is not None:
        rows = rows.one_against_rest(_class_of(str(options.positive), rows))
    kind = {"test": "test rows", "train": "training rows", "all": "rows"}[options.rows]
    how = f", set aside as train.py does{'; --rows all for every row' * (options.rows == 'test')}" if set_aside else ""
    return model.dataset(rows), f"{len(rows):,} {kind} of {options.data}{how}"


def divided(model: Sequential, options: Namespace) -> tuple[Dataset, Dataset | None, bool]:
    """Training and test rows as train.py has them, in the units of the model, and whether these were set aside from
    those."""
    units = model.units
    fraction = 0.0 if options.rows == "all" else options.test_fraction
    learnt = None if units is None else units.columns
    task: Task = "values" if model.task == "values" else "auto"
    # What is learnt of columns is learnt of tables in memory.
    is_small = any(column.learnt for column in learnt or ()) or not is_large_table(options.data)
    if is_table(options.data) and (options.window == "full" or (options.window is None and is_small)):
        known = learnt if any(column.name or column.learnt for column in learnt or ()) else None
        data = read_csv(options.data, label=options.label, task=task, columns=known)
        if known is not None and units is not None:  # which are as they stand in the file, as the training rows were
            units.check(data.x)
            data = replace(data, scale=units.scale, shift=units.shift)
        if fraction == 0:
            return data, None, False
        return *set_aside(Path(options.data).name, data, fraction), True
    if options.label is not None and not is_table(options.data):
        raise UsageError(f"--label is for tables, and {options.data} is none; leave it out")
    of_table: dict[str, Any] = {"label": options.label, "task": task} if is_table(options.data) else {}
    own = load_data(options.data, options.data_dir, test_fraction=0, window=options.window, **of_table)
    train, test = _shifted(own.train, model), None if own.test is None else _shifted(own.test, model)
    if test is not None or fraction == 0:
        return train, test, False
    return *set_aside(own.name, train, fraction), True


def _shifted(rows: Dataset, model: Sequential) -> Dataset:
    """With the shift that the training rows were given (train.py --shift), where they are scaled alike."""
    units = model.units
    return rows if units is None or units.scale != rows.scale else replace(rows, shift=units.shift)


def _class_of(name: str, rows: Dataset) -> int | str:
    """A class by its name, else by its number."""
    is_number = name not in (rows.class_names or ()) and name.removeprefix("-").isdecimal()
    return int(name) if is_number else name

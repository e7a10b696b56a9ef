"""The rows of a run, from its settings: those to train on, to evaluate on after each epoch, and to test."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from ..data import Data, Dataset, as_dataset, load_data
from ..data.tables import is_table
from ..data.weights import by_class
from ..losses import get_loss
from .combine import refuse_idle_on_rows
from .kinds import UsageError
from .settings import Settings


def load(settings: Settings) -> Data:
    """The rows of the recipe or of the source, with the classes that were asked for."""

    def chosen(rows: Dataset) -> Dataset:
        if settings.only is not None:
            rows = rows.only([class_of(name, rows) for name in settings.only])
        if settings.positive is not None:
            rows = rows.one_against_rest(class_of(settings.positive, rows))
        return rows if settings.shift is None else replace(rows, shift=rows.shift + settings.shift)

    if settings.rows is not None:
        if settings.targets is None and settings.epochs:
            raise UsageError("the recipe's `rows` have no `targets` to train on; add them, or say epochs = 0")
        try:
            rows = as_dataset((settings.rows, settings.targets))[: settings.limit]
        except (ValueError, TypeError) as error:
            raise UsageError(f"the recipe's `rows` and `targets` cannot be used: {error}") from None
        data = Data("the recipe's rows", rows, None)
    else:
        data = load_data(
            settings.data,
            settings.data_dir,
            limit=settings.limit,
            test_fraction=settings.test_fraction,
            progress=not settings.quiet,
            window=settings.window,
            **table_options(settings),
        )
    data = replace(data, train=chosen(data.train), test=None if data.test is None else chosen(data.test))
    refuse_other_task(settings, data)
    refuse_idle_on_rows(settings, data, own_test_rows=data.test is not None and not data.divided)
    return data


def refuse_other_task(settings: Settings, data: Data) -> None:
    """Refuse values for a loss of classes, and classes of which there is only one."""
    train = data.train
    if settings.rows is not None or settings.epochs == 0:
        return
    if not train.has_classes and prod(train.target_shape) == 1 and get_loss(settings.loss).targets == "classes":
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

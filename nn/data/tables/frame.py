"""Tables of pandas and polars, with their label: frames, and parquet files, which pandas reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.arguments import shown

from ..checks import DataError, DataTypeError
from ..columns import TEXT_COLUMN, Column
from ..dataset import Dataset
from ..frames import names_of, raw_column
from ..reading import check_is_file, library, not_installed
from ..values import column_of, is_absent, is_frame, objects_of
from .head import ColumnName, chosen_columns, known_label, question
from .numbers import as_numbers
from .options import TableOptions, Task
from .table import Table
from .targets import Labels, classes_or_values


def from_frame(
    frame: Any,
    *,
    label: ColumnName | Sequence[ColumnName] | None = None,
    task: Task = "auto",
    impute: str | None = None,
    categorical: Sequence[ColumnName] | None = None,
    columns: Sequence[Column] | None = None,
) -> Dataset:
    """The rows of a DataFrame of pandas or polars, one column of which is the class label or the target.

    Args:
        label, task, impute, categorical, columns: see ``TableOptions``; text, missing values and labels are as in a
            table of a file. What is imputed is learnt from all rows of the frame. A model that is trained on this
            Dataset does the same with frames that ``predict`` is given, without the label.

    Raises:
        DataError: naming the row (counted from 0) and the column; or asking which column is the label.
    """
    if not is_frame(frame):
        raise DataTypeError(
            f"from_frame needs a DataFrame of pandas or polars as its frame, not {shown(frame)}; as_dataset takes "
            "arrays"
        )
    table = table_of(frame, TableOptions(label, task, impute, categorical, columns), "the frame")
    return table if isinstance(table, Dataset) else table.dataset(np.arange(len(table)))


def read_parquet(path: Path, options: TableOptions) -> Dataset | Table:
    """A parquet file, by pandas.

    Raises:
        DataError: as of ``parquet_frame`` and of ``from_frame``.
    """
    return table_of(parquet_frame(path), options, str(path))


def parquet_frame(path: Path, columns: Sequence[str] | None = None) -> Any:
    """The DataFrame that a parquet file holds, or these columns of it.

    Raises:
        DataError: pandas, or the library that it reads parquet by, is not installed; or the file cannot be read.
    """
    pandas = library("pandas", path, install="pandas pyarrow")
    check_is_file(path)
    try:
        return pandas.read_parquet(path, columns=None if columns is None else [*columns])
    except ImportError:
        raise not_installed(path, "pyarrow") from None
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a parquet file that pandas can read ({str(error).splitlines()[0]})") from None


def table_of(frame: Any, options: TableOptions, where: str) -> Dataset | Table:
    """A Dataset, where nothing has to be learnt of the training rows; else a Table that learns it."""
    names = names_of(frame)
    shown = [str(name) for name in frame.columns]
    if len(frame) == 0 or len(shown) < 2:
        raise DataError(
            f"{where} has {len(frame)} rows and {len(shown)} columns; at least a row, a feature and a label"
        )
    if options.label is not None:
        targets = chosen_columns(options.label, names, len(shown), where)
    else:
        found = known_label(shown, where)
        if found is None:
            raise DataError(question(where, names, len(shown), options.task == "values"))
        targets = (found,)
    features = [i for i in range(len(shown)) if i not in targets]

    def place(row: int, feature: int) -> str:
        return f"{where}, row {row}, column {shown[features[feature]]!r}"

    y, class_names = _targets(
        frame, targets, options.task, lambda row: f"{where}, row {row}, column {shown[targets[0]]!r}"
    )
    chosen = chosen_columns(options.categorical, names, len(shown), where) if options.categorical else ()
    raw = [raw_column(column_of(frame, i), f"{where}: column {shown[i]!r}") for i in features]
    allowed = options.categorical == () or options.columns is not None  # the columns say which text is a category
    categorical = []
    for position, (index, values) in enumerate(zip(features, raw, strict=True)):
        if values.dtype.kind == "O" and index not in chosen and not allowed:
            row = next(i for i, value in enumerate(values) if value is not None)
            raise DataError(f"{place(row, position)}: {values[row]!r} is not a number; {TEXT_COLUMN}")
        if values.dtype.kind == "O" or index in chosen:
            categorical.append(position)
        if values.dtype.kind == "f" and np.isinf(values).any():
            raise DataError(f"{place(int(np.isinf(values).argmax()), position)}: the value is infinite; correct it")
    own = [shown[i] for i in features] if names else []
    if not options.learns and not any(np.isnan(values).any() for values in raw):
        return as_numbers(np.stack(raw, axis=1), y, class_names, own)
    return Table(raw, tuple(own) or None, y, class_names, place, tuple(categorical), options.impute, options.columns)


def _targets(frame: Any, targets: tuple[int, ...], task: Task, place: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
    if task == "values" or len(targets) > 1:
        columns = [raw_column(column_of(frame, i), place(0)) for i in targets]
        for values in columns:
            if values.dtype.kind == "O" or not np.isfinite(values).all():
                raise DataError(f"{place(0)}: the targets of this column are not all finite numbers; correct them")
        return (columns[0] if len(columns) == 1 else np.stack(columns, axis=1)), None
    labels = Labels()
    cells = objects_of(column_of(frame, targets[0])).tolist()
    codes = np.array([labels("" if is_absent(cell) else str(cell)) for cell in cells], dtype=np.int64)
    return classes_or_values(list(labels.numbers), codes, task, place)

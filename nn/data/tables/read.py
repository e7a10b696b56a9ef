"""Tables from files."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

import numpy as np

from backends.arguments import check_path

from ..checks import DataError
from ..columns import Column
from ..dataset import Dataset
from ..reading import check_text, reading
from .cells import read_cells
from .frame import read_parquet
from .head import ColumnName, read_head
from .numbers import read_numbers
from .options import TableOptions, Task
from .table import Table

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


def is_table(source: str | os.PathLike[str]) -> bool:
    """Whether a file has the ending of a table."""
    return str(source).lower().endswith(ENDINGS)


def read_csv(
    path: str | os.PathLike[str],
    *,
    label: ColumnName | Sequence[ColumnName] | None = None,
    task: Task = "auto",
    impute: str | None = None,
    categorical: Sequence[ColumnName] | None = None,
    columns: Sequence[Column] | None = None,
) -> Dataset:
    """A table of numbers, gzip-compressed or plain, one column of which is the class label or the target.

    Cells stand between commas, semicolons, tabs or bars. Which line is a header and which column the label is decided
    as ``nn.data.tables.head`` says, or asked; class labels may be text, and are kept as ``class_names``. Features are
    float64 as written, unless they are pixels: whole numbers from 0 to 255 under a header ``pixel0, pixel1, ...``, or
    rows that are pixels by their number of columns and their numbers (``units.are_pixels``). Pixels are stored as
    uint8, scaled to [0, 1] if any is above 1, and get an ``image_shape`` if they fill a square.

    Args:
        path: a file .csv, .tsv, either with .gz, or .parquet, which needs pandas.
        label, task, impute, categorical, columns: see ``TableOptions``. What is imputed is learnt from all rows of the
            file; ``load_data`` learns it from the training rows.

    Raises:
        DataError: naming the file, the line (counted from 1) and the column: text, an empty cell, NaN or infinity, a
            row of another length, a label that is no class; or no rows at all; or asking which column is the label.
    """
    table = read_table(path, TableOptions(label, task, impute, categorical, columns))
    return table if isinstance(table, Dataset) else table.dataset(np.arange(len(table)))


def read_table(path: str | os.PathLike[str], options: TableOptions) -> Dataset | Table:
    """A Dataset, where nothing has to be learnt of the training rows; else a Table that learns it.

    Raises:
        DataError: as of ``read_csv``.
    """
    path = check_path("path", path)
    with reading(path):
        try:
            if path.name.lower().endswith(".parquet"):
                return read_parquet(path, options)
            check_text(path)
            head = read_head(path, options.label, options.task == "values")
            return read_cells(head, options) if options.learns else read_numbers(head, options.task)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise DataError(f"{path} is not a CSV file ({error}); save it as comma-separated text") from None

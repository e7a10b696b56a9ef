"""Tables with columns of text or missing values: read cell by cell."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np

from ..checks import DataError
from .head import Head, chosen_columns
from .options import TableOptions, Task
from .problems import cell_problem, check_width
from .table import Table
from .targets import Labels, classes_or_values
from .text import is_missing, number, open_text, rows


def read_cells(head: Head, options: TableOptions) -> Table:
    lines, cells = [], []
    with open_text(head.path) as file:
        for line, row in rows(file, head.separator):
            if line > head.skip:
                check_width(head, line, row)
                lines.append(line)
                cells.append(row)
    features, where = head.features, str(head.path)
    chosen = chosen_columns(options.categorical, head.names, head.width, where) if options.categorical else ()
    for index in set(chosen) & set(head.targets):
        raise DataError(f"{where}: {head.column(index)} is the label; class labels need not be named as categories")
    allowed = options.categorical == () or options.columns is not None  # the columns say which text is a category
    raw, categorical = [], []
    for position, index in enumerate(features):
        values = _column([row[index] for row in cells], index in chosen)
        if values.dtype.kind == "O" and index not in chosen and not allowed:
            _refuse_text(head, lines, [row[index] for row in cells], index)
        if values.dtype.kind == "O":
            categorical.append(position)
        raw.append(values)
        bad = np.isinf(values) if values.dtype.kind == "f" else np.zeros(1, bool)
        if bad.any():
            at = int(bad.argmax())
            raise DataError(
                f"{where}, line {lines[at]}, {head.column(index)}: {cells[at][index].strip()} is not a finite "
                "number; correct the cell or remove the line"
            )
    y, class_names = _read_targets(head, lines, cells, options.task)
    names = tuple(head.names[i] for i in features) if head.names else None

    def place(row: int, feature: int) -> str:
        return f"{where}, line {lines[row]}, {head.column(features[feature])}"

    return Table(raw, names, y, class_names, place, tuple(categorical), options.impute, options.columns)


def _read_targets(
    head: Head, lines: list[int], cells: list[list[str]], task: Task
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    if task != "values" and len(head.targets) == 1:
        column, labels = head.column(head.targets[0]), Labels()
        codes = np.array([labels(row[head.targets[0]]) for row in cells], dtype=np.int64)
        return classes_or_values(
            list(labels.numbers),
            codes,
            task,
            lambda row: f"{head.path}, line {lines[row]}, {column}",
        )
    values = np.empty((len(cells), len(head.targets)))
    for line, row, into in zip(lines, cells, values, strict=True):
        for k, index in enumerate(head.targets):
            problem = cell_problem(row[index], head.separator, True)
            if problem:
                raise DataError(f"{head.path}, line {line}, {head.column(index)}: {problem}")
            into[k] = float(row[index])
    return (values[:, 0] if values.shape[1] == 1 else values), None


def _column(cells: list[str], as_text: bool) -> np.ndarray:
    """float64 with NaN for what is missing; objects, str or None, if there is text, or if that is asked for."""
    if not as_text:
        values = [math.nan if is_missing(cell) else number(cell) for cell in cells]
        if None not in values:
            return np.array(values, dtype=np.float64)
    return np.array([None if is_missing(cell) else cell.strip() for cell in cells], dtype=object)


def _refuse_text(head: Head, lines: list[int], cells: list[str], index: int) -> NoReturn:
    row = next(i for i, cell in enumerate(cells) if not is_missing(cell) and number(cell) is None)
    problem = cell_problem(cells[row], head.separator, False)
    raise DataError(f"{head.path}, line {lines[row]}, {head.column(index)}: {problem}")

"""Tables with columns of text or missing values: read cell by cell."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from ..checks import DataError
from .head import Head, chosen_columns
from .options import TableOptions, Task
from .problems import cell_problem, check_width
from .table import Table
from .targets import Labels, classes_or_values
from .text import is_missing, number, open_text, rows

#: So many different cells are looked for among those that follow.
MOST_KNOWN = 100_000


def read_cells(head: Head, options: TableOptions) -> Table:
    lines, cells = _columns(head)
    features, where = head.features, str(head.path)
    chosen = chosen_columns(options.categorical, head.names, head.width, where) if options.categorical else ()
    for index in set(chosen) & set(head.targets):
        raise DataError(f"{where}: {head.column(index)} is the label; class labels need not be named as categories")
    allowed = options.categorical == () or options.columns is not None  # the columns say which text is a category
    raw, categorical = [], []
    for position, index in enumerate(features):
        values = _column(cells[index], index in chosen)
        if values.dtype.kind == "O" and index not in chosen and not allowed:
            _refuse_text(head, lines, cells[index], index)
        if values.dtype.kind == "O":
            categorical.append(position)
        raw.append(values)
        bad = np.isinf(values) if values.dtype.kind == "f" else np.zeros(1, bool)
        if bad.any():
            at = int(bad.argmax())
            raise DataError(
                f"{where}, line {lines[at]}, {head.column(index)}: {cells[index][at].strip()} is not a finite "
                "number; correct the cell or remove the line"
            )
    y, class_names = _read_targets(head, lines, cells, options.task)
    names = tuple(head.names[i] for i in features) if head.names else None

    def place(row: int, feature: int) -> str:
        return f"{where}, line {lines[row]}, {head.column(features[feature])}"

    return Table(raw, names, y, class_names, place, tuple(categorical), options.impute, options.columns)


def _columns(head: Head) -> tuple[Sequence[int], list[list[str]]]:
    """The line of each row, and the cells of each column. Those that are alike are kept once: a cell takes fifty bytes
    or more."""
    lines, columns, known = array("q"), [list[str]() for _ in range(head.width)], dict[str, str]()
    with open_text(head.path) as file:
        for line, row in rows(file, head.separator):
            if line <= head.skip:
                continue
            check_width(head, line, row)
            lines.append(line)
            keep = known.setdefault if len(known) < MOST_KNOWN else known.get
            for column, cell in zip(columns, row, strict=True):
                column.append(keep(cell, cell))
    return lines, columns


def _read_targets(
    head: Head, lines: Sequence[int], cells: list[list[str]], task: Task
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    if task != "values" and len(head.targets) == 1:
        column, labels = head.column(head.targets[0]), Labels()
        codes = np.array([labels(cell) for cell in cells[head.targets[0]]], dtype=np.int64)
        return classes_or_values(
            list(labels.numbers),
            codes,
            task,
            lambda row: f"{head.path}, line {lines[row]}, {column}",
        )
    values = np.empty((len(lines), len(head.targets)))
    for row, (line, into) in enumerate(zip(lines, values, strict=True)):
        for k, index in enumerate(head.targets):
            cell = cells[index][row]
            problem = cell_problem(cell, head.separator, True)
            if problem:
                raise DataError(f"{head.path}, line {line}, {head.column(index)}: {problem}")
            into[k] = float(cell)
    return (values[:, 0] if values.shape[1] == 1 else values), None


def _column(cells: list[str], as_text: bool) -> np.ndarray:
    """float64 with NaN for what is missing; objects, str or None, if there is text, or if that is asked for."""
    if not as_text:
        values = array("d")
        for cell in cells:
            value = math.nan if is_missing(cell) else number(cell)
            if value is None:
                break
            values.append(value)
        else:
            return np.array(values)
    return np.array([None if is_missing(cell) else cell.strip() for cell in cells], dtype=object)


def _refuse_text(head: Head, lines: Sequence[int], cells: list[str], index: int) -> NoReturn:
    row = next(i for i, cell in enumerate(cells) if not is_missing(cell) and number(cell) is None)
    problem = cell_problem(cells[row], head.separator, False)
    raise DataError(f"{head.path}, line {lines[row]}, {head.column(index)}: {problem}")

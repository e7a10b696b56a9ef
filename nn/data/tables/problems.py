"""What is wrong with a table, by line and column."""

from __future__ import annotations

import math
from typing import NoReturn

from ..checks import DataError
from ..columns import MISSING_VALUE, TEXT_COLUMN
from .head import Head
from .text import is_missing, number, open_text, rows


def explain(head: Head, values: bool, reason: str) -> NoReturn:
    """Raise DataError about the first bad line, found by reading cell by cell, which is slow."""
    with open_text(head.path) as file:
        for line, row in rows(file, head.separator):
            if line <= head.skip:
                continue
            check_width(head, line, row)
            for index, cell in enumerate(row):
                if index in head.targets and not values:
                    continue
                problem = cell_problem(cell, head.separator, index in head.targets)
                if problem:
                    raise DataError(f"{head.path}, line {line}, {head.column(index)}: {problem}")
    raise DataError(
        f"{head.path} cannot be read as a table of numbers ({reason or 'no one cell is at fault'}); "
        "save it again as comma-separated text"
    )


def check_width(head: Head, line: int, row: list[str]) -> None:
    if len(row) != head.width:
        raise DataError(
            f"{head.path}, line {line}: {len(row)} cell{'s' if len(row) != 1 else ''} where line "
            f"{head.skip or 'one'} has {head.width}; correct or remove the line"
        )


def cell_problem(cell: str, separator: str, is_target: bool) -> str | None:
    value = number(cell)
    if is_missing(cell):
        what = "the cell is empty" if not cell.strip() else f"{cell.strip()} is not a finite number"
        return f"{what}; put a number there or remove the line" if is_target else f"{what}: {MISSING_VALUE}"
    if value is None:
        if is_target:
            return f"{cell.strip()[:40]!r} is not a number, as targets are; correct the cell, or use a loss for classes"
        if separator != "," and number(cell.replace(",", ".")) is not None:
            return f"{cell.strip()} has a decimal comma; write a decimal point"
        return f"{cell.strip()[:40]!r} is not a number; {TEXT_COLUMN}"
    if not math.isfinite(value):
        return f"{cell.strip()} is not a finite number; correct the cell or remove the line"
    return None

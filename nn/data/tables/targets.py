"""Class labels and targets of a table in a text file, from what stands in their column."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from ..checks import LARGEST_LABEL, DataError, label_problem
from ..labels import classes_of
from .head import Head
from .options import Task
from .text import is_missing, number, open_text, rows

NO_CLASS = (
    "which is no class; labels are whole numbers or text (to fit values, say --loss mse, in Python task='values')"
)


class Labels:
    """Collects labels as they are read: each distinct text, stripped, has a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, cell: str) -> int:
        return self.numbers.setdefault(cell.strip(), len(self.numbers))


def classes_or_values(
    texts: Sequence[str], codes: np.ndarray, task: Task, place: Callable[[int], str]
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Targets and the names of the classes, from the distinct labels as written and their number for each row.

    Args:
        place: what messages call the label of a row.

    Raises:
        DataError: naming the first label that cannot be used.
    """

    def fail(code: int, problem: str) -> NoReturn:
        raise DataError(f"{place(int((codes == code).argmax()))}: {problem}")

    used = sorted({*codes.tolist()})
    for code in used:
        if is_missing(texts[code]):
            what = f"the label is {texts[code]}" if texts[code] else "the cell is empty: there is no label"
            fail(code, f"{what}; put one there or remove the line")
    numbers = [number(text) for text in texts]
    fractions = {code for code in used if (value := numbers[code]) is not None and not value.is_integer()}
    of_rows = np.isin(codes, sorted(fractions))
    if task == "auto" and not any(numbers[code] is None for code in used) and of_rows.mean() > 0.5:
        for code in fractions:
            if not math.isfinite(numbers[code] or 0.0):
                fail(code, f"{texts[code]} is not a finite number; correct the cell or remove the line")
        return np.array(numbers, dtype=np.float64)[codes], None
    with_text = [code for code in used if numbers[code] is None]
    if 0 < len(with_text) < len(used):
        _refuse_mixture(fail, texts, codes, with_text, [code for code in used if code not in with_text])
    if with_text:
        labels = np.array(texts)[codes]
    else:
        for code in used:
            value = numbers[code]
            assert value is not None
            if code in fractions or abs(value) > LARGEST_LABEL:
                problem = NO_CLASS if code in fractions else label_problem(abs(value))
                fail(code, f"the label is {texts[code]}, {problem}")
        labels = np.array([int(value or 0) for value in numbers], dtype=np.int64)[codes]
    return classes_of(labels, None, lambda row: f"y[{row}]")


def _refuse_mixture(
    fail: Callable[[int, str], NoReturn], texts: Sequence[str], codes: np.ndarray, named: list[int], numbered: list[int]
) -> NoReturn:
    """Labels are text or numbers; the kind that fewer rows have is taken for the wrong one."""
    if np.isin(codes, named).sum() <= np.isin(codes, numbered).sum():
        code, wrong = named[0], "is not a number, but other labels are"
    else:
        code, wrong = numbered[0], "is a number, but other labels are text"
    fail(code, f"{texts[code][:40]!r} {wrong}; correct the cell, or give every class a name")


def place_of_label(head: Head, row: int) -> str:
    """What messages call the label of the row with that index: its line is looked for in the file."""
    with open_text(head.path) as file:
        lines = (line for line, _ in rows(file, head.separator) if line > head.skip)
        line = next(line for number, line in enumerate(lines) if number == row)
    return f"{head.path}, line {line}, {head.column(head.targets[0])}"

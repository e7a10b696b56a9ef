"""Tables of comma-separated numbers, one column of which is the class label."""

from __future__ import annotations

import csv
import gzip
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from .archives import reading
from .checks import DataError, label_problem
from .dataset import Dataset
from .units import PIXEL_SCALE, are_bytes, are_pixels, square

PIXEL_NAME = re.compile(r"pixel[ _-]?\d+", re.IGNORECASE)
SMALL_INTEGER = re.compile(r"\s*\d{1,3}\s*")


@dataclass(frozen=True)
class _Head:
    """The layout of a CSV file, as its first rows tell it."""

    names: list[str] | None
    width: int
    label: int
    lines_to_skip: int
    integers: bool

    def column(self, index: int) -> str:
        return f"column {index + 1}" + (f" ({self.names[index]})" if self.names else "")


def read_csv(path: str | os.PathLike[str]) -> Dataset:
    """A comma-separated table of numbers, gzip-compressed or plain, one column of which is the class label.

    The header is optional. The label is the column named ``label`` (in any case), else the last column. Features are
    float64 as written, unless they are pixels: whole numbers from 0 to 255 under a header ``pixel0, pixel1, ...``, or
    rows that are pixels by their number of columns and their numbers (``units.are_pixels``). Pixels are stored as
    uint8, scaled to [0, 1] if any is above 1, and get an ``image_shape`` if they fill a square.

    Raises:
        DataError: naming the file, the line (counted from 1) and the column: text, an empty cell, NaN or infinity, a
            row of another length, a label that is no class; or no rows at all.
    """
    path = Path(path)
    with reading(path):
        try:
            head = _read_head(path)
            table = _read_table(path, head)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise DataError(f"{path} is not a CSV file ({error}); save it as comma-separated text") from None
    y = table[:, head.label].astype(np.int64)
    x = np.delete(table, head.label, axis=1)
    named = head.names is not None and head.names[head.label].lower() == "label"
    if not named and y[0] == y[-1] and (y == y[0]).all():
        raise DataError(
            f"{path}: every row has the label {y[0]} in {head.column(head.label)}, the last one; "
            "if the labels are in another column, give the file a header that calls that one label"
        )
    return _csv_dataset(x, y, head)


def _csv_dataset(x: np.ndarray, y: np.ndarray, head: _Head) -> Dataset:
    features = [name for i, name in enumerate(head.names or []) if i != head.label]
    named_pixels = bool(features) and all(PIXEL_NAME.fullmatch(name) for name in features)
    if are_bytes(x) if named_pixels else are_pixels(x):
        scale = PIXEL_SCALE if x.max() > 1 else 1.0
        return Dataset(x.astype(np.uint8), y, scale=scale, image_shape=square(x.shape[1]))
    image_shape = square(x.shape[1]) if named_pixels else None  # pixels that are scaled already
    return Dataset(x.astype(np.float64, copy=False), y, image_shape=image_shape)


def _open_csv(path: Path) -> IO[str]:
    """As text; a byte-order mark, which spreadsheets write, is left out."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    opener: Any = gzip.open if compressed else open
    text: IO[str] = opener(path, "rt", encoding="utf-8-sig", newline="")
    return text


def _rows(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its line."""
    reader = csv.reader(file)
    return ((reader.line_num, row) for row in reader if row)


def _read_head(path: Path) -> _Head:
    with _open_csv(path) as file:
        rows = _rows(file)
        line, first = next(rows, (0, []))
        _, second = next(rows, (0, []))
    if not first:
        raise DataError(f"{path} is empty; it should be a table with a label column")
    cells = [cell.strip() for cell in first]
    has_label = any(cell.lower() == "label" for cell in cells)
    names = cells if has_label or all(_number(cell) is None for cell in cells) else None
    label = _label_column(path, line, names) if names else len(cells) - 1
    if names and not second:
        raise DataError(f"{path} has a header but no rows; add rows of numbers below it")
    if len(cells) < 2:
        hint = "; the separator must be a comma" if re.search(r"[;\t|]", first[0]) else ""
        raise DataError(f"{path} has one column, but at least one feature and a label are needed{hint}")
    data = second if names else first
    integers = all(SMALL_INTEGER.fullmatch(cell) for cell in data)
    return _Head(names, len(cells), label, line if names else 0, integers)


def _label_column(path: Path, line: int, names: list[str]) -> int:
    if "" in names:
        raise DataError(
            f"{path}, line {line}, column {names.index('') + 1}: the column has no name; name it, or leave it out if "
            "it only counts the rows (pandas: to_csv(index=False))"
        )
    labels = [i for i, name in enumerate(names) if name.lower() == "label"]
    if len(labels) > 1:
        raise DataError(f"{path}, line {line}, column {labels[1] + 1}: a second column is called label; rename one")
    return labels[0] if labels else len(names) - 1


def _read_table(path: Path, head: _Head) -> np.ndarray:
    """All cells, checked: uint8 if they all fit, else float64; (rows, columns)."""
    table: np.ndarray | None = None
    if head.integers:
        # Tables of pixels are the large ones; as uint8 they take an eighth of the memory.
        with suppress(ValueError, DeprecationWarning):
            table = _parse(path, head, "uint8")
    try:
        if table is None:
            table = _parse(path, head, "float64")
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        _explain(path, head, str(error))
    labels = table[:, head.label] if table.shape[1] == head.width else None
    if labels is None or label_problem(float(labels.min())) or label_problem(float(labels.max())):
        _explain(path, head, "")
    if table.dtype != np.uint8 and not (np.isfinite(table.min()) and np.isfinite(table.max())):
        _explain(path, head, "")
    if not np.array_equal(labels, np.floor(labels)):
        _explain(path, head, "")
    return table


def _parse(path: Path, head: _Head, dtype: str) -> np.ndarray:
    with _open_csv(path) as file, warnings.catch_warnings():
        # NumPy before 2.3 reads "1.5" as the integer 1 with a DeprecationWarning.
        warnings.simplefilter("error", DeprecationWarning)
        for _ in range(head.lines_to_skip):
            next(file)
        return np.loadtxt(file, dtype=dtype, delimiter=",", comments=None, quotechar='"', ndmin=2)


def _explain(path: Path, head: _Head, reason: str) -> NoReturn:
    """Raise DataError about the first bad line, found by reading cell by cell, which is slow."""
    with _open_csv(path) as file:
        for line, row in _rows(file):
            if line <= head.lines_to_skip:
                continue
            if len(row) != head.width:
                raise DataError(
                    f"{path}, line {line}: {len(row)} cell{'s' if len(row) != 1 else ''} where line "
                    f"{head.lines_to_skip or 'one'} has {head.width}; correct or remove the line"
                )
            for index, cell in enumerate(row):
                problem = _cell_problem(cell, index == head.label)
                if problem:
                    raise DataError(f"{path}, line {line}, {head.column(index)}: {problem}")
    raise DataError(
        f"{path} cannot be read as a table of numbers ({reason or 'no one cell is at fault'}); "
        "save it again as comma-separated text"
    )


def _cell_problem(cell: str, is_label: bool) -> str | None:
    value = _number(cell)
    if not cell.strip():
        return "the cell is empty; put a number there or remove the line"
    if value is None:
        remedy = "number the classes from 0" if is_label else "correct the cell or remove the line"
        return f"{cell.strip()[:40]!r} is not a number; {remedy}"
    if not math.isfinite(value):
        return f"{cell.strip()} is not a finite number; correct the cell or remove the line"
    problem = label_problem(value) if is_label else None
    return f"the label is {cell.strip()}, {problem}" if problem else None


def _number(cell: str) -> float | None:
    """The number written in a cell, or None. NumPy, unlike Python, takes 1_000 for text."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None

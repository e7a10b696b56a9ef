"""How a table is written as text: compressed or plain, what stands between its cells, and what a cell says."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

#: What stands between cells. The first that divides the first two lines into as many cells each is the one, so that a
#: comma may be a decimal comma in a table with semicolons.
SEPARATORS = "\t;|,"
#: Cells that stand for a value that is not there, in small letters.
MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})


def open_text(path: Path) -> IO[str]:
    """The table as text, decompressed if it is compressed by gzip; a byte-order mark, which spreadsheets write, is left
    out."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    opener: Any = gzip.open if compressed else open
    text: IO[str] = opener(path, "rt", encoding="utf-8-sig", newline="")
    return text


def rows(file: IO[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its last line, from 1."""
    reader = csv.reader(file, delimiter=separator)
    return ((reader.line_num, row) for row in reader if row)


def separator_of(path: Path) -> str:
    """What stands between the cells of a table; a comma where that cannot be seen."""
    widths = {}
    for separator in SEPARATORS:
        widths[separator] = 1, 1
        # An undivided line may be longer than a cell may be.
        with open_text(path) as file, suppress(csv.Error):
            found = rows(file, separator)
            widths[separator] = len(next(found, (0, []))[1]), len(next(found, (0, []))[1])
    alike = [separator for separator, (first, second) in widths.items() if first > 1 and second in (first, 0)]
    divides = [separator for separator, (first, _) in widths.items() if first > 1]
    return (*alike, *divides, ",")[0]


def number(cell: str) -> float | None:
    """The number written in a cell, or None. NumPy, unlike Python, takes 1_000 for text."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def is_missing(cell: str) -> bool:
    """Whether a cell says that its value is not there."""
    return cell.strip().lower() in MISSING

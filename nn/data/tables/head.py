"""The layout of a table, as its first rows and what the user says tell it: names of columns, and which is the label.

Nothing is guessed. A first line without a number is a header, and so is one that pandas writes for an array, 0, 1, 2,
... The label is the column that the user names; else the one with a name that people use for it (``KNOWN_LABELS``);
else the first or the last column, if the contents of only one of them can be class labels. Otherwise the user is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ..checks import DataError
from .text import is_missing, number, open_text, rows, separator_of

#: Names of columns, in small letters, that hold the label or the target.
KNOWN_LABELS = (
    "label", "labels", "class", "classes", "target", "targets", "y", "species", "diagnosis", "outcome", "category",
    "variety", "response", "survived",
)  # fmt: skip
#: A first line 0, 1, 2, ... of fewer columns may be a row.
FEWEST_NUMBERED = 5
SMALL_INTEGER = re.compile(r"\s*\d{1,3}\s*")

#: How a column is named: by its name, or by its number from 1, or from the end by -1.
ColumnName = str | int


@dataclass(frozen=True)
class Head:
    """The layout of a table in a text file.

    Attributes:
        separator: what stands between cells.
        names: of the columns, if there is a header.
        width: how many columns there are.
        targets: the indices of the label column, or of the columns of targets.
        skip: how many lines the header takes.
        integers: whether the first row holds small whole numbers only, the label aside.
    """

    path: Path
    separator: str
    names: list[str] | None
    width: int
    targets: tuple[int, ...]
    skip: int
    integers: bool

    def column(self, index: int) -> str:
        """What messages call a column."""
        return f"column {index + 1}" + (f" ({self.names[index]})" if self.names else "")

    @property
    def features(self) -> list[int]:
        """The indices of all other columns."""
        return [index for index in range(self.width) if index not in self.targets]


def read_head(path: Path, label: ColumnName | Sequence[ColumnName] | None, values: bool) -> Head:
    """The layout of a file.

    Args:
        label: the column of the label or the target, or several of targets; None: found as this module says.
        values: whether targets are values, which no column can be told to be by its contents.

    Raises:
        DataError: there is nothing to read, a column has no name, or it cannot be told which one is the label.
    """
    separator = separator_of(path)
    with open_text(path) as file:
        found = rows(file, separator)
        line, first = next(found, (0, []))
        _, second = next(found, (0, []))
    if not first:
        raise DataError(f"{path} is empty; it should be a table with a label column")
    cells = [cell.strip() for cell in first]
    names = cells if _is_header(path, line, cells) else None
    if names:
        _check_names(path, line, names, label is None)
    if names and not second:
        raise DataError(f"{path} has a header but no rows; add rows below it")
    width = len(cells)
    if width < 2:
        raise DataError(f"{path} has one column, but at least one feature and a label are needed")
    skip = line if names else 0
    if label is not None:
        targets = chosen_columns(label, names, width, str(path))
    else:
        targets = (_found(Head(path, separator, names, width, (), skip, False), values),)
    data = second if names else first
    integers = all(SMALL_INTEGER.fullmatch(cell) for i, cell in enumerate(data) if i not in targets)
    return Head(path, separator, names, width, targets, skip, integers)


def _is_header(path: Path, line: int, cells: list[str]) -> bool:
    named = [cell for cell in cells if number(cell) is None]
    known = any(cell.lower() == "label" for cell in cells)
    if known or len(named) == len(cells):
        return True
    numbered = [cell for cell in cells if number(cell) is not None]
    if numbered != [str(i) for i in range(len(numbered))]:
        return False
    if named:  # 0,1,2,target
        return any(cell.lower() in ("", *KNOWN_LABELS) for cell in named)
    if len(cells) >= FEWEST_NUMBERED:
        return True
    if len(cells) == 1:
        return False
    raise DataError(
        f"{path}, line {line}: is {','.join(cells)} a row, or a header as pandas writes it for an array? Write a first "
        "line with the names of the columns"
    )


def _check_names(path: Path, line: int, names: list[str], label_is_found: bool) -> None:
    if "" in names:
        raise DataError(
            f"{path}, line {line}, column {names.index('') + 1}: the column has no name; name it, or leave it out if "
            "it only counts the rows (pandas: to_csv(index=False))"
        )
    labels = [i for i, name in enumerate(names) if name.lower() == "label"]
    if len(labels) > 1 and label_is_found:
        raise DataError(f"{path}, line {line}, column {labels[1] + 1}: a second column is called label; rename one")
    seen = set[str]()
    for index, name in enumerate(names):
        if name in seen:
            raise DataError(
                f"{path}, line {line}, column {index + 1}: a second column is called {name!r}; rename one, or write a "
                "header if this line is a row"
            )
        seen.add(name)


# ---- which column is the label ---------------------------------------------------------------------------------------


def chosen_columns(
    label: ColumnName | Sequence[ColumnName], names: Sequence[str] | None, width: int, where: str
) -> tuple[int, ...]:
    """The indices of the columns that a user names.

    Raises:
        DataError: there is no such column, or one is named twice.
    """
    wanted = list(label) if isinstance(label, Sequence) and not isinstance(label, str) else [label]
    together = " ".join(map(str, wanted))  # as a shell takes it apart
    if len(wanted) > 1 and names is not None and together in names and any(str(name) not in names for name in wanted):
        raise DataError(f"{where}: the column {together!r} is one name; write it in quotation marks")
    found = tuple(_chosen(name, names, width, where) for name in wanted)
    if len(set(found)) < len(found) or not found:
        raise DataError(f"{where}: name each column once, and at least one, not {wanted}")
    return found


def _chosen(label: ColumnName, names: Sequence[str] | None, width: int, where: str) -> int:
    text = str(label).strip()
    alike = [i for i, name in enumerate(names or ()) if name == text] or [
        i for i, name in enumerate(names or ()) if name.lower() == text.lower()
    ]
    if len(alike) == 1:
        return alike[0]
    if re.fullmatch(r"-?\d+", text):
        index = int(text)
        if 1 <= abs(index) <= width:
            return index - 1 if index > 0 else width + index
        raise DataError(
            f"{where}: there is no column {index}; there are {width}, which count from 1, or from the end by -1"
        )
    if names is None:
        raise DataError(f"{where}: there is no column {text!r}, as there is no header; give its number, from 1")
    near = get_close_matches(text, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"the columns are {_listed(names)}"
    raise DataError(f"{where}: there is no column {text!r}; {hint}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 8 else shown


def known_label(names: Sequence[str], where: str) -> int | None:
    """The column whose name says that it is the label; None if there is none.

    Raises:
        DataError: several do.
    """
    small = [name.lower() for name in names]
    if "label" in small:
        return small.index("label")
    ends = (0, len(names) - 1)
    # Between x and z a y is a coordinate.
    found = [i for i, name in enumerate(small) if name in KNOWN_LABELS and (name != "y" or i in ends)]
    if len(found) > 1:
        which = " or ".join(f"--label {names[i]}" for i in found)
        raise DataError(f"{where}: which column is the label? Say {which} (in Python label={names[found[0]]!r})")
    return found[0] if found else None


def _found(head: Head, values: bool) -> int:
    if head.names is not None:
        index = known_label(head.names, str(head.path))
        if index is not None:
            return index
    last = head.width - 1
    if not values:
        first_can, last_can = _could_be_labels(head)
        if first_can != last_can:
            return 0 if first_can else last
    raise DataError(question(str(head.path), head.names, head.width, values))


def question(where: str, names: Sequence[str] | None, width: int, values: bool) -> str:
    """What is asked where it cannot be told which column is the label."""
    last = f"--label {names[-1]}" if names else "--label -1 for the last column"
    first = f"--label {names[0]}" if names else "--label 1 for the first"
    what, python = ("target", "label=") if values else ("label", "label=")
    example = repr(names[-1]) if names else "-1"
    return f"{where}: which column is the {what}? Say {last}, {first}, or another (in Python {python}{example})"


@dataclass
class _Seen:
    """What was seen of a column: whether it can hold class labels."""

    wholes: bool = False
    texts: bool = False
    fractions: bool = False
    repeats: bool = False

    def __post_init__(self) -> None:
        self.distinct: set[str] = set()

    def look(self, cell: str) -> None:
        cell = cell.strip()
        if cell in self.distinct:
            self.repeats = True
            return
        if is_missing(cell):
            return
        value = number(cell)
        self.texts |= value is None
        self.wholes |= value is not None and value.is_integer()
        self.fractions |= value is not None and not value.is_integer()
        self.distinct.add(cell)

    @property
    def can_be_labels(self) -> bool:
        return not self.fractions and self.texts != self.wholes and len(self.distinct) > 1


def _could_be_labels(head: Head) -> tuple[bool, bool]:
    """Whether the first and the last column can hold class labels: whole numbers alone or text alone, not all equal.
    The first one is thought of only if a class has several rows: else it may number the rows."""
    first, last = _Seen(), _Seen()
    with open_text(head.path) as file:
        for line, row in rows(file, head.separator):
            if line > head.skip:
                first.look(row[0])
                last.look(row[-1])
            if first.fractions and last.fractions:
                break
    if first.can_be_labels and not first.repeats and not last.can_be_labels:
        return False, False
    return first.can_be_labels, last.can_be_labels

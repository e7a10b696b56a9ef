"""What a model says of rows, and how it is printed."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model import Sequential
from .console import printable
from .inputs import Part


@dataclass(frozen=True)
class Answer:
    """What a model says of a row.

    Attributes:
        file, row: whose it is; the row is None where the file has one only.
        classes: the likeliest classes with their probabilities, the likeliest first; none for values.
        values: the outputs of a regression, or the answers of several yes-or-no questions; None for classes.
        probabilities: of every class by its name, where they were asked for.
    """

    file: str
    row: int | None
    classes: tuple[tuple[str, float], ...] = ()
    values: float | list[float] | None = None
    probabilities: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        return self.file if self.row is None else f"{self.file}[{self.row}]"

    @property
    def numbers(self) -> list[float]:
        """The values as a list."""
        if self.values is None:
            return []
        return self.values if isinstance(self.values, list) else [self.values]


def answers_of(
    model: Sequential, part: Part, file: str, top: int, probabilities: bool, batch_size: int
) -> Iterator[Answer]:
    """An answer for each row."""
    outputs = model(part.rows, batch_size)
    shares = of_classes(model.probabilities(outputs)) if model.task == "classes" else None
    values = None if shares is not None else model.predictions(outputs)
    yes = model.probabilities(outputs) if model.task == "labels" else None
    for index in range(len(part.rows)):
        row = part.first + index if part.total > 1 else None
        if shares is not None:
            names = class_names(model, shares.shape[1])
            order = np.argsort(-shares[index], kind="stable")[:top]
            every = dict(zip(names, map(short, shares[index]), strict=True)) if probabilities else None
            yield Answer(file, row, tuple((names[i], short(shares[index, i])) for i in order), None, every)
        else:
            assert values is not None
            found = [short(value) for value in np.ravel(values[index])]
            every = None
            if yes is not None and probabilities:
                every = dict(zip(class_names(model, yes.shape[1]), map(short, yes[index]), strict=True))
            yield Answer(file, row, (), found if np.ndim(values[index]) else found[0], every)


def of_classes(probabilities: Any) -> Any:
    """(m, n) of the classes; one column is that of the second of two."""
    return np.hstack([1 - probabilities, probabilities]) if probabilities.shape[1] == 1 else probabilities


def class_names(model: Sequential, count: int) -> list[str]:
    """The names of the classes; the numbers of those that have none."""
    names = list(model.class_names or ())
    return names[:count] + [str(number) for number in range(len(names), count)]


def short(number: Any) -> float:
    """A number with the digits that float32 has."""
    return float(f"{float(number):.9g}") if np.asarray(number).dtype == np.float32 else float(number)


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def number_text(value: float) -> str:
    return f"{value:.7g}"


# ---- writers ---------------------------------------------------------------------------------------------------------


def text_writer() -> Callable[[Answer], None]:
    """``three.png: 3 (99.8 %)``, a line for each row."""

    def write(answer: Answer) -> None:
        if answer.classes:
            said = ", ".join(f"{name} ({percent(share)})" for name, share in answer.classes)
        else:
            said = ", ".join(map(number_text, answer.numbers))
        if answer.probabilities is not None:
            said += f"  [{', '.join(f'{name}: {share:.4f}' for name, share in answer.probabilities.items())}]"
        print(printable(f"{answer.name}: {said}"), flush=True)

    return write


def json_writer() -> Callable[[Answer], None]:
    """An object for each row, in a line: ``file`` and ``row``; ``class``, ``probability`` and ``top``; or ``values``;
    and ``probabilities``, where they are asked for."""

    def write(answer: Answer) -> None:
        found: dict[str, Any] = {"file": answer.file, "row": answer.row or 0}
        if answer.classes:
            found["class"], found["probability"] = answer.classes[0]
            if len(answer.classes) > 1:
                found["top"] = [{"class": name, "probability": share} for name, share in answer.classes]
        else:
            found["values"] = answer.values
        if answer.probabilities is not None:
            found["probabilities"] = dict(answer.probabilities)
        print(json.dumps(found), flush=True)

    return write


def csv_writer() -> Callable[[Answer], None]:
    """A table with a header: file, row, class and probability (numbered from the second on), or the values."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    started = False

    def write(answer: Answer) -> None:
        nonlocal started
        cells: dict[str, Any] = {"file": answer.file, "row": answer.row or 0}
        for index, (name, share) in enumerate(answer.classes):
            number = "" if index == 0 else f"_{index + 1}"
            cells |= {f"class{number}": name, f"probability{number}": share}
        numbers = answer.numbers
        cells |= {"value" if len(numbers) == 1 else f"value_{index}": value for index, value in enumerate(numbers)}
        cells |= {f"p_{name}": share for name, share in (answer.probabilities or {}).items()}
        if not started:
            table.writerow(cells)
            started = True
        table.writerow(cells.values())

    return write


WRITERS: Mapping[str, Callable[[], Callable[[Answer], None]]] = {
    "text": text_writer,
    "json": json_writer,
    "csv": csv_writer,
}

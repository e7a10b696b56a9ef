"""Recipes: training runs by name, one TOML file each. ``python train.py --list-recipes`` lists them.

A recipe sets what the flags of ``train.py`` set, by the same names, in four tables: ``[data]``, ``[network]``,
``[training]`` and ``[report]``. Flags override the file. Beside them stand

* ``title``, one line;
* ``[author]``: what the system's author reports, in words, by name of the figure;
* ``[reproduced]``: for a figure of the run the range ``[low, high]`` that counts as reproduced; for ``predictions`` the
  classes of the first test rows.

A recipe of several runs has them as ``[[parts]]``, each with a ``title`` and tables of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class Part:
    """One run of a recipe."""

    title: str
    settings: dict[str, Any]
    author: dict[str, str] = field(default_factory=dict)
    reproduced: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A file: its name, its line in the list, and its runs."""

    name: str
    title: str
    parts: list[Part]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_nested(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, list) and all(_is_nested(item) for item in value))


def _list_of(is_item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(is_item(item) for item in value)


STRING = ("a string", lambda value: isinstance(value, str))
BOOLEAN = ("true or false", lambda value: isinstance(value, bool))
INTEGER = ("a whole number", _is_integer)
NUMBER = ("a number", _is_number)
INTEGERS = ("a list of whole numbers", _list_of(_is_integer))
STRINGS = ("a list of strings", _list_of(lambda value: isinstance(value, str)))
NUMBERS = ("a list of numbers, or of lists of them", lambda value: isinstance(value, list) and _is_nested(value))
START = ("a name of start values or a number", lambda value: isinstance(value, str) or _is_number(value))
SIZE = ('a whole number or "full"', lambda value: value == "full" or _is_integer(value))
ROWS = ('a fraction, a number of rows or "test"', lambda value: value == "test" or _is_number(value))

#: table -> key -> what its value must be, in words and as a test
KEYS: dict[str, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "data": {
        "data": STRING,
        "data_dir": STRING,
        "limit": INTEGER,
        "test_fraction": NUMBER,
        "validation": ROWS,
        "only": INTEGERS,
        "positive": INTEGER,
        "shift": NUMBER,
        "rows": NUMBERS,
        "targets": NUMBERS,
    },
    "network": {
        "hidden": INTEGERS,
        "outputs": INTEGER,
        "activation": STRING,
        "output_activation": STRING,
        "init": START,
        "bias_init": START,
        "weights": NUMBERS,
        "biases": NUMBERS,
        "dropout": NUMBER,
    },
    "training": {
        "loss": STRING,
        "optimizer": STRING,
        "learning_rate": NUMBER,
        "momentum": NUMBER,
        "dampening": NUMBER,
        "nesterov": BOOLEAN,
        "weight_decay": NUMBER,
        "batch_size": SIZE,
        "epochs": INTEGER,
        "shuffle": BOOLEAN,
        "seed": INTEGER,
        "dtype": STRING,
    },
    "report": {
        "every": INTEGER,
        "confusion": STRING,
        "predictions": INTEGER,
        "predict": NUMBERS,
        "show": STRINGS,
    },
}


def names() -> list[str]:
    """The recipes that come with xpnet."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str) -> Recipe:
    """A recipe by name, or a user's own by its path, which ends in ``.toml``.

    Raises:
        RecipeError: there is none, or it cannot be used.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = FOLDER / f"{name_or_path}.toml"
        if name_or_path not in names():
            raise RecipeError(
                f"no recipe {name_or_path!r}; known are {', '.join(names())}, or the path of a .toml file"
            )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None
    title = content.get("title", path.stem)
    if "parts" not in content:
        return Recipe(path.stem, title, [_part(content, path, "")])
    parts = content["parts"]
    unknown = set(content) - {"title", "parts"}
    if unknown or not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise RecipeError(f"{path}: beside [[parts]] there may only be a title, not {sorted(unknown)}")
    return Recipe(path.stem, title, [_part(part, path, f"parts {i}: ") for i, part in enumerate(parts, 1)])


def _part(content: dict[str, Any], path: Path, where: str) -> Part:
    settings: dict[str, Any] = {}
    for table, values in content.items():
        if table == "title":
            _check(STRING, values, f"{path}: {where}title")
        elif table in ("author", "reproduced"):
            _check(("a table", lambda value: isinstance(value, dict)), values, f"{path}: {where}[{table}]")
        elif table not in KEYS:
            known = ", ".join(f"[{name}]" for name in (*KEYS, "author", "reproduced"))
            raise RecipeError(f"{path}: {where}unknown key {table!r}; known are title and the tables {known}")
        else:
            _check(("a table", lambda value: isinstance(value, dict)), values, f"{path}: {where}[{table}]")
            for key, value in values.items():
                if key not in KEYS[table]:
                    raise RecipeError(
                        f"{path}: {where}[{table}] has an unknown key {key!r}; known are {', '.join(KEYS[table])}"
                    )
                _check(KEYS[table][key], value, f"{path}: {where}[{table}] {key}")
                settings[key] = value
    author, reproduced = content.get("author", {}), content.get("reproduced", {})
    for key, value in author.items():
        _check(STRING, value, f"{path}: {where}[author] {key}")
    for key, value in reproduced.items():
        _check(NUMBERS, value, f"{path}: {where}[reproduced] {key}")
        if key != "predictions" and not (len(value) == 2 and value[0] <= value[1]):
            raise RecipeError(f"{path}: {where}[reproduced] {key} must be [low, high], not {value}")
    return Part(content.get("title", path.stem), settings, author, reproduced)


def _check(kind: tuple[str, Callable[[Any], bool]], value: Any, where: str) -> None:
    wanted, fits = kind
    if not fits(value):
        raise RecipeError(f"{where} must be {wanted}, not {value!r}")

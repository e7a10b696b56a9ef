"""Recipes: training runs by name, one TOML file each. ``python train.py --list-recipes`` lists them.

A recipe sets what the flags of ``train.py`` set, in four tables: ``[data]``, ``[network]``, ``[training]`` and
``[report]``; their keys are the settings of ``nn.cli``, listed in ``docs/recipes.md``. Flags override the file. Beside
them stand

* ``title``, one line;
* ``[author]``: what the system's author reports, in words, by name of the figure;
* ``[reproduced]``: for a figure of the run the range ``[low, high]`` that counts as reproduced; for ``predictions`` the
  classes of the first test rows.

A recipe of several runs has them as ``[[parts]]``, each with a ``title`` and tables of its own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backends.arguments import shown
from nn.cli import SETTINGS, TABLES, Settings, UsageError, changed_problem, combine
from nn.cli.kinds import NUMBERS, STRING_TABLE, TEXT, Kind, did_you_mean, nearest
from nn.files import what_is_no_file
from nn.messages import first_line

FOLDER = Path(__file__).parent
#: What stands beside the tables of settings.
BESIDE = ("author", "reproduced")
#: The figures of a run (``nn.report.figures``): those with a name alone, and all of them.
FIGURES = (
    *(f"{which}{name}" for which in ("", "val_", "start_", "start_val_") for name in ("loss", "accuracy")),
    *("test_loss", "test_accuracy", "train_loss", "predictions"),
)
FIGURE = re.compile(
    rf"{'|'.join(FIGURES)}|(val_)?(loss|accuracy)@\d+|(output|prediction|layer .+|gradient .+)\[\d+(,\d+)*\]"
)


#: No recipe is larger, in bytes.
LARGEST = 1 << 20
#: Reading a dotted key takes the square of the number of its dots.
MOST_DOTS = 32
LONG_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MOST_DOTS + 1}}}""")


class RecipeError(UsageError):
    """A recipe that cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class Part:
    """One run of a recipe.

    Attributes:
        title: its line.
        settings: the values of its keys, as they stand in the file.
        author, reproduced: the tables of these names.
        where: what to call it in a message: the file and, of several, its number.
    """

    title: str
    settings: dict[str, Any]
    author: dict[str, str] = field(default_factory=dict)
    reproduced: dict[str, list[Any]] = field(default_factory=dict)
    where: str = ""

    def run_with(self, flags: Mapping[str, Any]) -> Settings:
        """The settings of its run, with those that flags give.

        Raises:
            UsageError: a key or a flag would do nothing.
        """
        settings = combine(flags, self.settings, self.where)
        changed = changed_problem(settings, self.settings)
        return replace(settings, title=self.title, author=self.author, reproduced=self.reproduced, changed=changed)


@dataclass(frozen=True)
class Recipe:
    """A file: its name, its line in the list, and its runs."""

    name: str
    title: str
    parts: list[Part]


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
            hint = did_you_mean(name_or_path, names()) or f"; known are {', '.join(names())}"
            raise RecipeError(f"no recipe {name_or_path!r}{hint} (your own is named by its path, which ends in .toml)")
    content = _read(path)
    title = content.get("title", path.stem)
    if "parts" not in content:
        return Recipe(path.stem, title, [_part(content, path, f"{path}: ")])
    parts = content["parts"]
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise RecipeError(f"{path}: parts must be tables, as in [[parts]], not {shown(parts)}")
    if unknown := sorted(set(content) - {"title", "parts"}):
        raise RecipeError(f"{path}: beside [[parts]] there may only be a title, not {', '.join(unknown)}")
    return Recipe(path.stem, title, [_part(part, path, f"{path}: parts {i}: ") for i, part in enumerate(parts, 1)])


def _read(path: Path) -> dict[str, Any]:
    """What stands in a file; little time and memory are taken for what is no recipe."""
    if kind := what_is_no_file(path):
        raise RecipeError(f"{path} is {kind}, not a file; save the recipe as a file and name that")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise RecipeError(f"{path} has more than {LARGEST >> 20} MB, which is too much for a recipe")
        text = content.decode("utf-8-sig")
        if LONG_KEY.search(text):
            raise RecipeError(f"{path} has a key of more than {MOST_DOTS} dots; keys of recipes have none")
        return tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise RecipeError(f"{path} nests its values too deeply; a setting has lists in lists at most") from None
    except RecipeError:
        raise
    except ValueError as error:  # no TOML, no UTF-8, or an integer too long to be read
        raise RecipeError(f"{path} is not TOML: {first_line(error)}") from None


def _part(content: dict[str, Any], path: Path, where: str) -> Part:
    settings: dict[str, Any] = {}
    for table, values in content.items():
        if table == "title":
            _check(TEXT, values, f"{where}title")
            continue
        if table not in TABLES and table not in BESIDE:
            raise RecipeError(f"{where}{_unknown_key(table, '')}")
        _check(STRING_TABLE, values, f"{where}[{table}]")
        for key, value in values.items() if table in TABLES else ():
            if key not in TABLES[table]:
                raise RecipeError(f"{where}[{table}] {_unknown_key(key, table)}")
            settings[key] = TABLES[table][key].kind.from_recipe(value)
            if problem := TABLES[table][key].problem(settings[key]):
                raise RecipeError(f"{where}[{table}] {key}{problem}")
    author, reproduced = content.get("author", {}), content.get("reproduced", {})
    for table, values in (("author", author), ("reproduced", reproduced)):
        for key in values:
            if not FIGURE.fullmatch(key):
                hint = did_you_mean(key, FIGURES) or f"; known are {', '.join(FIGURES)}"
                raise RecipeError(f"{where}[{table}] unknown figure {key!r}{hint}")
    for key, value in author.items():
        _check(TEXT, value, f"{where}[author] {key}")
    for key, value in reproduced.items():
        _check(NUMBERS, value, f"{where}[reproduced] {key}")
        if key != "predictions" and not (len(value) == 2 and value[0] <= value[1]):
            raise RecipeError(f"{where}[reproduced] {key} must be [low, high], not {shown(value)}")
    return Part(content.get("title", path.stem), settings, author, reproduced, where)


def _unknown_key(key: str, table: str) -> str:
    """What to say of a key that ``table`` has not; of one that no table is, where ``table`` is ""."""
    flags = {flag.removeprefix("--").replace("-", "_"): entry for entry in SETTINGS.values() for flag in entry.flags}
    entry = SETTINGS.get(key) or flags.get(key)
    if entry is not None and entry.name == key and entry.table:
        return f"{key} belongs to [{entry.table}]"
    if entry is not None and not entry.table:
        return f"{key} is no key of a recipe: it is said by the flag {entry.flag} alone"
    if entry is None and not table:  # most likely the name of a table
        known = {"title": "title"} | {name: f"[{name}]" for name in (*TABLES, *BESIDE)} | {"parts": "[[parts]]"}
        near = nearest(key, known)
        hint = f"did you mean {known[near]}?" if near else f"known are {', '.join(known.values())}"
        return f"unknown key {key!r}; {hint}"
    keys = [name for name, other in SETTINGS.items() if other.table]
    name = entry.name if entry is not None else nearest(key, [*TABLES.get(table, ())]) or nearest(key, keys)
    if not name:
        own = [*TABLES[table]]
        more = f" and {len(own) - 12} more (docs/recipes.md lists them)" if len(own) > 13 else ""
        return f"unknown key {key!r}; known are {', '.join(own[:12] if more else own)}{more}"
    home = SETTINGS[name].table
    return f"unknown key {key!r}; did you mean {name}{'' if home == table else f', which belongs to [{home}]'}?"


def _check(kind: Kind, value: Any, where: str) -> None:
    if not kind.holds(value):
        raise RecipeError(f"{where} must be {kind.words}, not {shown(value)}")

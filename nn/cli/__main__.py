"""The tables of ``docs/recipes.md``, made from the settings: ``python -m nn.cli docs/recipes.md`` writes them anew."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..files import write_atomically
from .entry import Setting
from .kinds import SWITCH
from .settings import SETTINGS, TABLES

BEGIN, END = "<!-- settings: python -m nn.cli docs/recipes.md -->\n", "<!-- /settings -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables of the page that is named between its two marks."""
    names = sys.argv[1:] if argv is None else argv
    if len(names) != 1:
        print("usage: python -m nn.cli docs/recipes.md", file=sys.stderr)
        return 2
    path = Path(names[0])
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        print(f"{path}: there is no {BEGIN.strip()} with {END} after it", file=sys.stderr)
        return 2
    write_atomically(path, f"{head}{BEGIN}{tables()}{END}{tail}".encode())
    return 0


def tables() -> str:
    """A table in Markdown for each table of a recipe, and one of what only the command line can say."""
    text = "".join(f"### `[{name}]`\n\n{table(entries.values())}\n" for name, entries in TABLES.items())
    others = [setting for setting in SETTINGS.values() if not setting.table]
    return f"{text}### On the command line only\n\n{table(others)}"


def table(settings: Iterable[Setting]) -> str:
    """A row for each setting."""
    lines = ["| key | flag | value | default | what it says |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(setting))} |" for setting in settings)]) + "\n"


def cells(setting: Setting) -> list[str]:
    """Its key, flags, values, default and help."""
    flags = ", ".join(f"`{flag}`" for flag in setting.flags)
    value, default, says = setting.value_text, setting.default_text, setting.help
    if setting.kind is SWITCH:
        says = f"`{str(not setting.default).lower()}`: {says}"
        default = str(setting.default).lower()
    if setting.kind is SWITCH and not setting.table:
        value, default, says = "none", "", setting.help
    return [f"`{setting.name}`" if setting.table else "", flags, value, default, says]


if __name__ == "__main__":
    sys.exit(main())

"""The command line, made from the settings: what was given, checked, and ``--help``."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .entry import Setting
from .kinds import DEVICES, SIZE, SWITCH, UsageError, at_least, nearest
from .settings import SETTINGS, Settings

DESCRIPTION = "Train a network on labelled rows, on the CPU or the GPU."
MOST_BESIDE_FLAG = 4
EPILOG = "Without flags: a network with 64 hidden units on scikit-learn's handwritten digits, in a few seconds."


def program() -> str:
    """What the user called: ``xpnet train``, ``xpnet-train``, or ``train.py``."""
    installed = {"xpnet": "xpnet train", "xpnet-train": "xpnet-train"}
    return installed.get(Path(sys.argv[0]).stem, "train.py")


class Parser(argparse.ArgumentParser):
    """A parser that raises its complaints instead of printing all its flags."""

    def error(self, message: str) -> NoReturn:
        flag, _, complaint = message.removeprefix("argument ").partition(": ")
        flag = flag.partition("/")[0]
        if complaint.startswith("expected"):
            raise UsageError(f"{flag} needs {'two values' if complaint.startswith('expected 2') else 'a value'}")
        if complaint.startswith("ignored explicit"):
            raise UsageError(f"{flag} takes no value")
        if complaint.startswith("invalid float value: "):
            complaint = f"must be a number, not {complaint.removeprefix('invalid float value: ')}"
        if found := re.fullmatch(r"invalid choice: (.*) \(choose from (.*)\)", complaint):
            *others, last = found[2].split(", ")
            complaint = f"must be {', '.join(others)} or {last}, not {found[1]}"
        raise UsageError(f"{flag} {complaint}" if complaint.startswith("must be ") else message)


def count(text: str) -> int:
    """A whole number of at least 1: the ``type`` of a flag of ``Parser``."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if problem := at_least(1).problem(value):
        raise argparse.ArgumentTypeError(problem.strip())
    return value


def build_parser(version: str) -> argparse.ArgumentParser:
    """The parser of all flags. It takes words apart; what they mean is decided by their settings."""
    parser = Parser(
        prog=program(),
        usage="%(prog)s [FLAG ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"xpnet {version}", help="show the version and exit")
    groups: dict[str, Any] = {}
    for setting in SETTINGS.values():
        if not setting.flags:
            continue
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        groups[setting.group].add_argument(
            *setting.flags, dest=setting.name, help=help_text(setting).replace("%", "%%"), **arguments(setting)
        )
    return parser


def arguments(setting: Setting) -> dict[str, Any]:
    """How argparse takes the words after a flag: always as a list."""
    if setting.kind is SWITCH:
        return {"action": "store_const", "const": []}
    metavar = setting.metavar or setting.kind.metavar
    if setting.choices and not lists_choices(setting):
        metavar = f"{{{','.join(setting.choices)}}}"
    count = setting.kind.count
    if count.isdecimal():
        return {"nargs": int(count), "metavar": tuple(metavar.split()) if int(count) > 1 else metavar}
    return {"nargs": count, "metavar": metavar}


def help_text(setting: Setting) -> str:
    """What a setting says, and what happens without it."""
    choices = f": {', '.join(setting.choices)}" if lists_choices(setting) else ""
    default = f" (default: {setting.default_text})" if setting.default_text else ""
    return f"{setting.help}{choices}{default}"


def lists_choices(setting: Setting) -> bool:
    """Whether there are so many choices that they stand in the help, not beside the flag."""
    return len(setting.choices) > MOST_BESIDE_FLAG


def read_flags(argv: Sequence[str] | None, version: str) -> dict[str, Any]:
    """The settings that the command line gives, by name.

    Args:
        argv: the words; None for those of this process.
        version: what ``--version`` prints.

    Raises:
        UsageError: a flag is unknown, or its value cannot be used.
        SystemExit: 0, after ``--help`` or ``--version``.
    """
    given, rest = build_parser(version).parse_known_args(argv)
    if rest:
        raise UsageError(unknown_word(rest[0]))
    return {name: SETTINGS[name].from_words(words) for name, words in vars(given).items()}


def words_of_program() -> list[str]:
    """What a shell starts it by."""
    return ["python", "train.py"] if program() == "train.py" else program().split()


def command_line(settings: Settings) -> str:
    """The command that repeats a run: its flags, as a shell takes them."""
    words = words_of_program()
    for name, entry in SETTINGS.items():
        if name in settings.given:
            written = words_of(entry, getattr(settings, name))
            if len(written) == 1 and written[0].startswith("-"):  # else it is taken for a flag
                words.append(f"{entry.flag}={written[0]}")
            else:
                words += [entry.flag, *written]
    return shlex.join(words)


def words_of(entry: Setting, value: Any) -> list[str]:
    """The words after a flag that stand for ``value``: what ``Setting.from_words`` reads."""
    if entry.kind is SWITCH:
        return []
    if entry.kind is DEVICES:
        return [",".join(value)]
    if entry.kind is SIZE and value is None:
        return ["full"]
    return [str(item) for item in (value if entry.kind.is_list else [value])]


def unknown_word(word: str) -> str:
    """What to say of a word that no flag takes."""
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"unexpected {word!r}: settings are flags, as in --data mnist (--help lists all)"
    key = SETTINGS.get(name.lstrip("-").replace("-", "_"))
    if key is not None and not key.flags:
        return f"unknown flag {name}; {key.name} is a key of [{key.table}] in recipes, and no flag"
    flags = [flag for setting in SETTINGS.values() for flag in setting.flags]
    near = nearest(f"--{name.lstrip('-')}", [*flags, "--help", "--version"]) if name.strip("-") else ""
    if not near:
        return f"unknown flag {name}; --help lists all"
    return f"unknown flag {name}; did you mean {near}? (--help lists all)"

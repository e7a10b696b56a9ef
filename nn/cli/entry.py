"""One setting: what is known of it beside its value, and what is wrong with a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from .kinds import DEVICES, SWITCH, Check, Kind, UsageError, did_you_mean, shown


@dataclass(frozen=True)
class Setting:
    """One setting: what is known of it beside its value.

    Attributes:
        name: of the field of ``Settings``, and the key in recipes.
        default: what it is where neither a flag nor a recipe says otherwise.
        flags: its names on the command line, the usual one first; none if only recipes can say it.
        kind: which values it takes.
        help: what it says, for ``--help`` and for the page on recipes.
        group: the heading under which ``--help`` lists it.
        table: the table of a recipe in which its key stands; "" if only the command line can say it.
        metavar: the placeholder in ``--help``, if not that of its kind.
        choices: the values it may have, or its items; empty for any of its kind.
        check: what else is asked of a value, or of each item of a list.
        unset: what happens without it, in words, where ``default`` does not say it.
        idle: reasons why it would do nothing, each of ``Settings``; such a flag is refused.
    """

    name: str
    default: Any
    flags: tuple[str, ...]
    kind: Kind
    help: str
    group: str
    table: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    check: Check | None = None
    unset: str = ""
    idle: tuple[Callable[[Any], str], ...] = ()

    @property
    def flag(self) -> str:
        """The usual flag."""
        return self.flags[0]

    @property
    def default_text(self) -> str:
        """The default in words; "" where there is nothing to say."""
        if self.unset or self.default is None or isinstance(self.default, bool):
            return self.unset
        if isinstance(self.default, tuple):
            return " ".join(map(str, self.default))
        return shown(self.default)

    def why_idle(self, settings: Any) -> str:
        """Why it would do nothing in a run with these ``Settings``; "" where it does something."""
        return next((why for reason in self.idle if (why := reason(settings))), "")

    @property
    def value_text(self) -> str:
        """Which values it takes, in words."""
        if self.choices:
            choices = ", ".join(f"`{choice}`" for choice in self.choices)
            return f"a list of {choices}" if self.kind.is_list else f"one of {choices}"
        asked = self.check.words if self.check else ""
        each = "each " if self.kind.is_list else ""
        return f"{self.kind.words}, {each}{asked}" if asked and asked != self.kind.words else self.kind.words

    def problem(self, value: Any) -> str:
        """What is wrong with a value, to be read after the name of the setting; "" if nothing is."""
        if isinstance(value, float) and not isfinite(value):
            return f" must be finite, not {value}"
        if not self.kind.holds(value):
            return f" must be {self.kind.words}, not {value!r}"
        for item in value if self.kind.is_list else [value]:
            if self.choices and item not in self.choices:
                return f" must be {any_of(self.choices)}, not {item!r}{did_you_mean(item, self.choices)}"
            if self.check is not None and (problem := self.check.problem(item)):
                return problem
        return ""

    def from_words(self, words: list[str]) -> Any:
        """The value that the words after its flag stand for.

        Raises:
            UsageError: they stand for none.
        """
        if self.kind is SWITCH:
            return not self.default
        if words == [""] or not (words or self.kind.is_list):  # argparse takes -- away
            raise UsageError(f"{self.flag} needs a value")
        values = []
        for word in words:
            try:
                values.append(self.kind.read(word))
            except ValueError:
                wanted = self.kind.words.removeprefix("a list of ")
                raise UsageError(f"{self.flag} must be {wanted}, not {word!r}") from None
        value = values if self.kind.is_list else values[0]
        # The names of --compare are made by reading, and are no list of words.
        if self.kind is not DEVICES and (problem := self.problem(value)):
            raise UsageError(f"{self.flag}{problem}")
        return value


def any_of(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last

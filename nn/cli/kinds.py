"""What the value of a setting may be: how a word of the command line is read, and what a recipe may hold."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from backends.arguments import LARGEST

from ..callbacks.logs import log_to
from ..initializers import get_initializer
from ..messages import sentence
from ..metrics import get_metrics


class UsageError(ValueError):
    """A flag, a recipe or a file that cannot be used; the message is one sentence."""

    def __init__(self, message: object = "") -> None:
        super().__init__(sentence(str(message)))


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds say that a file, a device or a row cannot be used: the user's to change, exit code 2."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, kinds):
            raise
        has_name = error.filename and error.strerror  # of the system; else it is a sentence
        raise UsageError(f"{error.filename}: {error.strerror}" if has_name else error) from None
    except kinds as error:
        raise UsageError(error) from None


@dataclass(frozen=True)
class Kind:
    """The type of a setting.

    Attributes:
        words: what a value is, as in "must be a whole number".
        accepts: whether a value is one; for a list, whether an item is one.
        read: the value that a word of the command line stands for; a ValueError if it stands for none.
        metavar: the placeholder in ``--help``.
        count: how many words a flag takes: ``"0"`` (it is a switch), ``"1"``, ``"2"``, ``"*"`` or ``"+"``.
        is_list: whether a value is a list, in recipes and on the command line.
        final: what a run holds for an accepted value.
        from_recipe: of another form in which a recipe may say a value, that of a flag.
    """

    words: str
    accepts: Callable[[Any], bool]
    read: Callable[[str], Any] = str
    metavar: str = ""
    count: str = "1"
    is_list: bool = False
    final: Callable[[Any], Any] = lambda value: value
    from_recipe: Callable[[Any], Any] = lambda value: value

    def holds(self, value: Any) -> bool:
        """Whether a value from a recipe is of this kind."""
        if self.is_list:
            if not isinstance(value, list | tuple) or (self.count == "2" and len(value) != 2):
                return False
            return all(self.accepts(item) for item in value)
        return self.accepts(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_nested(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, list) and all(_is_nested(item) for item in value))


def _size(text: str) -> int | str:
    return text if text == "full" else int(text)


def _rows(text: str) -> int | float | str:
    return text if text == "test" else int(text) if text.isdecimal() else float(text)


def _class(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _is_pair(text: str) -> bool:
    name, _, weight = text.rpartition("=")
    try:
        return name != "" and math.isfinite(float(weight))
    except ValueError:
        return False


def _class_weight(words: Iterable[str]) -> str | dict[int | str, float]:
    if list(words) == ["balanced"]:
        return "balanced"
    weights: dict[int | str, float] = {}
    for word in words:
        name, _, weight = word.rpartition("=")
        if name == "":
            raise UsageError("class weights are `balanced` alone, or CLASS=WEIGHT for some classes, not both")
        if _class(name) in weights:
            raise UsageError(f"class weights: class {name} is named twice")
        weights[_class(name)] = float(weight)
    return weights


def _weight_words(value: Any) -> Any:
    """Weights of classes as the words of a flag: also `"balanced"` alone, or a table of weights by class."""
    if isinstance(value, dict):
        return [f"{name}={weight}" for name, weight in value.items()]
    return [value] if value == "balanced" else value


def _initial(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _devices(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names):
        raise ValueError
    return names


SWITCH = Kind("true or false", lambda value: isinstance(value, bool), count="0")
TEXT = Kind("a string", _is_text, metavar="NAME")
INTEGER = Kind("a whole number", _is_integer, int, "N")
NUMBER = Kind("a number", _is_number, float, "X")
PAIR = Kind(
    "two numbers", _is_number, float, "X Y", "2", is_list=True,
    final=lambda value: None if value is None else tuple(value),
)  # fmt: skip
WIDTHS = Kind("a list of whole numbers", _is_integer, int, "UNITS", "*", is_list=True, final=tuple)
INITIAL = Kind("a name of initial values or a number", lambda value: _is_text(value) or _is_number(value), _initial)
SIZE = Kind(
    "a whole number or full", lambda value: value == "full" or _is_integer(value), _size, "ROWS",
    final=lambda value: None if value == "full" else value,
)  # fmt: skip
WINDOW = Kind("a whole number or full", SIZE.accepts, _size, "ROWS")
SHARE = Kind(
    "a fraction between 0 and 1, a number of rows or test",
    lambda value: value == "test" or _is_number(value), _rows, "ROWS",
)  # fmt: skip
CLASS = Kind("a class, by its number or name", lambda value: _is_integer(value) or _is_text(value), _class, "CLASS")
CLASSES = replace(CLASS, words="a list of classes, by number or name", count="+", is_list=True, final=tuple)
COLUMNS = Kind(
    "a list of columns, by name or number", lambda value: _is_integer(value) or _is_text(value), str, "COLUMN", "+",
    is_list=True, final=lambda value: None if value is None else tuple(map(str, value)),
)  # fmt: skip
CLASS_WEIGHT = Kind(
    "balanced or a list of CLASS=WEIGHT", lambda value: _is_text(value) and (value == "balanced" or _is_pair(value)),
    str, "WEIGHT", "+", is_list=True, final=lambda value: None if value is None else _class_weight(value),
    from_recipe=lambda value: _weight_words(value),
)  # fmt: skip
NAMES = Kind("a list of strings", _is_text, metavar="NAME", count="+", is_list=True, final=tuple)
DEVICES = Kind("two devices or more with commas between them", _is_text, _devices, "DEVICES")
# Only recipes hold these.
NUMBERS = Kind("a list of numbers, or of lists of them", lambda value: isinstance(value, list) and _is_nested(value))
STRINGS = Kind("a list of strings", _is_text, is_list=True)
STRING_TABLE = Kind("a table", lambda value: isinstance(value, dict))


@dataclass(frozen=True)
class Check:
    """What is asked of a value beside its kind.

    Attributes:
        words: as in "must be at least 0"; "" where ``problem`` says more.
        problem: what is wrong with a value, to be read after the name of its setting; "" if nothing is.
    """

    words: str
    problem: Callable[[Any], str]


def bounds(words: str, holds: Callable[[Any], bool]) -> Check:
    return Check(words, lambda value: "" if holds(value) else f" must be {words}, not {shown(value)}")


def at_least(lowest: int, most: int | None = LARGEST) -> Check:
    """At least ``lowest``, and of whole numbers at most ``most``, which only a value beyond it is told."""
    words = f"at least {lowest}"

    def problem(value: Any) -> str:
        if value != "full" and not value >= lowest:
            return f" must be {words}, not {shown(value)}"
        if most is not None and isinstance(value, int) and value > most:
            return f" must be {words} and at most {most}, not {shown(value)}"
        return ""

    return Check(words, problem)


ABOVE_0 = bounds("above 0", lambda value: value > 0)
BELOW_1 = bounds("at least 0 and below 1", lambda value: 0 <= value < 1)
UP_TO_180 = bounds("at least 0 and at most 180", lambda value: 0 <= value <= 180)
BELOW_90 = bounds("at least 0 and below 90", lambda value: 0 <= value < 90)
UP_TO_1 = bounds("at least 0 and at most 1", lambda value: 0 <= value <= 1)
PART_OF_ROWS = bounds(
    SHARE.words,
    lambda value: value == "test" or (value >= 1 if isinstance(value, int) else 0 < value < 1),
)


def taken_by(function: Callable[[Any], Any]) -> Check:
    """That a function takes a value; what it raises otherwise, without advice for Python, says what is wrong."""

    def problem(value: Any) -> str:
        try:
            function(value)
        except ValueError as error:
            return f": {str(error).removesuffix(', or give a function of (targets, predictions)')}"
        return ""

    return Check("", problem)


def times_of_checkpoints(text: str) -> dict[str, Any]:
    """When checkpoints are written, as the arguments of ``nn.Checkpoint``; none for ``never``.

    Raises:
        ValueError: it says no such time.
    """
    if text == "never":
        return {}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(epoch|step|minute)?s?", text)
    count = float(found[1]) if found else 0.0
    unit = f"{(found and found[2]) or 'epoch'}s"
    if count == 0.0 or (unit != "minutes" and not count.is_integer()):
        raise ValueError(
            f"checkpoints are for every '10 minutes', '500 steps', '2 epochs' or 2, or never, not {text!r}"
        )
    return {unit: count if unit == "minutes" else int(count)}


INITIAL_VALUES = taken_by(get_initializer)
METRIC = taken_by(lambda value: get_metrics([value]))
LOG = taken_by(log_to)
CHECKPOINT_EVERY = taken_by(times_of_checkpoints)


def shown(value: float) -> str:
    """A number as one would write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean NAME?`` with the known name nearest to ``name``; "" where none is near."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` begins, if it begins one alone, else the most similar; "" where none is near."""
    known = list(known)
    begun = [other for other in known if name and other.startswith(name)]
    return begun[0] if len(begun) == 1 else next(iter(get_close_matches(name, known, 1)), "")

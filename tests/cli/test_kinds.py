"""What the values of settings may be, each kind and check by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nn.cli import kinds
from nn.cli.kinds import Check, Kind, UsageError, at_least, did_you_mean, nearest, shown

#: By the name of the kind: what a recipe may hold, and what not.
HELD: dict[str, tuple[list[Any], list[Any]]] = {
    "SWITCH": ([True, False], [0, 1, "true", None]),
    "TEXT": (["", "digits"], [1, None, ["a"]]),
    "INTEGER": ([0, -3, 7], [1.0, True, "1", None]),
    "NUMBER": ([0, -3, 0.5], [math.inf, math.nan, True, "1", None]),
    "CLASS": ([0, "cat"], [1.5, True, ["cat"]]),
    "CLASSES": ([[], [1, 2], (3,), ["cat", 1]], [1, [1.5], [True], "12", [[1]]]),
    "COLUMNS": ([[], [1, -1], ["age", 2]], [1, "age", [1.5], [True]]),
    "WIDTHS": ([[], [300, 100]], [300, ["300"]]),
    "INITIAL": (["zeros", 0.5, 1], [True, None, [1.0], math.nan]),
    "SIZE": (["full", 32], ["all", 1.5, True]),
    "SHARE": (["test", 0.1, 100], ["train", None, True, math.inf]),
    "DEVICES": (["cpu,cuda"], [["cpu"], 1]),
    "NUMBERS": ([[], [1, 2.5], [[1], [2]], [[[0]], 3]], [1, (1, 2), ["a"], [[True]], [[1], "b"], [None]]),
    "STRINGS": ([[], ["loss"], ("a", "b")], ["loss", [1], None]),
    "STRING_TABLE": ([{}, {"a": "b"}], [[], "a", None]),
}
#: A word of the command line, and what it stands for; None where it stands for nothing.
READ: dict[str, list[tuple[str, Any]]] = {
    "TEXT": [("digits", "digits")],
    "INTEGER": [("7", 7), ("-7", -7), ("7.5", None), ("seven", None)],
    "NUMBER": [("7", 7.0), ("1e-3", 0.001), ("a", None)],
    "CLASSES": [("3", 3), ("-1", -1), ("cat", "cat"), ("3.5", "3.5")],
    "COLUMNS": [("3", "3"), ("age", "age")],
    "WIDTHS": [("300", 300), ("x", None)],
    "INITIAL": [("zeros", "zeros"), ("0.5", 0.5), ("normal:0.01", "normal:0.01")],
    "SIZE": [("full", "full"), ("32", 32), ("Full", None), ("1.5", None)],
    "SHARE": [("test", "test"), ("100", 100), ("0.1", 0.1), ("x", None)],
    "DEVICES": [("cpu,cuda", ["cpu", "cuda"]), (" cpu , cuda:1,numba", ["cpu", "cuda:1", "numba"]), ("cpu", None),
                ("cpu,", None), (",", None)],
}  # fmt: skip
#: Which values a check takes, and which it does not.
CHECKED: dict[str, tuple[Check, list[Any], list[Any], str]] = {
    "at least 2": (at_least(2), [2, 3, 2.5, "full"], [1, 1.5, -2], " must be at least 2, not {}"),
    "ABOVE_0": (kinds.ABOVE_0, [1e-9, 3], [0, 0.0, -1], " must be above 0, not {}"),
    "BELOW_1": (kinds.BELOW_1, [0, 0.0, 0.999], [1, 1.0, -0.001], " must be at least 0 and below 1, not {}"),
    "PART_OF_ROWS": (
        kinds.PART_OF_ROWS, ["test", 1, 500, 0.001, 0.999], [0, -1, 0.0, 1.0, 1.5],
        " must be a fraction between 0 and 1, a number of rows or test, not {}",
    ),
}  # fmt: skip


def kind(name: str) -> Kind:
    found: Kind = getattr(kinds, name)
    return found


@pytest.mark.parametrize("name", HELD)
def test_what_a_recipe_may_hold(name: str) -> None:
    good, bad = HELD[name]
    assert [value for value in good if not kind(name).holds(value)] == []
    assert [value for value in bad if kind(name).holds(value)] == []


@pytest.mark.parametrize("name", READ)
def test_what_a_word_stands_for(name: str) -> None:
    for word, value in READ[name]:
        if value is None:
            with pytest.raises(ValueError):  # noqa: PT011 (its message is never shown)
                kind(name).read(word)
        else:
            found = kind(name).read(word)
            assert (found, type(found)) == (value, type(value))


def test_what_a_run_holds() -> None:
    assert kinds.CLASSES.final([1, 2]) == kinds.WIDTHS.final([1, 2]) == (1, 2)
    assert (kinds.SIZE.final("full"), kinds.SIZE.final(32)) == (None, 32)
    assert (kinds.COLUMNS.final(["age", -1]), kinds.COLUMNS.final(None)) == (("age", "-1"), None)
    assert kinds.TEXT.final("full") == "full"
    assert kinds.STRINGS.final(["a"]) == ["a"]


def test_how_many_words_a_flag_takes() -> None:
    counts = {name: kind(name).count for name in HELD}
    assert counts.pop("SWITCH") == "0"
    assert (counts.pop("CLASSES"), counts.pop("COLUMNS"), counts.pop("WIDTHS")) == ("+", "+", "*")
    assert set(counts.values()) == {"1"}
    assert {name for name in HELD if kind(name).is_list} == {"CLASSES", "COLUMNS", "WIDTHS", "STRINGS"}


@pytest.mark.parametrize("name", CHECKED)
def test_what_is_asked_of_a_value(name: str) -> None:
    check, good, bad, problem = CHECKED[name]
    assert [check.problem(value) for value in good] == [""] * len(good)
    assert [check.problem(value) for value in bad] == [problem.format(shown(value)) for value in bad]
    assert problem.startswith(f" must be {check.words}")


def test_initial_values_are_those_that_there_are() -> None:
    assert [kinds.INITIAL_VALUES.problem(value) for value in ("zeros", "normal:0.01", 0.5)] == ["", "", ""]
    assert kinds.INITIAL_VALUES.problem("zero").startswith(
        ": unknown initial values 'zero' (did you mean zeros?); known are zeros, "
    )
    assert kinds.INITIAL_VALUES.words == ""


def test_numbers_are_shown_as_one_would_write_them() -> None:
    assert [shown(value) for value in (0.1, 1e-8, 3.0, 3, -0.0005)] == ["0.1", "1e-08", "3", "3", "-0.0005"]


def test_what_may_have_been_meant() -> None:
    known = ["--momentum", "--epochs", "--every", "--data", "--data-dir"]
    assert nearest("--mom", known) == "--momentum"
    assert nearest("--epoch", known) == "--epochs"
    assert nearest("--evry", iter(known)) == "--every"
    assert nearest("--dat", known) in ("--data", "--data-dir")
    assert nearest("--quite-another", known) == ""
    assert did_you_mean("sgdd", ["sgd", "adam"]) == "; did you mean sgd?"
    assert did_you_mean("newton", ["sgd", "adam"]) == ""


def test_what_cannot_be_used_is_an_error_of_a_value() -> None:
    assert issubclass(UsageError, ValueError)


def test_a_whole_number_that_no_float_can_hold_is_no_number() -> None:
    assert kinds.NUMBER.holds(10**308)
    assert not kinds.NUMBER.holds(10**400)
    assert not kinds.NUMBER.holds(float("nan"))

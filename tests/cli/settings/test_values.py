"""Which values settings take, and what is said of others."""

from __future__ import annotations

import re

import pytest

import train
from nn.cli import SETTINGS, Setting, UsageError
from nn.cli.kinds import INTEGER, SIZE, WIDTHS, WINDOW

#: The least value of each setting that has one.
LEAST = {
    "threads": 1, "processes": 1, "blocks": 1, "compare_steps": 1,
    "window": 1, "limit": 1, "hidden": 1, "outputs": 1, "epochs": 0, "batch_size": 1,
    "accumulate": 1,
    "augment_shift": 0,
    "augment_cutout": 0,
    "gamma": 0,
    "early_stopping": 0,
    "min_delta": 0,
    "weight_decay": 0, "seed": 0, "every": 1, "predictions": 0, "epsilon": 0, "lr_decay": 0, "l1": 0,
    "initial_accumulator_value": 0, "min_lr": 0, "plateau_patience": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", LEAST)
def test_the_least_value_is_taken_and_one_less_refused(name: str) -> None:
    setting, least = SETTINGS[name], LEAST[name]
    values = [(least,), (least - 1,)] if setting.kind.is_list else [least, least - 1]
    problems = [setting.problem(value) for value in values]
    assert problems == ["", f" must be at least {least}, not {least - 1}"]


def test_every_setting_with_a_least_value_is_there() -> None:
    of_one_bound = re.compile(r"at least \d+")
    assert set(LEAST) == {name for name, s in SETTINGS.items() if s.check and of_one_bound.fullmatch(s.check.words)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hidden", "30", "two"], "--hidden must be whole numbers, not 'two'"),
        (["--limit", "1.5"], "--limit must be a whole number, not '1.5'"),
        (["--epochs", "two"], "--epochs must be a whole number, not 'two'"),
        (["--compare", "cpu"], "--compare must be two devices or more with commas between them, not 'cpu'"),
        (["--lr", "nan"], "--lr must be finite, not nan"),
        (["--data", ""], "--data needs a value"),
    ],
)
def test_words_that_stand_for_no_value(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        train.parse(flags)
    assert str(caught.value) == message


WHOLE = [entry for entry in SETTINGS.values() if entry.kind in (INTEGER, WIDTHS, SIZE, WINDOW) and entry.flags]


@pytest.mark.parametrize("entry", [entry for entry in WHOLE if entry.name != "seed"], ids=lambda entry: entry.name)
def test_a_whole_number_beyond_all_is_refused_by_the_name_of_its_flag(entry: Setting) -> None:
    with pytest.raises(UsageError, match=rf"^{entry.flag} must be at least \d and at most \d+, not {'9' * 20}$"):
        train.parse([entry.flag, "9" * 20])


def test_kinds_are_called_by_what_a_user_would_call_them() -> None:
    """As in "--epochs must be a whole number, not 'two'", and in the tables of the page on recipes."""
    assert {setting.kind.words for setting in SETTINGS.values()} == {
        "true or false", "a string", "a whole number", "a number", "two numbers", "a list of whole numbers",
        "a list of strings",
        "a class, by its number or name", "a list of classes, by number or name",
        "a list of columns, by name or number", "balanced or a list of CLASS=WEIGHT",
        "a list of numbers, or of lists of them", "a name of initial values or a number", "a whole number or full",
        "a fraction between 0 and 1, a number of rows or test", "two devices or more with commas between them",
    }  # fmt: skip

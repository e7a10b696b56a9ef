from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import __version__
from nn.cli import UsageError, combine, command_line, read_flags

#: What a shell and a file system have to take care of is among these words.
WORDS = st.text(st.sampled_from("ab -'$\"\\é*"), min_size=1).filter(lambda word: word != "--")  # which ends flags
FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "data": WORDS,
        "hidden": st.lists(st.integers(1, 99), max_size=3),
        "only": st.lists(st.integers(0, 9), min_size=1, max_size=3),
        "batch_size": st.sampled_from(["full", 1, 64]),
        "learning_rate": st.floats(1e-300, 1e300),
        "shift": st.floats(-1e9, 1e9),
        "validation": st.sampled_from(["test", 0.25, 100]),
        "nesterov": st.just(True),
        "init": st.sampled_from(["zeros", 0.5, -1e-05, "uniform:-0.5,0.5"]),
        "report": WORDS,
        "quiet": st.just(True),
        "seed": st.integers(0, 2**64),
    },
)


@given(FLAGS)
def test_the_command_line_of_settings_gives_them_again(flags: dict[str, Any]) -> None:
    settings = combine(flags)
    words = shlex.split(command_line(settings))
    assert words[:2] == ["python", "train.py"]
    again = combine(read_flags(words[2:], __version__))
    assert again == settings


def test_a_value_that_argparse_takes_away_is_missed() -> None:
    with pytest.raises(UsageError, match="--data needs a value"):
        read_flags(["--data=--"], __version__)


def test_devices_are_written_as_they_are_read() -> None:
    settings = combine(read_flags(["--compare", "cpu,cpu/reference"], __version__))
    assert command_line(settings) == "python train.py --compare cpu,cpu/reference"

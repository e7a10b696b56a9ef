"""Messages that quote what somebody gave."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nn.data import DataError
from nn.messages import sentence


@given(st.text(max_size=3000))
def test_any_text_becomes_a_short_printable_line(text: str) -> None:
    said = sentence(text)
    assert said.isprintable()
    assert len(said) < 300


def test_what_is_short_and_printable_stays() -> None:
    text = "x[3] is -1 (column 2, “width”), but must be at least 0; correct it"
    assert sentence(text) == text


def test_control_characters_are_shown_and_not_sent() -> None:
    assert str(DataError("column \x1b[31mred\x07 is\nmissing")) == r"column \x1b[31mred\x07 is\nmissing"
    assert sentence("exe\u202efdp.csv") == r"exe\u202efdp.csv"


def test_long_words_are_cut_and_paths_are_not() -> None:
    path = "/folder/" + "a" * 200
    assert sentence(f"{path} has a column {'b' * 500}; rename it") == (
        f"{path} has a column {'b' * 40}...{'b' * 9}; rename it"
    )
    assert sentence("word " * 500).endswith("word ...")

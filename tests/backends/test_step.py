"""The numbers of training steps, one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import StepNumbers


@given(st.integers(1, 500), st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_the_numbers_of_several_steps(count: int, times: int, before: int, scheduled: bool) -> None:
    """Those of single steps one after the other, also where a part of them is taken first."""
    before = min(before, times)
    rates = tuple(1.0 / (1 + i) for i in range(times))
    numbers = StepNumbers(7, 3, 5, rates if scheduled else 0.5)
    rate_of = rates if scheduled else (0.5,) * times
    expected = [(7 + i * count, 3 + i, 5 + i, rate_of[i]) for i in range(times)]
    assert [*numbers.steps(count, times)] == expected
    parts = [*numbers.first(before).steps(count, before)] if before > 1 else [numbers.first(1)] * before
    assert [*parts, *numbers.after(count, before).steps(count, times - before)] == expected


def test_one_learning_rate_stands_for_equal_ones() -> None:
    numbers = StepNumbers(0, 0, 1, (0.5, 0.5, 0.25))
    assert numbers.first(1).learning_rate == numbers.first(2).learning_rate == 0.5
    assert numbers.first(3) == numbers
    assert numbers.after(10, 2).first(1) == (20, 2, 3, 0.25)


@pytest.mark.parametrize("times", [2, 4])
def test_steps_need_as_many_learning_rates(times: int) -> None:
    with pytest.raises(ValueError, match="argument 4"):
        list(StepNumbers(0, 0, 1, (0.1, 0.2, 0.3)).steps(10, times))

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from backends.random import generator
from nn.initializers import INITIALIZERS, Initializer, Normal, get_initializer

SHAPE = (300, 200)


def draw(spec: str) -> np.ndarray:
    return np.asarray(get_initializer(spec)(SHAPE, generator(0, "start values", "w")))


@pytest.mark.parametrize(
    ("spec", "variance"),
    [
        ("normal", 1.0),
        ("normal:0.01", 1e-4),
        ("uniform", 1 / 12),
        ("uniform:-0.5,0.5", 1 / 12),
        ("uniform:0,3", 9 / 12),
        ("lecun_normal", 1 / 300),
        ("lecun_uniform", 1 / 300),
        ("glorot_normal", 2 / 500),
        ("glorot_uniform", 2 / 500),
        ("he_normal", 2 / 300),
        ("he_uniform", 2 / 300),
    ],
)
def test_variances_are_those_of_the_papers(spec: str, variance: float) -> None:
    values = draw(spec)
    assert values.shape == SHAPE
    assert np.var(values) == pytest.approx(variance, rel=0.02)
    middle = 1.5 if spec == "uniform:0,3" else 0.0
    assert abs(values.mean() - middle) < 5 * math.sqrt(variance / values.size)


@pytest.mark.parametrize("spec", ["uniform:-0.5,0.5", "glorot_uniform", "he_uniform", "lecun_uniform"])
def test_uniform_values_stay_within_their_bounds(spec: str) -> None:
    values = draw(spec)
    bound = math.sqrt(3 * np.var(values))
    assert np.abs(values).max() <= bound * 1.02


def test_constants() -> None:
    assert draw("zeros") == 0.0
    assert draw("constant:4") == 4.0
    assert get_initializer(2)(SHAPE, None) == 2.0
    assert get_initializer([0.0, 1.0])((2,), None) == (0.0, 1.0)


def test_every_name_is_tested_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in INITIALIZERS if f'"{name}' not in source] == []


def test_an_initializer_is_returned_as_it_is() -> None:
    mine = Normal(0.5)
    assert get_initializer(mine) is mine
    assert isinstance(mine, Initializer)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("xavier", "unknown initial values 'xavier'; known are zeros, constant:VALUE"),
        ("normal:a", "'a' must be numbers with commas between them"),
        ("normal:1,2,3", "write normal:STD"),
        ("zeros:1", "write zeros, without numbers"),
        ("constant", None),
        ("uniform:1,0", "low .* must not be above high"),
    ],
)
def test_mistakes_are_named(spec: str, message: str | None) -> None:
    if message is None:
        assert get_initializer(spec)(SHAPE, None) == 0.0
        return
    with pytest.raises(ValueError, match=message):
        get_initializer(spec)

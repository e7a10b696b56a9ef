from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from backends.random import generator
from nn.initializers import (
    INITIALIZERS,
    Constant,
    Initializer,
    Normal,
    ScaledNormal,
    ScaledUniform,
    Uniform,
    get_initializer,
    initializer_names,
)

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


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (ScaledNormal(3.0, "in"), 3 / 20_000),
        (ScaledUniform(3.0, "in"), 3 / 20_000),
        (ScaledNormal(3.0, "mean"), 3 / 20_000),
        (ScaledUniform(3.0, "mean"), 3 / 20_000),
    ],
)
def test_an_array_of_one_dimension_has_its_length_as_both_fans(initializer: Initializer, variance: float) -> None:
    values = initializer((20_000,), generator(0, "start values", "b"))
    assert values.shape == (20_000,)
    assert np.var(values) == pytest.approx(variance, rel=0.05)


def test_fans_are_the_first_extent_and_the_last() -> None:
    shape = (100, 7, 300)
    for initializer, fan in ((ScaledNormal(1.0, "in"), 100), (ScaledNormal(1.0, "mean"), 200)):
        values = initializer(shape, generator(0, "start values", "w"))
        assert np.var(values) == pytest.approx(1 / fan, rel=0.02)


@pytest.mark.parametrize(("shape", "groups"), [((3, 5, 20, 40), 1), ((5, 3, 10, 60), 2), ((5, 5, 1, 300), 300)])
def test_fans_of_filters_are_those_of_pytorch_and_keras(shape: tuple[int, ...], groups: int) -> None:
    """A number of a picture is seen by every filter, whatever the groups: so both count."""
    height, width, channels, filters = shape
    fan_in, fan_out = height * width * channels, height * width * filters
    for name, variance in (
        ("he_normal", 2 / fan_in),
        ("lecun_uniform", 1 / fan_in),
        ("glorot_uniform", 2 / (fan_in + fan_out)),
        ("glorot_normal", 2 / (fan_in + fan_out)),
    ):
        values = get_initializer(name)(shape, generator(0, "start values", name))
        assert values.shape == shape
        assert np.var(values) == pytest.approx(variance, rel=0.05)
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Conv2d(channels * groups, filters, (height, width), groups=groups).weight
    ours = get_initializer("glorot_uniform")(shape, generator(0, "start values", "w"))
    largest = torch.nn.init.xavier_uniform_(theirs).abs().max().item()
    assert np.abs(ours).max() == pytest.approx(largest, rel=0.01)


def test_initializers_without_numbers_are_the_plain_ones() -> None:
    assert (Normal(), Uniform(), Constant()) == (Normal(1.0), Uniform(-0.5, 0.5), Constant(0.0))
    assert (ScaledNormal(), ScaledUniform()) == (ScaledNormal(1.0, "in"), ScaledUniform(1.0, "in"))
    Uniform(1.0, 1.0)  # one number
    assert initializer_names().split(", ")[:4] == [
        "zeros",
        "constant:VALUE",
        "normal:STD (1)",
        "uniform:LOW,HIGH (-0.5,0.5)",
    ]
    assert initializer_names().endswith(", glorot_uniform, he_normal, he_uniform")


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
        ("normal:a", "initial values 'normal:a': 'a' must be numbers with commas between them"),
        ("normal:1,2,3", r"initial values 'normal:1,2,3': write normal:STD \(1\)$"),
        ("zeros:1", "write zeros, without numbers$"),
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

"""What a run prints before it trains."""

from __future__ import annotations

import math
import re

import pytest

import train
from nn import load_data


def header(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """What stands in the header, its lines joined, without those on versions and machines."""
    assert train.main(["--epochs", "1", "--limit", "120", *flags]) == 0
    return re.sub(r"\n {10}", " ", capsys.readouterr().out.partition("\n\n")[0])


def test_the_header_says_what_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    text = header(capsys, "--device", "cpu")
    assert re.match(r"xpnet +\d\S+, Python \d\S+, \w+\ndevice +cpu: numpy \S+ on \S.*, float32\n", text)
    assert text.splitlines()[2:] == [
        "data      digits: 120 training rows, 120 test rows, 64 inputs, 10 classes",
        "model     64-64-10, relu, softmax_cross_entropy: 4,810 parameters, initial values glorot_uniform",
        "training  1 epochs, batches of 32, sgd: learning_rate 0.1, momentum 0.9, seed 0",
    ]
    text = header(
        capsys, "--device", "cpu", "--reference", "--threads", "1", "--dtype", "float64", "--validation", "0.25",
        "--test-fraction", "0", "--hidden", "7", "5", "--activation", "tanh", "--init", "he_normal",
        "--dropout", "0.25", "--optimizer", "adam", "--batch-size", "full", "--seed", "3", "--only", "1", "2",
        "--loss", "bce",
    )  # fmt: skip
    assert ", float64, BLAS threads: 1, reference operations\n" in text
    rows = len(load_data("digits", limit=120, test_fraction=0).train.only([1, 2]))
    held_out = math.ceil(rows / 4)
    assert text.splitlines()[2].startswith(f"data      digits: {rows - held_out} training rows, {held_out} for valid")
    assert text.splitlines()[2].endswith("ation, 64 inputs, 2 classes: 1, 2")
    assert text.splitlines()[3:] == [
        "model     64-7-5-1, tanh, bce: 501 parameters, initial values he_normal, dropout 0.25",
        "training  1 epochs, all rows at once, adam: learning_rate 0.001, beta1 0.9, beta2 0.999, "
        "epsilon 1e-08, seed 3",
    ]
    told = header(capsys, "--compare", "cpu,cpu/reference", "--compare-steps", "2").partition("compare   ")[2]
    assert re.match(r"cpu: numpy \S+ on [^,]*, float32 cpu/reference: numpy \S+ on [^,]*, float32, reference ", told)
    assert "every tensor of at most 2 steps" in told


def test_the_header_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--recipe", "neuron", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert lines[0] == "recipe    neuron: one sigmoid neuron with given weights"
    assert lines[3:] == [
        "data      the recipe's rows: 1 training rows, 2 inputs",
        "model     2-1, mean_squared_error: 3 parameters, given initial values",
        "training  none",
    ]


def test_the_header_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    long = ["--hidden", *["100"] * 9, "--loss", "softmax_cross_entropy", "--init", "uniform:-0.05,0.05"]
    for flags in (
        ["--device", "auto"],
        [*long, "--dropout", "0.1", "--nesterov", "--weight-decay", "0.001", "--validation", "0.2"],
        ["--recipe", "one-vs-two", "--data", "digits"],
        ["--compare", "cpu,cpu/reference,array_api_strict:device1"],
    ):
        assert train.main(["--epochs", "1", "--limit", "120", *flags]) == 0
        head = capsys.readouterr().out.partition("\n\n")[0]
        assert "xpnet     " in head
        assert max(map(len, head.splitlines())) <= 80
        assert all(re.match(r"(\w+ +|          )\S", line) for line in head.splitlines())

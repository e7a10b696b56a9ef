"""``train.py --compare`` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cpu.numpy_backend import NumpyBackend
from tests.helpers.script import run

FAST = ["--limit", "200", "--epochs", "1"]


@pytest.fixture
def wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a layer's weights has the wrong sign on the CPU."""
    original = NumpyBackend.matmul

    def matmul(self: Any, a: Any, b: Any, *, transpose_a: bool = False, **others: Any) -> Any:
        result = original(self, a, b, transpose_a=transpose_a, **others)
        return np.negative(result, out=result) if transpose_a and b.shape[1] == 64 else result

    monkeypatch.setattr(NumpyBackend, "matmul", matmul)


def test_devices_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *FAST, "--compare", "cpu/reference, cpu,array_api_strict:device1", "--epochs", "3")
    assert (code, err) == (0, "")
    for words in (
        "compare   cpu/reference: numpy", "reference operations", " array_api_strict:device1: array_api_strict",
        "every tensor of at most 200 steps, each operation from equal numbers", "u = 2^-24", "64-64-10, relu",
        "cpu                       no difference beyond rounding in 21 steps; largest: ",
        "cpu by itself, relative difference from cpu/reference",
    ):  # fmt: skip
        assert words in out
    assert "device    " not in out
    table = re.findall(r"^ +(\d+)(?: +\d\.\de[-+]\d+){3}$", out, flags=re.MULTILINE)
    assert table == ["1", "2", "5", "10", "20", "21"] * 2


def test_a_difference_is_told_with_its_step_and_tensor_and_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], wrong_gradient: None, tmp_path: Path
) -> None:
    code, out, err = run(capsys, *FAST, "--compare", "cpu/reference,cpu", "--output", str(tmp_path), "--plots")
    assert (code, err) == (1, "")
    assert "cpu            differs from cpu/reference beyond rounding, first in step 1 (epoch 1, batch 1)" in out
    assert "layer    0: Linear(64, 64, activation='relu')" in out
    assert "tensor   gradient of 0.weight, of shape (64, 64)" in out
    assert re.search(
        r"largest  at \[\d+, \d+\]: \S+ on cpu/reference, \S+ on cpu; \S+ times what rounding explains", out
    )
    assert f"wrote compare.jsonl, compare.png to {tmp_path}" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.jsonl", "compare.png", "run.json"]
    (record,) = map(json.loads, (tmp_path / "compare.jsonl").read_text().splitlines())
    assert record["run"] == json.loads((tmp_path / "run.json").read_text())["run"]
    assert (record["step"], record["device"], record["tensor"]) == (1, "cpu", "gradient of 0.weight")
    assert record["gradient_difference"] > 1.0


def test_quiet_prints_the_result_alone(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *FAST, "--compare", "cpu,cpu/reference", "--compare-steps", "3", "--quiet")
    assert code == 0
    assert re.fullmatch(r"cpu/reference  no difference beyond rounding in 3 steps; largest: .*\n", out)


def test_a_recipe_is_compared_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--recipe", "people", "--compare", "cpu,cpu/reference", "--compare-steps", "30")
    assert code == 0
    assert "recipe    people: " in out
    assert "1000 epochs, batches of 1, sgd" in out
    assert "30 steps" in out


def test_float64(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *FAST, "--compare", "cpu,array_api_strict", "--dtype", "float64", "--optimizer", "adam")
    assert code == 0
    assert "u = 2^-53" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compare", "cpu"], "must be two devices or more with commas between them, not 'cpu'"),
        (["--compare", "cpu,"], "must be two devices or more with commas between them, not 'cpu,'"),
        (["--compare", ""], "--compare needs a value"),
        (["--compare", "cpu,cpu"], "'cpu' is the same as 'cpu'"),
        (["--compare", "cpu,nonsense"], "unknown device 'nonsense'; known are auto, cpu, "),
        (["--compare", "cpu:reference,cpu"], "NumPy has one device; say 'cpu'"),
        (["--compare", "cpu,cpu/slow"], "'cpu/slow': after a slash only `reference` can stand"),
        (["--compare", "cpu,cuda:99"], "cuda:99: "),
        (["--compare", "cpu,cpu/reference", "--compare-steps", "0"], "--compare-steps must be at least 1, not 0"),
        (
            ["--compare", "cpu,cpu/reference", "--recipe", "neuron"],
            "nothing is trained here; say how long by --epochs",
        ),
        (["--compare", "cpu,cpu/reference", "--recipe", "feedforward"], "nothing is trained here"),
        (["--compare", "cpu,cpu/reference", "--recipe", "neuron", "--epochs", "1"], "targets"),
        (["--compare", "cpu,cpu/reference", "--lr", "0"], "--lr must be above 0, not 0"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    code, out, err = run(capsys, *FAST, *flags) if "--recipe" not in flags else run(capsys, *flags)
    (sentence,) = err.splitlines()
    assert code == 2
    assert sentence.startswith("train.py: error: ")
    assert message in sentence
    assert "test accuracy" not in out


def test_divergence_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with np.errstate(all="ignore"):
        code, _, err = run(capsys, *FAST, "--compare", "cpu,cpu/reference", "--lr", "1e30")
    assert code == 1
    assert re.search(r"error: the loss became \S+ in step \d+ .*training diverged", err)

"""``train.py --weights``: which trained models a run can start from, and what it has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from nn import Linear, ReLU, Sequential, Softmax, Standardize, Trainer, load_data, load_model, save_model
from tests.helpers.script import run

FAST = ["--limit", "200", "--epochs", "1", "--device", "cpu"]
DIGITS: Any = load_data("digits")
TABLE = "\n".join(["size,weight,kind", *(f"{i},{40 - i},{'large' if i > 20 else 'small'}" for i in range(40))])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a first run."""
    folder = tmp_path_factory.mktemp("first")
    assert train.main([*FAST, "--norm", "batch", "--standardize", "--output", str(folder), "--quiet"]) == 0
    return folder


def test_a_run_goes_on_with_parameters_statistics_and_steps(
    first: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*FAST, "--norm", "batch", "--standardize", "--weights", str(first), "--output", str(tmp_path)]
    assert run(capsys, *words, "--epochs", "0")[0] == 0
    before = load_model(first / "weights.safetensors", "cpu")
    same = load_model(tmp_path / "weights.safetensors", "cpu")
    assert all(np.array_equal(values, same.state_dict()[name]) for name, values in before.state_dict().items())
    assert same.step == before.step > 0
    assert same.units == before.units


def test_what_was_trained_can_be_trained_with_dropout(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*FAST, "--norm", "batch", "--standardize", "--weights", str(first), "--dropout", "0.2"]
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    assert f"as trained in {first}" in out.replace("\n          ", " ")


def test_a_model_made_in_python(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = Sequential(Linear(64, 8, weight_init="he_normal"), ReLU(), Linear(8, 10), Softmax(), backend="cpu")
    Trainer(model).fit(DIGITS.train, 1)
    save_model(model, tmp_path / "m.safetensors")
    code, _, err = run(capsys, *FAST, "--hidden", "8", "--weights", str(tmp_path / "m.safetensors"))
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--hidden", "32"], "its layer 1 is Linear(64, 64), but the flags say Linear(64, 32)"),
        (["--hidden", "64", "64"], "its layer 4 is Linear(64, 10), but the flags say Linear(64, 64)"),
        (["--activation", "tanh"], "its layer 3 is ReLU(), but the flags say Tanh()"),
        (["--hidden"], "its layer 1 is Linear(64, 64), but the flags say Linear(64, 10)"),
        (["--loss", "mse"], "its layer 5 is Softmax(), but the flags say Sigmoid()"),
        (["--shift", "-0.5"], "its rows were scaled by 0.0625 and shifted by 0, but these by 0.0625 and -0.5"),
        (["--only", "1", "2"], "its layer 4 is Linear(64, 10), but the flags say Linear(64, 2)"),
    ],
)
def test_another_architecture_is_refused_and_the_difference_named(
    first: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    words = [*FAST, "--norm", "batch", "--standardize", "--weights", str(first)]
    if flags == ["--hidden"]:
        words = [*FAST, "--standardize", "--weights", str(first)]
    code, out, err = run(capsys, *words, *flags)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("train.py: error: ")
    assert sentence in line


def test_other_classes_and_other_columns_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "classes.csv").write_text(TABLE.replace("large", "huge"))
    (tmp_path / "columns.csv").write_text(TABLE.replace("weight", "width"))
    words = [*FAST, "--hidden", "4", "--label", "kind", "--quiet"]
    assert run(capsys, *words, "--data", str(tmp_path / "a.csv"), "--output", str(tmp_path / "run"))[0] == 0
    again = [*words, "--weights", str(tmp_path / "run"), "--data"]
    assert run(capsys, *again, str(tmp_path / "a.csv"))[0] == 0
    code, _, err = run(capsys, *again, str(tmp_path / "classes.csv"))
    assert code == 2
    assert "it was trained on the classes large, small, but the rows have huge, small" in err
    code, _, err = run(capsys, *again, str(tmp_path / "columns.csv"))
    assert code == 2
    assert "column 2 of this table has the name 'width', not 'weight'" in err


def test_what_is_no_model_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no model")
    for given in (tmp_path, tmp_path / "missing", tmp_path / "a.safetensors"):
        code, _, err = run(capsys, *FAST, "--weights", str(given))
        assert code == 2
        (line,) = err.splitlines()
        assert str(given) in line


def test_a_run_does_not_replace_what_it_starts_from(
    first: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = (first / "weights.safetensors").read_bytes()
    words = [*FAST, "--norm", "batch", "--standardize", "--weights", str(first), "--output", str(first), "--overwrite"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "it is in the folder that the run is written to; name another --output" in err
    assert (first / "weights.safetensors").read_bytes() == before


def test_a_run_from_a_trained_model_is_resumed_bit_for_bit(
    first: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*FAST, "--norm", "batch", "--standardize", "--weights", str(first), "--quiet"]
    assert run(capsys, *words, "--epochs", "3", "--output", str(tmp_path / "whole"))[0] == 0
    assert run(capsys, *words, "--epochs", "1", "--output", str(tmp_path / "parts"))[0] == 0
    assert run(capsys, "--resume", str(tmp_path / "parts"), "--epochs", "3", "--device", "cpu")[0] == 0
    whole, parts = (load_model(tmp_path / name / "weights.safetensors", "cpu") for name in ("whole", "parts"))
    assert whole.step == parts.step
    assert all(np.array_equal(values, parts.state_dict()[name]) for name, values in whole.state_dict().items())


def test_statistics_that_were_learnt_stay(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = Sequential(Standardize(64), Linear(64, 10), Softmax(), backend="cpu")
    Trainer(model).fit(DIGITS.train, 1)
    save_model(model, tmp_path / "m.safetensors")
    words = [*FAST, "--hidden", "--standardize", "--limit", "20", "--output", str(tmp_path / "run"), "--quiet"]
    assert run(capsys, *words, "--weights", str(tmp_path / "m.safetensors"))[0] == 0
    again = load_model(tmp_path / "run" / "weights.safetensors", "cpu").state_dict()
    assert np.array_equal(again["0.mean"], model.state_dict()["0.mean"])
    assert not np.array_equal(again["1.weight"], model.state_dict()["1.weight"])

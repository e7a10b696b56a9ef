"""``python -m nn describe`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import train
from nn import SGD, BatchNorm, Dataset, Linear, ReLU, Sequential, Standardize, Trainer, load_data, save_model
from nn.data import read_csv
from nn.layers import Layer
from nn.losses import Loss, get_loss
from tests.helpers.command import run


def saved(path: Path, data: Dataset | None, *layers: Layer, loss: str | Loss = "softmax_cross_entropy") -> Sequential:
    model = Sequential(*layers, backend="cpu", seed=3)
    if data is not None:
        Trainer(model, loss, SGD(0.01)).fit(data, 1, 32)
    save_model(model, path)
    return model


def test_what_is_known_of_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    layers = Linear(64, 16), BatchNorm(16), ReLU(), Linear(16, 10)
    model = saved(path, load_data("digits").train, *layers, loss=get_loss("softmax_cross_entropy", label_smoothing=0.1))
    code, out, err = run(capsys, "describe", tmp_path)
    assert (code, err) == (0, "")
    for line in (
        f"file      {path}, {path.stat().st_size:,} bytes, format 2",
        "takes     rows of 8 x 8 from 0 to 16, times 0.0625 plus 0",
        "gives     one class of 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "loss      softmax_cross_entropy (label_smoothing 0.1)",
        "trained   45 steps, seed 3, float32",
    ):
        assert line in out.splitlines()
    assert repr(model.summary(1)).partition("\n\n")[0] in out
    code, out, err = run(capsys, "describe", path, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [layer["layer"] for layer in found["layers"]] == [repr(layer) for layer in layers]
    assert found["parameters"] == model.parameter_count
    assert (found["task"], found["steps"], found["seed"], found["row_shape"]) == ("classes", 45, 3, [64])
    assert found["loss_settings"] == {"label_smoothing": 0.1}
    assert len(found["sha256"]) == 64
    assert found["units"]["high"] == 16


def test_columns_of_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("colour,size,price\nred,1,1.5\nblue,,2.5\nred,3,3.5\n")
    data = read_csv(tmp_path / "a.csv", label="price", task="values", impute="mean", categorical=["colour"])
    saved(tmp_path / "m.safetensors", data, Standardize(3), Linear(3, 1), loss="mse")
    _, out, _ = run(capsys, "describe", tmp_path / "m.safetensors")
    assert "columns   colour (blue, red; missing: red), size (missing: 2)" in out.splitlines()
    assert "gives     1 value" in out.splitlines()
    _, out, _ = run(capsys, "describe", tmp_path / "m.safetensors", "--json")
    assert [column["name"] for column in json.loads(out)["units"]["columns"]] == ["colour", "size"]


def test_the_run_that_a_model_is_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert train.main(["--epochs", "1", "--limit", "50", "--output", str(tmp_path), "--quiet"]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "run.json").read_text())
    _, out, _ = run(capsys, "describe", tmp_path)
    assert f"run       {record['run']}" in out.splitlines()
    assert f"command   {record['command']}" in out.splitlines()
    _, out, _ = run(capsys, "describe", tmp_path, "--json")
    assert (json.loads(out)["run"], json.loads(out)["command"]) == (record["run"], record["command"])
    (tmp_path / "run.json").write_text("damaged")
    assert run(capsys, "describe", tmp_path)[0] == 0


def test_a_model_that_was_never_trained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved(tmp_path / "m.safetensors", None, Linear(3, 2))
    code, out, _ = run(capsys, "describe", tmp_path / "m.safetensors")
    assert code == 0
    assert "takes     rows of 3, as they are: it was trained on none" in out.splitlines()
    assert "gives     2 values" in out.splitlines()
    assert "trained   0 steps, seed 3, float32" in out.splitlines()


def test_what_is_no_model_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no model")
    for given in (tmp_path / "a.safetensors", tmp_path, tmp_path / "missing"):
        code, out, err = run(capsys, "describe", given)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith(f"python -m nn: error: {given}")

"""What a run of the command line shows of pictures: predictions, the confusion matrix, plots and the report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import train
from nn import load_data, load_model


def save_pictures(path: Path, colour: bool) -> None:
    """A file with the ten digits, light on dark or yellow on blue, as (n, 8, 8) or (n, 8, 8, 3)."""
    digits = load_data("digits").train
    x = digits.x.reshape(-1, 8, 8) * 15
    if colour:
        x = np.stack((x, x, 255 - x), axis=3)
    np.savez(path, x_train=x[:600], y_train=digits.y[:600], x_test=x[600:900], y_test=digits.y[600:900])


@pytest.mark.parametrize(
    ("colour", "network"),
    [(False, ["--hidden", "20"]), (True, ["--layers", "6C3p1-MP2-20N"])],
    ids=["grey, hidden", "colour, layers"],
)
def test_a_run_shows_its_pictures(
    colour: bool, network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pictures = tmp_path / "pictures.npz"
    save_pictures(pictures, colour)
    folder, report = tmp_path / "run", tmp_path / "report.html"
    flags = ["--device", "cpu", "--epochs", "3", "--predictions", "6", "--plots"]
    assert (
        train.main(["--data", str(pictures), *network, *flags, "--output", str(folder), "--report", str(report)]) == 0
    )
    out = capsys.readouterr().out
    test = np.load(pictures)
    predicted = load_model(folder / "weights.safetensors", "cpu").predict(test["x_test"])
    lines = out.partition("the first 6 test rows\n")[2].splitlines()[1:7]
    assert [tuple(map(int, line.split()[:2])) for line in lines] == list(
        zip(predicted[:6].tolist(), test["y_test"][:6].tolist(), strict=True)
    )
    matrix = [list(map(int, line.split()[1:])) for line in re.findall(r"^ +\d(?: +\d+){10}$", out, flags=re.MULTILINE)]
    assert np.trace(matrix) == (predicted == test["y_test"]).sum()
    drawn = {"cost.png", "confusion.png", "digits.png", "mistakes.png"}
    drawn |= {"weights.png"} if network[0] == "--hidden" else {"filters.png", "maps.png"}
    assert {path.name for path in folder.glob("*.png")} == drawn
    page = report.read_text(encoding="utf-8")
    assert ("Feature maps" in page) == (network[0] == "--layers")
    assert "Surest mistakes" in page
    # Who draws has one colour.
    assert ('id="pad"' in page) == (test["x_test"].ndim == 3)

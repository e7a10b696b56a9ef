"""Loops written by hand: they take the steps that xpnet takes, and the benchmark tells who takes how long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import by_hand
from nn import SGD, Dataset, Linear, Sequential, Sigmoid, Softmax, Trainer
from tests.helpers import made_up


def test_one_row_a_step() -> None:
    data = made_up.mnist(30, 10).train
    hand = by_hand.OneRow((784, 64, 10), 0.5, data.x, data.y)
    model = Sequential(Linear(784, 64), Sigmoid(), Linear(64, 10), Softmax(), backend="cpu")
    trainer = Trainer(model, optimizer=SGD(0.5, momentum=0.9, dampening=0.9))
    start = model.state_dict()
    mine = [hand.w1, hand.b1, hand.w2, hand.b2]
    for array, values in zip(mine, start.values(), strict=True):
        array[...] = values
    for i in range(len(data)):
        trainer.fit(Dataset(data.x[i : i + 1], data.y[i : i + 1], data.scale, class_names=data.class_names), 1, 1)
        hand.step(i)
    for array, values, first in zip(mine, model.state_dict().values(), start.values(), strict=True):
        np.testing.assert_allclose(array, values, rtol=1e-3, atol=1e-6)
        assert np.abs(values - first).max() > 1e-3


@pytest.mark.parametrize("careless", [False, True])
def test_ten_rows_a_step(careless: bool) -> None:
    data = made_up.mnist(60, 10).train
    hand = by_hand.TenRows((784, 30, 10), 3.0, data.x, data.y, careless=careless)
    model = Sequential(Linear(784, 30), Sigmoid(), Linear(30, 10), Sigmoid(), backend="cpu")
    trainer = Trainer(model, "mean_squared_error", SGD(3.0))
    start = model.state_dict()
    mine = [hand.w1, hand.b1, hand.w2, hand.b2]
    for array, values in zip(mine, start.values(), strict=True):
        array[...] = values
    trainer.fit(data, 1, 10, shuffle=False)
    for begin in range(0, 60, 10):
        hand.one_step(np.arange(begin, begin + 10))
    for array, values, first in zip(mine, model.state_dict().values(), start.values(), strict=True):
        np.testing.assert_allclose(array, values, rtol=1e-3, atol=1e-6)
        assert np.abs(values - first).max() > 1e-3


def test_the_table_has_everybody_and_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(by_hand, "RESULTS", tmp_path)
    assert by_hand.main(["--steps", "20", "--rounds", "2"]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "by-hand-cpu.md").read_text() == text.removesuffix("\n")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 784")]
    assert [row[1] for row in rows] == ["xpnet", "by hand", "xpnet", "by hand", "as in a tutorial"]
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows)


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        by_hand.main(["--device", "cupid"])
    assert caught.value.code == 2
    assert "cupid" in capsys.readouterr().err

"""The table of what recipes reach: means over seeds at the last epoch, and what is run by name only."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

import recipes
from benchmarks import recipes as program
from nn import Data
from tests.helpers import made_up


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tables go; rows are made up."""

    def load(*_: Any, limit: int | None = None, **__: Any) -> Data:
        data = made_up.mnist(300, 100)
        assert data.test is not None
        return Data("mnist", data.train[:limit], data.test[:limit])

    monkeypatch.setattr("nn.cli.rows.load_data", load)
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    return tmp_path


def test_a_figure_is_the_mean_of_all_seeds_at_the_last_epoch(results: Path) -> None:
    program.main(["momentum", "--device", "cpu", "--seeds", "3"])
    runs = json.loads((results / "recipes-cpu.json").read_text())["momentum/1"]["runs"]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    for run in runs:
        assert len(run["curve"]) == 9
        assert run["figures"]["val_accuracy"] == run["curve"][-1] == run["figures"]["test_accuracy"]
    losses = [run["figures"]["loss"] for run in runs]
    text = (results / "recipes-cpu.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("|  | loss |"))
    spread = f"{fmean(losses):.5g} ± {stdev(losses):.2g} ({min(losses):.5g} to {max(losses):.5g})"
    assert row.split(" | ")[4] == spread
    assert "| 3 | " in text
    assert "that of the last epoch, never of the best one" in text


def test_accuracies_are_told_in_percent_with_their_deviation() -> None:
    assert program.summary("test_accuracy", [0.995, 0.996, 0.997]) == "99.60% ± 0.10 (99.50% to 99.70%)"
    assert program.summary("test_accuracy", [0.995, 0.995]) == "99.50%"


def test_the_curve_of_a_recipe_that_is_named_is_drawn(results: Path) -> None:
    pytest.importorskip("matplotlib")
    program.main(["keras-mlp", "--device", "cpu", "--seeds", "2"])
    assert (results / "recipes-cpu-keras-mlp.png").read_bytes().startswith(b"\x89PNG")
    (part,) = recipes.load("keras-mlp").parts
    axes = program.curves("keras-mlp", part, [[0.9, 0.98], [0.91, 0.985]]).axes[0]
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    assert drawn["xpnet, 2 runs"] == pytest.approx([10.0, 2.0])
    assert drawn["the author's last: 1.60 %"] == pytest.approx([1.6, 1.6])
    assert len(axes.lines) == 3


def test_what_takes_an_hour_is_run_by_name_only(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def measured(name: str, *_: Any) -> Any:
        ran.append(name)
        return None, {"seconds": 0.0, "figures": {}, "curve": []}

    monkeypatch.setattr(program, "measure", measured)
    monkeypatch.setattr(program, "judge", lambda *_: {})
    assert program.main(["--seeds", "1", "--limit", "10"]) == 0
    assert set(ran) == set(recipes.names()) - set(program.LONG)
    assert set(program.LONG) <= set(recipes.names())
    assert program.main(["simard-mlp", "--seeds", "1", "--limit", "10"]) == 0
    assert ran[-1] == "simard-mlp"
    assert not [*results.iterdir()]  # a try leaves nothing

"""The benchmark of growth, on a few rows: what it times, what it leaves out, and what it writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import growth
from tests.helpers import made_up

POINTS = {"rows": 4, "width": 5, "depth": 5, "batch": 4}
QUICK = ["--rows", "130", "--rounds", "2", "--seconds", "0.005"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results and pictures go."""
    monkeypatch.setattr(growth, "RESULTS", tmp_path)
    monkeypatch.setattr(growth, "IMAGES", tmp_path)
    monkeypatch.setattr(growth, "DEEP_WIDTH", 16)  # sixteen layers of 256 units take seconds
    monkeypatch.setattr(growth, "TRIAL", 2)
    return tmp_path


def settings(seconds: float = 0.005) -> argparse.Namespace:
    return argparse.Namespace(device="cpu", rounds=1, seconds=seconds)


def rows_of(table: str) -> list[list[str]]:
    """The cells of all rows of figures."""
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]


def test_every_axis_is_timed_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert growth.main(QUICK) == 0
    assert {path.name for path in folder.iterdir()} == {"growth-cpu.json", "growth-cpu.md", "growth-cpu.png"}
    measured = json.loads((folder / "growth-cpu.json").read_text())
    assert {name: len(axis["points"]) for name, axis in measured.items()} == POINTS
    for name, axis in measured.items():
        assert {"machine", "versions", "origin", "rounds"} <= axis.keys()
        for point in axis["points"]:
            names = {"products", "xpnet", *(["by hand"] if point["batch_size"] == 1 else [])}
            assert point["seconds"].keys() == names, name
            assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in point["seconds"].values())
    table = (folder / "growth-cpu.md").read_text()
    assert table == growth.table(measured)
    assert table.strip() in capsys.readouterr().out
    assert len(rows_of(table)) == sum(POINTS.values())
    assert {len(cells) for cells in rows_of(table)} == {7}
    assert table.count("written by hand") == 1


def test_an_axis_that_is_not_chosen_keeps_its_figures(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    path = folder / "growth-cpu.json"
    growth.main([*QUICK, "--axis", "batch"])
    before = json.loads(path.read_text())
    growth.main([*QUICK, "--axis", "rows"])
    after = json.loads(path.read_text())
    assert list(after) == ["rows", "batch"]
    assert after["batch"] == before["batch"]


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert growth.main([*QUICK, "--axis", "rows", "--dry"]) == 0
    assert len(rows_of(capsys.readouterr().out)) == POINTS["rows"]
    assert not list(folder.iterdir())


def test_what_does_not_fit_into_memory_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    most = growth.needed(growth.Point(growth.BASE, 1300))
    monkeypatch.setattr(growth, "available", lambda: most)
    growth.main([*QUICK, "--axis", "rows"])
    *timed, skipped = rows_of(capsys.readouterr().out)
    assert [row[-1].startswith("no: ") for row in timed] == [False] * 3
    assert skipped[-1] == "no: takes 0.0 GB of memory, 0.0 are free"
    assert (folder / "growth-cpu.png").exists()


def test_this_machine_says_how_much_memory_is_free() -> None:
    assert 2**20 < growth.available() < 2**50


def test_a_long_epoch_is_timed_in_part() -> None:
    data = made_up.mnist(1000, 10).train
    point = growth.Point(growth.BASE, 100_000)
    outcome = growth.race(point, data.x, data.y, settings())
    assert growth.TRIAL <= outcome["steps"] < point.steps
    assert growth.cells(outcome)[-1].startswith("from ")


def test_the_rows_that_are_left_out_count_like_those_that_were_timed() -> None:
    part = growth.Part(30)
    part.marks = [(10, 5.0), (30, 6.0)]  # the first ten rows came with the shuffle
    assert part.seconds_per_row() == pytest.approx(0.05)


def test_a_part_of_an_epoch_is_so_many_steps() -> None:
    data = made_up.mnist(1000, 10).train
    ours = growth.Ours(growth.BASE, data.x, data.y, "cpu")
    ours.seconds(3)  # the first step is a part by itself
    assert 3 <= (first := ours.trainer.optimizer.steps) < 8
    ours.seconds(4)
    assert first + 4 <= ours.trainer.optimizer.steps <= first + 8
    assert [record["epoch"] for record in ours.trainer.history] == [1, 2]


def test_a_part_takes_the_pace_of_the_steps_after_its_first_ones() -> None:
    data = made_up.mnist(100, 10).train
    trainer, part = growth.Ours(growth.BASE, data.x, data.y, "cpu").trainer, growth.Part(50)
    for seen, reason in ((60, ""), (70, "this part is enough to time")):
        part.on_batch_end(trainer, seen - part.seen)
        assert (part.seen, trainer.stopping) == (seen, reason)
    assert part.seconds_per_row() > 0.0
    assert growth.Part(50).marks == []

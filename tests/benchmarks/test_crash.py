"""A few runs of ``benchmarks.crash``, with processes that are killed; all 200 of them take minutes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.crash import __main__ as crash
from benchmarks.crash.command import Commands, flags_of
from benchmarks.crash.draw import DEVICES, MOST_KILLS, Drawn, draw
from benchmarks.crash.phase import EPOCH, WRITING, Phase
from benchmarks.crash.report import FEATURES, page
from benchmarks.crash.runs import Fault, Outcome, Processes, compare, look_for_leftovers, make
from benchmarks.crash.work import NUMBERS
from nn.cli import combine, read_flags
from nn.storage.checkpoint import write_checkpoint

#: A run with all that has a memory, of well below a second, checkpoints included.
SMALL = replace(
    draw(0),
    device="cpu",
    dtype="float32",
    large=False,
    rows=70,
    features=6,
    classes=3,
    stored="uint8",
    hidden=(10,),
    norm="batch",
    dropout=0.3,
    loss=("softmax_cross_entropy", {}),
    optimizer=("adam", {}),
    schedule="cosine",
    batch_size=16,
    epochs=5,
    shuffle=True,
    accumulate=2,
    average=0.9,
    validation="rows",
    validation_every=1,
    callbacks=("EarlyStopping", "SaveModel", "JSONLog", "own"),
    often={"steps": 1},
    kills=(0.3, 0.7),
    early=False,
    command_line=False,
    signals=("SIGKILL", "SIGKILL"),
)


def test_runs_that_are_killed_go_on_bit_for_bit(tmp_path: Path) -> None:
    outcome = make(SMALL, tmp_path / "run", Processes())
    assert outcome.fault == ""
    assert outcome.kills
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # tests/nn/test_resume.py and tests/cli have such runs that are shorter
def test_a_run_of_the_command_line_that_is_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run = replace(SMALL, command_line=True, rows=2000, kills=(0.2, 0.6), signals=("SIGTERM", "SIGKILL"))
    outcome = make(run, tmp_path / "run", Commands())
    assert outcome.fault == ""
    assert [kill.doing for kill in outcome.kills][:1] == ["SIGTERM to train.py"]


@pytest.mark.parametrize("number", range(3, 203, 40))
def test_every_command_that_is_drawn_can_be_used(number: int) -> None:
    flags = read_flags(flags_of(draw(number, devices=["cpu"])), "")
    combine(flags)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [("memory", "the run has ['callbacks'][0]['Own']"), ("history", "the run has ['records'][0]['loss']")],
)
def test_what_is_not_restored_is_seen(tmp_path: Path, fault: str, seen: str) -> None:
    # Long enough for an epoch to have ended, however slow the machine is when a process is killed.
    run = replace(SMALL, callbacks=("own",), epochs=25, kills=(0.5, 0.9))
    outcome = make(run, tmp_path / "run", Processes(("tests.benchmarks.crash_planted", fault)))
    assert seen in outcome.fault
    assert json.dumps(asdict(run)) in outcome.fault  # what is needed to repeat it
    assert (tmp_path / "run" / "killed" / "resumed-after-kill-1.safetensors").exists()
    assert "**0 of 1 runs" in page([outcome], 1, "command", 1, 60.0)


def test_a_process_that_fails_is_a_fault(tmp_path: Path) -> None:
    outcome = make(replace(SMALL, loss=("no such loss", {})), tmp_path / "run", Processes())
    assert "no such loss" in outcome.fault


def test_a_run_is_a_function_of_its_number() -> None:
    runs = [draw(number) for number in range(200)]
    assert runs == [draw(number) for number in range(200)]
    assert runs != [draw(number, seed=1) for number in range(200)]
    assert [Drawn.of_json(json.dumps(asdict(run))) for run in runs] == runs
    assert {run.device for run in runs} == {*DEVICES}
    assert {len(run.kills) for run in runs} == {*range(1, MOST_KILLS + 1)}
    assert all(3 <= sum(bool(has(run)) for run in runs) < 200 for has in FEATURES.values())
    assert {draw(number, devices=["cpu"]).device for number in range(20)} == {"cpu"}


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = {3: "another weight"}

    def made(run: Drawn, folder: Path, processes: Processes) -> Outcome:
        return Outcome(run, [], faulty.get(run.number, ""))

    monkeypatch.setattr(crash, "make", made)
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    output = tmp_path / "reliability.md"
    assert crash.main(["--runs", "5", "--output", str(output)]) == 1
    assert "**4 of 5 runs ended bit for bit" in output.read_text()
    assert "run 3: another weight" in capsys.readouterr().err
    assert crash.main(["--runs", "3", "--output", str(output)]) == 0
    assert "**3 of 3 runs ended bit for bit" in output.read_text()
    assert not (tmp_path / "runs").exists()


def test_what_a_process_is_doing_outlives_it(tmp_path: Path) -> None:
    phase, other = Phase(tmp_path / "phase"), Phase(tmp_path / "phase")
    phase.set(doing=EPOCH, epoch=3, step=2**40)
    with phase.writing():
        assert other.moment == (WRITING, 3, 2**40, 0)
    assert other.moment == (EPOCH, 3, 2**40, 1)


def test_leftovers_are_seen(tmp_path: Path) -> None:
    for _ in range(4):
        write_checkpoint(tmp_path, {}, keep=9)
    with pytest.raises(Fault, match="4 checkpoints left, not 2"):
        look_for_leftovers(tmp_path)
    look_for_leftovers(tmp_path, keep=3)
    (tmp_path / ".0.xpnet-draft").touch()
    with pytest.raises(Fault, match="xpnet-draft was left"):
        look_for_leftovers(tmp_path, keep=3)


def test_a_number_that_differs_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    for name, loss in (("one", 0.5), ("other", 0.25)):
        (tmp_path / name).mkdir()
        save_file({}, tmp_path / name / "arrays.safetensors")
        (tmp_path / name / NUMBERS).write_text(json.dumps({"records": [{"loss": loss}]}))
    with pytest.raises(Fault, match=r"the run has \['records'\]\[0\]\['loss'\]: 0.25 instead of 0.5"):
        compare(tmp_path / "one", tmp_path / "other", "killed")

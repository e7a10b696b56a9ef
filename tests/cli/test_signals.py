"""Signals end a run so that it can go on: a checkpoint, a line that says how, and the exit code that a shell knows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import train
from nn import Linear, Sequential, Trainer
from nn.cli.signals import Signals
from tests.helpers.script import run

ROOT = Path(train.__file__).parent
TIMES = {"seconds", "rows_per_second"}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")

#: Says that it is where a test wants it, on a line of its own, and waits there for a signal.
WAITS = """
import sys, time
import train
where = sys.argv.pop(1)
def waiting(function):
    def wait(*arguments, **named):
        print("\\nhere", flush=True)
        for _ in range(600):
            time.sleep(0.1)
        return function(*arguments, **named)
    return wait
if where:
    setattr(train, where, waiting(getattr(train, where)))
sys.exit(train.main())
"""


@pytest.fixture
def long(digits_file: str) -> list[str]:
    """The flags of a run that ends by a signal."""
    return ["--data", digits_file, "--device", "cpu", "--limit", "400", "--epochs", "1000000", "--hidden", "8"]


@contextmanager
def running(
    *flags: str, where: str = "", until: str = "", ignored: int | None = None, program: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """The script, when it has printed a line that begins so; it is started with signal ``ignored`` ignored.

    Args:
        program: another program that runs it.
    """

    def inherited() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is started in the background ignores it
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    words, pipe = [program] if program else [WAITS, where], subprocess.PIPE
    command = [sys.executable, "-c", *words, *flags]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe, preexec_fn=inherited) as script:
        too_late = threading.Timer(180, script.kill)
        too_late.start()
        try:
            assert script.stdout is not None
            assert script.stderr is not None
            while not (line := script.stdout.readline()).lstrip().startswith(until or "here"):
                assert line, script.stderr.read()
            yield script
        finally:
            too_late.cancel()
            script.kill()


def way(folder: Path) -> str:
    return f"go on with: python train.py --resume {folder}\n"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_run_that_is_ended_by_the_system_goes_on(
    name: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], long: list[str]
) -> None:
    folder, log = tmp_path / "a", tmp_path / "log.csv"
    flags = [*long, "--dropout", "0.1", "--output", str(folder), "--log", str(log), "--checkpoint-every", "10 minutes"]
    with running(*flags, until="1 ") as script:
        script.send_signal(getattr(signal, name))
        rest, errors = script.communicate(timeout=60)
    assert script.returncode == code
    found = re.fullmatch(rf"train.py: stopped by {name} in epoch (\d+); (.*\n)", errors)
    assert found is not None
    assert found[2] == way(folder)
    assert "test accuracy" not in rest  # there is no time for it
    assert not (folder / "settings.json").exists()
    last = int(found[1])
    if " interrupted after " in rest:  # the signal may have come between two epochs
        assert re.search(rf"^ +{last} .* interrupted after \d+ rows$", rest, flags=re.MULTILINE)
        *_, line = log.read_text().splitlines()
        assert line.split(",")[0] == str(last)
        head = log.read_text().splitlines()[0].split(",")
        assert head[-2:] == ["interrupted", "run"]
        assert 0 < int(line.split(",")[-2]) < 400
    epochs = str(last + 2)
    assert run(capsys, "--resume", str(folder), "--epochs", epochs, "--quiet")[0] == 0
    other = tmp_path / "never stopped"
    other.mkdir()
    (folder / "run.json").replace(other / "run.json")
    log.unlink()
    assert run(capsys, "--resume", str(other), "--epochs", epochs, "--quiet")[0] == 0
    assert (folder / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    histories = [
        [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in path.read_text().splitlines()]
        for path in (folder / "history.jsonl", other / "history.jsonl")
    ]
    assert histories[0] == histories[1]


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, long: list[str]) -> None:
    with running(*long, "--output", str(tmp_path), where="report", until="1 ") as script:
        script.send_signal(signal.SIGINT)
        assert script.stdout is not None
        while (line := script.stdout.readline()) != "here\n":
            assert line
        script.send_signal(signal.SIGINT)
        out, errors = script.communicate(timeout=60)
    assert script.returncode == 130
    assert re.fullmatch(rf"train.py: stopped by Ctrl-C in epoch \d+; {re.escape(way(tmp_path))}", errors)
    assert "test accuracy" not in out
    assert not (tmp_path / "settings.json").exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) >= 1


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_leave_the_checkpoint_of_the_first(
    second: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], long: list[str]
) -> None:
    """A key that is hit twice; there is no checkpoint before, and writing one takes a while."""
    with running(*long, "--output", str(tmp_path), until="1 ", program=SLOW_CHECKPOINT) as script:
        script.send_signal(signal.SIGINT)
        assert script.stdout is not None
        while (line := script.stdout.readline()) != "writes\n":
            assert line
        script.send_signal(second)
        out, errors = script.communicate(timeout=60)
    assert (script.returncode, errors.count("\n")) == (130, 1)
    assert errors.endswith(way(tmp_path))
    assert "test accuracy" in out
    assert list((tmp_path / "checkpoints").iterdir())


#: Writing a checkpoint takes a while.
SLOW_CHECKPOINT = """
import sys, time
import nn.trainer
import train
write = nn.trainer.write_checkpoint
def slow(*arguments):
    print("\\nwrites", flush=True)
    time.sleep(0.4)
    return write(*arguments)
nn.trainer.write_checkpoint = slow
sys.exit(train.main())
"""
#: Test rows in a file, of which each range takes a second to be read.
SLOW = """
import sys, time
import train
from nn.data.streamed.npy import NpySource
read = NpySource.read_parts
def slow(self, parts):
    if "x_test" in self.name and begun:
        print("\\nreads", flush=True)
        time.sleep(1)
    return read(self, parts)
begun = []
report = train.report
train.report = lambda run: begun.append(1) or report(run)
NpySource.read_parts = slow
sys.exit(train.main())
"""


def test_ctrl_c_says_that_the_test_rows_are_measured_and_a_second_one_leaves_that_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows").mkdir()
    for name, count in (("train", 4000), ("test", 200_000)):
        rows = np.arange(count * 40, dtype=np.float32).reshape(count, 40) % 7
        np.save(tmp_path / "rows" / f"x_{name}.npy", rows)
        np.save(tmp_path / "rows" / f"y_{name}.npy", np.arange(count) % 2)
    flags = [
        "--data", str(tmp_path / "rows"), "--window", "1000", "--epochs", "100000", "--device", "cpu", "--output",
        str(tmp_path / "out"),
    ]  # fmt: skip
    with running(*flags, until="1 ", program=SLOW) as script:
        script.send_signal(signal.SIGINT)
        assert script.stdout is not None
        seen = ""
        while not seen.endswith("\nreads\n"):
            line = script.stdout.readline()
            assert line
            seen += line
        script.send_signal(signal.SIGINT)
        out, errors = script.communicate(timeout=60)
    assert "\nmeasuring 200,000 test rows; Ctrl-C again ends the run without it\n" in seen
    assert script.returncode == 130
    found = re.fullmatch(r"train.py: stopped by Ctrl-C in epoch (\d+); (.*\n)", errors)
    assert found is not None
    assert found[2] == way(tmp_path / "out")
    assert "test accuracy" not in out
    epochs = str(int(found[1]) + 1)
    assert run(capsys, "--resume", str(tmp_path / "out"), "--epochs", epochs, "--quiet")[0] == 0


def test_a_signal_that_a_library_has_lost_ends_the_run_before_training() -> None:
    """Python drops an exception that is raised while C code calls back, as it does when libraries are looked for."""
    signals = Signals()
    with suppress(KeyboardInterrupt):
        signals.handle(signal.SIGINT, None)
    trainer = Trainer(Sequential(Linear(2, 2), backend="cpu"))
    with pytest.raises(KeyboardInterrupt), signals.training(trainer):
        pass


def test_an_interrupted_epoch_is_marked_in_what_is_saved(tmp_path: Path, digits_file: str) -> None:
    """One epoch of many small batches, which has begun when there is a checkpoint of its middle."""
    flags = [
        "--data", digits_file, "--device", "cpu", "--epochs", "3", "--batch-size", "1", "--hidden", "300",
        "--checkpoint-every", "1 steps",
    ]  # fmt: skip
    with running(*flags, "--output", str(tmp_path), until="training ") as script:
        while not list(tmp_path.glob("checkpoints/*.safetensors")):
            assert script.poll() is None
        script.send_signal(signal.SIGINT)
        out, errors = script.communicate(timeout=120)
    assert script.returncode == 130
    assert errors.endswith(way(tmp_path))
    assert "test accuracy" in out
    (record,) = map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())
    assert record["stopped"] == "Ctrl-C in epoch 1"
    assert 0 < record["interrupted"] < 400
    assert f" interrupted after {record['interrupted']:,} rows" in out


def test_without_a_folder_it_ends_as_the_system_does_it(long: list[str]) -> None:
    with running(*long, until="1 ") as script:
        script.terminate()
        _, errors = script.communicate(timeout=60)
    assert (script.returncode, errors) == (-signal.SIGTERM, "")


def test_ctrl_c_without_a_folder_shows_what_was_learned(long: list[str]) -> None:
    with running(*long, until="1 ") as script:
        script.send_signal(signal.SIGINT)
        out, errors = script.communicate(timeout=60)
    assert (script.returncode, errors) == (130, "")
    assert "stopped by Ctrl-C in epoch " in out
    assert "test accuracy" in out


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_before_training(name: str, code: int, tmp_path: Path, long: list[str]) -> None:
    """While data are loaded: nothing has begun, and an earlier run, which was to be replaced, is still there."""
    (tmp_path / "history.jsonl").write_text("")
    with running(*long, "--output", str(tmp_path), "--overwrite", where="load") as script:
        script.send_signal(getattr(signal, name))
        _, errors = script.communicate(timeout=60)
    said = "" if name == "SIGINT" else f"train.py: stopped by {name} before training began\n"
    assert (script.returncode, errors) == (code, said)
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_during_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], long: list[str]) -> None:
    flags = [*long, "--epochs", "2", "--output", str(tmp_path)]
    with running(*flags, where="report") as script:
        script.terminate()
        _, errors = script.communicate(timeout=60)
    assert (script.returncode, errors) == (143, f"train.py: stopped by SIGTERM; {way(tmp_path)}")
    assert not (tmp_path / "settings.json").exists()
    code, out, _ = run(capsys, "--resume", str(tmp_path), "--quiet")
    assert code == 0
    assert out.startswith("test accuracy ")
    assert (tmp_path / "settings.json").exists()


def test_a_run_that_goes_on_is_told_how_to_go_on_also_before_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], digits_file: str
) -> None:
    short = ["--data", digits_file, "--device", "cpu", "--limit", "100", "--epochs", "1", "--quiet"]
    run(capsys, *short, "--output", str(tmp_path))
    with running("--resume", str(tmp_path), where="load") as script:
        script.terminate()
        _, errors = script.communicate(timeout=60)
    assert (script.returncode, errors) == (143, f"train.py: stopped by SIGTERM; {way(tmp_path)}")


def test_what_nohup_ignores_stays_ignored(tmp_path: Path, long: list[str]) -> None:
    flags = [*long, "--epochs", "200", "--output", str(tmp_path)]
    with running(*flags, until="1 ", ignored=signal.SIGHUP) as script:
        script.send_signal(signal.SIGHUP)
        out, errors = script.communicate(timeout=120)
    assert (script.returncode, errors) == (0, "")
    assert "test accuracy" in out


def test_without_checkpoints_the_weights_so_far_are_kept(tmp_path: Path, long: list[str]) -> None:
    with running(*long, "--output", str(tmp_path), "--checkpoint-every", "never", until="1 ") as script:
        script.terminate()
        script.communicate(timeout=60)
    assert script.returncode == 143
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json", "weights.safetensors", "history.jsonl", "settings.json"
    }  # fmt: skip
    assert json.loads((tmp_path / "settings.json").read_text())["stopped"].startswith("SIGTERM in epoch ")

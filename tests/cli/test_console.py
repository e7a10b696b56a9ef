"""What is printed may be read by nobody, go to a full disk, or to a terminal of other letters: it never costs a run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import train
from nn.cli.console import lasting_streams
from nn.data import StreamWarning
from tests.helpers.script import run

ROOT = Path(train.__file__).parent
FAST = ["--device", "cpu", "--limit", "100", "--epochs", "2", "--hidden", "8"]
Shell = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell and /dev/full as POSIX has them")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@pytest.fixture
def shell(digits_file: str) -> Shell:
    """A line for bash, where TRAIN is a short run; its exit code is that of the script."""

    def call(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        train_line = shlex.join([sys.executable, str(ROOT / "train.py")])
        line = line.replace("TRAIN", f"{train_line} {shlex.join(FAST)} --data {shlex.quote(digits_file)}")
        line = line.replace("SCRIPT", train_line)
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            cwd=cwd, env=os.environ | environment, check=False, capture_output=True, text=True, timeout=120,
            errors="surrogateescape",
        )  # fmt: skip

    return call


def is_saved(folder: Path) -> bool:
    return {"weights.safetensors", "history.jsonl", "settings.json"} <= {path.name for path in folder.iterdir()}


def test_a_reader_that_leaves_does_not_cost_the_weights(tmp_path: Path, shell: Shell) -> None:
    done = shell("TRAIN --output a | head -1", tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert done.stderr == "train.py: nobody reads the output any more; the run goes on and writes its files\n"
    assert is_saved(tmp_path / "a")
    done = shell("TRAIN --log a.csv | head -1", tmp_path)
    assert done.returncode == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_a_reader_of_both_streams_that_leaves(tmp_path: Path, shell: Shell) -> None:
    done = shell("TRAIN --output a 2>&1 | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_saved(tmp_path / "a")


@FULL
def test_a_full_disk_below_the_output(tmp_path: Path, shell: Shell) -> None:
    done = shell("TRAIN --output a > /dev/full", tmp_path)
    why = "the output cannot be written: No space left on device"
    assert (done.returncode, done.stderr) == (1, f"train.py: {why}; the run goes on and writes its files\n")
    assert is_saved(tmp_path / "a")
    for line in ("TRAIN", "SCRIPT --help", "SCRIPT --list-recipes"):
        done = shell(f"{line} > /dev/full", tmp_path)
        assert (done.returncode, done.stderr) == (1, f"train.py: error: {why}\n")


@pytest.mark.parametrize(
    "streams",
    [
        *(pytest.param(one, marks=pytest.mark.slow) for one in (">&-", "2>&-")),
        "<&- >&- 2>&-",
        "2> >(true)",
        "2> /dev/full",
    ],
)
def test_closed_streams(streams: str, tmp_path: Path, shell: Shell) -> None:
    if "/dev/full" in streams and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    done = shell(f"TRAIN --output a {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_saved(tmp_path / "a")
    assert ("test accuracy" in done.stdout) == (">&- " not in f"{streams} ".replace("2>&- ", ""))


def test_an_error_without_a_stream_to_say_it(tmp_path: Path, shell: Shell) -> None:
    assert shell("TRAIN --lr x 2>&-", tmp_path).returncode == 2
    assert shell("TRAIN --lr x 2>&1 | true", tmp_path).returncode == 2


def test_a_library_that_writes_to_standard_error_does_not_write_into_a_file(
    tmp_path: Path, shell: Shell, digits_file: str
) -> None:
    """Otherwise files are opened with the handles of closed streams, and get what is written to these."""
    code = """
import os, sys, train
from pathlib import Path
write = Path.replace
def replace(self, target):
    os.write(2, b"a warning of a library in C")
    return write(self, target)
Path.replace = replace
sys.exit(train.main())
"""
    (tmp_path / "script.py").write_text(code)
    command = shlex.join([sys.executable, "script.py", *FAST, "--data", digits_file, "--output", "a"])
    done = shell(f"{command} <&- >&- 2>&-", tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0
    for path in (tmp_path / "a").iterdir():
        assert path.is_dir() or b"a warning" not in path.read_bytes()


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
        {"PYTHONIOENCODING": "latin-1"},
        {"TERM": "dumb", "COLUMNS": "1", "LC_ALL": "POSIX"},
    ],
    ids=" ".join,
)
def test_letters_that_the_terminal_does_not_have(environment: dict[str, str], tmp_path: Path, shell: Shell) -> None:
    names = ("größer☃", "kleiner")
    rows = "".join(f"{number},{number * number % 7},{names[number % 2]}\n" for number in range(100))
    (tmp_path / "tä☃.csv").write_text(f"a,b,label\n{rows}", encoding="utf-8")
    done = shell("TRAIN --limit 80 --data tä☃.csv --output ö☃ --log ö☃.csv --predictions 2", tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"gr(ö|\\xf6|\udcf6)\S*er(☃|\\u2603)", done.stdout)
    assert is_saved(tmp_path / "ö☃")
    if "LC_ALL" in environment:
        done = shell("TRAIN --data tä☃☃.csv", tmp_path, **environment)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("columns", ["1", "0", "-5", "x", "100000"])
def test_terminals_of_any_width(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    code, out, err = run(capsys, *FAST)
    assert (code, err) == (0, "")
    assert "test accuracy" in out
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, "")
    assert "--checkpoint-every" in out


def test_a_warning_of_ours_is_a_line_without_the_code_that_warns(capsys: pytest.CaptureFixture[str]) -> None:
    def warn() -> None:
        with lasting_streams("train.py"):
            warnings.warn("chunks are long", StreamWarning, stacklevel=1)
            warnings.warn("of another library", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="of another library") as others:
        warn()
    assert len(others) == 1
    assert capsys.readouterr().err == "train.py: warning: chunks are long\n"

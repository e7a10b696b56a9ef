"""The command line by several processes: one output, one folder, the bits of one process; signals; wrong launches."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from backends.collectives import launched
from nn import load_model
from tests.helpers.broken_cupy import cupy_with
from tests.helpers.mpi import ROOT, environment, mpiexec, run

SCRIPT = str(ROOT / "train.py")


@pytest.fixture
def flags(digits_file: str) -> list[str]:
    """Of a short run whose processes are soon there, as they need not load scikit-learn."""
    small = ["--limit", "120", "--hidden", "8", "--validation", "test"]
    return ["--data", digits_file, "--device", "cpu", "--threads", "1", *small]


def by_itself(*flags: str) -> subprocess.CompletedProcess[str]:
    """The script, started as any other."""
    mpiexec()
    return subprocess.run(
        [sys.executable, SCRIPT, *flags], env=environment(), capture_output=True, text=True, timeout=180
    )


def weights(folder: Path) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in load_model(folder).state_dict().items()}


def test_two_processes_write_one_folder_with_the_bits_of_one(tmp_path: Path, flags: list[str]) -> None:
    alone = by_itself(*flags, "--epochs", "2", "--blocks", "2", "--output", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    started = by_itself(*flags, "--epochs", "2", "--processes", "2", "--output", str(tmp_path / "two"))
    assert started.returncode == 0, started.stderr
    assert "processes 2, by MPI; batches in 2 blocks of rows\n" in started.stdout
    assert started.stdout.count("rows/s") == 1
    assert started.stdout.count("wrote ") == 1
    assert weights(tmp_path / "two") == weights(tmp_path / "alone")
    code, out, err = run(2, [SCRIPT, "--resume", str(tmp_path / "two"), "--epochs", "3", "--quiet"])
    assert code == 0, err
    assert out.count("test accuracy") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_sigterm_interrupts_all_and_leaves_a_checkpoint(tmp_path: Path, flags: list[str]) -> None:
    mpiexec()
    command = [sys.executable, SCRIPT, *flags, "--epochs", "1000000", "--processes", "2", "--output", str(tmp_path)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        while not script.stdout.readline().lstrip().startswith("2 "):  # the second epoch has ended
            assert script.poll() is None
        script.send_signal(signal.SIGTERM)
        _, err = script.communicate(timeout=60)
    assert script.returncode == 143, err
    assert re.fullmatch(r"(.* share the .*\n)?train.py: stopped by SIGTERM in epoch \d+; .*\n", err)
    assert err.count("--resume") == 1
    assert list((tmp_path / "checkpoints").iterdir())


#: The train script, which says when it has started the launcher, or is interrupted at just that moment.
SAYS_STARTED = f"""
import signal
import sys
import train
from nn.cli import processes
popen = processes.subprocess.Popen
def started(*args, **options):
    process = popen(*args, **options)
    print("started", flush=True)
    if INTERRUPTED:
        signal.raise_signal(signal.SIGINT)
    return process
processes.subprocess.Popen = started
sys.orig_argv = [sys.executable, {str(ROOT / "train.py")!r}, *sys.argv[1:]]
sys.exit(train.main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("seconds", [None, 0.0, 0.6])
def test_ctrl_c_at_the_start_ends_all_in_silence(seconds: float | None, flags: list[str]) -> None:
    """While the launcher and the processes are started, and while they import: the launcher would say in four lines
    what killed one, and who is left behind would train for ever."""
    mpiexec()
    code = SAYS_STARTED.replace("INTERRUPTED", str(seconds is None))
    command = [sys.executable, "-c", code, *flags, "--epochs", "1000000", "--processes", "2", "--quiet"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "started\n"
        if seconds is not None:
            time.sleep(seconds)
            script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=60)
    assert (script.returncode, out) == (130, "")
    assert re.fullmatch(r"(.* share the .*\n)?", err)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_one_that_is_killed_is_told_with_what_helps(tmp_path: Path, flags: list[str]) -> None:
    kills = tmp_path / "sitecustomize.py"  # what Python runs at its start: the second process is killed after a while
    kills.write_text(
        "import os, threading\n"
        "if os.environ.get('OMPI_COMM_WORLD_RANK', os.environ.get('PMI_RANK')) == '1':\n"
        "    threading.Timer(4.0, os.kill, (os.getpid(), 9)).start()\n"
    )
    mpiexec()
    command = [sys.executable, SCRIPT, *flags, "--epochs", "1000000", "--processes", "2"]
    command += ["--output", str(tmp_path / "run")]
    own = environment() | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    script = subprocess.run(command, env=own, capture_output=True, text=True, timeout=180)
    assert script.returncode in (9, 128 + 9), script.stderr
    (told,) = [line for line in script.stderr.splitlines() if "error: " in line]
    assert "error: one of the processes was killed, perhaps as memory ran short" in told
    assert told.endswith(f"--resume {tmp_path / 'run'} goes on from the last checkpoint")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--batch-size", "1"], "2 processes cannot share batches of 1 rows"),
        (["--blocks", "3"], "3 blocks of rows cannot be dealt out evenly to 2 processes"),
        (["--data", "no-such.csv"], "no-such.csv"),
    ],
)
def test_what_is_wrong_is_told_once(more: list[str], told: str, flags: list[str]) -> None:
    code, _, err = run(2, [SCRIPT, *flags, "--epochs", "1", *more])
    assert code == 2, err
    assert err.count("error: ") == 1, err
    assert told in err


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--data", "no-such.csv"], 2, "error: 'no-such.csv' is neither a file nor a known source; "),
        (["--lr", "1e30", "--epochs", "2"], 1, "error: training diverged in "),
    ],
)
def test_the_launcher_adds_nothing_to_the_one_sentence(more: list[str], code: int, told: str, flags: list[str]) -> None:
    done = by_itself(*flags, "--processes", "2", *more)
    assert done.returncode == code, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "warning: 2 processes share" not in line)
    assert line.startswith(f"train.py: {told}")


def test_more_processes_than_cores_are_started_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    mpiexec()
    if launched() > 1:
        pytest.skip("these tests run under mpiexec")
    monkeypatch.setattr("nn.cli.processes.cores", lambda: 1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert train.main([*flags, "--epochs", "1", "--processes", "2", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert "warning: 2 processes share the 1 cores" in err
    assert out.count("test accuracy") == 1


def test_more_processes_than_gpus_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mpiexec()
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: 2))
    assert train.main(["--device", "cuda", "--processes", "3"]) == 2
    told = "--processes 3: this machine has 2 GPUs, and each process needs one of its own; start fewer"
    assert told in capsys.readouterr().err


def test_more_processes_than_memory_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nn.cli.processes.shutil.which", lambda name: name)
    monkeypatch.setattr("nn.cli.processes.find_spec", lambda name: name)
    monkeypatch.setattr("nn.cli.processes.host_memory", lambda: (20_000_000_000, 24_000_000_000))
    monkeypatch.setattr("nn.cli.processes.cores", lambda: 2)
    if launched() > 1:
        pytest.skip("these tests run under mpiexec")
    assert train.main(["--processes", "1000"]) == 2
    told = "--processes 1000: these take 50.0 GB at least, and 20.0 GB are free; start fewer (this machine has 2 cores)"
    assert told in capsys.readouterr().err


def test_without_an_mpi_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nn.cli.processes.find_spec", lambda name: None)
    assert train.main([*flags, "--epochs", "1", "--processes", "2"]) == 2
    assert capsys.readouterr().err.endswith("error: --processes needs mpi4py and an MPI: pip install 'xpnet[mpi]'\n")

"""Processes of MPI that train together: bits, resuming, failures, wrong launches, output. (What does not depend on the
engine is in test_blocks.py.)"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from socket import gethostname
from time import time

import pytest

from nn.storage.checkpoint import newest_checkpoint
from tests.helpers.mpi import environment, mpiexec, run

PROGRAM = ["-m", "tests.helpers.mpi_program"]


def digests(out: str) -> list[str]:
    return [line for line in out.splitlines() if len(line.split()) == 5 and len(line.split()[1]) == 16]


# Two processes go on with a run of four below, bit for bit, and test_processes.py has them beside one.
@pytest.mark.parametrize(
    ("blocks", "numbers"), [(4, (4,)), *(pytest.param(n, (1, 2, 4, n), marks=pytest.mark.slow) for n in (4, 8))]
)
def test_any_number_of_processes_that_divides_the_blocks_has_the_same_bits(
    blocks: int, numbers: tuple[int, ...]
) -> None:
    mpiexec()
    program = [*PROGRAM, "bits", str(blocks)]
    alone = subprocess.run([sys.executable, *program], env=environment(), capture_output=True, text=True, check=True)
    expected = digests(alone.stdout)
    assert len(expected) == 8
    for processes in numbers:
        code, out, err = run(processes, program)
        assert code == 0, err
        assert digests(out) == expected
        assert out.count("rows/s") == alone.stdout.count("rows/s")  # one process prints


@pytest.mark.parametrize("processes", [2, 3, *(pytest.param(number, marks=pytest.mark.slow) for number in (4, 8))])
def test_sums_of_any_length_have_the_bits_of_the_tree(processes: int) -> None:
    counts = [str(processes * each) for each in (1, 2, 3)]
    code, out, err = run(processes, [*PROGRAM, "sums", *counts])
    assert (code, out.count("agrees")) == (0, processes), err


def test_a_run_on_4_that_is_interrupted_goes_on_on_2(tmp_path: Path) -> None:
    code, out, err = run(4, [*PROGRAM, "resumed", "nothing", str(tmp_path / "whole")])
    assert code == 0, err
    step, expected, _ = out.split()
    assert step == "128"
    code, out, err = run(4, [*PROGRAM, "resumed", "interrupted", str(tmp_path / "parts")])
    assert code == 0, err
    assert int(out.split()[0]) < 128
    code, out, err = run(2, [*PROGRAM, "resumed", "goes on", str(tmp_path / "parts")])
    assert (code, out.split()[:2]) == (0, ["128", expected]), err


@pytest.mark.parametrize("how", ["killed", "error"])
def test_a_process_that_dies_ends_all_within_10_seconds(how: str, tmp_path: Path) -> None:
    code, _, err = run(4, [*PROGRAM, "resumed", how, str(tmp_path)])
    seconds = time() - float((tmp_path / "happened").read_text())
    state = newest_checkpoint(tmp_path)  # whole
    assert state is not None
    assert state["numbers"]["trainer.epoch"] == 1
    assert code != 0
    assert seconds < 8, seconds
    if how == "error":
        assert f"process 3 of 4, on {gethostname()}, has failed, and ends the others: " in err
        assert "RuntimeError: a disk is gone" in err
    else:  # mpiexec tells it
        assert re.search(rf"rank 3 .*node {gethostname()} .*signal 9 \(Killed\)", err.replace("\n", " ")), err
    code, out, err = run(1, [*PROGRAM, "resumed", "goes on", str(tmp_path)])
    assert (code, out.split()[0]) == (0, "128"), err


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("setting", "was started with other settings: clip_norm is 2.0 there and None in process 0"),
        # The rest is told in the same way; test_launchers has it without MPI.
        pytest.param("data", "has other rows to train on than process 0", marks=pytest.mark.slow),
        pytest.param("version", "has version 0.0.1 of xpnet, process 0", marks=pytest.mark.slow),
        pytest.param("parameters", "has other parameters than process 0", marks=pytest.mark.slow),
        pytest.param("rows", "2 processes cannot share batches of 1 rows", marks=pytest.mark.slow),
    ],
)
def test_wrong_launches_are_refused_at_the_start_once(what: str, told: str) -> None:
    code, _, err = run(2, [*PROGRAM, "wrong", what])
    assert code != 0
    assert err.count(told) == 1, err
    assert "has failed, and ends the others" not in err


def test_one_process_writes_and_all_stop_where_one_is_asked(tmp_path: Path) -> None:
    code, out, err = run(2, [*PROGRAM, "stops", str(tmp_path)])
    assert code == 0, err
    assert "rank 0 ended after 3" in err
    assert "rank 1 ended after 3" in err
    assert out.count("rows/s") == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("stopped", "process 1 of 2, on {host}, has not answered for 2 s: it has been stopped, by a signal"),
        pytest.param("waits", "has done nothing for 2 s while others wait for it", marks=pytest.mark.slow),
    ],
)
def test_on_one_machine_a_process_that_hangs_ends_all(how: str, told: str, tmp_path: Path) -> None:
    code, _, err = run(2, [*PROGRAM, "resumed", how, str(tmp_path)], more={"XPNET_PROCESS_TIMEOUT": "2"})
    assert time() - float((tmp_path / "happened").read_text()) < 10
    assert code != 0
    assert err.count(told.format(host=gethostname())) == 1, err
    assert "(in epoch 2, after step " in err
    state = newest_checkpoint(tmp_path)  # whole
    assert state is not None
    assert state["numbers"]["trainer.epoch"] == 1

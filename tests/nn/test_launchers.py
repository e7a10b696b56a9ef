"""Processes that know of each other by the environment, as torchrun and SLURM start them, and speak over TCP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import sleep, time

import pytest

from backends.collectives import ProcessError, find_collectives, launched, local_rank
from backends.collectives.find import first_host
from backends.collectives.meeting import Meeting, meet
from nn import load_model
from nn.storage.checkpoint import newest_checkpoint
from tests.helpers import mpi_program
from tests.helpers.mpi import OF_LAUNCHERS, ROOT, environment
from tests.helpers.ranks import as_script_of_slurm, as_shell_of_slurm, as_slurm, as_torchrun, run, start

PROGRAM = ["-m", "tests.helpers.mpi_program"]


@pytest.fixture
def by_itself(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if nothing had started these tests."""
    for name in [name for name in os.environ if name.startswith(OF_LAUNCHERS)]:
        monkeypatch.delenv(name)
    return monkeypatch


# ---- what the environment says ---------------------------------------------------------------------------------------


MPIEXEC = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("variables", "size", "rank_here"),
    [
        ({}, 1, None),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, 1, None),
        (as_torchrun(3, 4, 1), 4, 3),
        (as_slurm(5, 8, 1) | {"SLURM_LOCALID": "1"}, 8, 1),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, 2, 1),
        ({"PMI_SIZE": "3", "MPI_LOCALRANKID": "2"}, 3, 2),
        ({"PMI_SIZE": "3"}, 3, None),
        (as_slurm(1, 2, 1) | {"PMI_SIZE": "2", "PMI_RANK": "1"}, 2, 1),  # srun --mpi=pmi2
        # mpiexec, and torchrun on each of two machines, inside of what srun has started
        (as_slurm(1, 2, 1) | MPIEXEC | {"OMPI_COMM_WORLD_SIZE": "4"}, 4, 0),
        (as_slurm(1, 2, 1) | as_torchrun(2, 4, 1), 4, 2),
        # torchrun of one process in each task of srun: a run in each
        (as_slurm(1, 2, 1) | as_torchrun(0, 1, 1) | {"TORCHELASTIC_RUN_ID": "none"}, 1, None),
        # a script exports what it can for all tasks
        (as_slurm(1, 2, 1) | {"WORLD_SIZE": "2", "MASTER_ADDR": "node7", "MASTER_PORT": "12340"}, 2, 1),
        # a job's script, and a shell of salloc, which srun has not started
        (as_script_of_slurm(4), 1, None),
        (as_script_of_slurm(4) | {"SLURM_JOB_NAME": "interactive"}, 1, None),
        # where salloc starts its shell as a step of one task; where a script has got the variables of another step
        (as_shell_of_slurm(1) | {"SLURM_STEP_ID": "4294967290"}, 1, None),
        (as_slurm(0, 4, 1) | {"SLURM_STEP_ID": "4294967291"}, 1, None),
        # srun from a shell that srun --pty has started: there is no terminal, or srun --pty has started this
        (as_shell_of_slurm(4) | {"SLURM_TASK_PID": str(os.getpid())}, 4, 0),
    ],
)
def test_how_many_there_are_and_which_one_of_the_machine_this_is(
    by_itself: pytest.MonkeyPatch, variables: dict[str, str], size: int, rank_here: int | None
) -> None:
    for name, value in variables.items():
        by_itself.setenv(name, value)
    assert (launched(), local_rank()) == (size, rank_here)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
@pytest.mark.parametrize(
    ("variables", "terminal", "size"),
    [
        (as_shell_of_slurm(4), True, 1),  # typed into the shell
        (as_shell_of_slurm(4), False, 4),  # by srun from there
        (as_shell_of_slurm(4) | MPIEXEC | {"OMPI_COMM_WORLD_SIZE": "4"}, True, 4),
        (as_slurm(0, 4, 1), True, 4),
    ],
)
def test_what_is_typed_into_a_shell_of_slurm_is_one_process(
    variables: dict[str, str], terminal: bool, size: int
) -> None:
    code = "from backends.collectives import launched; print(launched())"
    if terminal:
        # A session of its own, whose controlling terminal is the first one that it opens.
        code = f"import os, pty; os.setsid(); own = os.open(os.ttyname(pty.openpty()[1]), os.O_RDWR); {code}"
    else:
        code = f"import os; os.setsid(); {code}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment() | variables, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{size}\n", done.stderr


def test_an_mpi4py_without_an_mpi_is_told(by_itself: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").touch()
    (tmp_path / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library')")
    by_itself.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "mpi4py"]:
        by_itself.delitem(sys.modules, name)
    by_itself.setenv("OMPI_COMM_WORLD_SIZE", "2")
    find_collectives.cache_clear()
    with pytest.raises(ProcessError, match="one of 2 processes, which need mpi4py and an MPI"):
        find_collectives()


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("", ""),
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("node[007-012,020],other", "node007"),
        ("node[3]", "node3"),
        ("rack[1,5]-n4,x", "rack1-n4"),
        ("rack[1-2]n[03,05-07],x", "rack1n03"),
        ("node-a[08]", "node-a08"),
    ],
)
def test_the_first_machine_of_a_job(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "nothing says where they meet; set MASTER_ADDR"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, "but there is no RANK; start them with torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "but RANK is 2, which is not from 0 to 1; start them with torchrun"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE is two, which is no number of processes"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_ID": "77"}, "nothing says where they meet"),
    ],
)
def test_an_environment_that_says_too_little(
    by_itself: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name, value in variables.items():
        by_itself.setenv(name, value)
    find_collectives.cache_clear()
    with pytest.raises(ProcessError) as refused:
        find_collectives()
    assert told in str(refused.value)
    assert str(refused.value).count(". ") == 0


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(by_itself: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a part of the program prints in this process, which has imported it all."""

    def printed(part: Callable[..., None], *arguments: str) -> str:
        find_collectives.cache_clear()
        part(*arguments)
        return capsys.readouterr().out

    return printed


def test_processes_of_slurm_have_the_bits_of_one(alone: Callable[..., str]) -> None:
    first, second = run(2, [*PROGRAM, "bits", "4"], variables=as_slurm)
    assert (first.code, second.code, second.out) == (0, 0, ""), first.err + second.err
    found, expected = (
        [line for line in out.splitlines() if len(line.split()) == 5 and len(line.split()[1]) == 16]
        for out in (first.out, alone(mpi_program.bits, "4"))
    )
    assert len(expected) == 8
    assert found == expected


@pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_estimators_are_fitted_together(alone: Callable[..., str]) -> None:
    first, second = run(2, [*PROGRAM, "estimators"])
    assert (first.code, second.code, second.out) == (0, 0, ""), first.err + second.err
    assert first.out == alone(mpi_program.estimators)
    assert first.out.count("Iteration ") == 4


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torchrun(tmp_path: Path) -> None:
    flags = ["--device", "cpu", "--limit", "120", "--hidden", "8", "--threads", "1", "--epochs", "2", "--blocks", "2"]
    train = [str(ROOT / "train.py"), *flags]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    started, alone = (
        subprocess.run(
            [sys.executable, *before, *train, "--output", str(tmp_path / name)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=180,
        )
        for before, name in ((torchrun, "two"), ([], "alone"))
    )
    assert started.returncode == alone.returncode == 0, started.stderr
    assert "processes 2, by TCP; batches in 2 blocks of rows\n" in started.stdout
    assert started.stdout.count("rows/s") == 1
    one, other = (load_model(tmp_path / name).state_dict() for name in ("two", "alone"))
    assert {name: x.tobytes() for name, x in one.items()} == {name: x.tobytes() for name, x in other.items()}


@pytest.mark.parametrize("host", ["::1", "localhost", socket.gethostname()])
def test_processes_meet_by_any_address(host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.getaddrinfo(host, 0)[0][0]).close()
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    found = run(2, [*PROGRAM, "sums", "2"], more={"MASTER_ADDR": host})
    assert [(process.code, process.out.count("agrees")) for process in found] == [(0, 1), (0, 1)], found[0].err


# ---- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processes", "how", "told"),
    [
        (4, "killed", "process 3 of 4, on {host}, is gone without a word: it was killed, perhaps as memory ran short"),
        pytest.param(2, "first killed", "process 0 of 2, on {host}, is gone without a word", marks=pytest.mark.slow),
        (2, "error", "process 1 of 2, on {host}, has failed, and ends the others: Traceback"),
        pytest.param(
            2,
            "gone",
            "process 1 has ended while process 0 waits for it; all processes must make the same calls",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["killed", "first killed", "error", "gone"],
)
def test_a_process_that_dies_ends_all_within_10_seconds(processes: int, how: str, told: str, tmp_path: Path) -> None:
    found = run(processes, [*PROGRAM, "resumed", how, str(tmp_path)])
    seconds = time() - float((tmp_path / "happened").read_text())
    assert seconds < 8, seconds
    codes = [process.code for process in found]
    assert codes.count(0) == (1 if how == "gone" else 0), codes
    errors = "".join(process.err for process in found)
    assert errors.count(told.format(host=socket.gethostname())) == 1, errors
    state = newest_checkpoint(tmp_path)  # whole
    assert state is not None
    assert state["numbers"]["trainer.epoch"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("how", "who", "told"),
    [
        ("stopped", 1, "process 1 of 2, on {host}, has not answered for 2 s: it has been stopped, by a signal"),
        pytest.param(
            "first stopped",
            0,
            "process 0 of 2, on {host}, has not answered for 2 s: it has been stopped, by a signal",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "waits",
            1,
            "process 1 of 2, on {host}, has done nothing for 2 s while others wait for it",
            marks=pytest.mark.slow,
        ),
        ("other calls", None, "process 1 of 2, on {host}, and process 0 have waited for each other for 2 s"),
    ],
)
def test_a_process_that_hangs_ends_all(how: str, who: int | None, told: str, tmp_path: Path) -> None:
    started = start(2, [*PROGRAM, "resumed", how, str(tmp_path)], more={"XPNET_PROCESS_TIMEOUT": "2"})
    try:
        survivors = [process for rank, process in enumerate(started) if rank != who]
        errors = "".join(process.communicate(timeout=60)[1] for process in survivors)
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert time() - float((tmp_path / "happened").read_text()) < 8
    assert all(process.returncode == 1 for process in survivors)
    assert errors.count(told.format(host=socket.gethostname())) == 1, errors
    assert "(in epoch 2, after step " in errors
    state = newest_checkpoint(tmp_path)  # whole
    assert state is not None
    assert state["numbers"]["trainer.epoch"] == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_one_that_takes_long_is_waited_for_and_all_may_be_suspended(tmp_path: Path) -> None:
    started = start(2, [*PROGRAM, "resumed", "works", str(tmp_path)], more={"XPNET_PROCESS_TIMEOUT": "2"})
    while not (tmp_path / "happened").exists():
        assert started[0].poll() is None
        sleep(0.1)
    for signum in (signal.SIGSTOP, signal.SIGCONT):
        for process in started:
            process.send_signal(signum)
        sleep(2.5)
    (out, err), (_, others) = (process.communicate(timeout=60) for process in started)
    assert [process.returncode for process in started] == [0, 0], err + others
    step, _, seconds = out.split()
    assert step == "128"
    assert float(seconds) > 6


def test_a_port_of_another_run_is_told(by_itself: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        for name, value in as_torchrun(0, 2, port).items():
            by_itself.setenv(name, value)
        find_collectives.cache_clear()
        with pytest.raises(ProcessError, match=f"cannot listen at port {port} of .*choose a free one by XPNET_PORT"):
            find_collectives()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError("timed out"), "(nothing comes back, as where a firewall drops what is sent)"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_why_process_0_cannot_be_reached_is_told(error: OSError, told: str, by_itself: pytest.MonkeyPatch) -> None:
    def create_connection(*arguments: object) -> None:
        raise error

    by_itself.setattr("backends.collectives.meeting.socket.create_connection", create_connection)
    with pytest.raises(ProcessError, match=r"process 1, on .*, cannot reach process 0 at node7:29500") as refused:
        meet(Meeting(1, 2, "node7", 29500, b"", 0.0, patience=0.2), ("together",))
    assert told in str(refused.value)
    assert str(refused.value).endswith("let MASTER_ADDR and MASTER_PORT be of a free port there, the same for all")


def test_who_has_not_come_is_told() -> None:
    meeting = Meeting(0, 3, "127.0.0.1", 0, b"", 0.0, patience=0.2)
    with pytest.raises(ProcessError, match=r"of 3 processes these have not come to process 0, .*: 1, 2; start all"):
        meet(meeting, ("together",))


def test_a_timeout_that_is_no_number_is_refused(by_itself: pytest.MonkeyPatch) -> None:
    for name, value in {**as_torchrun(0, 2, 1), "XPNET_PROCESS_TIMEOUT": "ten"}.items():
        by_itself.setenv(name, value)
    find_collectives.cache_clear()
    with pytest.raises(ProcessError, match="XPNET_PROCESS_TIMEOUT is ten; it is a number of seconds, or 0"):
        find_collectives()


@pytest.mark.parametrize(
    ("what", "told"),
    [("data", "has other rows to train on than process 0"), ("rows", "2 processes cannot share batches of 1 rows")],
)
def test_wrong_launches_are_told_once(what: str, told: str) -> None:
    found = run(2, [*PROGRAM, "wrong", what])
    errors = "".join(process.err for process in found)
    assert all(process.code == 1 for process in found)
    assert errors.count(told) == 1, errors

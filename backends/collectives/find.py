"""The group of processes that this one was started in, as the environment says it."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from traceback import format_exception
from types import TracebackType
from typing import NamedTuple

from .base import Collectives, ProcessError
from .meeting import Meeting
from .tcp import TcpCollectives


class Launcher(NamedTuple):
    """What a launcher sets in the environment of the processes that it starts.

    Attributes:
        size, rank, local_rank: the names of the variables that say how many there are, which one this is, and which
            one of its machine.
        by_mpi: whether they speak by MPI; else over TCP.
    """

    size: str
    rank: str
    local_rank: str
    by_mpi: bool = False


TORCHRUN = Launcher("WORLD_SIZE", "RANK", "LOCAL_RANK")  # and whoever sets the same variables
OPEN_MPI = Launcher("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", by_mpi=True)
PMI = Launcher("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", by_mpi=True)  # MPICH, Intel MPI
SLURM = Launcher("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")  # srun
#: The first one that has started several is meant: torchrun and mpiexec may run inside of what SLURM has started.
LAUNCHERS = (TORCHRUN, OPEN_MPI, PMI, SLURM)
#: From here on the numbers of steps are those of a job's script, its interactive shell and the like: of one task each.
SPECIAL_STEPS = 0xFFFFFFF0
#: srun sets the variables of an MPI, too, whether that is used or not.
MPI_OF_SLURM = ("PMIX_NAMESPACE", "PMI_SIZE")
#: Seconds in which a process does something, if it does not hang: for as long PyTorch waits for NCCL. Longer is not
#: needed, as one that computes, reads or writes is waited for however long it takes.
TIMEOUT = 600.0
#: Ports for the steps of jobs of SLURM, below those that Linux deals out. Jobs that follow each other, and the first
#: steps of each, have different ones: they may share a machine.
PORTS_OF_SLURM, STEPS_OF_A_JOB = range(20000, 30000), 7
#: So far from the port of torchrun is ours. The next ones may be those of other runs of torchrun.
FROM_PORT_OF_TORCHRUN = 1000


def launched() -> int:
    """As one of how many processes this one was started, as the environment says; 1: by itself."""
    launcher = _launcher()
    return 1 if launcher is None else _number(launcher.size)


def local_rank() -> int | None:
    """Which process of its machine this one is; None where it was started by itself, or nothing says it."""
    launcher = _launcher()
    number = -1 if launcher is None else _number(launcher.local_rank)
    if launcher is PMI and number < 0 and _number(SLURM.size) == _number(PMI.size):
        number = _number(SLURM.local_rank)  # srun --mpi=pmi2
    return None if number < 0 else number


def _launcher() -> Launcher | None:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun by itself, even where it has started one process only
        return TORCHRUN if _number(TORCHRUN.size) > 1 else None
    found = [launcher for launcher in LAUNCHERS if _number(launcher.size) > 1]
    if SLURM in found and _in_a_shell_of_slurm():
        found.remove(SLURM)
        if PMI in found and PMI.local_rank not in os.environ:  # srun --mpi=pmi2
            found.remove(PMI)
    # Scripts of jobs export WORLD_SIZE, but cannot export RANK, which is another one in each task.
    return next((launcher for launcher in found if _number(launcher.rank) >= 0), found[0] if found else None)


def _in_a_shell_of_slurm() -> bool:
    """Whether the variables of a step are those of an interactive shell, ``srun --ntasks 4 --pty bash`` for instance,
    or of a job's script: what is started in them is one process. (SLURM_PTY_PORT alone does not say so, for srun hands
    it on to the tasks that it starts from such a shell; but these have no terminal.)"""
    if _number("SLURM_STEP_ID") >= SPECIAL_STEPS:
        return True
    if "SLURM_PTY_PORT" not in os.environ or _number("SLURM_TASK_PID") == os.getpid():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _number(name: str) -> int:
    """The number that a variable is; -1 where it is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else -1


@cache
def find_collectives() -> Collectives:
    """The processes that were started together with this one; of this one alone where it was started by itself.

    Raises:
        ProcessError: it was started as one of several, but what they speak with is not there.
    """
    launcher, size = _launcher(), launched()
    said = os.environ.get(TORCHRUN.size) if TORCHRUN.rank in os.environ else None
    if launcher is None and said is not None and _number(TORCHRUN.size) < 1:  # each of several would train by itself
        raise ProcessError(f"{TORCHRUN.size} is {said}, which is no number of processes; say how many there are")
    if launcher is None:
        return Collectives() if _number(SLURM.size) > 1 and _in_a_shell_of_slurm() else _by_mpi(1)
    if launcher in (SLURM, PMI) and _number(SLURM.size) == size:
        found = _by_mpi(1) if any(name in os.environ for name in MPI_OF_SLURM) else Collectives()
        return found if found.size > 1 else _over_tcp(SLURM, size)
    return _by_mpi(size) if launcher.by_mpi else _over_tcp(launcher, size)


def _by_mpi(size: int) -> Collectives:
    """The processes of MPI.

    Args:
        size: how many its launcher has started, as the environment says.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # the latter where mpi4py finds no MPI
        if size == 1:
            return Collectives()
        raise ProcessError(
            f"this is one of {size} processes, which need mpi4py and an MPI to train together; pip install 'xpnet[mpi]'"
        ) from None
    from .mpi import MpiCollectives

    if MPI.COMM_WORLD.Get_size() > 1:
        return _ending_together(MpiCollectives(MPI.COMM_WORLD, timeout()))
    if size > 1:
        raise ProcessError(
            f"this was started as one of {size} processes by another MPI than that of mpi4py, which is "
            f"{MPI.get_vendor()[0]}; start them with its mpiexec, or srun with --mpi=pmix"
        )
    return Collectives()


def _over_tcp(launcher: Launcher, size: int) -> Collectives:
    return _ending_together(TcpCollectives(_meeting(launcher, size)))


def _meeting(launcher: Launcher, size: int) -> Meeting:
    """Where the processes of a launcher that brings no MPI meet.

    Raises:
        ProcessError: the environment does not say it.
    """
    rank, host = _number(launcher.rank), os.environ.get("MASTER_ADDR", "")
    port, job = _number("MASTER_PORT"), os.environ.get("TORCHELASTIC_RUN_ID", "")
    if not 0 <= rank < size:
        said = os.environ.get(launcher.rank, "")
        which = (
            f"{launcher.rank} is {said}, which is not from 0 to {size - 1}" if said else f"there is no {launcher.rank}"
        )
        raise ProcessError(
            f"{launcher.size} says that this is one of {size} processes, but {which}; "
            f"start them with torchrun, srun or mpiexec -n {size} python ..."
        )
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        port += FROM_PORT_OF_TORCHRUN if port + FROM_PORT_OF_TORCHRUN < 2**16 else -FROM_PORT_OF_TORCHRUN
    if launcher is SLURM:
        numbers = max(_number("SLURM_JOB_ID"), 0), max(_number("SLURM_STEP_ID"), 0)
        job = "{}.{}".format(*numbers)
        host = host or first_host(os.environ.get("SLURM_STEP_NODELIST", ""))
        number = numbers[0] * STEPS_OF_A_JOB + numbers[1]
        port = port if port > 0 else PORTS_OF_SLURM[number % len(PORTS_OF_SLURM)]
    port = own if (own := _number("XPNET_PORT")) > 0 else port
    if not host or port <= 0:
        raise ProcessError(
            f"this is one of {size} processes, but nothing says where they meet; set MASTER_ADDR to the machine of "
            "process 0 and MASTER_PORT to a free port there, or start them with torchrun, srun or mpiexec"
        )
    key = f"xpnet {os.environ.get('XPNET_KEY', '')} {job} {size}"
    return Meeting(rank, size, host, port, key.encode(), timeout())


def timeout() -> float:
    """For how many seconds a process may do nothing while others wait for it; 0: for any time.

    Raises:
        ProcessError: the environment says something else than a number.
    """
    text = os.environ.get("XPNET_PROCESS_TIMEOUT", "") or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ProcessError(f"XPNET_PROCESS_TIMEOUT is {text}; it is a number of seconds, or 0 for no end")
    return seconds


def first_host(hosts: str) -> str:
    """The first machine of a list as SLURM writes it: node007 of ``node[007-012,020],other``."""
    found = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found[0]) if found else ""


def _ending_together(collectives: Collectives) -> Collectives:
    """Let an error that ends one of the processes end all: they would wait for it forever."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        collectives.end("".join(format_exception(kind, error, trace)), _write)

    sys.excepthook = hook
    return collectives


def _write(text: str) -> None:
    print(text.rstrip(), file=sys.stderr, flush=True)

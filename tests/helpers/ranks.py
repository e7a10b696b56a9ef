"""Programs that run as several processes, which know of each other by the environment, as from torchrun or SLURM."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.helpers.mpi import environment


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def as_torchrun(rank: int, size: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def as_slurm(rank: int, size: int, job: int, *, host: str = "localhost") -> dict[str, str]:
    """What ``srun`` sets in a task, as clusters do (23.11, with PMIx as the default of ``--mpi`` but no MPI)."""
    return {
        "SLURM_GTIDS": ",".join(map(str, range(size))),
        "SLURM_JOBID": str(job),
        "SLURM_JOB_CPUS_PER_NODE": str(size),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_NODELIST": host,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_LAUNCH_NODE_IPADDR": "10.19.0.64",
        "SLURM_LOCALID": str(rank),
        "SLURM_MPI_TYPE": "pmix",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": host,
        "SLURM_NPROCS": str(size),
        "SLURM_NTASKS": str(size),
        "SLURM_PROCID": str(rank),
        "SLURM_SRUN_COMM_HOST": "10.19.0.64",
        "SLURM_SRUN_COMM_PORT": "34899",
        "SLURM_STEPID": "0",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_LAUNCHER_PORT": "34899",
        "SLURM_STEP_NODELIST": host,
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_STEP_TASKS_PER_NODE": str(size),
        "SLURM_TASKS_PER_NODE": str(size),
        "SLURM_TASK_PID": "10068",
    }


def as_script_of_slurm(tasks: int) -> dict[str, str]:
    """What ``sbatch --ntasks`` sets in a job's script, and ``salloc`` in a shell, where nothing is parallel."""
    step = as_slurm(0, tasks, 7)
    return {name: value for name, value in step.items() if not name.startswith(("SLURM_STEP", "SLURM_SRUN"))}


def as_shell_of_slurm(tasks: int) -> dict[str, str]:
    """What ``srun --ntasks --pty bash`` sets, and hands on to what ``srun`` starts from there."""
    return as_slurm(0, tasks, 7) | {"SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "34129", "SLURM_PTY_WIN_COL": "146"}


def start(
    processes: int,
    program: list[str],
    variables: Callable[[int, int, int], dict[str, str]] = as_torchrun,
    more: dict[str, str] | None = None,
    **options: Any,
) -> list[subprocess.Popen[str]]:
    """Start ``python program`` as each of so many processes."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *program],
            env=environment() | variables(rank, processes, port) | (more or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for rank in range(processes)
    ]


def run(processes: int, program: list[str], *, seconds: float = 120.0, **options: Any) -> list[Ended]:
    """Exit code, output and errors of each process."""
    started = start(processes, program, **options)
    found = []
    try:
        for process in started:
            out, err = process.communicate(timeout=seconds)
            found.append(Ended(process.returncode, out, err))
    finally:
        for process in started:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    return found

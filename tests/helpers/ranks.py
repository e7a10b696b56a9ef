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


def as_slurm(rank: int, size: int, port: int) -> dict[str, str]:
    return {
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_ID": "0",
    }


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

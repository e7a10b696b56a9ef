"""Programs that run as several processes of MPI, with an MPI from a wheel (``pip install 'xpnet[mpi]'``)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
#: What an MPI has set in a process that it has started; another one must not see it.
OF_LAUNCHERS = (
    "OMPI_", "PMIX_", "PRTE_", "PMI_", "MPI_", "SLURM_",
    "WORLD_SIZE", "RANK", "LOCAL_", "MASTER_", "TORCHELASTIC_", "GROUP_", "XPNET_",
)  # fmt: skip


def mpiexec() -> str:
    """The launcher; the test is skipped where there is none."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed (pip install 'xpnet[mpi]')")
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec (pip install 'xpnet[mpi]')")
    return found


def environment() -> dict[str, str]:
    """Of processes that may be more than there are cores, and may be root's in a container."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(OF_LAUNCHERS)}
    return own | {
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }


def start(
    processes: int, program: list[str], more: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start ``python program`` in so many processes, with ``more`` in their environment."""
    command = [mpiexec(), "-n", str(processes), sys.executable, *program]
    return subprocess.Popen(
        command, env=environment() | (more or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run(processes: int, program: list[str], seconds: float = 120.0, **options: Any) -> tuple[int, str, str]:
    """Exit code, output and errors of ``python program`` in so many processes."""
    process = start(processes, program, **options)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{processes} processes did not end in {seconds} s:\n{out}\n{err}") from None
    return process.returncode, out, err

"""``python -m benchmarks.scaling``: what it costs that processes train together, and how far it goes.

**Measured** here, by processes of MPI (``pip install 'xpnet[mpi]'``), one thread of the BLAS each: the sum along the
tree beside MPI's own allreduce, and steps of 2 and 4 processes, with either sum, beside those of one: on the same batch
(strong scaling) and on a batch as many times as large (weak scaling). Then steps of one process on a batch in blocks.
All that is compared takes turns in one run; shown are medians of the ratios within a turn, and their range.

**Simulated**: the same steps by up to 1,024 GPUs or processes, by an alpha-beta model (``model.py``) with published
latencies and bandwidths (``machines.py``). The same model of this machine, made from messages and additions alone, is
held against the sums and steps that were measured.

``scaling.md``, ``.json`` and ``.png`` are written to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backends.cpu.cores import cores
from nn.cli.processes import OF_OPEN_MPI, THREADS

from . import report
from .machines import WIDTHS

RESULTS = Path(__file__).parent.parent / "results"
ROOT = Path(__file__).parent.parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, simulate, print and write; 2 where there is no MPI to measure with."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="what many processes cost")
    parser.add_argument(
        "--processes", type=int, nargs="+", choices=(2, 4, 8), default=[2, 4], help="how many are started"
    )
    parser.add_argument("--networks", nargs="+", choices=WIDTHS, default=list(WIDTHS), help="which are measured")
    parser.add_argument("--batch", type=int, default=128, help="rows of a batch, of each process with weak scaling")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each that are timed")
    parser.add_argument("--seconds", type=float, default=0.1, help="what a turn takes, about")
    parser.add_argument(
        "--limit", type=float, default=12.0, help="seconds for a row of a table, once it has three rounds"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where the files go")
    parser.add_argument("--from", type=Path, dest="given", metavar="FILE", help="a .json to write the rest of anew")
    parser.add_argument("--dry", action="store_true", help="print the tables but write no files")
    settings = parser.parse_args(argv)
    if settings.given is not None:
        measured = json.loads(settings.given.read_text())["measured"]
    else:
        try:
            measured = measure(settings)
        except Unmeasured as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    made = {"measured": measured, **report.simulated(measured)}
    text = report.text(made)
    print(text)
    if not settings.dry:
        path = settings.out / "scaling"
        path.with_suffix(".json").write_text(json.dumps(made, indent=1) + "\n")
        path.with_suffix(".md").write_text(text)
        report.write_picture(made, path.with_suffix(".png"))
    return 0


class Unmeasured(Exception):
    """The processes could not be started, or failed."""


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """What each number of processes has measured, and one process by itself."""
    asked = {name: getattr(settings, name) for name in ("networks", "batch", "rounds", "seconds", "limit")}
    found: dict[str, Any] = {"asked": asked, "cores": cores(), "machine": machine()}
    before = load()
    found["blocks"] = started([], asked | {"what": "blocks"})
    for processes in settings.processes:
        launcher = [mpiexec(), "-n", str(processes)]
        found[str(processes)] = started(launcher, asked | {"what": "processes"})
    found["load"] = [before, load()]
    return found


def started(launcher: list[str], asked: dict[str, Any]) -> dict[str, Any]:
    """What ``measure`` prints, started so."""
    environment = OF_OPEN_MPI | os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(ROOT)}
    command = [*launcher, sys.executable, "-m", "benchmarks.scaling.measure", json.dumps(asked)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode or not lines:
        raise Unmeasured(f"the processes have failed: {ended.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def mpiexec() -> str:
    """The launcher of the MPI that mpi4py has."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None or find_spec("mpi4py") is None:
        raise Unmeasured("there is no MPI to measure with; pip install 'xpnet[mpi]'")
    return found


def load() -> float:
    """How many programs wanted a core in the last minute, this one included; 0 where nobody knows."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def machine() -> str:
    import numpy

    from backends import get_backend

    device = get_backend("cpu").device
    return (
        f"{cores()} cores ({device.hardware()}), one BLAS thread in each process, Python {sys.version.split()[0]}, "
        f"numpy {numpy.__version__}, {date.today().isoformat()}"
    )


if __name__ == "__main__":
    sys.exit(main())

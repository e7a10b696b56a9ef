"""The group of processes that this one was started in."""

from __future__ import annotations

import os
import sys
from functools import cache
from traceback import format_exception
from types import TracebackType

from ..messages import OneSentence
from .base import Collectives

#: What launchers of MPI set in the environment of the processes that they start: how many there are.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")
#: What launchers that bring no MPI set.
OTHER_SIZES = ("WORLD_SIZE",)


class ProcessError(OneSentence, ValueError):
    """The processes cannot train together; the message says why, and what to do."""


def launched() -> int:
    """As one of how many processes this one was started, as the environment says; 1: by itself."""
    return _size(SIZES + OTHER_SIZES)


def _size(names: tuple[str, ...]) -> int:
    return max((int(text) for name in names if (text := os.environ.get(name, "")).isdecimal()), default=1)


@cache
def find_collectives() -> Collectives:
    """The processes that were started together with this one; of this one alone where it was started by itself.

    Raises:
        ProcessError: it was started as one of several, but what they speak with is not there.
    """
    size = launched()
    try:
        from mpi4py import MPI
    except ImportError:
        if size == 1:
            return Collectives()
        raise ProcessError(
            f"this is one of {size} processes, which need mpi4py to train together; pip install 'xpnet[mpi]'"
        ) from None
    from .mpi import MpiCollectives

    if MPI.COMM_WORLD.Get_size() > 1:
        return _ending_together(MpiCollectives(MPI.COMM_WORLD))
    if _size(SIZES) > 1:
        raise ProcessError(
            f"this was started as one of {size} processes by another MPI than that of mpi4py, which is "
            f"{MPI.get_vendor()[0]}; start them with its mpiexec, or srun with --mpi=pmix"
        )
    if size > 1:
        raise ProcessError(
            f"this was started as one of {size} processes, by torchrun for instance, without MPI; start them with "
            f"mpiexec -n {size} python ... instead"
        )
    return Collectives()


def _ending_together(collectives: Collectives) -> Collectives:
    """Let an error that ends one of the processes end all: they would wait for it forever."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        collectives.end("".join(format_exception(kind, error, trace)), _write)

    sys.excepthook = hook
    return collectives


def _write(text: str) -> None:
    print(text.rstrip(), file=sys.stderr, flush=True)

"""The group of processes that this one was started in."""

from __future__ import annotations

import os
from functools import cache

from .base import Collectives

#: What launchers of MPI set in the environment of the processes that they start: how many there are.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")


class ProcessError(ValueError):
    """The processes cannot train together; the message says why, and what to do."""


@cache
def find_collectives() -> Collectives:
    """The processes that were started together with this one; of this one alone where it was started by itself.

    Raises:
        ProcessError: it was started as one of several, but what they speak with is not there.
    """
    size = next((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdigit()), 1)
    try:
        from mpi4py import MPI
    except ImportError:
        if size == 1:
            return Collectives()
        raise ProcessError(
            f"this is one of {size} processes, which need mpi4py to train together; pip install 'xpnet[mpi]'"
        ) from None
    from .mpi import MpiCollectives

    if MPI.COMM_WORLD.Get_size() == 1:
        if size > 1:
            raise ProcessError(
                f"this was started as one of {size} processes by another MPI than that of mpi4py; start them with the "
                "mpiexec of this environment"
            )
        return Collectives()
    return MpiCollectives(MPI.COMM_WORLD)

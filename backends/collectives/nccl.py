"""Processes with a GPU each: messages from the memory of one to that of another, by NCCL, through CuPy.

NCCL carries arrays only. That the processes find each other, and all that they say to each other in Python's objects,
is left to those who have been started together, by MPI or over TCP.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import warnings
from collections.abc import Sequence
from functools import cache
from socket import gethostname
from typing import Any

from ..typing import Array
from .base import Collectives, ProcessError

#: NCCL 2.9, the first one whose calls a CUDA graph can have.
OLDEST = 20900
INSTALL = "pip install nvidia-nccl-cu12 or nvidia-nccl-cu13, as CuPy's CUDA is"
#: Whether NCCL registers the memory of calls that are captured. It does where nobody says otherwise, and for that the
#: processes wait for each other during the capture: they would for ever for one whose capture was interrupted. It also
#: demands of all processes what CuPy's pool does not promise, such as the same offsets of arrays in their pieces of
#: memory, and has hung in graphs with short and with long calls (issue 2389 of NCCL). Only copies are saved by it.
REGISTERS = "NCCL_GRAPH_REGISTER"


class Nccl:
    """The processes of a group, the GPU of each being the current one. All make the same calls in the same order.

    Calls go to the current stream, and return at once. They can be captured there; then they are on all processes, or
    on none.

    Args:
        cupy: the module.
        collectives: the group.

    Raises:
        ProcessError: on all of them; one of them has no NCCL, another version, or cannot reach the others.
    """

    def __init__(self, cupy: Any, collectives: Collectives) -> None:
        self._cuda, self._nccl = cupy.cuda, _found(cupy)
        os.environ.setdefault(REGISTERS, "0")  # NCCL reads it once, when it first needs it
        versions = collectives.gather((gethostname(), "" if self._nccl is None else str(self._nccl.get_version())))
        for rank, (host, version) in enumerate(versions):
            if not version or int(version) < OLDEST:
                what = f"NCCL {version}, which is too old" if version else "no NCCL that CuPy finds"
                raise ProcessError(f"process {rank}, on {host}, has {what}; {INSTALL}")
            if version != versions[0][1]:
                raise ProcessError(
                    f"process {rank}, on {host}, has NCCL {version}, process 0 has {versions[0][1]}; install the same "
                    "one for all"
                )
        name, failure = collectives.by_first(self._nccl.get_unique_id), ""
        try:
            self._communicator = self._nccl.NcclCommunicator(collectives.size, name, collectives.rank)
        except RuntimeError as error:  # NcclError
            failure = str(error)
        for rank, text in enumerate(collectives.gather(failure)):
            if text:
                raise ProcessError(
                    f"NCCL cannot connect process {rank} to the others ({text}); NCCL_DEBUG=INFO tells why"
                )
        # It stays as long as the process: NCCL would not let go of it before all graphs that have its calls have gone,
        # and wait for that when Python ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._communicator))
        self._size = collectives.size
        self._types = {"float32": self._nccl.NCCL_FLOAT32, "float64": self._nccl.NCCL_FLOAT64}

    def all_gather(self, values: Array, out: Array) -> None:
        """``values`` (m,) of each process, one after the other, in ``out`` (size m) of all."""
        stream = self._cuda.get_current_stream().ptr
        kind = self._types[values.dtype.name]
        self._communicator.allGather(values.data.ptr, out.data.ptr, values.size, kind, stream)

    def all_to_all(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        """Arrays from each process to each, itself included.

        Args:
            sent: to each, by rank.
            received: where those of each go, by rank, in the order in which it has sent them.
        """
        stream = self._cuda.get_current_stream().ptr
        self._nccl.groupStart()
        try:
            for rank in range(self._size):
                for call, arrays in ((self._communicator.send, sent), (self._communicator.recv, received)):
                    for x in arrays[rank]:
                        if x.size:
                            call(x.data.ptr, x.size, self._types[x.dtype.name], rank, stream)
        finally:
            self._nccl.groupEnd()


@cache
def connected(cupy: Any, gpu: int, collectives: Collectives) -> Nccl:
    """The processes of a group as NCCL connects them, this one by the GPU of that number, which is the current one:
    once in a process, for all that it trains."""
    return Nccl(cupy, collectives)


def _found(cupy: Any) -> Any:
    """CuPy's module of NCCL; None where it finds no library, of which it would warn in nine lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(f"{cupy.__name__}.cuda.nccl")
    except ImportError:
        return None
    return found if found.available else None

"""NCCL for emulated GPUs, one in each process: the part of ``cupy.cuda.nccl`` that ``backends.collectives.nccl`` uses.

Bytes go through a thread of process 0, whose address is the unique id, as the id of NCCL has one in it. What is called
is put on the stream, and so is run at once or noted in a graph, with memory known by its address only. It is stricter
than NCCL where that would hang or go on with wrong numbers: calls must meet the same calls of the others, captured like
them, and what one sends another must take.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from types import ModuleType
from typing import Any

import numpy as np

from tests.helpers.emulated_cuda import Used, enqueue, memory, stream_at, used

ID_BYTES = 128
NCCL_FLOAT32, NCCL_FLOAT64 = 7, 8
SIZES = {NCCL_FLOAT32: 4, NCCL_FLOAT64: 8}
KEY = b"emulated NCCL"


class NcclError(RuntimeError):
    pass


def get_unique_id() -> bytes:
    listener = Listener(("127.0.0.1", 0), authkey=KEY)
    threading.Thread(target=_deal_out, args=(listener,), daemon=True).start()
    return str(listener.address[1]).encode().ljust(ID_BYTES, b"\0")


def _deal_out(listener: Listener) -> None:
    """Give each process what the others have for it, call by call."""
    first = listener.accept()
    size, rank = first.recv()
    connections = {rank: first}
    while len(connections) < size:
        other = listener.accept()
        connections[other.recv()[1]] = other
    while True:
        try:
            calls = [connections[rank].recv() for rank in range(size)]
        except EOFError:
            return
        for to in reversed(range(size)):  # process 0, with which this ends, has its own at last
            connections[to].send([(*call[:2], call[2][to]) for call in calls])


class _Group(threading.local):
    """Calls between ``groupStart`` and ``groupEnd``."""

    calls: list[tuple[str, NcclCommunicator, int, int, int, int]] | None = None


_group = _Group()


def groupStart() -> None:
    assert _group.calls is None
    _group.calls = []


def groupEnd() -> None:
    calls, _group.calls = _group.calls, None
    assert calls
    communicator, stream = calls[0][1], calls[0][-1]
    assert all(call[1] is communicator and call[-1] == stream for call in calls)
    size = communicator.size
    sent = [[(at, n) for what, _, at, n, peer, _ in calls if (what, peer) == ("send", to)] for to in range(size)]
    got = [[(at, n) for what, _, at, n, peer, _ in calls if (what, peer) == ("recv", of)] for of in range(size)]

    def work(captured: bool) -> None:
        found = communicator.exchange("all to all", captured, [[ctypes.string_at(*one) for one in to] for to in sent])
        for pieces, places in zip(found, got, strict=True):
            assert [len(piece) for piece in pieces] == [n for _, n in places]
            for piece, (at, _) in zip(pieces, places, strict=True):
                ctypes.memmove(at, piece, len(piece))

    uses = [Used(at, at + n, of is got) for of in (sent, got) for places in of for at, n in places]
    _launch("all to all", [*uses, communicator.own()], work, stream)


class NcclCommunicator:
    made = 0

    def __init__(self, ndev: int, commId: bytes, rank: int) -> None:
        NcclCommunicator.made += 1
        assert NcclCommunicator.made == 1, "each takes memory of the GPU"
        assert len(commId) == ID_BYTES
        assert 0 <= rank < ndev
        self.size, self.rank = ndev, rank
        self.memory = memory.allocate((1,), np.uint8)
        self.connection: Connection = Client(("127.0.0.1", int(commId.rstrip(b"\0"))), authkey=KEY)
        self.connection.send((ndev, rank))

    def __del__(self) -> None:
        raise AssertionError("NCCL would wait for the graphs that have its calls")

    def own(self) -> Used:
        """What all its calls use: two of them may not run at the same time."""
        return used(self.memory, True)

    def exchange(self, what: str, captured: bool, given: list[Any]) -> list[Any]:
        """What each process has for this one; ``given``: what this one has for each."""
        self.connection.send((what, captured, given))
        found = self.connection.recv()
        assert {call[:2] for call in found} == {(what, captured)}, "the processes do not make the same call"
        return [call[2] for call in found]

    def allGather(self, sendbuf: int, recvbuf: int, count: int, datatype: int, stream: int) -> None:
        assert _group.calls is None
        n = count * SIZES[datatype]

        def work(captured: bool) -> None:
            found = self.exchange("all gather", captured, [ctypes.string_at(sendbuf, n)] * self.size)
            for rank, piece in enumerate(found):
                assert len(piece) == n
                ctypes.memmove(recvbuf + rank * n, piece, n)

        uses = [Used(sendbuf, sendbuf + n, False), Used(recvbuf, recvbuf + self.size * n, True), self.own()]
        _launch("all gather", uses, work, stream)

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        assert _group.calls is not None, "two processes that send to each other without a group wait forever"
        _group.calls.append(("send", self, sendbuf, count * SIZES[datatype], peer, stream))

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        assert _group.calls is not None
        _group.calls.append(("recv", self, recvbuf, count * SIZES[datatype], peer, stream))


def _launch(name: str, uses: list[Used], work: Callable[[bool], None], stream: int) -> None:
    captured = stream_at[stream].nodes is not None
    enqueue(name, uses, lambda: work(captured), stream_at[stream])


def add_nccl(cupy: Any) -> ModuleType:
    """Let a stand-in for the module ``cupy`` have this as its ``cuda.nccl``."""
    module: Any = ModuleType(f"{cupy.__name__}.cuda.nccl")
    module.available = True
    module.get_version = lambda: 22703
    for thing in (get_unique_id, groupStart, groupEnd, NcclCommunicator, NcclError):
        setattr(module, thing.__name__, thing)
    module.NCCL_FLOAT32, module.NCCL_FLOAT64 = NCCL_FLOAT32, NCCL_FLOAT64
    sys.modules[module.__name__] = module
    found: ModuleType = module
    return found

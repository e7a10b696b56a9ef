"""Processes that something else than MPI has started, torchrun or SLURM for instance: messages over TCP, by process 0.

Every other process has two connections to process 0. On one they do what all do together, in its order: who has
something for all gives it to process 0, which deals it out. That is right and slow: all gradients go through one host.
(Those of GPUs do not go this way, see ``nccl``.) On the other one a thread of each process listens to what may come at
any time: that one has an error, or ends. Who is gone without a word, killed for instance, is seen by its connection.
"""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from queue import Empty, Queue
from time import monotonic, sleep
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..typing import HostArray
from .base import Collectives, ProcessError, add_into_left, all_nodes
from .tree import Node, tree_sum

#: For how long processes wait for each other at the start.
CONNECT_SECONDS = 120.0
#: For how long nothing may be said while two processes introduce themselves.
GREETING_SECONDS = 10.0
#: For how long a process that has lost a connection waits to be told why.
LAST_WORDS = 2.0
#: TCP asks a silent machine so often, so many times, after so many seconds, whether it is still there.
KEEP_ALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 5}


class Meeting(NamedTuple):
    """Who meets, and where.

    Attributes:
        rank, size: of this process, and how many there are.
        host, port: of process 0.
        key: what only processes of this run say.
    """

    rank: int
    size: int
    host: str
    port: int
    key: bytes


class TcpCollectives(Collectives):
    """The processes of a meeting.

    Raises:
        ProcessError: they have not met in time.
    """

    engine = "TCP"

    def __init__(self, meeting: Meeting) -> None:
        self.rank, self.size = meeting.rank, meeting.size
        self._host = socket.gethostname()
        self._hosts = {self.rank: self._host}
        connections = self._received(meeting) if self.rank == 0 else self._connected(meeting)
        self._together = {rank: both["together"] for rank, both in connections.items()}  # by the rank at the other end
        self._watched = {rank: both["watched"] for rank, both in connections.items()}
        self._sending = threading.Lock()  # on these, from two threads
        self._errors: dict[int, str] = {}
        self._error_came = threading.Condition()
        self._texts: Queue[list[str]] = Queue()
        self._buffers = cache(self._make_buffers)
        threading.Thread(target=self._watch, name="xpnet: other processes", daemon=True).start()
        atexit.register(self._leave)

    # ---- what all do together ---------------------------------------------------------------------------------------

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        of_all, rows = self._buffers(out.shape[0], out.dtype.str, blocks)
        if self.rank:
            for values in own:
                self._send(0, np.ascontiguousarray(values).data)
            self._receive_into(0, out)
            return out
        of_others = iter(rows)
        for rank in range(1, self.size):
            for _ in of_all[rank]:
                self._receive_into(rank, next(of_others))
        total = tree_sum([node for own_nodes in of_all for node in own_nodes], [*own, *rows], add_into_left)
        for rank in range(1, self.size):
            self._send(rank, total.data)
        np.copyto(out, total)
        return out

    def _make_buffers(self, n: int, dtype: str, blocks: int) -> tuple[list[list[Node]], HostArray]:
        """The nodes of each process; in process 0, memory for the sums of those of the others."""
        nodes = all_nodes(self.size, blocks)
        return nodes, np.empty((0 if self.rank else sum(map(len, nodes[1:])), n), dtype)

    def gather(self, value: Any) -> list[Any]:
        if self.rank:
            self._send(0, pickle.dumps(value))
            found: list[Any] = self._receive(0)
            return found
        found = [value, *(self._receive(rank) for rank in range(1, self.size))]
        text = pickle.dumps(found)
        for rank in range(1, self.size):
            self._send(rank, text)
        return found

    def broadcast(self, value: Any) -> Any:
        if self.rank:
            return self._receive(0)
        text = pickle.dumps(value)
        for rank in range(1, self.size):
            self._send(rank, text)
        return value

    def any(self, asked: bool) -> bool:
        return any(self.gather(asked))

    def _send(self, rank: int, data: Any) -> None:
        try:
            self._together[rank].send_bytes(data)
        except OSError:
            self._lost(rank)

    def _receive(self, rank: int) -> Any:
        try:
            return self._together[rank].recv()
        except (EOFError, OSError):
            self._lost(rank)

    def _receive_into(self, rank: int, array: HostArray) -> None:
        try:
            self._together[rank].recv_bytes_into(array.data.cast("B"))
        except (EOFError, OSError):
            self._lost(rank)

    def _lost(self, rank: int) -> NoReturn:
        """Nobody is there any more. Who has died is told by the thread, which ends this process."""
        sleep(LAST_WORDS)
        raise ProcessError(
            f"process {rank} has ended while process {self.rank} waits for it; all processes must make the same calls"
        )

    # ---- what comes at any time -------------------------------------------------------------------------------------

    def all_come(self, text: str, seconds: float) -> list[str] | None:
        if self.rank:
            self._to_others(("error", text))
            try:
                return self._texts.get(timeout=seconds + LAST_WORDS)
            except Empty:
                return None
        with self._error_came:
            self._error_came.wait_for(lambda: len(self._errors) == self.size - 1, seconds)
            if len(self._errors) < self.size - 1:
                return None
        texts = [text, *(self._errors[rank] for rank in range(1, self.size))]
        self._to_others(("texts", texts))
        return texts

    def abort(self) -> NoReturn:
        self._to_others(("end", None))
        os._exit(1)

    def _leave(self) -> None:
        """This process ends as it should."""
        self._to_others(("left", None))

    def _to_others(self, message: tuple[str, Any]) -> None:
        with self._sending:
            for connection in self._watched.values():
                try:
                    connection.send(message)
                except OSError:  # it is gone
                    continue

    def _watch(self) -> None:
        """Listen until all have left."""
        ranks = {connection: rank for rank, connection in self._watched.items()}
        while ranks:
            for connection in wait([*ranks]):
                assert isinstance(connection, Connection)
                rank = ranks[connection]
                try:
                    what, text = connection.recv()
                except (EOFError, OSError):
                    self._tell_that_it_is_gone(rank)
                    self.abort()
                if what == "left":
                    del ranks[connection]
                elif what == "end":
                    self.abort()
                elif what == "texts":
                    self._texts.put(text)
                else:
                    with self._error_came:
                        self._errors[rank] = text
                        self._error_came.notify()

    def _tell_that_it_is_gone(self, rank: int) -> None:
        if self.rank <= 1:  # once: process 0, or if it is that, process 1
            print(
                f"process {rank} of {self.size}, on {self._hosts[rank]}, is gone without a word: it was killed, or its "
                "machine failed; the others are ended",
                file=sys.stderr,
                flush=True,
            )

    # ---- the meeting ------------------------------------------------------------------------------------------------

    def _received(self, meeting: Meeting) -> dict[int, dict[str, Connection]]:
        """The connections of the others, by their ranks."""
        here: Queue[tuple[int, str, str, Connection]] = Queue()

        def greet(incoming: socket.socket) -> None:  # whoever it is may be silent, so that each has a thread
            connection = _connection(incoming)
            try:
                deliver_challenge(connection, meeting.key)
                answer_challenge(connection, meeting.key)
                here.put((*connection.recv(), connection))
            except (OSError, EOFError, AuthenticationError):
                connection.close()

        found: dict[int, dict[str, Connection]] = {rank: {} for rank in range(1, self.size)}
        last = monotonic() + CONNECT_SECONDS
        with _listening(meeting) as door:
            door.settimeout(0.05)
            while any(len(both) < 2 for both in found.values()):
                with suppress(TimeoutError):
                    threading.Thread(target=greet, args=(door.accept()[0],), daemon=True).start()
                while not here.empty():
                    rank, host, kind, connection = here.get()
                    found[rank][kind], self._hosts[rank] = connection, host
                if monotonic() > last:
                    missing = ", ".join(str(rank) for rank, both in found.items() if len(both) < 2)
                    raise ProcessError(
                        f"of {self.size} processes these have not come to process 0, at {meeting.host}:{meeting.port}, "
                        f"in {CONNECT_SECONDS:.0f} s: {missing}; start all, with the same MASTER_ADDR and MASTER_PORT"
                    )
        for both in found.values():
            for connection in both.values():
                connection.send(self._host)  # all are here
        return found

    def _connected(self, meeting: Meeting) -> dict[int, dict[str, Connection]]:
        """The connections to process 0."""
        both = {kind: self._introduced(meeting, kind) for kind in ("together", "watched")}
        for connection in both.values():
            try:
                self._hosts[0] = connection.recv()
            except (EOFError, OSError):
                raise ProcessError(f"process 0, at {meeting.host}:{meeting.port}, has ended at the start") from None
        return {0: both}

    def _introduced(self, meeting: Meeting, kind: str) -> Connection:
        last, why = monotonic() + CONNECT_SECONDS, ""
        while monotonic() < last:
            try:
                connection = _connection(socket.create_connection((meeting.host, meeting.port), GREETING_SECONDS))
                if connection.poll(GREETING_SECONDS):
                    answer_challenge(connection, meeting.key)
                    deliver_challenge(connection, meeting.key)
                    connection.send((self.rank, self._host, kind))
                    return connection
                why = "who listens there says nothing"
            except (OSError, EOFError, AuthenticationError) as error:
                why = str(error) or type(error).__name__
            sleep(0.1)
        raise ProcessError(
            f"process {self.rank}, on {self._host}, cannot reach process 0 at {meeting.host}:{meeting.port} ({why}); "
            "let MASTER_ADDR and MASTER_PORT be of a free port there, the same for all"
        )


def _listening(meeting: Meeting) -> socket.socket:
    """A socket at which the others arrive; only from this machine where they are all said to be there."""
    is_local = meeting.host in ("localhost", "127.0.0.1", "::1")
    try:
        return socket.create_server((meeting.host if is_local else "", meeting.port), backlog=2 * meeting.size)
    except OSError as error:
        raise ProcessError(
            f"process 0 cannot listen at port {meeting.port} of {socket.gethostname()} ({error}); choose a free one by "
            "XPNET_PORT or MASTER_PORT, the same for all processes"
        ) from None


def _connection(connected: socket.socket) -> Connection:
    """Messages over a socket, at once, and with an end if the machine at the other end falls silent."""
    connected.settimeout(None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # not everywhere
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(connected.detach())

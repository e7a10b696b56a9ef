"""How processes that know of each other by the environment find process 0: over TCP, and none but those of this run."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from queue import Queue
from time import monotonic, sleep
from typing import NamedTuple

from .base import ProcessError

#: For how long processes wait for each other at the start.
CONNECT_SECONDS = 120.0
#: After so many seconds a process says for whom it waits.
TOLD_AFTER = 5.0
#: For how long nothing may be said while two processes introduce themselves.
GREETING_SECONDS = 10.0
#: TCP asks a silent machine so often, so many times, after so many seconds, whether it is still there.
KEEP_ALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPALIVE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 5}  # the second one is macOS's
#: For so many seconds what was sent to a process may stay unacknowledged by its machine. (TCP does not ask whether a
#: machine is there while it sends to it, and by itself goes on with that for 15 minutes.)
UNACKNOWLEDGED_SECONDS = 7


class Meeting(NamedTuple):
    """Who meets, and where.

    Attributes:
        rank, size: of this process, and how many there are.
        host, port: of process 0.
        key: what only processes of this run say.
        timeout: for how many seconds a process may do nothing while others wait for it; 0: for any time. That of
            process 0 is that of all.
        patience: for how many seconds the processes wait for each other.
    """

    rank: int
    size: int
    host: str
    port: int
    key: bytes
    timeout: float
    patience: float = CONNECT_SECONDS


class Met(NamedTuple):
    """The others, as far as this process is connected to them: all to process 0, and the others to it alone.

    Attributes:
        connections: to each rank, by what they are for.
        hosts: of each rank, this one included.
        timeout: that of process 0.
    """

    connections: dict[int, dict[str, Connection]]
    hosts: dict[int, str]
    timeout: float


def meet(meeting: Meeting, kinds: Sequence[str], door: socket.socket | None = None) -> Met:
    """Connect this process to process 0, or process 0 to all.

    Args:
        kinds: what connections are for; one is made for each.
        door: where process 0 listens (``listening``).

    Raises:
        ProcessError: they have not met in time.
    """
    if meeting.rank:
        return _connected(meeting, kinds)
    with listening(meeting) if door is None else door as door:
        return _received(meeting, kinds, door)


def listening(meeting: Meeting) -> socket.socket:
    """A socket at which the others arrive, by IPv4 and IPv6; only from this machine where they are all said to be
    there.

    Raises:
        ProcessError: the port is not free.
    """
    ways: list[tuple[str, dict[str, object]]] = [("", {})]
    if meeting.host == "::1":
        ways = [("::1", {"family": socket.AF_INET6})]
    elif meeting.host in ("localhost", "127.0.0.1"):
        ways = [("127.0.0.1", {})]
    elif socket.has_dualstack_ipv6():
        ways = [("", {"family": socket.AF_INET6, "dualstack_ipv6": True}), *ways]
    for host, options in ways:
        try:
            return socket.create_server((host, meeting.port), backlog=2 * meeting.size, **options)  # type: ignore[arg-type]
        except OSError as error:
            why = error
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                break  # else IPv6 is switched off
    raise ProcessError(
        f"process 0 cannot listen at port {meeting.port} of {socket.gethostname()} ({why}); choose a free one by "
        "XPNET_PORT or MASTER_PORT, the same for all processes"
    ) from None


def _received(meeting: Meeting, kinds: Sequence[str], door: socket.socket) -> Met:
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

    own = socket.gethostname()
    found: dict[int, dict[str, Connection]] = {rank: {} for rank in range(1, meeting.size)}
    hosts = {0: own}
    begun, is_told = monotonic(), False
    door.settimeout(0.05)
    while any(len(one) < len(kinds) for one in found.values()):
        with suppress(TimeoutError):
            threading.Thread(target=greet, args=(door.accept()[0],), daemon=True).start()
        while not here.empty():
            rank, host, kind, connection = here.get()
            found[rank][kind], hosts[rank] = connection, host
        missing = ", ".join(str(rank) for rank, one in found.items() if len(one) < len(kinds))
        if monotonic() - begun > TOLD_AFTER and not is_told:
            is_told = _tell(meeting, f"waits for {missing} of {meeting.size} at {meeting.host}:{meeting.port}")
        if monotonic() - begun > meeting.patience:
            raise ProcessError(
                f"of {meeting.size} processes these have not come to process 0, at {meeting.host}:{meeting.port}, "
                f"in {meeting.patience:.0f} s: {missing}; start all, with the same MASTER_ADDR and MASTER_PORT, and "
                "let no firewall close that port"
            )
    for one in found.values():
        for connection in one.values():
            connection.send((own, meeting.timeout))  # all are here
    return Met(found, hosts, meeting.timeout)


def _connected(meeting: Meeting, kinds: Sequence[str]) -> Met:
    """The connections to process 0."""
    own = socket.gethostname()
    found = {kind: _introduced(meeting, kind, own) for kind in kinds}
    for connection in found.values():
        try:
            host, timeout = connection.recv()
        except (EOFError, OSError):
            raise ProcessError(f"process 0, at {meeting.host}:{meeting.port}, has ended at the start") from None
    return Met({0: found}, {0: host, meeting.rank: own}, timeout)


def _introduced(meeting: Meeting, kind: str, own: str) -> Connection:
    begun, why, is_told = monotonic(), "", False
    while monotonic() - begun < meeting.patience:
        if monotonic() - begun > TOLD_AFTER and not is_told:
            is_told = _tell(meeting, f"waits for process 0 at {meeting.host}:{meeting.port} ({why})")
        try:
            connection = _connection(socket.create_connection((meeting.host, meeting.port), GREETING_SECONDS))
            if connection.poll(GREETING_SECONDS):
                answer_challenge(connection, meeting.key)
                deliver_challenge(connection, meeting.key)
                connection.send((meeting.rank, own, kind))
                return connection
            why = "who listens there says nothing"
        except TimeoutError:
            why = "nothing comes back, as where a firewall drops what is sent"
        except (OSError, EOFError, AuthenticationError) as error:
            why = str(error) or type(error).__name__
        sleep(0.1)
    raise ProcessError(
        f"process {meeting.rank}, on {own}, cannot reach process 0 at {meeting.host}:{meeting.port} ({why}); let "
        "MASTER_ADDR and MASTER_PORT be of a free port there, the same for all"
    )


def _tell(meeting: Meeting, what: str) -> bool:
    """Say what this process waits for, and up to when."""
    print(f"process {meeting.rank} {what}, {meeting.patience:.0f} s at most", file=sys.stderr, flush=True)
    return True


def _connection(connected: socket.socket) -> Connection:
    """Messages over a socket, at once, and with an end if the machine at the other end falls silent."""
    connected.settimeout(None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # not everywhere
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(connected.detach())


def end_if_unacknowledged(connection: Connection) -> None:
    """Let a connection end, too, where its other end does not acknowledge what is sent. For messages that are read at
    once: TCP counts the time in which a process reads nothing of what it is sent, as well."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # not everywhere
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNACKNOWLEDGED_SECONDS)

"""A thread in each process that listens to the others: that one has an error, ends, is gone without a word, or hangs.

Every so often each process says whether it waits for others, and whether it has done anything since it last said so:
got a message, or computed, read or written, as the time says that processors have spent on it. So one that takes long
over something is told apart from one that hangs, and however long a process evaluates or writes, the others wait.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from queue import Empty, Queue
from time import monotonic, process_time, thread_time
from typing import Any, NoReturn

from .meeting import Met, end_if_unacknowledged

#: For how long a process that has lost a connection waits to be told why.
LAST_WORDS = 2.0
#: So often in the time after which a process is taken to hang each says how it is.
BEATS = 20
#: The part of its time in which a process that does something computes, reads or writes, at least.
BUSY = 0.001
#: For whom a process waits where it does not know it.
ANYONE = -1


class Own:
    """What the thread tells of its own process.

    Attributes:
        waits_for: the rank of the process that it waits for, ``ANYONE``, or None.
        messages: how often it has ended to wait.
        at: says how far the training is; "" where there is none.
    """

    __slots__ = ("at", "messages", "waits_for")

    def __init__(self) -> None:
        self.waits_for: int | None = None
        self.messages = 0
        self.at: Callable[[], str] = str


class _Other:
    """What is known of another process.

    Attributes:
        done: a number that grows while it does something.
        waits_for: as of this one (``Own``).
        silent, idle: for how many beats of this process it has said nothing; and done nothing though one waits for it.
    """

    done, silent, idle = -1, 0, 0
    waits_for: int | None = None


class Watch:
    """Listens to the others, from a thread.

    Args:
        rank, size: of this process, and how many there are.
        met: the connections ``"watched"`` to the others.
        own: what this process does.
        others_tell: whether somebody else, such as MPI's launcher, sees and tells it when a process is gone.
    """

    def __init__(self, rank: int, size: int, met: Met, own: Own, *, others_tell: bool = False) -> None:
        self._rank, self._size, self._hosts, self._own = rank, size, met.hosts, own
        self._others_tell = others_tell
        self._connections = {other: connections["watched"] for other, connections in met.connections.items()}
        self._seconds = met.timeout
        self._others = {other: _Other() for other in self._connections}
        self._sending = threading.Lock()  # on these, from two threads
        self._errors: dict[int, str] = {}
        self._error_came = threading.Condition()
        self._texts: Queue[list[str]] = Queue()
        for connection in self._connections.values():
            end_if_unacknowledged(connection)
        threading.Thread(target=self._run, name="xpnet: other processes", daemon=True).start()
        atexit.register(self._to_others, ("left", None))

    # ---- for the process --------------------------------------------------------------------------------------------

    def all_come(self, text: str, seconds: float) -> list[str] | None:
        """As ``Collectives.all_come``."""
        if self._rank:
            self._to_others(("error", text))
            try:
                return self._texts.get(timeout=seconds + LAST_WORDS)
            except Empty:
                return None
        with self._error_came:
            self._error_came.wait_for(lambda: len(self._errors) == self._size - 1, seconds)
            if len(self._errors) < self._size - 1:
                return None
        texts = [text, *(self._errors[rank] for rank in range(1, self._size))]
        self._to_others(("texts", texts))
        return texts

    def abort(self) -> NoReturn:
        """End all processes, this one included."""
        self._to_others(("end", None))
        os._exit(1)

    def _to_others(self, message: tuple[str, Any]) -> None:
        with self._sending:
            for connection in self._connections.values():
                try:
                    connection.send(message)
                except OSError:  # it is gone
                    continue

    # ---- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Listen until all have left."""
        ranks = {connection: rank for rank, connection in self._connections.items()}
        every = self._seconds / BEATS if self._seconds else None
        # A beat is this thread's own, and late ones are not made up for: where all processes have been stopped for a
        # while, as by a scheduler that lets another job go first, none of them has hung.
        due, done, spent, messages = monotonic() + (every or 0.0), 0, 0.0, 0
        while ranks:
            for connection in wait([*ranks], None if every is None else max(due - monotonic(), 0.0)):
                assert isinstance(connection, Connection)
                rank = ranks[connection]
                try:
                    what, content = connection.recv()
                except (EOFError, OSError) as error:
                    if self._others_tell:
                        del ranks[connection]
                        continue
                    self._tell_that_it_is_gone(rank, error)
                    self.abort()
                if what == "left":
                    del ranks[connection]
                    self._others.pop(rank, None)
                else:
                    self._hear(rank, what, content)
            if every is not None and monotonic() >= due:
                now = process_time() - thread_time()
                if now - spent > BUSY * every or messages != self._own.messages:
                    done += 1
                spent, messages, due = now, self._own.messages, monotonic() + every
                self._to_others(("beat", (done, self._own.waits_for)))
                self._look_for_one_that_hangs()

    def _hear(self, rank: int, what: str, content: Any) -> None:
        if what == "end":
            self.abort()
        elif what == "texts":
            self._texts.put(content)
        elif what == "error":
            with self._error_came:
                self._errors[rank] = content
                self._error_came.notify()
        else:
            other = self._others[rank]
            done, other.waits_for = content
            other.silent, other.idle, other.done = 0, other.idle if done == other.done else 0, done

    def _look_for_one_that_hangs(self) -> None:
        """A beat has passed."""
        own, others = self._own.waits_for, self._others
        one_waits = own is not None or any(other.waits_for is not None for other in others.values())
        for rank, other in others.items():
            both_wait = own == rank and other.waits_for == self._rank and self._rank < rank  # one of them tells
            other.silent += 1
            other.idle = other.idle + 1 if both_wait or (one_waits and other.waits_for is None) else 0
            if max(other.silent, other.idle) > BEATS:
                if other.silent > BEATS:
                    what = "has not answered for {}: it has been stopped, by a signal or a debugger"
                elif both_wait:
                    what = f"and process {self._rank} have waited for each other for {{}}: they have made other calls"
                else:
                    what = "has done nothing for {} while others wait for it: it waits for something itself, a disk"
                    what += " or a lock"
                self._tell(rank, what.format(_duration(self._seconds)))
                self.abort()

    def _tell_that_it_is_gone(self, rank: int, error: Exception) -> None:
        if isinstance(error, TimeoutError) or (isinstance(error, OSError) and not isinstance(error, ConnectionError)):
            self._tell(rank, "does not answer any more: its machine, or the network, has failed")
        else:
            self._tell(
                rank, "is gone without a word: it was killed, perhaps as memory ran short, or its machine failed"
            )

    def _tell(self, rank: int, what: str) -> None:
        if self._rank <= 1:  # once: process 0, or if it is that, process 1
            at = f" ({at})" if (at := self._own.at()) else ""
            print(
                f"process {rank} of {self._size}, on {self._hosts[rank]}, {what}{at}; the others are ended, and "
                "--resume goes on from the last checkpoint",
                file=sys.stderr,
                flush=True,
            )


def _duration(seconds: float) -> str:
    """A time in words: 10 minutes, 2.5 s."""
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} s"

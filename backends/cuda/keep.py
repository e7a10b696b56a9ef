"""Lifetimes: what a captured graph uses must live as long as the graph, and nothing dies while it is captured."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Kept(threading.local):
    launches: list[tuple[Any, ...]] | None = None


_kept = _Kept()


def keep(*things: Any) -> None:
    """Whoever launches says here what the launch uses; while this thread is recording, the recording keeps it."""
    if _kept.launches is not None:
        _kept.launches.append(things)


@contextmanager
def keeping(launches: list[tuple[Any, ...]]) -> Iterator[None]:
    """A context in which what this thread says to ``keep`` is added to ``launches``, one entry for each."""
    _kept.launches = launches
    try:
        yield
    finally:
        _kept.launches = None


class _Collector:
    """Who has it switched off, and whether it was on before."""

    lock = threading.Lock()
    users = 0
    was_on = False


@contextmanager
def collector_off() -> Iterator[None]:
    """A context in which Python's collector of garbage, which is one for all threads, does not run.

    What it frees may belong to anybody, and a finalizer that waits for the device ends every capture that is under way.
    """
    with _Collector.lock:
        if _Collector.users == 0:
            _Collector.was_on = gc.isenabled()
            gc.disable()
        _Collector.users += 1
    try:
        yield
    finally:
        with _Collector.lock:
            _Collector.users -= 1
            if _Collector.users == 0 and _Collector.was_on:
                gc.enable()

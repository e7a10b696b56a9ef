"""Lifetimes: what a captured graph uses must live as long as the graph."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Kept(threading.local):
    things: list[Any] | None = None


_kept = _Kept()


def keep(*things: Any) -> None:
    """Whoever launches says here what the launch uses; while this thread is recording, the recording keeps it."""
    if _kept.things is not None:
        _kept.things += things


@contextmanager
def keeping(things: list[Any]) -> Iterator[None]:
    """A context in which what this thread says to ``keep`` is added to ``things``."""
    _kept.things = things
    try:
        yield
    finally:
        _kept.things = None

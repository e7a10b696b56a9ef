"""Fixtures of the tests of CUDA's backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.cuda.tape import tape
from tests.helpers.emulated_cuda import Stream


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Stream]]:
    """The streams that begin to capture a graph; afterwards none does so any more."""
    begun: list[Stream] = []
    begin = Stream.begin_capture

    def begin_capture(self: Stream) -> None:
        if tape() is None:  # else it is watched that a step launches only what it notes
            begun.append(self)
        begin(self)

    monkeypatch.setattr(Stream, "begin_capture", begin_capture)
    yield begun
    assert all(stream.nodes is None for stream in begun)

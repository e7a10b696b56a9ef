"""Little memory, so that whoever takes much of it is seen."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """This process may take so many bytes in all; whoever takes more gets a MemoryError."""
    if sys.platform != "linux":
        pytest.skip("the limit is Linux's")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)

"""Fixtures for the tests of backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.registry import forget_devices


@pytest.fixture
def nothing_found_yet() -> Iterator[None]:
    """The registry remembers what it found; a test with stand-ins starts from nothing and leaves nothing."""
    forget_devices()
    yield
    forget_devices()

"""Fixtures for the tests of backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.registry import find_device


@pytest.fixture
def nothing_found_yet() -> Iterator[None]:
    """``find_device`` remembers what it found; a test with stand-ins starts from nothing and leaves nothing."""
    find_device.cache_clear()
    yield
    find_device.cache_clear()

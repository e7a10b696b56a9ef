"""What tests of sources share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pooch
import pytest


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, no folder of data, and no way to the network."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a test tried to download")

    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)

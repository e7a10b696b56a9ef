"""What every test of a setting may need of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.settings.runs import Tools


@pytest.fixture
def tools(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tools:
    return Tools(capsys, monkeypatch, tmp_path)

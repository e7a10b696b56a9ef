"""The code of ``docs/streaming.md`` works, from top to bottom, and prints what the page says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import blocks

PAGE = (Path(__file__).parent.parent / "docs" / "streaming.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    told = [*blocks(PAGE), None]
    assert sum(block is not None and block.language == "python" for block in told) >= 3
    for block, following in pairwise(told):
        if block is None or block.language != "python":
            continue
        exec(compile(block.text, "docs/streaming.md", "exec", dont_inherit=True), names)
        expected = following.text if following is not None and following.language == "text" else ""
        assert capsys.readouterr().out.strip() == expected.strip()

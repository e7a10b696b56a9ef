"""The code of ``docs/reports.md`` works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "reports.md").read_text(encoding="utf-8")
MARKED = re.findall(
    r"<!-- tests/test_docs_reports.py runs this( last)? -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL
)


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "example"}
    for _, example in sorted(MARKED, key=lambda found: found[0]):
        exec(compile(example, "docs/reports.md", "exec", dont_inherit=True), namespace)
    assert {path.name for path in tmp_path.iterdir()} == {"filters.png", "maps.png", "report.html"}
    assert namespace["trainer"].evaluate(namespace["data"].test)["accuracy"] > 0.8
    assert "Filters of the first convolution" in (tmp_path / "report.html").read_text(encoding="utf-8")

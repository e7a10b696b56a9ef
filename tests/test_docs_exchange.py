"""The program of docs/exchange.md runs, as far as the libraries that its blocks need are here."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "exchange.md"
BLOCKS = re.findall(
    r"^(?:<!-- needs (.*?) -->\n)?```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras's own code
def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "exchange"}
    missing = set()
    for needs, block in BLOCKS:
        lacking = {name for name in needs.split(", ") if name and importlib.util.find_spec(name) is None}
        missing |= lacking
        if not lacking:
            exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    if missing:
        pytest.skip(f"{', '.join(sorted(missing))} not installed; the other blocks ran")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target

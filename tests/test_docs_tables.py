"""The page on tables: its code runs, its commands are understood, and what it lists is so."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import train
from nn.data.tables.head import KNOWN_LABELS

PAGE = (Path(__file__).parent.parent / "docs" / "tables.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- a test runs this -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "example"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for example in EXAMPLES:
            exec(compile(example, "tables.md", "exec", dont_inherit=True), namespace)
    first, second, third = printed.getvalue().splitlines()
    assert first.startswith("('setosa', 'versicolor') {'loss': ")
    assert second == "['setosa', 'versicolor'] ['setosa']"
    assert third.endswith("'accuracy': 1.0}")
    assert len(EXAMPLES) == len(re.findall("```python", PAGE))


def test_the_commands_are_understood() -> None:
    commands = re.findall(r"^python train\.py (.*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert train.parse(command.split())


def test_the_names_of_labels_are_those_of_the_code() -> None:
    listed = {name for name in KNOWN_LABELS if f"`{name}`" in PAGE}
    assert listed == {name for name in KNOWN_LABELS if name not in ("labels", "classes", "targets")}

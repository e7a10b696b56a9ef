"""Pages of programs, such as the quick starts: their blocks run and print what stands below them."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris

import train
from tests.helpers.pages import blocks, problem

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["start.md", "from-keras.md", "from-pytorch.md", "how-it-works.md", "pictures.md", "plots.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the table that the scientist has."""
    monkeypatch.chdir(tmp_path)
    iris = load_iris()
    with open("flowers.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*(name.removesuffix(" (cm)") for name in iris.feature_names), "species"])
        for number, (row, label) in enumerate(zip(iris.data, iris.target, strict=True)):
            rows.writerow(["" if number % 20 == 3 else row[0], *row[1:], iris.target_names[label]])
    return tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_every_block_prints_what_stands_below_it(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE) if name == "start.md" else [text]
    ran = 0
    for section in sections:
        namespace: dict[str, Any] = {"__name__": "example"}
        for code, expected in BLOCK.findall(section):
            exec(compile(code, f"docs/{name}", "exec", dont_inherit=True), namespace)
            assert capsys.readouterr().out == expected, code
            ran += 1
    assert ran == text.count("```python") >= 5


def test_what_is_quoted_stands_in_its_file() -> None:
    quoted = [
        block for block in blocks((DOCS / "how-it-works.md").read_text(encoding="utf-8")) if block.language == "py"
    ]
    assert quoted
    assert [problem(block) for block in quoted if problem(block)] == []


@pytest.mark.parametrize("name", ["from-keras.md", "from-pytorch.md"])
def test_each_block_of_theirs_has_one_of_ours_below_it(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    theirs = re.findall(r"^```py\n(.*?)^```\n(```python)?", text, flags=re.MULTILINE | re.DOTALL)
    assert len(theirs) == text.count("```python") >= 6
    for code, ours in theirs:
        assert ours, code
        compile(code, name, "exec")


@pytest.mark.parametrize("name", PAGES)
def test_commands_are_understood_and_links_lead_somewhere(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    for command in re.findall(r"^python train\.py (.*)$", text, flags=re.MULTILINE):
        assert train.parse(command.split())
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert target.startswith("https://") or (DOCS / target).exists(), target

"""The tour of the Python API: its blocks run one after the other and print what stands below them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python-api.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n(?:^```text\n(.*?)^```\n)?", TEXT, flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")


def assert_prints(found: str, expected: str) -> None:
    """The same words and whole numbers, and others to within 0.03 or three percent."""
    assert NUMBER.sub("#", found) == NUMBER.sub("#", expected)
    for one, other in zip(NUMBER.findall(found), NUMBER.findall(expected), strict=True):
        assert float(one) == pytest.approx(float(other), rel=0.03, abs=0.03), (found, expected)


def test_every_block_prints_what_stands_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "tour"}
    assert len(BLOCKS) > 10
    for code, expected in BLOCKS:
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), namespace)
        assert_prints(capsys.readouterr().out, expected)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PAGE.parent / target).exists(), target


@pytest.mark.parametrize("found", ["accuracy 0.85\n", "loss 0.93\n", "accuracy 0.93\n0\n", ""])
def test_other_figures_and_words_are_noticed(found: str) -> None:
    with pytest.raises(AssertionError):
        assert_prints(found, "accuracy 0.93\n")

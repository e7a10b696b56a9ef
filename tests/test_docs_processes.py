"""The code of ``docs/processes.md`` works, here by one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
from tests.helpers.pages import blocks

PAGE = Path(__file__).parent.parent / "docs" / "processes.md"


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 6)), random.integers(0, 3, 300)
    model = nn.Sequential(nn.Linear(6, 3), backend="cpu")
    names: dict[str, Any] = {"nn": nn, "model": model, "x": x, "y": y, "x_test": x[:50], "y_test": y[:50]}
    code = [block.text for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "python"]
    assert len(code) == 2
    for text in code:
        exec(compile(text, "processes.md", "exec", dont_inherit=True), names)
    assert len(names["trainer"].history) == 10
    assert "accuracy" in capsys.readouterr().out

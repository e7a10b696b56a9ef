"""The program of docs/extending.md runs, and does what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.activations import ACTIVATIONS
from nn import METRICS
from nn.layers import LAYERS

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def tables() -> Iterator[None]:
    """What the page adds is forgotten afterwards."""
    every: list[dict[str, Any]] = [ACTIVATIONS, LAYERS, METRICS]
    before = [dict(table) for table in every]
    yield
    for table, content in zip(every, before, strict=True):
        table.clear()
        table.update(content)


@pytest.mark.usefixtures("tables")
def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "extending"}
    assert len(BLOCKS) == 9
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    assert {"extending.Softsign", "extending.Scale", "extending.Forgetful"} <= LAYERS.keys()
    assert (tmp_path / "own.safetensors").exists()
    layers = [names["Linear"](64, 12), names["Forgetful"](12), names["Linear"](12, 10)]
    trainer = names["Trainer"](names["Sequential"](layers, backend="cpu"))
    with pytest.raises(ValueError, match="did not write the gradient of its parameter 'scale'"):
        trainer.fit(names["data"])
    assert names["found"]["top2"] > names["found"]["accuracy"] > 0.5

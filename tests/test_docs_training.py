"""The code of ``docs/training.md`` works, from top to bottom, and says what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nn
from nn.callbacks import __all__ as callbacks
from nn.metrics import metric_names

PAGE = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
MARKED = re.findall(r"<!-- tests/test_docs_training.py runs this -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(MARKED) >= 5
    namespace: dict[str, Any] = {"__name__": "example"}
    for example in MARKED:
        exec(compile(example, "docs/training.md", "exec", dont_inherit=True), namespace)
    out = capsys.readouterr().out
    assert "early stopping: val_loss has not become better for 5 epochs\nbest epoch " in out
    assert "it is good enough" in out
    # The sentence of a divergence stands on the page as it is printed.
    (said,) = re.findall(r"^training diverged in .*$", out, flags=re.MULTILINE)
    assert re.sub(r" became \w+", " became", said) in re.sub(r" became \w+", " became", re.sub(r"\s+#?\s*", " ", PAGE))


def test_what_is_built_in_is_on_the_page() -> None:
    helpers = {"Callback", "CallbackError"}
    assert all(f"`{name}(" in PAGE for name in {*callbacks} - helpers)
    assert all(f"`{name}`" in PAGE for name in metric_names() if "<" not in name and name != "loss")
    assert hasattr(nn, "TopK")

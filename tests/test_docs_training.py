"""The code of ``docs/training.md`` works, from top to bottom, and says what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
from nn.callbacks import __all__ as callbacks
from nn.metrics import metric_names

PAGE = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
#: Those that are one program; the others use a model and rows that the reader has.
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


def test_the_other_blocks_run_with_the_model_and_rows_of_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x, values = random.normal(size=(300, 6)), random.normal(size=(300, 2))
    labels = x[:, :3].argmax(axis=1)
    weights = random.uniform(0.5, 2.0, 300)
    names: dict[str, Any] = {name: getattr(nn, name) for name in nn.__all__} | {
        "nn": nn, "x": x, "y": labels, "weights": weights,
        "x_test": x[:50], "y_test": labels[:50], "test_weights": weights[:50],
        "epochs": 20, "batch_size": 10,
    }  # fmt: skip
    others = [block for block in BLOCKS if block not in MARKED]
    assert len(others) == 4
    for block in others:
        of_values = "pinball" in block
        outputs = 2 if of_values else 3
        layers = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs)
        model = nn.Sequential(*layers, backend="cpu", dtype="float64", seed=0)
        found = names | {"model": model} | ({"y": values} if of_values else {})
        exec(compile(block, "docs/training.md", "exec", dont_inherit=True), found)
        names.setdefault("trainer", found.get("trainer"))
        assert found["trainer"].model.step > 0 or of_values


def test_what_is_built_in_is_on_the_page() -> None:
    helpers = {"Callback", "CallbackError"}
    assert all(f"`{name}(" in PAGE for name in {*callbacks} - helpers)
    assert all(f"`{name}`" in PAGE for name in metric_names() if "<" not in name and name != "loss")
    assert hasattr(nn, "TopK")

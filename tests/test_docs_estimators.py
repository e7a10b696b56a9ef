"""The page for those who come from scikit-learn: its code runs, its tables are those that were measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nn
from benchmarks.estimators import BEGIN, CASES, END, PAGES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```\n", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_block_prints_what_stands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 2
    namespace: dict[str, Any] = {"__name__": "example"}
    for code, expected in BLOCKS:
        exec(compile(code, "docs/estimators.md", "exec", dont_inherit=True), namespace)
        assert capsys.readouterr().out == expected


def test_the_parameters_of_the_table_are_those_beside_scikit_learn() -> None:
    from sklearn import neural_network

    beside = set(nn.MLPClassifier().get_params()) - set(neural_network.MLPClassifier().get_params())
    table = set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("```python\nfrom nn import LeakyReLU")[0], re.MULTILINE))
    assert table - {"activation"} == beside


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_short_tables_are_those_of_the_figures() -> None:
    figures = (ROOT / "benchmarks" / "results" / "estimators.md").read_text(encoding="utf-8")
    for page in PAGES:
        table = page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
        rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
        assert [row[0] for row in rows] == list(CASES)
        for name, *scores in rows:
            full = re.findall(rf"^\| {name} \|.*\| (\S+) ± ", figures, re.MULTILINE)
            short = [float(score.partition(" ")[0]) for score in scores[:3]]
            assert short == pytest.approx([float(score) for score in full], abs=6e-4)


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import estimators

    assert estimators.main(["--seeds", "2", "--only", "breast cancer", "--no-write"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| breast cancer")]
    assert len(rows) == 3
    assert all(float(re.findall(r"\| (\S+) ± ", row)[0]) > 0.9 for row in rows)

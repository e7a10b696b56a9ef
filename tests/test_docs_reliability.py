"""``docs/reliability.md`` names tests that exist, and figures that were measured."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
#: A file of this repository, with the tests in it that are named after it.
NAMED = re.compile(r"`(tests/[\w/]+\.py)`((?:: )?(?:(?:, )?`test_\w+`)*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)[^)]*\)")


def ours(page: str) -> str:
    """The page without what it says of others, whose tests are elsewhere."""
    before, _, rest = page.partition("## Beside others")
    return before + rest.partition("\n## ")[2]


def named(page: str) -> Iterator[tuple[str, str]]:
    """Files of tests, each with a test, or with "" where none is named."""
    for file, tests in NAMED.findall(ours(page)):
        yield from ((file, test) for test in re.findall(r"test_\w+", tests) or [""])


def names_in(file: str) -> set[str]:
    path = ROOT / file
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else ()
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "test"), sorted(set(named(PAGE))))
def test_every_test_that_is_named_exists(file: str, test: str) -> None:
    assert (ROOT / file).is_file()
    assert not test or test in names_in(file)


def test_no_name_of_a_test_is_overlooked() -> None:
    """A name that follows no file would not be looked for."""
    assert sorted(re.findall(r"`(test_\w+)`", ours(PAGE))) == sorted(test for _, test in named(PAGE) if test)


def test_the_checks_can_fail() -> None:
    page = "| a | `tests/nn/test_files.py`: `test_of_nothing`, `test_names_of_drafts_differ`; the file `tests/x.py` |"
    assert list(named(page)) == [
        ("tests/nn/test_files.py", "test_of_nothing"),
        ("tests/nn/test_files.py", "test_names_of_drafts_differ"),
        ("tests/x.py", ""),
    ]
    assert "test_of_nothing" not in names_in("tests/nn/test_files.py")
    assert "test_names_of_drafts_differ" in names_in("tests/nn/test_files.py")
    assert names_in("tests/x.py") == set()
    assert "elsewhere" not in ours("here\n## Beside others\n`elsewhere`\n## Not promised\nthere")


@pytest.mark.parametrize("page", ["docs/reliability.md", "SECURITY.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    links = LINK.findall(path.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_figures_of_damaged_input_are_those_of_the_benchmark() -> None:
    table = (ROOT / "benchmarks" / "results" / "fuzz.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines() if line.startswith("| ")]
    columns, *readers = rows
    counts = [[int(cell.replace(",", "")) for cell in reader] for reader in readers]
    sums = dict(zip(columns, map(sum, zip(*counts, strict=True)), strict=True))
    faults = {name: count for name, count in sums.items() if name not in ("inputs", "right", "clean")}
    assert sum(faults.values()) == 0
    assert {count for count, *_ in counts} == {10_000}
    found = f"{len(readers)} readers with 10,000 inputs each, {sums['right']:,} read right, {sums['clean']:,} refused"
    assert found in PAGE

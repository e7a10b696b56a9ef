"""Each example runs by itself and prints the figure that its docstring expects."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.helpers.process import ended

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPECTED = re.compile(r"^Expected: (.+?) at least ([\d.]+)(?: and at most ([\d.]+))?$", re.MULTILINE)
#: An example as a program, to which each warning is an error.
EXAMPLE = """
import runpy, sys, warnings
warnings.simplefilter("error")
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_the_figure_that_it_promises(path: Path, tmp_path: Path) -> None:
    expected = EXPECTED.search(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    assert expected is not None, "its docstring promises nothing"
    name, least, most = expected.groups()
    run = ended(EXAMPLE, str(path), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    last = run.stdout.splitlines()[-1]
    assert last.startswith(f"{name} "), last
    found = float(last.removeprefix(f"{name} "))
    assert float(least) <= found <= float(most or "inf")


def test_an_example_is_short_and_in_the_readme() -> None:
    assert len(EXAMPLES) == 5
    listed = re.findall(r"^\| `(examples/\w+\.py)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == [str(path.relative_to(ROOT)) for path in EXAMPLES]
    for path in EXAMPLES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path

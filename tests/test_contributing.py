"""What CONTRIBUTING.md, the CI and nox name is there, and they say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
NOX = (ROOT / "noxfile.py").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Files and folders of the project, as they are named in the page; a result of a command need not be there yet.
NAMED = set(re.findall(r"`((?:backends|nn|recipes|benchmarks|tests|docs)/[\w./-]*|\w+\.(?:py|md|toml))`", PAGE))
MADE_BY_COMMANDS = {"benchmarks/results/mutation.md"}


@pytest.mark.parametrize("name", sorted(NAMED - MADE_BY_COMMANDS))
def test_every_file_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()
    assert (ROOT / name).is_dir() == name.endswith("/")


def test_names_are_found_in_the_page() -> None:
    assert {"backends/base.py", "nn/layers/", "train.py"} <= NAMED


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", PAGE)) - {"venv", "pytest"}))
def test_every_command_is_there(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_every_extra_that_is_installed_is_there() -> None:
    lists = [names for text in (PAGE, WORKFLOW, NOX) for names in re.findall(r"\.\[([\w,]+)\]", text)]
    assert lists
    assert {extra for names in lists for extra in names.split(",")} <= PROJECT["optional-dependencies"].keys()


def test_the_ci_runs_the_commands_of_the_readme() -> None:
    for line in ("pip install -e . && python train.py", 'pip install -e ".[test]" && python -m pytest'):
        assert re.search(rf"^ +{re.escape(line)}$", WORKFLOW, flags=re.MULTILINE), line


def test_the_lowest_numpy_that_is_tested_is_the_lowest_that_is_allowed() -> None:
    (lowest,) = re.findall(r"^numpy>=([\d.]+)$", "\n".join(PROJECT["dependencies"]), flags=re.MULTILINE)
    assert re.findall(r'numpy: "([^"]+)"', WORKFLOW) == [f"{lowest}.*"]
    assert re.findall(r'LOWEST_NUMPY = "([^"]+)"', NOX) == [f"{lowest}.*"]


def test_the_lowest_python_that_is_tested_is_the_lowest_that_is_allowed() -> None:
    tested = set(re.findall(r'python: "([\d.]+)"', WORKFLOW))
    (listed,) = re.findall(r"^PYTHONS = \[(.*)\]$", NOX, flags=re.MULTILINE)
    assert sorted(re.findall(r"[\d.]+", listed)) == sorted(tested)
    assert PROJECT["requires-python"] == f">={min(tested, key=lambda version: int(version.partition('.')[2]))}"


@pytest.mark.parametrize("package", ["backends", "nn", "recipes"])
def test_types_are_marked_for_those_who_use_the_package(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()

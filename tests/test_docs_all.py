"""Every block of code and every command of README, CONTRIBUTING and docs/ is run by a test, or stands below with why
not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

import nn
import recipes
import train
from backends import DeviceError, get_backend
from nn.cli import rows as rows_of_runs
from nn.commands import evaluate
from tests.helpers import made_up
from tests.helpers.console import run
from tests.helpers.drawings import as_picture
from tests.helpers.pages import Block, blocks, without_blocks

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *(ROOT / "docs").rglob("*.md")]
}
#: Pages whose Python, all of it, a test of their own runs, or holds against the file that it is quoted from.
RUN = {
    "README.md": "test_readme.py",
    "docs/estimators.md": "test_docs_estimators.py",
    "docs/exchange.md": "test_docs_exchange.py",
    "docs/extending.md": "test_extending_page.py",
    "docs/from-keras.md": "test_docs_start.py",
    "docs/from-pytorch.md": "test_docs_start.py",
    "docs/how-it-works.md": "test_docs_start.py",
    "docs/pictures.md": "test_docs_start.py",
    "docs/plots.md": "test_docs_start.py",
    "docs/processes.md": "test_docs_processes.py",
    "docs/python-api.md": "test_python_api.py",
    "docs/reports.md": "test_docs_reports.py",
    "docs/start.md": "test_docs_start.py",
    "docs/streaming.md": "test_docs_streaming.py",
    "docs/sweeps.md": "test_docs_sweeps.py",
    "docs/tables.md": "test_docs_tables.py",
    "docs/training.md": "test_docs_training.py",
    "docs/tutorials.md": "test_docs.py",
    "docs/wishes.md": "test_docs_wishes.py",
}
#: What blocks are that no program of ours runs: output, formulas, differences, directives of Sphinx; and ``py``, code
#: of other libraries, or quoted from a file of ours (``test_docs_start``).
NO_CODE = {"text", "diff", "py", "{toctree}", "{eval-rst}"}
#: Commands that no test runs, by how they begin, and why.
NOT_RUN = {
    "pip install": "installs from the network; the CI runs those of the README",
    "mpiexec": "starts processes of MPI, as tests/nn/test_mpi.py does",
    "python train.py --processes": "likewise, as tests/cli/test_processes.py does with fewer epochs",
    "python -m venv": "makes the environment that the tests run in",
    "python -m benchmarks.mutation": "takes minutes; tests/benchmarks/test_mutation.py runs parts of it",
}
#: Pages whose commands, all of them, a test of their own runs; those of the tutorials and papers are of recipes, which
#: ``tests/recipes`` runs.
COMMANDS_RUN = {
    "docs/commands.md": "test_docs_commands.py",
    "docs/papers.md": "test_docs.py",
    "docs/tutorials.md": "test_docs.py",
}
#: Words that are added, so that a command that tries thousands of inputs, or trains for long, is done soon.
SOONER = {"python -m backends check": ["--every", "300"]}
#: A device that a command names is another one here, unless there is a GPU.
INSTEAD_OF_GPU = {"--device cuda": "--device cpu", "cpu,cuda": "cpu,cpu/reference"}


def has_gpu() -> bool:
    try:
        get_backend("cuda")
    except DeviceError:
        return False
    return True


def lines_of(page: str) -> list[str]:
    return [line for block in blocks(PAGES[page]) if not block.language for line in block.text.splitlines()]


COMMANDS = [
    (page, line)
    for page in PAGES
    if page not in COMMANDS_RUN
    for line in lines_of(page)
    if not line.startswith(tuple(NOT_RUN))
]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_is_run(page: str) -> None:
    code = [block for block in blocks(PAGES[page]) if block.language == "python"]
    assert bool(code) == (page in RUN)
    if code:
        marked = PAGES[page].count("runs this")
        assert not marked or marked >= len(code) or page == "docs/training.md"  # where the others are run, too
        assert f'"{Path(page).name}"' in (ROOT / "tests" / RUN[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_there_are_no_other_kinds_of_blocks(page: str) -> None:
    with_recipes = page in ("docs/papers.md", "docs/tutorials.md", "docs/recipes.md")
    known = NO_CODE | {"python", ""} | ({"toml"} if with_recipes else set())
    assert {block.language for block in blocks(PAGES[page])} <= known


# ---- what is run here ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all files that commands name, where MNIST is made up."""
    data = made_up.mnist(400, 100)

    def load(source: Any, *given: Any, **others: Any) -> Any:
        return data if source == "mnist" else nn.load_data(source, *given, **others)

    for module in (rows_of_runs, evaluate):
        monkeypatch.setattr(module, "load_data", load)
    monkeypatch.chdir(tmp_path)
    tables = {"flowers.csv": load_iris(), "wine.csv": load_wine(), "houses.csv": load_diabetes(scaled=False)}
    for name, found in tables.items():
        columns = np.column_stack([found.data, found.target]).tolist()
        if name == "flowers.csv":
            columns = [[*row[:-1], found.target_names[int(row[-1])]] for row in columns]
        if name == "wine.csv":  # as in the archive it comes from: no names, classes in the first column
            lines = [[int(row[-1]) + 1, *row[:-1]] for row in columns]
        else:
            label = "species" if name == "flowers.csv" else "price"
            lines = [[*found.feature_names, label], *columns]
        Path(name).write_text("".join(",".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
    digits = nn.load_data("digits", test_fraction=0).train
    for where in (tmp_path, tmp_path / "rows"):
        where.mkdir(exist_ok=True)
        np.save(where / "x.npy", digits.x)
        np.save(where / "y.npy", digits.y)
    (recipe,) = [block.text for block in blocks(PAGES["docs/recipes.md"]) if block.language == "toml"]
    Path("mine.toml").write_text(recipe, encoding="utf-8")
    trainer = nn.Trainer(nn.Sequential(nn.Linear(64, 10), backend="cpu"))
    trainer.fit(nn.load_data("digits").train[:100], 1)
    for name in ("a.html", "b.html"):
        nn.report.write_report(name, trainer)
    return tmp_path


@pytest.mark.parametrize("page", dict.fromkeys(page for page, _ in COMMANDS))
def test_every_command_of_a_page_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in one folder."""
    if "three.png" in PAGES[page]:
        pytest.importorskip("PIL", reason="pictures need Pillow")
        drawing = np.zeros((40, 30), np.uint8)
        drawing[5:30, 8:12] = 255
        as_picture(drawing, 1.0, light_paper=True).save("three.png")
    for line in [line for other, line in COMMANDS if other == page]:
        for gpu, instead in () if has_gpu() else INSTEAD_OF_GPU.items():
            line = line.replace(gpu, instead)
        more = next((words for start, words in SOONER.items() if line.startswith(start)), [])
        code, out = run(line, monkeypatch, more)
        assert code == 0, line
        assert out, line


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_it_is_said_why_not(page: str) -> None:
    if page in COMMANDS_RUN:
        assert f'"{Path(page).name}"' in (ROOT / "tests" / COMMANDS_RUN[page]).read_text(encoding="utf-8")
        return
    done = {line for other, line in COMMANDS if other == page}
    assert [line for line in lines_of(page) if line not in done and not line.startswith(tuple(NOT_RUN))] == []


INLINE = sorted(
    {
        (page, command.strip())
        for page, text in PAGES.items()
        for command in re.findall(r"`python train\.py((?: [^`\n]+)?)`", without_blocks(text))
    }
)


@pytest.mark.parametrize(("page", "flags"), INLINE)
def test_commands_within_sentences_are_understood(page: str, flags: str) -> None:
    words = flags.split()
    if words == ["--help"]:
        with pytest.raises(SystemExit, match=r"^0$"):
            train.parse(words)
    elif "DIR" not in words and "cpu,cuda" not in words:  # which stand for a folder, and for another device
        assert train.parse(words)


def test_the_recipe_of_the_page_is_like_those_that_are_shipped() -> None:
    (recipe,) = [block.text for block in blocks(PAGES["docs/recipes.md"]) if block.language == "toml"]
    assert {*re.findall(r"^\[(\w+)\]$", recipe, re.MULTILINE)} <= {
        table for name in recipes.names() for table in re.findall(r"^\[(\w+)\]$", shipped(name), re.MULTILINE)
    }


def shipped(name: str) -> str:
    return (ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


# ---- the checks themselves can fail ----------------------------------------------------------------------------------


def test_a_block_that_nobody_runs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, "docs/new.md", "\n```python\nprint(1)\n```\n\n```\npython train.py --epochs 1\n```\n")
    with pytest.raises(AssertionError):
        test_every_block_of_python_is_run("docs/new.md")
    with pytest.raises(AssertionError):
        test_every_command_is_run_or_it_is_said_why_not("docs/new.md")


def test_an_unknown_kind_of_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, "docs/new.md", "\n```sh\nls\n```\n")
    with pytest.raises(AssertionError):
        test_there_are_no_other_kinds_of_blocks("docs/new.md")


def test_blocks_of_a_page_are_found() -> None:
    assert [block.language for block in blocks("\n```python\n1\n```\n")] == ["python"]
    assert isinstance(next(blocks("```\n1\n```")), Block)

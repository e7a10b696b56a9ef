"""What the pages in docs/ quote and name is there.

A block of code that is quoted stands under a line with its file and, for Python, if that helps to find it, the function
or class in it: `` `nn/layers.py`, `Linear.forward`: ``. Formulas are blocks of ``text``; commands are
blocks without a language.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import recipes
import train
from tests.helpers.pages import Block, blocks, commands, problem, without_blocks

ROOT = Path(__file__).parent.parent
#: The pages on recipes, which have a section for each.
PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("tutorials.md", "papers.md")}
TEXT = "\n".join(PAGES.values())
QUOTED = ("python", "toml")

HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|toml|md|json)))`")


def sections(text: str) -> dict[str, str]:
    """Each section of the second level, by its heading."""
    pieces = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def anchors(text: str) -> set[str]:
    """The names under which headings can be linked to."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


CODE = [(page, block) for page, text in PAGES.items() for block in blocks(text) if block.language in QUOTED]
SECTIONS = {f"{page}: {heading}": text for page in PAGES for heading, text in sections(PAGES[page]).items()}


@pytest.mark.parametrize(("page", "block"), CODE, ids=[f"{page} line {block.number}" for page, block in CODE])
def test_what_is_quoted_stands_in_its_file(page: str, block: Block) -> None:
    assert problem(block) is None


def test_every_block_is_code_a_formula_or_a_command() -> None:
    assert {block.language for block in blocks(TEXT)} == {*QUOTED, "text", ""}
    for command in commands(TEXT):
        assert command.startswith("python train.py "), command


def test_every_recipe_has_a_section() -> None:
    found = [match for heading in SECTIONS if (match := re.fullmatch(r"([\w.]+): (\d+)\. `(.+)`", heading))]
    assert sorted(name for _, _, name in map(re.Match.groups, found)) == recipes.names()
    for page, count in (("tutorials.md", 12), ("papers.md", 5)):
        assert [int(match[2]) for match in found if match[1] == page] == list(range(1, count + 1))


@pytest.mark.parametrize("name", recipes.names())
def test_the_section_of_a_recipe_has_its_command_and_its_figures(name: str) -> None:
    (section,) = [text for heading, text in SECTIONS.items() if heading.endswith(f" `{name}`")]
    assert f"python train.py --recipe {name}" in commands(section)
    quoted = [block for block in blocks(section) if block.language == "toml"]
    assert quoted
    assert {block.above for block in quoted} == {f"`recipes/{name}.toml`:"}
    assert sum(block.text.count("reproduced]") for block in quoted) == len(recipes.load(name).parts)


@pytest.mark.parametrize("command", sorted(set(commands(TEXT))))
def test_the_script_understands_every_command(command: str) -> None:
    assert train.parse(command.split()[2:]) or "--list-recipes" in command


def test_layers_in_a_line_train_on_the_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the pages that name no recipe; recipes are run by ``tests/recipes``."""
    lines = [command for command in commands(TEXT) if "--layers" in command and "--recipe" not in command]
    assert lines
    for line in lines:
        assert train.main([*line.split()[2:], "--epochs", "4", "--device", "cpu"]) == 0
        found = re.search(r"test accuracy ([\d.]+)%", capsys.readouterr().out)
        assert found is not None
        assert float(found[1]) > 80


LINKS = [(page, target) for page, text in PAGES.items() for target in sorted({*LINK.findall(without_blocks(text))})]


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_every_link_leads_somewhere(name: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    page = (ROOT / "docs" / (path or name)).resolve()
    assert page.is_relative_to(ROOT)
    assert page.exists()
    assert not anchor or anchor in anchors(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(set(PATH.findall(TEXT))))
def test_every_file_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()
    assert (ROOT / name).is_dir() == name.endswith("/")


# ---- the checks themselves can fail ----------------------------------------------------------------------------------


def a_page(marker: str, code: str) -> Block:
    (block,) = blocks(f"Some words.\n\n{marker}\n```python\n{code}\n```\n")
    return block


GOOD = "for layer in layers:\n    if (shape := layer.input_shape()) is not None:\n        return shape"


@pytest.mark.parametrize(
    ("marker", "code", "complaint"),
    [
        ("`nn/row_shape.py`:", GOOD, None),
        ("`nn/row_shape.py`, `row_shape`:", GOOD, None),
        ("`nn/row_shape.py`, `problem_with`:", GOOD, "does not stand in"),
        ("`nn/model.py`, `Sequential.sideward`:", GOOD, "there is no Sequential.sideward"),
        ("`nn/models.py`:", GOOD, "there is no file"),
        ("In `nn/row_shape.py`:", GOOD, "no file is named"),
        ("`nn/row_shape.py`:", GOOD.replace("input_shape", "outer_shape"), "does not stand in"),
        ("`nn/row_shape.py`:", GOOD.replace("        return", "    return"), "does not stand in"),
        ("`nn/row_shape.py`:", "\n".join(GOOD.splitlines()[::2]), "does not stand in"),
        ("`nn/row_shape.py`:", "input_shape", "does not stand in"),
        ("`nn/row_shape.py`:", "", "does not stand in"),
    ],
)
def test_a_wrong_quotation_is_found(marker: str, code: str, complaint: str | None) -> None:
    found = problem(a_page(marker, code))
    assert found is None if complaint is None else complaint in str(found)


def test_a_block_without_an_end_is_found() -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(blocks("words\n```python\nx = 1\n"))


def test_the_growth_shown_is_the_one_that_was_measured() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- growth -->\n")[2].partition("<!-- /growth -->")[0]
    assert shown.strip() == (ROOT / "benchmarks" / "results" / "growth-cpu.md").read_text(encoding="utf-8").strip()
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page):
        assert (ROOT / "docs" / picture).is_file()

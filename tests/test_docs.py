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
PAGE = ROOT / "docs" / "tutorials.md"
TEXT = PAGE.read_text(encoding="utf-8")
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


CODE = [block for block in blocks(TEXT) if block.language in QUOTED]
SECTIONS = sections(TEXT)


@pytest.mark.parametrize("block", CODE, ids=lambda block: f"line {block.number}")
def test_what_is_quoted_stands_in_its_file(block: Block) -> None:
    assert problem(block) is None


def test_every_block_is_code_a_formula_or_a_command() -> None:
    assert {block.language for block in blocks(TEXT)} == {*QUOTED, "text", ""}
    for command in commands(TEXT):
        assert command.startswith("python train.py "), command


def test_every_recipe_has_a_section() -> None:
    named = [match[1] for heading in SECTIONS if (match := re.fullmatch(r"\d+\. `(.+)`", heading))]
    assert sorted(named) == recipes.names()
    assert [int(heading.partition(".")[0]) for heading in SECTIONS if heading[0].isdigit()] == list(range(1, 13))


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


@pytest.mark.parametrize("target", sorted(set(LINK.findall(without_blocks(TEXT)))))
def test_every_link_leads_somewhere(target: str) -> None:
    path, _, anchor = target.partition("#")
    page = (PAGE.parent / path).resolve() if path else PAGE
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


GOOD = "for layer in self.layers:\n    if (shape := layer.input_shape()) is not None:\n        return shape"


@pytest.mark.parametrize(
    ("marker", "code", "complaint"),
    [
        ("`nn/model.py`:", GOOD, None),
        ("`nn/model.py`, `Sequential.row_shape`:", GOOD, None),
        ("`nn/model.py`, `Sequential.forward`:", GOOD, "does not stand in"),
        ("`nn/model.py`, `Sequential.sideward`:", GOOD, "there is no Sequential.sideward"),
        ("`nn/models.py`:", GOOD, "there is no file"),
        ("In `nn/model.py`:", GOOD, "no file is named"),
        ("`nn/model.py`:", GOOD.replace("input_shape", "outer_shape"), "does not stand in"),
        ("`nn/model.py`:", GOOD.replace("        return", "    return"), "does not stand in"),
        ("`nn/model.py`:", "\n".join(GOOD.splitlines()[::2]), "does not stand in"),
        ("`nn/model.py`:", "input_shape", "does not stand in"),
        ("`nn/model.py`:", "", "does not stand in"),
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

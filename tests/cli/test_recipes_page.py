"""``docs/recipes.md``, whose tables are made from the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import train
from nn.cli import SETTINGS
from tests.cli.settings.runs import of_recipe


def test_the_page_on_recipes_is_the_one_made_from_the_settings(tmp_path: Path) -> None:
    from nn.cli.__main__ import main

    page = Path(train.__file__).parent / "docs" / "recipes.md"
    copy = tmp_path / "recipes.md"
    copy.write_text(re.sub(r"^\|.*\n", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    assert main([str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), "run python -m nn.cli docs/recipes.md"
    for setting in SETTINGS.values():
        assert setting.help.replace("|", "\\|") in page.read_text(encoding="utf-8")


def test_a_page_without_marks_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nn.cli.__main__ import main

    page = tmp_path / "page.md"
    page.write_text("words\n")
    assert main([str(page)]) == 2
    assert "there is no <!-- settings" in capsys.readouterr().err
    assert page.read_text() == "words\n"
    assert main([]) == 2


def test_what_stands_around_the_tables_stays_as_it_is(tmp_path: Path) -> None:
    from nn.cli.__main__ import BEGIN, END, main

    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}\nbetween\n{BEGIN}example\n{END} after\n")
    assert main([str(page)]) == 0
    head, _, rest = page.read_text().partition(BEGIN)
    table, _, tail = rest.partition(END)
    assert head == "before\n"
    assert "| `epochs` | `--epochs` |" in table
    assert tail == f"\nbetween\n{BEGIN}example\n{END} after\n"


def test_the_recipe_on_that_page_works(tmp_path: Path) -> None:
    text = (Path(train.__file__).parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "page.toml"
    path.write_text(block)
    run = of_recipe(["--recipe", str(path), "--quiet", "--device", "cpu"])
    assert run.test_result is not None
    low, high = run.settings.reproduced["test_accuracy"]
    assert low <= run.test_result["accuracy"] <= high

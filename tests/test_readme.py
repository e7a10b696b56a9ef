"""What the README shows works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nn
import recipes
from backends.activations import ACTIVATIONS
from backends.updates import RULES
from nn.layers import LAYERS
from nn.optimizers import OPTIMIZERS
from tests.helpers import made_up

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(example: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "README.md", "exec", dont_inherit=True), namespace)
    return namespace


def test_five_lines_of_python_train_on_the_digits() -> None:
    assert len(EXAMPLES[0].splitlines()) == 5
    assert run(EXAMPLES[0])["history"][-1]["val_accuracy"] > 0.85


def test_ten_lines_of_python_train_on_mnist(mnist_dir: Path) -> None:
    result = run(EXAMPLES[1])
    assert result["history"][-1]["val_accuracy"] > 0.97
    assert len([line for line in EXAMPLES[1].splitlines() if line.strip()]) <= 10


def test_ten_lines_of_python_train_where_there_is_no_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "load_data", lambda source: made_up.mnist(2000, 1000))
    result = run(EXAMPLES[1])
    assert result["history"][-1]["val_accuracy"] > 0.97


@pytest.fixture
def tables() -> Iterator[None]:
    """What an example adds is forgotten afterwards."""
    every: list[dict[str, Any]] = [ACTIVATIONS, RULES, LAYERS, OPTIMIZERS]
    before = [dict(table) for table in every]
    yield
    for table, content in zip(every, before, strict=True):
        table.clear()
        table.update(content)


def test_a_layer_of_ones_own(tables: None) -> None:
    run(EXAMPLES[2])


def test_an_activation_an_optimizer_a_schedule_and_a_metric_of_ones_own(tables: None) -> None:
    result = run(EXAMPLES[3])
    assert result["history"][-1]["val_balanced_accuracy_score"] > 0.8
    assert result["history"][-1]["learning_rate"] == 0.01 / result["optimizer"].steps ** 0.5


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize(
    "command", ["pip install -e . && python train.py", 'pip install -e ".[test]" && python -m pytest']
)
def test_the_two_commands_are_there(command: str) -> None:
    assert command in README.splitlines()


def test_the_files_named_are_there() -> None:
    table = README.partition("## How it is built")[2]
    cells = re.findall(r"^\| (`[\w/]+/.*?) \|", table, flags=re.MULTILINE)
    assert len(cells) > 5
    for cell in cells:
        names = re.findall(r"`([^`]+)`", cell)
        folder = Path(names[0]).parent
        for name in names:
            assert (ROOT / (name if "/" in name else folder / name)).exists(), name


def test_every_recipe_is_one_command() -> None:
    assert re.findall(r"`python train.py --recipe ([\w-]+)`", README) == recipes_in_order()
    assert set(recipes_in_order()) == set(recipes.names())


def recipes_in_order() -> list[str]:
    """As the tutorials stand: from one neuron to RMSProp."""
    return [
        "neuron", "feedforward", "people", "zero-logistic", "zero-hidden", "ten-full-batch", "one-vs-two", "ten-relu",
        "momentum", "course-homework", "first-network", "keras-mlp",
        "lenet", "simard-mlp", "ciresan-2500", "mnist-cnn", "mnist-cnn-fast",
    ]  # fmt: skip


def measured(name: str) -> str:
    return (ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8")


def test_the_summary_of_the_recipes_is_what_was_measured() -> None:
    verdicts = re.findall(r"\| (yes|\*\*no\*\*) \|", measured("recipes-cpu.md"))
    shown = re.search(r"(\d+) of (\d+) figures that count as reproduced", README)
    assert shown is not None
    assert [int(number) for number in shown.groups()] == [verdicts.count("yes"), len(verdicts)]


def test_the_figures_of_the_first_screen_are_those_that_were_measured() -> None:
    screen = README.partition("\n## ")[0]
    speeds = {
        name: re.findall(rf"^\| (?:\*\*)?{name}(?:\*\*)? \| (\S+) ", measured("epoch-cpu-small.md"), re.MULTILINE)
        for name in ("xpnet", "jax", "torch", "scikit-learn")
    }
    assert [[seconds] for seconds in re.findall(r"(0\.\d+) s", screen)] == list(speeds.values())
    inputs = re.findall(r"^\| [\w ]+ \| ([\d,]+) \|(.*)\|$", measured("fuzz.md"), re.MULTILINE)
    total = sum(int(count.replace(",", "")) for count, _ in inputs)
    assert f"| {total:,} damaged " in screen
    faults = [cell.strip() for _, cells in inputs for cell in cells.split("|")[2:]]
    assert set(faults) == {"0"}
    wishes = (ROOT / "docs" / "wishes.md").read_text(encoding="utf-8").count("| `test_")
    assert f"| {wishes} wishes " in screen


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^## (.*)$", README, re.MULTILINE)
    }
    for path, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", README):
        if not path.startswith("https://"):
            assert (ROOT / path).exists(), path
            assert path or anchor in headings, anchor


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file()


def test_the_table_of_speeds_is_the_one_that_was_measured() -> None:
    table = (ROOT / "benchmarks" / "results" / "epoch-cpu-small.md").read_text(encoding="utf-8")
    shown = README.partition("<!-- speed -->\n")[2].partition("<!-- /speed -->")[0]
    assert shown.strip() == table.strip()

"""The search for faults that no test notices, on a project of two modules where it is known which those are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="mutation testing is not installed: pip install -e '.[mutation]'")
pytest.importorskip("coverage")

from benchmarks.mutation import cover, mutants

ROOT = Path(__file__).parent.parent.parent
FILES = {
    "shop/__init__.py": "",
    "shop/price.py": '''"""Prices."""

from __future__ import annotations

DISCOUNTS = {
    "none": lambda price: price,
    "half": lambda price: price / 2,
}


def total(price: int, count: int | None = None) -> int:
    if count is None:
        raise ValueError("how many?")
    return price * count


def forgotten() -> int:
    return 1 + 1


def endless(start: int) -> int:
    while start > 0:
        start -= 1
    return start
''',
    "tests/test_price.py": """
import pytest
from shop.price import DISCOUNTS, endless, total

def test_total():
    assert total(3, 2) == 6
    with pytest.raises(ValueError, match="how many"):
        total(3)

def test_half():
    assert DISCOUNTS["half"](4) == 2

def test_none():
    DISCOUNTS["none"](4)

def test_endless():
    assert endless(3) == 0

def test_that_fails():
    assert total(1, 1) == 2
""",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def search(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.mutation",
        "shop",
        "--root",
        str(root),
        "--jobs",
        "1",
        "--patience",
        "2",
        *options,
    ]
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_what_is_noticed_and_what_is_not(shop: Path) -> None:
    done = search(shop, "--output", str(shop / "report.md"))
    assert done.returncode == 0, done.stderr
    assert "1 fail and are left out" in done.stdout
    report = (shop / "report.md").read_text(encoding="utf-8")
    table, _, rest = report.partition("## Not noticed")
    changed = {line for line in rest.splitlines() if line.startswith("+")}
    assert changed == {
        '+    "none": lambda price: None,',
        "+    return 1 - 1",
        "+    return 1 + 2",
        "+    return 2 + 1",
    }
    assert "`shop/price.py:18` no tests" in rest
    row = next(line for line in table.splitlines() if line.startswith("| shop/price.py"))
    count, killed, timeout, survived, untested = (int(cell) for cell in row.split("|")[2:7])
    assert (survived, untested, timeout) == (1, 3, 2)  # start += 1, and start = 1
    assert killed == count - 6 > 10


def test_a_sample_is_the_same_for_the_same_seed(shop: Path) -> None:
    outputs = []
    for seed in ("1", "1", "2"):
        assert search(shop, "--sample", "4", "--seed", seed, "--output", str(shop / "report.md")).returncode == 0
        report = (shop / "report.md").read_text(encoding="utf-8")
        assert "4 of " in report
        outputs.append([line for line in report.splitlines() if line.startswith(("|", "+"))])
    assert outputs[0] == outputs[1]


def test_annotations_texts_of_errors_and_encodings_are_left_alone(tmp_path: Path) -> None:
    text = (
        'def f(x: int | None):\n    if not x:\n        raise ValueError("no x")\n    return open(x, encoding="ascii")\n'
    )
    (tmp_path / "module.py").write_text(text)
    module = mutants.Module(tmp_path, "module.py")
    made = [mutant for index in range(len(module.changes)) if (mutant := module.mutant(index))]
    changes = ["".join(line for line in mutant.diff(text) if line[0] == "+") for mutant in made]
    assert sorted(changes) == [
        "+        raise ValueError(None)",
        "+    if x:",
        '+    return open(None, encoding="ascii")',
        '+    return open(encoding="ascii")',
    ]
    assert {mutant.module for mutant in made} == {"module"}


def changes_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "module.py").write_text(text)
    module = mutants.Module(tmp_path, "module.py")
    made = [mutant for index in range(len(module.changes)) if (mutant := module.mutant(index))]
    return sorted("".join(line for line in mutant.diff(text) if line[0] == "+") for mutant in made)


def test_help_looks_names_of_types_and_of_buffers_are_left_alone(tmp_path: Path) -> None:
    assert changes_of(tmp_path, "Update = Callable[[int], float]\nSink = dict[str, Any]\n") == []
    assert changes_of(tmp_path, "Size = 3\n") == ["+Size = 4", "+Size = None"]
    assert changes_of(tmp_path, 'f(help="words", fontsize=9)\n') == []
    assert changes_of(tmp_path, 'ctx.buffer("y", shape)\n') == [
        '+ctx.buffer("y", )',
        '+ctx.buffer("y", None)',
        "+ctx.buffer(shape)",
    ]
    assert changes_of(tmp_path, 'self._constant("ones", f)\n') == [
        '+self._constant("ones", )',
        '+self._constant("ones", None)',
        "+self._constant(f)",
    ]
    text = 'if __name__ == "__main__":\n    sys.exit(main())\n'
    assert changes_of(tmp_path, text) == []
    text = 'if x:\n    warnings.warn("words", Kind)\n'
    assert {*changes_of(tmp_path, text)} == {
        '+    warnings.warn("words", )',
        '+    warnings.warn("words", None)',
        "+    warnings.warn(Kind)",
        "+    warnings.warn(None, Kind)",
    }


def test_what_is_read_after_an_import_is_tested_by_those_who_read_it(shop: Path) -> None:
    """The tests of the public API execute no line of a default or a table, but notice other ones."""
    (shop / "shop" / "price.py").write_text("def price(of=3):\n    return of\n\n\ndef never():\n    return 1 + 1\n")
    (shop / "tests" / "test_price.py").write_text(
        "from shop.price import price\n\ndef test_price():\n    assert price(1) == 1\n"
    )
    (shop / "tests" / "test_public_api.py").write_text(
        "import inspect\nfrom shop import price\n\n"
        "def test_signature():\n    assert '3' in str(inspect.signature(price.price))\n"
    )
    assert search(shop, "--output", str(shop / "report.md")).returncode == 0
    report = (shop / "report.md").read_text(encoding="utf-8")
    assert "of=4" not in report
    assert "`shop/price.py:6` no tests" in report


def test_a_table_is_tested_first_by_those_who_name_it(shop: Path) -> None:
    """One test is all there is time for, and it is not the quickest."""
    (shop / "shop" / "price.py").write_text("RATES = {'full': 3}\n\n\ndef rate(name):\n    return RATES[name]\n")
    (shop / "tests" / "test_price.py").unlink()
    (shop / "tests" / "test_any.py").write_text("from shop.price import rate\n\ndef test_any():\n    rate('full')\n")
    (shop / "tests" / "test_table.py").write_text(
        "import time\nfrom shop.price import RATES, rate\n\n"
        "def test_table():\n    time.sleep(0.3)\n    assert rate('full') == RATES['full'] == 3\n"
    )
    assert search(shop, "--seconds", "0.1", "--output", str(shop / "report.md")).returncode == 0
    report = (shop / "report.md").read_text(encoding="utf-8")
    assert "+RATES = {'full': 4}" not in report
    assert "| **all** | 4 | 4 | " in report


def test_readers_are_tests_that_there_are() -> None:
    for reader in cover.READERS:
        file, _, name = reader.partition("::")
        assert f"def {name or 'test_'}" in (ROOT / file).read_text(encoding="utf-8"), reader


def test_a_folder_that_is_not_there(shop: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder nowhere"):
        list(mutants.files(shop, ["nowhere"], []))
    assert list(mutants.files(shop, ["shop"], ["shop/price.py"])) == ["shop/__init__.py"]


def test_lines_belong_to_statements_functions_and_classes() -> None:
    blocks = cover.blocks("@a\ndef f(x,\n      y):\n    if (x\n        and y):\n        return (1,\n          2)\n")
    assert [(block.first, block.last, block.function) for block in blocks] == [
        (4, 5, False), (6, 7, False), (1, 7, True),
    ]  # fmt: skip


def test_files_of_tests_are_dealt_out(shop: Path) -> None:
    (shop / "tests" / "test_more.py").write_text("def test_more():\n    pass\n")
    assert cover.parts(shop, cover.files_of(shop, ["tests"]), 2) == [["tests/test_price.py"], ["tests/test_more.py"]]
    one, more, named = cover.files_of(shop, ["tests", "tests/test_more.py::test_more"]).items()
    assert {one[0], more[0]} == {"tests/test_price.py", "tests/test_more.py"}
    assert named == ("tests/test_more.py::test_more", dict([one, more])["tests/test_more.py"])
    assert cover.parts(shop, ["tests/test_more.py"], 4) == [["tests/test_more.py"]]


def test_only_files_of_tests_that_changed_are_run_again(shop: Path) -> None:
    """A test that is new, and one that is gone, count at once; another program is measured anew."""
    first = search(shop, "--sample", "1", "--output", str(shop / "report.md"))
    assert "running 1 files of tests" in first.stdout
    assert "running" not in search(shop, "--sample", "1", "--output", str(shop / "report.md")).stdout
    path = shop / "tests" / "test_price.py"
    (shop / "tests" / "test_more.py").write_text(path.read_text() + "\ndef test_one_more():\n    pass\n")
    assert "running 1 files of tests" in (
        found := search(shop, "--sample", "1", "--output", str(shop / "report.md")).stdout
    )
    assert "11 tests" in found
    path.write_text(path.read_text().replace("def test_none():\n    DISCOUNTS", "def none():\n    DISCOUNTS"))
    assert "running 1 files of tests" in (
        found := search(shop, "--sample", "1", "--output", str(shop / "report.md")).stdout
    )
    assert "10 tests" in found
    code = shop / "shop" / "price.py"
    code.write_text(code.read_text() + "\nMORE = 1\n")
    assert "running 2 files of tests" in search(shop, "--sample", "1", "--output", str(shop / "report.md")).stdout

"""The list of mutants that are no fault: it is of the code as it is, and an entry that is not is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mutation import equivalent, report

ROOT = Path(__file__).parent.parent.parent
CODE = """SMALL = 3


class Basket:
    def total(self, start=0):
        prices = list(self.prices)
        return sum(prices, start)

    def first(self):
        prices = list(self.prices)
        return prices[0]
"""
ENTRY = {
    "path": "basket.py",
    "inside": "Basket.total",
    "removed": "prices = list(self.prices)",
    "added": "prices = None",
    "kind": "same",
    "reason": "nobody asks",
}


def listed(root: Path, *entries: dict[str, str]) -> list[equivalent.Entry]:
    (root / "basket.py").write_text(CODE)
    (root / equivalent.FILE).parent.mkdir(parents=True, exist_ok=True)
    tables = ["[[mutant]]\n" + "".join(f"{name} = '''\n{text}'''\n" for name, text in e.items()) for e in entries]
    (root / equivalent.FILE).write_text("\n".join(tables))
    return equivalent.read(root)


def test_every_entry_of_the_list_is_of_the_code_as_it_is() -> None:
    assert equivalent.read(ROOT)


def test_a_project_without_a_list(tmp_path: Path) -> None:
    assert equivalent.read(tmp_path) == []


def test_entries_of_functions_and_of_the_module(tmp_path: Path) -> None:
    of_module = {**ENTRY, "removed": "SMALL = 3", "added": "SMALL = 4"}
    del of_module["inside"]
    first, second = listed(tmp_path, ENTRY, of_module)
    assert (first.inside, second.inside) == ("Basket.total", "")
    assert first.key == ("basket.py", "Basket.total", "prices = list(self.prices)", "prices = None")
    lines = {**ENTRY, "removed": "prices = list(self.prices)\n        return sum(prices, start)"}
    assert len(listed(tmp_path, ENTRY, lines)) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"removed": "prices = tuple(self.prices)"}, "Basket.total: 'prices = tuple.* does not stand there"),
        ({"removed": "return prices[0]"}, "does not stand there"),  # but in another function
        ({"removed": "return sum(prices, start)\nprices = list(self.prices)"}, "does not stand there"),
        ({"removed": "list(self.prices)"}, "does not stand there"),  # a line is a whole one
        ({"inside": "Basket.last"}, "does not stand there"),
        ({"path": "shop.py"}, "there is no such file"),
        ({"kind": "harmless"}, "the kind must be one of same, slower, "),
        ({"reason": " "}, "a line and a reason are needed"),
        ({"removed": ""}, "a line and a reason are needed"),
        ({"because": "so"}, "unexpected keyword argument 'because'"),
    ],
)
def test_an_entry_that_is_not_of_the_code_is_an_error(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, {**ENTRY, **changed})


def test_an_entry_that_lacks_something_or_comes_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing 1 required positional argument: 'reason'"):
        listed(tmp_path, {name: text for name, text in ENTRY.items() if name != "reason"})
    with pytest.raises(ValueError, match="listed twice"):
        listed(tmp_path, ENTRY, {**ENTRY, "added": "  prices = None\n", "reason": "as before"})


def test_the_name_of_what_is_around_a_line() -> None:
    assert [equivalent.name_at(CODE, line) for line in (1, 4, 5, 7, 8, 10)] == [
        "", "Basket", "Basket.total", "Basket.total", "Basket", "Basket.first"
    ]  # fmt: skip
    decorated = "def outer():\n    @cache\n    def inner():\n        return 1\n    return inner\n"
    assert [equivalent.name_at(decorated, line) for line in range(1, 6)] == ["outer", *["outer.inner"] * 3, "outer"]


# ---- the report ------------------------------------------------------------------------------------------------------


def a_mutant(outcome: str, added: str = "prices = None") -> report.Tested:
    diff = ["-        prices = list(self.prices)", f"+        {added}"]
    return report.Tested("basket.py", 6, "Basket.total", diff, outcome)


def test_both_shares_are_told_and_equivalents_come_with_their_reason(tmp_path: Path) -> None:
    entries = listed(tmp_path, ENTRY)
    search = report.Search("about", 60.0, [a_mutant("killed", f"prices = {number}") for number in range(7)])
    search.tested += [a_mutant("timeout", "prices = 9"), a_mutant("survived", "prices = 8"), a_mutant("survived")]
    text = report.text(search, entries)
    assert text.splitlines()[-1] == "```"
    assert "| **all** | 10 | 7 | 1 | 1 | 0 | 1 | 80.0% | 88.9% |" in text
    faults, _, equivalents = text.partition("## Equivalent")
    assert "+        prices = 8" in faults
    assert "prices = None" not in faults
    assert "`basket.py:6`: nobody asks" in equivalents
    assert "### same: the same program in other words: no input tells the difference (1)" in equivalents
    assert "| **all** | 10 | 7 | 1 | 2 | 0 | 0 | 80.0% | 80.0% |" in report.text(search, [])


def test_what_a_test_notices_is_not_equivalent(tmp_path: Path) -> None:
    entries = listed(tmp_path, ENTRY)
    search = report.Search("about", 60.0, [a_mutant("killed"), a_mutant("survived", "prices = 8")])
    assert "| **all** | 2 | 1 | 0 | 1 | 0 | 0 | 50.0% | 50.0% |" in report.text(search, entries)
    assert report.contradicted(search, entries) == [search.tested[0]]
    assert report.contradicted(search, []) == []


def test_a_search_is_kept(tmp_path: Path) -> None:
    search = report.Search("about", 60.0, [a_mutant("killed"), a_mutant("survived", "prices = 8")])
    search.save(tmp_path / "found.json")
    assert report.Search.load(tmp_path / "found.json") == search


def test_a_mutant_of_which_tests_were_left_out_says_so() -> None:
    mutant = report.Tested("basket.py", 6, "Basket.total", ["-a", "+b"], "survived", is_cut=True)
    assert "`basket.py:6` survived, after 30 s of its tests" in report.text(report.Search("", 30.0, [mutant]), [])

"""Which tests execute which lines: the tests are run once, with coverage by test."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage, CoverageData

#: How pytest is called everywhere here: without workers, slow tests, plugins that happen to be installed and the cache;
#: with the same examples in every run; and without a warning that a plugin was imported before a fork.
PYTEST = ["-q", "-o", "addopts=", "-m", "not slow", "-p", "no:cacheprovider", "-p", "hypothesis.extra.pytestplugin"]
PYTEST += ["--hypothesis-seed=0", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
#: How many of the quickest tests are run before all others; for how many seconds those of the module itself; and then
#: those of its folder.
QUICKEST = 25
OWN_SECONDS = 15.0
FOLDER_SECONDS = 30.0
#: Tests that read what an import leaves behind, and execute no line of it: names, signatures, defaults, the rows of
#: tables, help, and the page that is made from the settings.
READERS = (
    "tests/test_public_api.py::",
    "tests/test_imports.py::test_import_paths",
    "tests/backends/test_registry.py::test_the_help_names_every_library",
    "tests/backends/test_registry.py::test_rows_are_complete",
    "tests/cli/test_help.py::test_help_tells_",
    "tests/cli/test_recipes_page.py::test_the_page_on_recipes_",
    "tests/cli/settings/test_values.py::test_kinds_are_called_",
)


class Recorder:
    """A plugin of pytest: tells coverage which test runs, and keeps seconds and failures."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        yield
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.add(report.nodeid)


def files_of(root: Path, tests: Sequence[str]) -> dict[str, str]:
    """The test files of these files and folders, and tests that were named themselves, with the hash of their text."""
    found: dict[str, str] = {}
    for test in tests:
        below = (root / test).rglob("test_*.py") if (root / test).is_dir() else []
        for name in [path.relative_to(root).as_posix() for path in below] or [test]:
            found[name] = hashlib.sha256((root / name.partition("::")[0]).read_bytes()).hexdigest()[:16]
    return found


def parts(root: Path, tests: Iterable[str], count: int) -> list[list[str]]:
    """These test files, dealt out in ``count`` parts or fewer, the largest files first."""
    sizes = {test: (root / test).stat().st_size if (root / test).is_file() else 0 for test in tests}
    order = sorted(sizes, key=lambda file: (-sizes[file], file))
    return [part for part in (order[start::count] for start in range(count)) if part]


def measure(root: Path, tests: dict[str, str], kept: Path) -> int:
    """Run the tests, and write ``coverage`` and ``tests.json`` into ``kept``. In a process of its own: see ``work``.

    Args:
        tests: with the hashes of their files.

    Returns:
        0: tests that fail are written down too.
    """
    sys.path.insert(0, str(root))
    coverage = Coverage(data_file=str(kept / "coverage"), include=[f"{root}/*"], omit=["*/tests/*"], config_file=False)
    coverage.set_option("run:core", "ctrace")
    recorder = Recorder(coverage)
    coverage.start()
    status = pytest.main([*PYTEST, *tests], plugins=[recorder])
    coverage.stop()
    coverage.save()
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {status!r} while the tests were measured")
    kept.joinpath("tests.json").write_text(
        json.dumps({"files": tests, "seconds": recorder.seconds, "failed": sorted(recorder.failed)}), encoding="utf-8"
    )
    return 0


def digest(root: Path) -> str:
    """What all measurements depend on: the text of every Python file but the tests' and this tool's own."""
    found = hashlib.sha256()
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith((".", "__")))
        below[:] = [name for name in below if Path(folder, name) != root / "benchmarks" / "mutation"]
        for name in sorted(names):
            if name.endswith((".py", ".toml", ".cpp", ".h")) and not name.startswith("test_"):
                found.update(name.encode() + Path(folder, name).read_bytes())
    return found.hexdigest()[:16]


def measured(kept: Path) -> dict[str, tuple[str, Path]]:
    """The test files that were measured, with the hash that they had, and the folder of the last measurement."""
    found = {}
    for path in sorted(kept.glob("*/tests.json"), key=lambda path: int(path.parent.name)):
        for file, text in json.loads(path.read_text(encoding="utf-8"))["files"].items():
            found[file] = text, path.parent
    return found


@dataclass(frozen=True)
class Block:
    """Lines that belong together: a statement without its body, or a function or class with it.

    ``names`` are those that it gives to what it makes.
    """

    first: int
    last: int
    function: bool
    names: tuple[str, ...] = ()

    def __contains__(self, line: int) -> bool:
        return self.first <= line <= self.last


def blocks(text: str) -> list[Block]:
    """The statements, functions and classes of a module, from the shortest to the longest."""
    found: list[Block] = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        body = getattr(node, "body", None)
        if not body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = tuple(target.id for target in targets if isinstance(target, ast.Name))
            found.append(Block(node.lineno, node.end_lineno, function=False, names=names))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            is_function = not isinstance(node, ast.ClassDef)
            found.append(Block(first, node.end_lineno, function=is_function, names=(node.name,)))
        elif body[0].lineno > node.lineno:
            found.append(Block(node.lineno, body[0].lineno - 1, function=False))
    return sorted(found, key=lambda block: block.last - block.first)


class Lines:
    """The tests that execute a line: first those of its module, by the names of the files, and of files that name what
    an import makes there; if these are few, the quickest of all; then those that read what an import leaves behind;
    then those of the folder that mirrors the module's; then the quickest of each file, the second of each, and so on,
    so that no file is left out where time is short."""

    def __init__(self, root: Path, kept: Path, tests: Iterable[str]) -> None:
        """Of these test files, from the folders below ``kept`` that ``measure`` wrote into."""
        self.root = root
        self.data = CoverageData(no_disk=True)
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        folders: dict[Path, list[str]] = {}
        known = measured(kept)
        for file in tests:
            folders.setdefault(known[file][1], []).append(file)
        for folder, files in folders.items():
            part = CoverageData(str(folder / "coverage"))
            part.read()
            self.data.update(part)
            found: dict[str, Any] = json.loads((folder / "tests.json").read_text(encoding="utf-8"))
            of_these = {test for test in found["seconds"] if test.startswith(tuple(files))}
            self.seconds |= {test: found["seconds"][test] for test in of_these}
            self.failed |= of_these & {*found["failed"]}
        self._texts: dict[str, str] = {}
        self._of_file: dict[str, tuple[dict[int, set[str]], list[Block]]] = {}

    def of(self, path: str, line: int) -> list[str]:
        """The tests of the statement at this line.

        A line that runs only when its module is imported, as a row of a table or a default does, is tested by what
        executes the function or file around it. A line that an import executes, in whatever function, is tested by
        ``READERS``, too. A line in a function that no test calls and no import executes has no tests. Where one test
        of the module's own file executes a line, all of that file are chosen, and where few tests do, all of their
        files: with a cache only the first one does.
        """
        if path not in self._of_file:
            by_line = self.data.contexts_by_lineno(str(self.root / path))
            there = {"", *self.seconds} - self.failed
            passing = {number: there.intersection(tests) for number, tests in by_line.items()}
            self._of_file[path] = passing, blocks((self.root / path).read_text(encoding="utf-8"))
        by_line_passing, all_blocks = self._of_file[path]
        around = [block for block in all_blocks if line in block]
        function = next((block for block in around if block.function), None)
        executed = by_line_passing.get(line, set())
        if not executed - {""} and around:
            executed = self._within(by_line_passing, around[0])
        tests = executed - {""}
        if not tests or (function is None and "" in executed):
            tests |= self._within(by_line_passing, function) - {""}
        at_import = {test for test in {*self.seconds} - self.failed if test.startswith(READERS)}
        own = {test.partition("::")[0] for test in tests if f"test_{Path(path).stem}.py::" in test}
        # What one test keeps, in a cache, the others of its file use without executing the line.
        sharing = own if len(tests) >= QUICKEST else {test.partition("::")[0] for test in tests}
        tests |= {test for test in {*self.seconds} - self.failed if test.partition("::")[0] in sharing}
        if "" in executed:
            own |= self._files_that_name(name for block in around for name in block.names)
        return self._in_order(tests, at_import if "" in executed else set(), own, self._folder_of(path))

    @staticmethod
    def _within(tests: dict[int, set[str]], block: Block | None) -> set[str]:
        """The tests that execute a line of a block, or of the whole file."""
        return set().union(*(found for line, found in tests.items() if block is None or line in block))

    def _in_order(self, tests: set[str], readers: set[str], own_files: set[str], folder: str) -> list[str]:
        def is_own(test: str) -> bool:
            return test.partition("::")[0] in own_files

        by_seconds = sorted(tests | readers, key=lambda test: (self.seconds[test], test))
        own = [test for test in by_seconds if is_own(test)]
        until = accumulate(self.seconds[test] for test in own)
        first = [test for test, seconds in zip(own, until, strict=True) if seconds <= OWN_SECONDS]
        first += [test for test in by_seconds if not is_own(test)][: max(QUICKEST - len(first), 0)]
        first += sorted(readers - {*first})
        chosen, seen, ranks = {*first}, Counter[str](), dict[str, int]()
        for test in by_seconds:
            if test not in chosen:
                file = test.partition("::")[0]
                seen[file] += 1
                ranks[test] = seen[file]
        in_turn = sorted(ranks, key=lambda test: ranks[test])
        near = [test for test in in_turn if test.startswith(folder)]
        until = accumulate(self.seconds[test] for test in near)
        near = [test for test, seconds in zip(near, until, strict=True) if seconds <= FOLDER_SECONDS]
        return [*dict.fromkeys([*first, *near, *in_turn])]

    def _folder_of(self, path: str) -> str:
        """The folder of the tests of a module: ``tests/nn/data/`` or, for ``nn/cli``, ``tests/cli/``."""
        parts = Path(path).parent.parts
        for folder in ("/".join(parts[start:end]) for end in range(len(parts), 0, -1) for start in range(end)):
            if any(test.startswith(f"tests/{folder}/") for test in self.seconds):
                return f"tests/{folder}/"
        return "tests/"

    def _files_that_name(self, names: Iterable[str]) -> set[str]:
        """The files of tests in which all of these names stand; if there are none, those with one of them."""
        if not self._texts:
            files = {test.partition("::")[0] for test in self.seconds}
            self._texts |= {file: (self.root / file).read_text(encoding="utf-8") for file in files}
        words = [re.compile(rf"\b{re.escape(name)}\b") for name in names]
        named = {file: [word.search(text) is not None for word in words] for file, text in self._texts.items()}
        most = {file for file, there in named.items() if all(there)}
        return most or {file for file, there in named.items() if any(there)}

"""Every setting does what it says: a test for each in this folder, and none may lack one."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from nn.cli import SETTINGS


def test_every_setting_has_one_test_that_shows_what_it_does() -> None:
    """It is called ``test_NAME`` and takes ``tools``, by which it is told from other tests."""
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*.py")]
    functions = [node for module in modules for node in module.body if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    names = [node.name.removeprefix("test_") for node in tests if "tools" in [given.arg for given in node.args.args]]
    missing, gone = set(SETTINGS) - set(names), set(names) - set(SETTINGS)
    assert missing == set(), f"write test_{min(missing)}(tools), which shows what this setting does"
    assert gone == set(), "there are tests of settings that are gone"
    assert {name: count for name, count in Counter(names).items() if count > 1} == {}

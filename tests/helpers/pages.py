"""Pages of the documentation: their blocks, and what they quote from files."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```([\w{}-]*)$")
MARKER = re.compile(r"^`([^`]+)`(?:, `([\w.]+)`)?:$")


@dataclass(frozen=True)
class Block:
    """A fenced block of the page, the number of its first line, and the line above it."""

    language: str
    text: str
    number: int
    above: str


def blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    begin: int | None = None
    language = ""
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence is None:
            continue
        if begin is None:
            begin, language = number, fence[1]
            continue
        above = next((line for line in reversed(lines[:begin]) if line.strip()), "")
        yield Block(language, "\n".join(lines[begin + 1 : number]), begin + 2, above)
        begin = None
    if begin is not None:
        raise ValueError(f"line {begin + 1}: this block does not end")


def definition(source: str, name: str) -> str:
    """The lines of the function or class ``name``, such as ``Linear.forward``."""
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        inner = [
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == part
        ]
        if not inner:
            raise LookupError(f"there is no {name}")
        node = inner[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    return "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])


def is_quoted_from(source: str, snippet: str) -> bool:
    """Whether the lines of ``snippet`` stand one after the other in ``source``, further to the right or not."""
    wanted = textwrap.dedent(snippet).splitlines()
    lines = source.splitlines()
    windows = (lines[start : start + len(wanted)] for start in range(len(lines) - len(wanted) + 1))
    return bool(wanted) and any(textwrap.dedent("\n".join(window)).splitlines() == wanted for window in windows)


def problem(block: Block) -> str | None:
    """What is wrong with a quoted block, or None."""
    marker = MARKER.match(block.above)
    if marker is None:
        return f"no file is named above it, but {block.above!r}"
    path = ROOT / marker[1]
    if not path.is_file():
        return f"there is no file {marker[1]}"
    source = path.read_text(encoding="utf-8")
    if marker[2]:
        try:
            source = definition(source, marker[2])
        except LookupError as error:
            return f"{marker[1]}: {error}"
    return (
        None
        if is_quoted_from(source, block.text)
        else f"it does not stand in {' '.join(filter(None, marker.groups()))}"
    )


def commands(text: str) -> list[str]:
    return [line for block in blocks(text) if not block.language for line in block.text.splitlines()]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)

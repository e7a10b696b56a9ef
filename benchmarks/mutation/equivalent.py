"""The list of mutants that are known to be no fault, each with its reason: ``equivalent.toml``."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path("benchmarks", "mutation", "equivalent.toml")
#: What a mutant that is no fault can be.
KINDS = {
    "same": "the same program in other words: no input tells the difference",
    "slower": "equal numbers, in more time or memory",
    "rounding": "another way of rounding, within what the specification leaves open",
    "looks": "how a picture looks, not what it shows",
}


@dataclass(frozen=True)
class Entry:
    """A mutant that is no fault.

    Attributes:
        path: the file, relative to the root of the project.
        inside: the function or class around the line, such as ``Linear.forward``; "" for the module itself.
        removed: the line that the mutant replaces, or several, without their indentation.
        added: what it puts there.
        kind: one of ``KINDS``.
        reason: why it is no fault.
    """

    path: str
    inside: str
    removed: str
    added: str
    kind: str
    reason: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return key(self.path, self.inside, self.removed, self.added)


def key(path: str, inside: str, removed: str, added: str) -> tuple[str, str, str, str]:
    """What a mutant is known by: where it is, and its lines without their indentation."""
    flat = ["\n".join(line.strip() for line in text.strip().splitlines()) for text in (removed, added)]
    return path, inside, flat[0], flat[1]


def read(root: Path) -> list[Entry]:
    """The entries of the list; none where the project has no list.

    Raises:
        ValueError: if an entry is not one, or is not of the code as it is now.
    """
    if not (root / FILE).is_file():
        return []
    entries = []
    for table in tomllib.loads((root / FILE).read_text(encoding="utf-8")).get("mutant", []):
        try:
            entries.append(Entry(**{"inside": "", **table}))
        except TypeError as error:
            raise ValueError(f"{FILE}: {error}: {table}") from None
    if problems := list(wrong(root, entries)):
        raise ValueError("\n".join(f"{FILE}: {problem}" for problem in problems))
    return entries


def wrong(root: Path, entries: Sequence[Entry]) -> Iterable[str]:
    """What is wrong with entries: code that they speak of is gone, say, so that nobody can tell what they mean."""
    seen = set()
    for entry in entries:
        where = f"{entry.path}, {entry.inside or 'the module'}: {entry.removed.strip()!r}"
        if entry.kind not in KINDS:
            yield f"{where}: the kind must be one of {', '.join(KINDS)}, not {entry.kind!r}"
        if not entry.reason.strip() or not entry.removed.strip():
            yield f"{where}: a line and a reason are needed"
        if entry.key in seen:
            yield f"{where}: it is listed twice"
        seen.add(entry.key)
        if not (root / entry.path).is_file():
            yield f"{where}: there is no such file"
        elif not stands_in(lines_of((root / entry.path).read_text(encoding="utf-8"), entry.inside), entry.removed):
            yield f"{where}: this line does not stand there; look whether the entry still holds"


def definitions(text: str) -> dict[str, tuple[int, int]]:
    """First and last line of every function and class, by names such as ``Linear.forward``."""
    found = {}

    def visit(node: ast.AST, around: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = around
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{around}.{child.name}".lstrip(".")
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found[name] = first, child.end_lineno or child.lineno
            visit(child, name)

    visit(ast.parse(text), "")
    return found


def name_at(text: str, line: int) -> str:
    """The name of the innermost function or class around a line; "" where there is none."""
    around = [(last - first, name) for name, (first, last) in definitions(text).items() if first <= line <= last]
    return min(around)[1] if around else ""


def lines_of(text: str, inside: str) -> list[str]:
    """The lines of a function or class, or of a whole module; none where there is no such function."""
    first, last = definitions(text).get(inside, (1, 0)) if inside else (1, text.count("\n") + 1)
    return text.splitlines()[first - 1 : last]


def stands_in(lines: Sequence[str], removed: str) -> bool:
    """Whether the lines of ``removed`` stand among these in their order."""
    rest = iter(line.strip() for line in lines)
    return all(line.strip() in rest for line in removed.strip().splitlines())

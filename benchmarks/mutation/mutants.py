"""Which mutants a module has, by mutmut's operators, and the source of each."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

#: Calls whose arguments are left alone: what becomes of them is an error in any program, or nothing at all.
UNTOUCHED_CALLS = {"isinstance", "len", "cast", "TypeVar"}
#: Arguments that are left alone, by their names: UTF-8 is what the systems that run this take without ``encoding``;
#: ``strict`` of ``zip`` says that lengths are equal, as an assertion does; words of help; and how a picture looks, not
#: what it shows.
UNTOUCHED_ARGUMENTS = {"encoding", "strict"} | {"help", "description", "epilog"}
UNTOUCHED_ARGUMENTS |= {"fontsize", "ha", "va", "alpha", "rotation", "interpolation", "dpi", "markersize", "shrink"}
#: Functions that give a buffer, or an array that is made once, by its name.
BUFFERS = {"buffer", "_scratch", "_constant"}
#: What names of types are made of: with annotations that nobody evaluates, they do nothing.
TYPES = {"Callable", "dict", "list", "tuple", "Literal"}


@dataclass(frozen=True)
class Mutant:
    """One fault in one file.

    Attributes:
        path: the file, relative to the root of the project.
        line: where the node that changes begins.
        kind: mutmut's name for the change, such as ``number`` or ``arg_removal``.
        index: its index among the mutants of the file.
        source: the whole file with the fault in it.
    """

    path: str
    line: int
    kind: str
    index: int
    source: str

    @property
    def module(self) -> str:
        return ".".join(Path(self.path).with_suffix("").parts).removesuffix(".__init__")

    def diff(self, original: str) -> list[str]:
        """The lines that change, with ``-`` and ``+`` before them."""
        lines = difflib.unified_diff(original.splitlines(), self.source.splitlines(), n=0, lineterm="")
        return [line for line in lines if line[0] in "-+" and not line.startswith(("---", "+++"))]


class Places(cst.CSTVisitor):  # type: ignore[misc]
    """The nodes of a module that can be changed, each with its line.

    Annotations, names of types and decorators are passed over, and so are the words of error messages and warnings,
    which no test has to repeat, and the names of buffers, of which another one does as well.
    """

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, int, bool]] = []
        self.raising = 0
        self.names_of_buffers: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
            return False
        if is_list_of_names(node) or is_name_of_type(node) or is_for_the_program(node):
            return False
        if isinstance(node, cst.Arg) and (untouched(node) or node in self.names_of_buffers):
            return False
        if isinstance(node, cst.Call) and called(node) in UNTOUCHED_CALLS:
            return False
        if isinstance(node, cst.Call):
            self.names_of_buffers += name_of_buffer(node)
        if is_message(node):
            self.raising += 1
        position = self.get_metadata(PositionProvider, node, None)
        if position is not None:
            self.found.append((node, position.start.line, self.raising > 0))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if is_message(original_node):
            self.raising -= 1


def is_list_of_names(node: cst.CSTNode) -> bool:
    """Whether a statement is ``__all__ = [...]``."""
    return isinstance(node, cst.Assign) and any(
        isinstance(target.target, cst.Name) and target.target.value == "__all__" for target in node.targets
    )


def is_name_of_type(node: cst.CSTNode) -> bool:
    """Whether a statement is ``Name = Callable[...]`` or the like."""
    return (
        isinstance(node, cst.Assign)
        and isinstance(node.value, cst.Subscript)
        and isinstance(node.value.value, cst.Name)
        and node.value.value.value in TYPES
    )


def is_for_the_program(node: cst.CSTNode) -> bool:
    """Whether a statement is ``if __name__ == "__main__": ...``, which only a process of its own runs, and that reads
    the file without the fault."""
    return (
        isinstance(node, cst.If)
        and isinstance(node.test, cst.Comparison)
        and isinstance(node.test.left, cst.Name)
        and node.test.left.value == "__name__"
    )


def is_message(node: cst.CSTNode) -> bool:
    """Whether the texts inside are for people: those of ``raise`` and of ``warnings.warn``."""
    return isinstance(node, cst.Raise) or (isinstance(node, cst.Call) and called(node) == "warn")


def called(node: cst.Call) -> str:
    """The name of the function or method that is called."""
    if isinstance(node.func, cst.Attribute):
        return str(node.func.attr.value)
    return str(node.func.value) if isinstance(node.func, cst.Name) else ""


def name_of_buffer(node: cst.CSTNode) -> list[cst.CSTNode]:
    """The first argument of ``buffer(name, shape)`` or ``_scratch(name, shape)``."""
    return [*node.args[:1]] if isinstance(node, cst.Call) and called(node) in BUFFERS and len(node.args) > 1 else []


def untouched(node: cst.CSTNode) -> list[cst.BaseExpression]:
    """The values of the arguments that are left alone, of a call or of one argument."""
    arguments = node.args if isinstance(node, cst.Call) else [node] if isinstance(node, cst.Arg) else []
    return [a.value for a in arguments if a.keyword and a.keyword.value in UNTOUCHED_ARGUMENTS]


def leaves_alone(node: cst.CSTNode, replacement: cst.CSTNode) -> bool:
    """Whether the arguments that are to be left alone are the same in both."""
    names = name_of_buffer(node), name_of_buffer(replacement)
    return untouched(node) == untouched(replacement) and (names[0] == names[1] or not names[1])


@dataclass(frozen=True)
class Change:
    """A node of a tree and what replaces it; the source is written only for those that are chosen."""

    line: int
    kind: str
    node: cst.CSTNode
    replacement: cst.CSTNode


class Module:
    """A file of the project, and its mutants."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.text = (root / path).read_text(encoding="utf-8")
        wrapper = MetadataWrapper(cst.parse_module(self.text))
        places = Places()
        wrapper.visit(places)
        self.tree = wrapper.module
        self.changes = [
            Change(line, operator.__name__.removeprefix("operator_"), node, replacement)
            for node, line, raising in places.found
            for kind, operator in mutation_operators
            if isinstance(node, kind) and not (raising and operator.__name__ == "operator_string")
            for replacement in cast("Iterable[cst.CSTNode]", operator(node))
            if leaves_alone(node, replacement)
        ]

    def mutant(self, index: int) -> Mutant | None:
        """The mutant with this index, or None where it would be no Python, or the same program."""
        change = self.changes[index]
        changed = self.tree.deep_replace(change.node, change.replacement)
        source = cast("cst.Module", changed).code
        try:
            if ast.dump(ast.parse(source)) == ast.dump(ast.parse(self.text)):
                return None
        except SyntaxError:
            return None
        return Mutant(self.path, change.line, change.kind, index, source)


def files(root: Path, chosen: Iterable[str], left_out: Iterable[str]) -> Iterator[str]:
    """The Python files below the chosen files and folders, relative to the root.

    Raises:
        FileNotFoundError: if one of them is not there.
    """
    for name in chosen:
        if not (root / name).exists():
            raise FileNotFoundError(f"there is no file or folder {name} in {root}")
        below = [root / name] if (root / name).is_file() else sorted((root / name).rglob("*.py"))
        for path in below:
            relative = path.relative_to(root)
            if not any(relative.is_relative_to(skipped) for skipped in left_out):
                yield relative.as_posix()

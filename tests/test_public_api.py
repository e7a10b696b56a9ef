"""What users import, held against a snapshot: a change of a name or a signature shows in the diff of a commit.

``python -m tests.test_public_api`` writes the snapshot anew, ``tests/public_api.txt``. Names without an underscore
that stand in ``__all__`` of these packages are public; so are their methods and properties.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import pytest

from tests.helpers.public_names import PACKAGES, SPECIAL, defined, written

SNAPSHOT = Path(__file__).parent / "public_api.txt"
COMMAND = "python -m tests.test_public_api"


def signature(function: Callable[..., Any]) -> str:
    """``(x: int, y: float = 0.5) -> str``; annotations as they are written, on every version of Python."""
    found = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=written(parameter.annotation)) for parameter in found.parameters.values()
    ]
    return str(inspect.Signature(parameters, return_annotation=written(found.return_annotation)))


def constant(value: object) -> str:
    if isinstance(value, Mapping):
        # Tables that grow when a class is defined: what tests define has its module in its name.
        return f"{{{', '.join(sorted(repr(key) for key in value if not str(key).startswith(('tests.', 'example.'))))}}}"
    return repr(value) if isinstance(value, str | int | float | tuple | frozenset | None) else type(value).__name__


def members(name: str, cls: type) -> Iterator[str]:
    """The public methods, properties and constants that a class itself defines, or has from bases of ours that are not
    public; of an enumeration, its values."""
    if issubclass(cls, Enum):
        yield from (f"{name}.{member.name} = {constant(member.value)}" for member in cls)
        return
    if is_dataclass(cls):
        own_fields = {field.name for field in fields(cls)}
    else:
        own_fields = set(inspect.get_annotations(cls)) if issubclass(cls, tuple) else set()
    for member, value in sorted(defined(cls).items()):
        if (member.startswith("_") and member not in SPECIAL) or member in own_fields:
            continue
        if isinstance(value, property | cached_property):
            getter = value.fget if isinstance(value, property) else value.func
            assert getter is not None
            yield f"{name}.{member}{signature(getter).partition(')')[2]} (property)"
        elif isinstance(value, staticmethod | classmethod):
            yield f"{name}.{member}{signature(getattr(cls, member))} ({type(value).__name__})"
        elif callable(value):
            yield f"{name}.{member}{signature(value)}"
        else:
            yield f"{name}.{member} = {constant(value)}"


def described(name: str, value: object) -> Iterator[str]:
    """The lines of the snapshot for one public name."""
    if isinstance(value, type):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        made = signature(value) if has_signature(value) else ""
        yield f"class {name}{made}" + (f" of {bases}" if bases else "")
        yield from members(name, value)
    elif isinstance(value, ModuleType):
        yield f"module {name}"
    elif inspect.isroutine(value):
        yield f"{name}{signature(value)}"
    elif get_origin(value) is not None:
        yield f"type {name} = {value}"
    else:
        yield f"{name} = {constant(value)}"


def has_signature(cls: type) -> bool:
    """Whether a class says what it is made from; versions of Python describe the plain ones and errors differently."""
    if issubclass(cls, BaseException):
        return "__init__" in vars(cls)
    if issubclass(cls, Enum):
        return False
    return cls.__init__ is not object.__init__ or issubclass(cls, tuple)


def surface() -> str:
    """The public names of all packages, one line for each name and each member."""
    lines: list[str] = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        lines += [f"# {package}"]
        for name in sorted(module.__all__):
            lines += described(f"{package}.{name}", getattr(module, name))
        lines += [""]
    return "\n".join(lines)


def test_the_public_api_is_the_one_in_the_snapshot() -> None:
    before, now = SNAPSHOT.read_text(encoding="utf-8"), surface()
    diff = "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "snapshot", "now", n=0, lineterm=""))
    assert not diff, f"the public API changed; if that is meant, run `{COMMAND}` and commit the snapshot:\n{diff}"


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_public_is_explained(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    silent = [
        name
        for name in module.__all__
        if isinstance(value := getattr(module, name), type) or inspect.isroutine(value)
        if not inspect.getdoc(value)
    ]
    assert silent == []


def test_a_change_is_seen() -> None:
    @dataclass
    class Before:
        rate: float = 0.1
        MOST = 3

        def step(self, x: int, *, out: int | None = None) -> int:
            return x

        @property
        def size(self) -> int:
            return 1

        def _hidden(self) -> None: ...

    @dataclass
    class After(Before):
        rate: float = 0.2

        def step(self, x: int, *, out: int | None = 0) -> int:
            return x

    assert list(described("B", Before)) == [
        "class B(rate: float = 0.1) -> None",
        "B.MOST = 3",
        "B.size -> int (property)",
        "B.step(self, x: int, *, out: int | None = None) -> int",
    ]
    assert list(described("B", After)) == [
        "class B(rate: float = 0.2) -> None of Before",
        "B.step(self, x: int, *, out: int | None = 0) -> int",
    ]


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), encoding="utf-8")

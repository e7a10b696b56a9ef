"""Where public names stand, and how their annotations read."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

PACKAGES = ["backends", "backends.check", "nn", "nn.callbacks", "nn.data", "nn.layers", "nn.optimizers"]
#: Special methods that are called by users' code; those that ``dataclass`` writes follow from the fields.
SPECIAL = {"__call__", "__contains__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__"}


@cache
def public_classes() -> frozenset[type]:
    modules = map(importlib.import_module, PACKAGES)
    found = (getattr(module, name) for module in modules for name in module.__all__)
    return frozenset(value for value in found if isinstance(value, type))


def defined(cls: type) -> dict[str, Any]:
    """What a class itself defines, and those of its bases that are ours and not public."""
    hidden = [
        base
        for base in cls.__mro__[1:]
        if base.__module__.partition(".")[0] in ("backends", "nn") and base not in public_classes()
    ]
    return {name: value for each in (*reversed(hidden), cls) for name, value in vars(each).items()}


class Annotation(str):
    """The text of an annotation, printed without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def written(annotation: Any) -> Any:
    """An annotation as it stands in the source, where that is known."""
    text = getattr(annotation, "__forward_arg__", annotation)
    return Annotation(text) if isinstance(text, str) else annotation

"""Where public names stand, and how their annotations read."""

from __future__ import annotations

from typing import Any

PACKAGES = ["backends", "backends.check", "nn", "nn.callbacks", "nn.data", "nn.layers", "nn.optimizers"]
#: Special methods that are called by users' code; those that ``dataclass`` writes follow from the fields.
SPECIAL = {"__call__", "__contains__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__"}


class Annotation(str):
    """The text of an annotation, printed without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def written(annotation: Any) -> Any:
    """An annotation as it stands in the source, where that is known."""
    text = getattr(annotation, "__forward_arg__", annotation)
    return Annotation(text) if isinstance(text, str) else annotation

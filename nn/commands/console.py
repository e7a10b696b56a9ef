"""What a command says beside its result: errors and warnings, a sentence each, on standard error."""

from __future__ import annotations

import sys
from typing import Any

from ..messages import sentence

PROGRAM = "python -m nn"


def complain(error: object) -> None:
    """Say what cannot be used."""
    print(f"{PROGRAM}: error: {sentence(str(error))}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """``text``, which a file may have said, without what could write anything on a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def warn(message: Any, *others: Any, **more: Any) -> None:
    """As ``warnings.showwarning``, without a line of code."""
    print(f"{PROGRAM}: warning: {sentence(str(message))}", file=sys.stderr, flush=True)

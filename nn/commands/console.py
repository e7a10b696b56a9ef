"""What a command says beside its result: errors and warnings, a sentence each, on standard error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ..messages import sentence


def program() -> str:
    """What the user called: ``xpnet``, or ``python -m nn``."""
    return "xpnet" if Path(sys.argv[0]).stem == "xpnet" else "python -m nn"


def as_called(text: str) -> str:
    """Help with the commands in it as the user calls them."""
    if program() == "xpnet":
        for one, other in (("python train.py", "xpnet train"), ("train.py", "xpnet train"), ("python -m nn", "xpnet")):
            text = text.replace(one, other)
    return text


def complain(error: object) -> None:
    """Say what cannot be used; a command in it as the user calls it."""
    text = sentence(str(error))
    if program() == "xpnet":
        text = re.sub(r"(?<![\w./-])(python )?train\.py(?= --)", "xpnet train", text)
    print(f"{program()}: error: {text}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """``text``, which a file may have said, without what could write anything on a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def warn(message: Any, *others: Any, **more: Any) -> None:
    """As ``warnings.showwarning``, without a line of code."""
    print(f"{program()}: warning: {sentence(str(message))}", file=sys.stderr, flush=True)

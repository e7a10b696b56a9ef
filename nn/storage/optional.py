"""Libraries that not everybody has, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, purpose: str, install: str = "") -> Any:
    """The module ``name``.

    Args:
        purpose: what needs it, as the beginning of a sentence.
        install: what pip calls it; ``name`` by default.

    Raises:
        ImportError: in one sentence that says what to install, it or what it needs in its turn.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = install or name.partition(".")[0]
        if not f"{name}.".startswith(f"{error.name}."):
            raise ImportError(
                f"{purpose} needs {package}, which needs {error.name} here: pip install {error.name}"
            ) from None
        raise ImportError(f"{purpose} needs {package}, which is not installed: pip install {package}") from None

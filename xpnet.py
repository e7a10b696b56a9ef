"""xpnet by its own name: everything of ``nn``, and ``backends``.

>>> import xpnet
>>> model = xpnet.Sequential(xpnet.Linear(4, 3), xpnet.Softmax(), backend=xpnet.backends.get_backend("cpu"))

``from nn import Sequential`` is the same class. The packages have the short names ``nn``, ``backends`` and ``recipes``,
which another package might have, too; where one of them is found in their place, this import says so.

``xpnet train``, ``xpnet predict``, ... on the command line are ``python train.py``, ``python -m nn predict``, ...
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

for _name in ("backends", "nn"):
    try:
        _found = importlib.import_module(_name)
    except KeyboardInterrupt:  # Ctrl-C while the libraries are loaded, before ``main`` could say so
        if Path(sys.argv[0]).stem == "xpnet":
            sys.exit(130)
        raise
    _file = getattr(_found, "__file__", None)
    if _file is None or Path(_file).parent.parent != Path(__file__).parent:
        raise ImportError(
            f"xpnet needs its own package {_name}, but Python finds another one at {_file}; uninstall that one, or "
            "move it behind xpnet in sys.path"
        )

import backends as backends  # noqa: E402
import nn as nn  # noqa: E402
from nn import __all__ as _names  # noqa: E402
from nn import __version__ as __version__  # noqa: E402

if TYPE_CHECKING:
    from nn import *  # noqa: F403

__all__ = [*_names, "backends", "nn"]

#: The commands beside those of ``python -m nn``: the module that does each, and what it does.
_BESIDE = {
    "train": ("train", "train a network"),
    "doctor": ("backends.__main__", "say what can compute here, and what cannot and why"),
}


def __getattr__(name: str) -> Any:
    # Each name when it is asked for: those of the estimators import scikit-learn, which takes longer than all the rest.
    if name in _names:
        return getattr(nn, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_names})


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words of ``argv`` ask for: ``xpnet COMMAND``; the exit code of that command."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in _BESIDE:
        module = importlib.import_module(_BESIDE[words[0]][0])
        return int(module.main(words[1:]))
    try:
        commands = importlib.import_module("nn.__main__")
    except KeyboardInterrupt:  # as above
        return 130
    return int(commands.main(words, {name: text for name, (_, text) in _BESIDE.items()}))


if __name__ == "__main__":
    sys.exit(main())

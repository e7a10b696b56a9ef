"""xpnet by its own name: everything of ``nn``, and ``backends``.

>>> import xpnet
>>> model = xpnet.Sequential(xpnet.Linear(4, 3), xpnet.Softmax(), backend=xpnet.backends.get_backend("cpu"))

``from nn import Sequential`` is the same class. The packages have the short names ``nn``, ``backends`` and ``recipes``,
which another package might have, too; where one of them is found in their place, this import says so.
"""

from __future__ import annotations

import importlib
from pathlib import Path

for _name in ("backends", "nn"):
    _found = importlib.import_module(_name)
    _file = getattr(_found, "__file__", None)
    if _file is None or Path(_file).parent.parent != Path(__file__).parent:
        raise ImportError(
            f"xpnet needs its own package {_name}, but Python finds another one at {_file}; uninstall that one, or "
            "move it behind xpnet in sys.path"
        )

import backends as backends  # noqa: E402
import nn as nn  # noqa: E402
from nn import *  # noqa: E402, F403
from nn import __all__ as _names  # noqa: E402
from nn import __version__ as __version__  # noqa: E402

__all__ = [*_names, "backends", "nn"]

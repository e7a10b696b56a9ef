"""How the documentation is built: ``python -m sphinx -W docs build/docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from nn import __version__  # noqa: E402

project, author, copyright = "xpnet", "the xpnet developers", "the xpnet developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"xpnet {version}"
myst_heading_anchors = 4
# Attributes of the same name in several classes: which one is meant is seen from the class that they stand in.
suppress_warnings = ["misc.highlighting_failure", "ref.python"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "inherited-members": False, "show-inheritance": True}
# What only exists on a machine with a GPU, or is optional.
autodoc_mock_imports = ["cupy"]
napoleon_use_ivar = True

#: Where files lie that are no pages.
FILES = "https://github.com/xpnet/xpnet/blob/main/"
OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")


def link_to_files(app: Any, name: str, source: list[str]) -> None:
    """Pages link to files of the project beside docs/, which stand in the repository only."""
    source[0] = OUTSIDE.sub(rf"]({FILES}\1)", source[0])


def as_written(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Formulas and tables stand indented below a line of text, and are shown as they are; bars elsewhere, as in an
    absolute value, are no substitutions of reStructuredText."""
    found: list[str] = []
    above, literal = "", False
    for line in lines:
        indented = line.startswith("    ")
        if indented and found and not found[-1] and above and not above.startswith(" "):
            found += [] if above.endswith("::") else ["::", ""]
            literal = True
        literal = literal and (indented or not line)
        parts = [line] if literal else re.split(r"(``.+?``)", line)
        found.append("".join(part if literal or part.startswith("``") else part.replace("|", r"\|") for part in parts))
        above = line or above
    lines[:] = found


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_written, priority=400)  # before the sections are read
    app.connect("source-read", link_to_files)

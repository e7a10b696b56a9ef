"""What things look like in a notebook, which asks objects for ``_repr_html_``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]], text_columns: int = 1, caption: str = "") -> str:
    """A table in the notebook's own style.

    Args:
        head: the titles of the columns.
        rows: their cells.
        text_columns: how many of the first columns are text; the others are numbers, and stand at the right.
        caption: a line below the table; "" for none.
    """

    def line(cells: Sequence[Any], tag: str) -> str:
        sides = ["left" if index < text_columns else "right" for index in range(len(cells))]
        written = (
            f'<{tag} style="text-align:{side}">{escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(written)}</tr>"

    below = f"<p>{escape(caption)}</p>" if caption else ""
    body = "".join(line(cells, "td") for cells in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>{below}"


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process, which shows what is printed as it comes but is no terminal."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"

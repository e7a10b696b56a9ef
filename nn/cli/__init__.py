"""The command line of ``train.py``: the settings of a run, one entry each, and the flags that are made from them."""

from __future__ import annotations

from .flags import program, read_flags
from .header import header_text
from .kinds import UsageError
from .settings import SETTINGS, TABLES, Setting, Settings, combine, refuse_idle_on_rows

__all__ = [
    "SETTINGS",
    "TABLES",
    "Setting",
    "Settings",
    "UsageError",
    "combine",
    "header_text",
    "program",
    "read_flags",
    "refuse_idle_on_rows",
]

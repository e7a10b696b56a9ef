"""The command line of ``train.py``: the settings of a run, one entry each, and the flags that are made from them."""

from __future__ import annotations

from .augment import build_augment
from .callbacks import build_callbacks
from .combine import changed_problem, combine, refuse_idle_on_rows
from .entry import Setting
from .flags import command_line, program, read_flags
from .header import header_text, network_text
from .kinds import UsageError
from .loss import build_loss
from .models import start_from
from .optimizer import build_optimizer
from .settings import SETTINGS, TABLES, Settings

__all__ = [
    "SETTINGS",
    "TABLES",
    "Setting",
    "Settings",
    "UsageError",
    "build_augment",
    "build_callbacks",
    "build_loss",
    "build_optimizer",
    "changed_problem",
    "combine",
    "command_line",
    "header_text",
    "network_text",
    "program",
    "read_flags",
    "refuse_idle_on_rows",
    "start_from",
]

"""Ctrl-C while ``python -m nn`` or ``python -m backends`` is being loaded ends it without a word.

There is nothing yet that would have to be put in order, and no code of ``main`` that could catch the exception: Python
imports the package first. So importing this module, the first that either package imports, does it. Where another
program imports the packages, nothing is changed.
"""

from __future__ import annotations

import os
import signal
import sys

#: What a shell has for the exit code of a program that Ctrl-C has ended.
ENDED_BY_CTRL_C = 130


def end(signum: int, frame: object) -> None:
    """End at once: an exception could be dropped, or become another one, in what is being imported."""
    os._exit(ENDED_BY_CTRL_C)


def loaded() -> None:
    """``main`` begins, and catches KeyboardInterrupt itself."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_a_command() -> bool:
    """Whether Python is looking for the main module of one of the packages."""
    if sys.argv[:1] != ["-m"]:  # as it is until the module is found
        return False
    words = sys.orig_argv
    return words[words.index("-m") + 1 :][:1] in (["nn"], ["backends"]) if "-m" in words else False


if is_a_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it may be ignored
    signal.signal(signal.SIGINT, end)

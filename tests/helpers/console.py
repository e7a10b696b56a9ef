"""Lines of the pages, as a shell takes them, in this process."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import backends.__main__
import nn.__main__
import train
import xpnet
from tests.helpers.command import stdin_holds

#: What a line begins with, and who does it.
PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {
    "python train.py": train.main,
    "python -m nn": nn.__main__.main,
    "python -m backends": backends.__main__.main,
    "xpnet": xpnet.main,
}


def run(line: str, monkeypatch: pytest.MonkeyPatch, more: Sequence[str] = ()) -> tuple[int, str]:
    """A line as a shell takes it, as far as the pages need one: exit code and output.

    Args:
        more: words to add to it.

    Raises:
        ValueError: no program of ours does it.
    """
    line, _, target = line.partition(" #")[0].rstrip().partition(" > ")
    first, pipe, second = line.partition(" | ")
    if pipe:
        command, name = first.split()
        assert command == "cat"
        stdin_holds(monkeypatch, Path(name).read_bytes())
    line = second or first
    program = next((name for name in PROGRAMS if f"{line} ".startswith(f"{name} ")), None)
    if program is None:
        raise ValueError(f"who does this? {line}")
    words = shlex.split(line.removeprefix(program))
    words = [found for word in words for found in (sorted(glob.glob(word)) or [word])]
    out = StringIO()
    with redirect_stdout(out):
        code = PROGRAMS[program]([*words, *more])
    if target:
        Path(target).write_text(out.getvalue(), encoding="utf-8")
    return code, out.getvalue()

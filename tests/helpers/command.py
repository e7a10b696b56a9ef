"""``python -m nn`` as the command line calls it, in this process."""

from __future__ import annotations

import io
import sys

import pytest

from nn.__main__ import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        code: object = main([str(word) for word in words])
    except SystemExit as done:
        code = done.code
    assert isinstance(code, int)
    return code, *capsys.readouterr()


def stdin_holds(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let standard input be these bytes."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

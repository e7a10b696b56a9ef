"""The train script, called as the command line calls it."""

from __future__ import annotations

import pytest

import train


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        code: object = train.main(flags)
    except SystemExit as done:
        code = done.code
    assert isinstance(code, int)
    return code, *capsys.readouterr()

"""Recipes that somebody damaged, or made to harm whoever runs them: refused in a sentence, in little time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes import FOLDER, RecipeError, load

GOOD = (FOLDER / "momentum.toml").read_bytes()
BAD = {
    "lists in lists": (b"[data]\ndata=" + b"[" * 100_000 + b"]" * 100_000, "nests its values too deeply"),
    "tables in tables": (b"[data]\ndata=" + b"{a=" * 50_000 + b"1" + b"}" * 50_000, "nests its values too deeply"),
    "some lists in lists": (b"[data]\ndata=" + b"[" * 150 + b"]" * 150, "data must be|nests its values"),
    "a dotted key": (b"a" + b".a" * 200_000 + b"=1", "a key of more than 32 dots"),
    "a dotted key in a table": (b"[data]\n" + b"a . " * 100_000 + b"a=1", "a key of more than 32 dots"),
    "a dotted key in quotes": (b"[data]\n" + b"\"a b\".'c d'." * 50_000 + b"a=1", "a key of more than 32 dots"),
    "a dotted table": (b"[a" + b".a" * 200_000 + b"]\nx=1\n", "a key of more than 32 dots"),
    "tables": (b"".join(b"[a%d]\n" % i for i in range(50_000)), "unknown key 'a0'"),
    "text": (b'title="' + b"A" * 2_000_000 + b'"', "has more than 1 MB, which is too much for a recipe"),
    "a list": (b"[network]\nhidden=[" + b"1," * 300_000 + b'"a"]', "hidden must be"),
    "a long integer": (b"[data]\nlimit=" + b"9" * 5000, "is not TOML"),
    "bytes": (bytes(range(256)) * 10, "is not TOML"),
    "zeros": (bytes(5000), "is not TOML"),
    "a zero": (GOOD + b"\0", "is not TOML"),
    "Latin-1": (GOOD + b"# \xe9\n", "is not TOML"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "is not TOML"),
    "lines of long ago": (GOOD.replace(b"\n", b"\r"), "is not TOML"),
    "escapes": (b'[data]\n"\\u001b[31m\\u202e"=1\n', r"unknown key '.x1b\[31m.u202e'"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_hostile_recipe_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    content, message = BAD[what]
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    began = time.perf_counter()
    with pytest.raises(RecipeError, match=rf"r\.toml.*{message}") as caught:
        load(str(path))
    assert time.perf_counter() - began < 20
    assert str(caught.value).isprintable()
    assert len(str(caught.value).replace(str(path), "")) < 300


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_recipes_of_any_editor_are_read(tmp_path: Path, mark: bytes, end: bytes) -> None:
    (tmp_path / "r.toml").write_bytes(mark + GOOD.replace(b"\n", end))
    assert [part.settings for part in load(str(tmp_path / "r.toml")).parts] == [
        part.settings for part in load("momentum").parts
    ]


def test_on_the_command_line_it_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(BAD["lists in lists"][0])
    command = [sys.executable, "train.py", "--recipe", str(tmp_path / "r.toml")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=FOLDER.parent)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert "nests its values too deeply" in run.stderr

"""Every command of ``docs/commands.md`` runs, one after the other."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nn import Linear, Sequential, Trainer, load_data
from nn.__main__ import COMMANDS, build_parser, main
from nn.cli import rows as rows_of_runs
from nn.commands import evaluate
from nn.data.pictures import FORMATS
from nn.report import write_report
from tests.helpers import made_up
from tests.helpers.console import run
from tests.helpers.drawings import as_picture

PAGE = (Path(__file__).parent.parent / "docs" / "commands.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
#: Blocks with a language are what is printed.
LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
#: What some lines need, by a word of theirs.
NEEDED = {"digits.onnx": "onnx", "digits.pt": "torch", "net.safetensors": "torch"}


def can_run(line: str) -> bool:
    return all(word not in line or find_spec(library) for word, library in NEEDED.items())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page names, where MNIST is made up."""
    pytest.importorskip("PIL", reason="pictures need Pillow")
    data = made_up.mnist(400, 100)
    for module in (rows_of_runs, evaluate):
        monkeypatch.setattr(module, "load_data", lambda *given, **others: data)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    drawing = np.zeros((40, 30), np.uint8)
    drawing[5:30, 8:12] = 255
    for name in ("three.png", "scans/1.jpg", "scans/2.jpg"):
        as_picture(drawing, 1.0, light_paper=True).save(tmp_path / name)
    assert data.test is not None
    np.save("rows.npy", data.test.x[:3])
    save_file({"0.weight": np.eye(10, 784, dtype=np.float32)}, "net.safetensors")
    trainer = Trainer(Sequential(Linear(64, 10), backend="cpu"))
    trainer.fit(load_data("digits").train[:100], 1)
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, trainer)
    return tmp_path


def test_every_command_runs(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = [(line, *run(line, monkeypatch)) for line in LINES if can_run(line)]
    assert len(done) >= len(LINES) - len(NEEDED)
    assert [line for line, code, _ in done if code] == []
    assert [line for line, _, out in done if not out] == []
    assert (files / "answers.csv").read_text().startswith("file,row,class,probability\n")
    assert len((files / "answers.csv").read_text().splitlines()) == 4
    assert capsys.readouterr().err == ""
    (answer,) = [out for line, _, out in done if line.startswith("cat ")]
    assert re.fullmatch(r"-: \d \(\d+\.\d %\)\n", answer)


def test_every_command_has_a_section() -> None:
    assert set(re.findall(r"^## (\w+)$", PAGE, flags=re.MULTILINE)) == set(COMMANDS)
    assert all(name in PAGE.upper() for name in FORMATS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_are_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, _ = COMMANDS[name]
    with pytest.raises(SystemExit) as done:
        main([name, "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    for line, text in command.EXAMPLES:
        assert line in out
        assert text in out
        words = shlex.split(line.partition(" | ")[2] or line.partition(" > ")[0])
        assert words[:4] == ["python", "-m", "nn", name]
        assert build_parser().parse_args(words[3:]).run == command.run

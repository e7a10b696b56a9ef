"""``import xpnet``, and ``xpnet`` on the command line: the one door to ``nn``, ``backends`` and ``train``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import backends.__main__
import nn.__main__
import train
import xpnet


def test_everything_of_nn_is_there_and_is_the_same() -> None:
    assert xpnet.nn is nn
    assert xpnet.backends is backends
    assert xpnet.__version__ == nn.__version__
    assert set(xpnet.__all__) == {*nn.__all__, "nn", "backends"}
    assert all(getattr(xpnet, name) is getattr(nn, name) for name in nn.__all__)


def test_nothing_is_imported_that_nobody_has_asked_for() -> None:
    code = (
        "import sys, xpnet; before = 'sklearn' in sys.modules; from xpnet import MLPClassifier, Linear; "
        "print(before, MLPClassifier.__name__, set(xpnet.__all__) <= set(dir(xpnet)), hasattr(xpnet, 'nothing'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(xpnet.__file__).parent, capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("False MLPClassifier True False\n", "")


def test_another_package_of_the_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn" / "__init__.py").write_text("")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(xpnet.__file__).parent}"}
    ended = subprocess.run(
        [sys.executable, "-c", "import xpnet"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "xpnet needs its own package nn, but Python finds another one at" in ended.stderr


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/xpnet"])


def done(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    try:
        code: object = xpnet.main(words)
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


@pytest.mark.usefixtures("called")
def test_each_command_is_that_of_its_module(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    flags = ["--epochs", "2", "--device", "cpu", "--quiet", "--seed", "3"]
    code, printed, errors = done(capsys, "train", *flags, "--output", out)
    assert (code, errors) == (0, "")
    assert (train.main(flags), capsys.readouterr().out) == (0, printed)
    code, described, _ = done(capsys, "describe", out)
    assert code == 0
    assert re.search(r" xpnet train --\w+", described)  # the command that repeats it
    assert (nn.__main__.main(["describe", out]), capsys.readouterr().out) == (0, described)
    code, found, _ = done(capsys, "doctor", "--device", "cpu")
    assert (code, without_memory(found)) == (0, without_memory(devices(capsys)))


def without_memory(told: str) -> str:
    """What is free changes from one moment to the next."""
    return re.sub(r"[\d.]+ of [\d.]+ GiB", "", told)


def devices(capsys: pytest.CaptureFixture[str]) -> str:
    assert backends.__main__.main(["--device", "cpu"]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "xpnet: error: unknown command 'trian'; did you mean train? (--help lists all)"),
        (
            ["predict", "nowhere", "x.png"],
            "xpnet: error: nowhere: there is no such file, so there is no model; xpnet train --output DIR writes one\n",
        ),
        (["train", "--hiden", "3"], "xpnet train: error: unknown flag --hiden; did you mean --hidden?"),
        (["doctor", "chek"], "xpnet doctor: error: unexpected 'chek'; did you mean check?"),
        ([], "xpnet: error: name a command: train, doctor, predict, "),
    ],
)
def test_what_is_wrong_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = done(capsys, *words)
    assert (code, out) == (2, "")
    assert errors.startswith(sentence)
    assert errors.count("\n") == 1


@pytest.mark.usefixtures("called")
def test_help_has_every_command_as_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = done(capsys, "--help")
    assert code == 0
    assert all(f"\n    {name} " in out for name in ("train", "doctor", *nn.__main__.COMMANDS))
    assert "  xpnet train --data mnist --batch-size 128 --output out " in out
    for name in nn.__main__.COMMANDS:
        out = done(capsys, name, "--help")[1]
        assert f"  xpnet {name} " in out
        assert "python" not in out


def test_the_console_script_is_this_main() -> None:
    project = tomllib.loads((Path(xpnet.__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["xpnet"] == "xpnet:main"

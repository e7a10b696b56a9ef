from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nn import SGD, Augment, Linear, ReLU, Sequential, Trainer, load_data
from nn.__main__ import main
from nn.report import write_report
from nn.report.compared import read_report

DIGITS: Any = load_data("digits")


def written(path: Path, hidden: int, rate: float, epochs: int, **about: Any) -> Trainer:
    model = Sequential(Linear(64, hidden), ReLU(), Linear(hidden, 10), backend="cpu")
    trainer = Trainer(model, optimizer=SGD(rate))
    trainer.fit(DIGITS.train, epochs, validation=DIGITS.test, validation_every=2)
    write_report(path, trainer, DIGITS.test, **about)
    return trainer


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Trainer]]:
    folder = tmp_path_factory.mktemp("reports")
    settings = {"seed": 0, "momentum": 0.0}
    return folder, {
        "a.html": written(folder / "a.html", 8, 0.1, 3, title="small", settings={**settings, "learning_rate": 0.1}),
        "b.html": written(folder / "b.html", 16, 0.2, 5, title="large", settings={**settings, "learning_rate": 0.2}),
    }


def lines_of(text: str, head: str) -> dict[str, list[str]]:
    """The table of a text that begins with ``head``: its cells by the name of the line."""
    (part,) = (part for part in text.split("\n\n") if re.split(r"  +", part)[0] == head)
    lines = [re.split(r"  +", line) for line in part.splitlines()]
    return {name: cells for name, *cells in lines}


def test_a_terminal_shows_what_differs(
    two: tuple[Path, dict[str, Trainer]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trainers = two
    assert main(["compare", *(str(folder / name) for name in trainers)]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    figures = lines_of(text, "")
    assert figures["run"] == ["small", "large"]
    results = [trainer.evaluate(DIGITS.test) for trainer in trainers.values()]
    assert figures["test accuracy"] == [f"{result['accuracy']:.2%}" for result in results]
    assert figures["test loss"] == [f"{result['loss']:.4g}" for result in results]
    assert figures["epochs"] == ["3", "5"]
    differ = lines_of(text, "settings that differ")
    assert differ["learning rate"] == ["0.1", "0.2"]
    assert "seed" not in differ
    assert "momentum" not in differ
    assert "Python" not in differ
    curve = lines_of(text, "loss, validation, by epoch")
    a, b = (trainer.history["val_loss"] for trainer in trainers.values())
    assert curve["1"] == [f"{a[0]:.4g}", f"{b[0]:.4g}"]
    assert curve["5"] == ["-", f"{b[4]:.4g}"]
    assert "learning rate, by epoch" not in text


def test_a_page_lays_the_curves_over_each_other(
    two: tuple[Path, dict[str, Trainer]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trainers = two
    assert main(["compare", *(str(folder / name) for name in trainers), "--output", str(folder / "c.html")]) == 0
    assert f"wrote {folder / 'c.html'}" in capsys.readouterr().out
    page = (folder / "c.html").read_text()
    assert page.count('<svg class="chart"') == 4  # loss and accuracy of the training and of the validation rows
    assert page.count('<polyline class="line c0"') == page.count('<polyline class="line c1"') == 4
    assert page.count("a.html") > 4
    assert main(["compare", str(folder / "a.html"), str(folder / "c.html")]) == 2
    assert "c.html is no report" in capsys.readouterr().err


def test_a_run_beside_itself_differs_in_nothing(
    two: tuple[Path, dict[str, Trainer]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(two[0] / "a.html")
    assert main(["compare", path, path]) == 0
    text = capsys.readouterr().out
    assert "no setting differs" in text
    assert all(first == second for first, second in list(lines_of(text, "").values())[1:])


def test_distortions_that_differ_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of reports without settings; those of earlier versions know no distortions."""
    trainer = Trainer(Sequential(Linear(64, 10), backend="cpu"))
    trainer.fit(DIGITS.train[:100], 1)
    write_report(tmp_path / "a.html", trainer)
    trainer.augment = Augment(rotation=10)
    write_report(tmp_path / "b.html", trainer)
    page = (tmp_path / "a.html").read_text()
    before = page.replace('"augment":"",', "")
    assert before != page
    for text in (page, before):
        (tmp_path / "a.html").write_text(text)
        assert main(["compare", str(tmp_path / "a.html"), str(tmp_path / "b.html")]) == 0
        assert lines_of(capsys.readouterr().out, "settings that differ")["augment"] == ["nothing", "rotation 10"]


def test_whoever_reads_the_output_may_leave(two: tuple[Path, dict[str, Trainer]]) -> None:
    command = [sys.executable, "-m", "nn", "compare", *[str(two[0] / "a.html")] * 40]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_report_reads_as_what_was_written(two: tuple[Path, dict[str, Trainer]]) -> None:
    folder, trainers = two
    report = read_report(folder / "b.html")
    assert report["title"] == "large"
    assert report["history"]["loss"] == pytest.approx(trainers["b.html"].history["loss"], rel=1e-5)
    assert report["history"]["val_loss"][2] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "{a}"], "there is nothing to compare with; name two reports or more"),
        (["compare", "{a}", "{text}"], "is no report that this version of xpnet wrote; train.py --report FILE writes"),
        (["compare", "{a}", "{binary}"], "cannot be read: it is no text"),
        (["compare", "{a}", "{broken}"], "is no report that this version of xpnet wrote"),
        (["compare", "{a}", "{missing}"], "cannot be read: No such file or directory"),
        (["compare", "{a}", "{a}", "--output", "/nowhere/c.html"], "--output /nowhere/c.html: there is no folder"),
        (["compare", "{a}", "{a}", "--outptu", "c.html"], "--outptu"),
        (["compair"], "unknown command 'compair'; did you mean compare?"),
        ([], "name a command: "),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    two: tuple[Path, dict[str, Trainer]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text").write_text("a page")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    (tmp_path / "broken").write_text('<script type="application/json" id="report">{"format": </script>')
    files = {name: str(tmp_path / name) for name in ("text", "binary", "broken", "missing")}
    assert main([word.format(a=two[0] / "a.html", **files) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("python -m nn: error: ")
    assert sentence in line


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    deep = "[" * 100_000 + "]" * 100_000
    path.write_text(f'<script type="application/json" id="report">{deep}</script>')
    with pytest.raises(ValueError, match="is no report that this version of xpnet wrote"):
        read_report(path)
    with pytest.raises(ValueError, match="is a folder, not a file"):
        read_report(tmp_path)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="is a pipe, not a file"):
            read_report(tmp_path / "pipe")

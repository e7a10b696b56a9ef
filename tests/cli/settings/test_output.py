"""What a run prints, draws and leaves behind."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

import train
from nn import Callback, Trainer, load_model
from nn.cli import SETTINGS
from tests.cli.settings.runs import SMALL, Tools, digits, parameters, trained


def test_every(tools: Tools) -> None:
    out = tools.printed("--epochs", "5", "--every", "2", "--validation", "0.25")
    lines = [line.split() for line in out.splitlines() if re.match(r" +\d+ +\d\.\d{5} ", line)]
    assert [line[0] for line in lines] == ["1", "2", "4", "5"]
    run = trained("--epochs", "5", "--every", "2", "--validation", "0.25")
    assert [record["epoch"] for record in run.trainer.history if "val_loss" in record] == [1, 2, 4, 5]


def test_metrics(tools: Tools) -> None:
    run = trained("--metrics", "auc", "top3_accuracy", "--validation", "0.5")
    assert list(run.trainer.history[0])[3:7] == ["val_loss", "val_accuracy", "val_auc", "val_top3_accuracy"]
    assert run.test_result is not None
    assert list(run.test_result) == ["loss", "accuracy", "auc", "top3_accuracy"]
    out = tools.printed("--metrics", "auc", "--quiet")
    assert re.fullmatch(r"test accuracy \S+ \(.*\), loss [\d.]+, auc 0\.\d+\n", out)
    assert train.main([*SMALL, "--metrics", "luck"]) == 2
    assert "--metrics: unknown metric 'luck'; known are loss, accuracy, auc" in tools.capsys.readouterr().err
    assert train.main([*SMALL, "--metrics", "r2", "--quiet"]) == 2
    assert "the metric r2 is one of values, but these targets are classes" in tools.capsys.readouterr().err


def test_train_metrics(tools: Tools) -> None:
    run = trained("--metrics", "macro_f1", "--train-metrics")
    guess = run.trainer.predict(run.training)
    assert run.trainer.history[-1]["macro_f1"] == f1_score(run.training.y, guess, average="macro")
    assert "macro_f1" not in trained("--metrics", "macro_f1").trainer.history[-1]


def test_confusion(tools: Tools) -> None:
    def matrix(*flags: str) -> np.ndarray:
        rest = tools.printed("--epochs", "1", *flags).partition("\nconfusion matrix: rows are the ")[2]
        assert rest.startswith("predicted" if flags else "true")
        return np.array([line.split()[1:] for line in rest.splitlines()[2:12]], dtype=int)

    true = matrix()
    assert (true.sum(axis=1) == np.bincount(digits().test.y[:120])).all()
    np.testing.assert_array_equal(matrix("--confusion", "predicted"), true.T)
    assert (true != true.T).any()


def test_predictions(tools: Tools) -> None:
    run = trained()
    out = tools.printed("--predictions", "12").partition("the first 12 test rows\n")[2]
    found = [line.split()[:2] for line in out.splitlines()[1:13]]
    assert run.test is not None
    wanted = zip(run.trainer.predict(run.test[:12]), run.test.y[:12], strict=True)
    assert found == [[str(guess), str(label)] for guess, label in wanted]


def test_plots(tools: Tools) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    tools.monkeypatch.chdir(tools.folder)
    out = tools.printed("--plots").replace("\\", "/")
    assert out.endswith("\nwrote cost.png, confusion.png, digits.png, mistakes.png, weights.png to runs/digits\n")
    pictures = {"cost.png", "confusion.png", "digits.png", "mistakes.png", "weights.png"}
    assert {path.name for path in (tools.folder / "runs" / "digits").iterdir()} == pictures
    for name in pictures:
        assert (tools.folder / "runs" / "digits" / name).read_bytes().startswith(b"\x89PNG")


def test_output(tools: Tools) -> None:
    folder = tools.folder / "a" / "b"
    run = trained("--seed", "5")
    out = tools.printed("--seed", "5", "--output", str(folder))
    assert out.endswith(f"\nwrote weights.safetensors, history.jsonl, settings.json to {folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "history.jsonl", "run.json", "settings.json", "weights.safetensors",
    ]  # fmt: skip
    for name, values in load_model(folder / "weights.safetensors", "cpu").state_dict().items():
        np.testing.assert_array_equal(values, parameters(run)[name])
    record = json.loads((folder / "settings.json").read_text())["settings"]
    assert record["seed"] == 5
    assert list(record) == list(SETTINGS)


def test_overwrite(tools: Tools) -> None:
    folder = tools.folder / "a"
    tools.printed("--output", str(folder))
    before = json.loads((folder / "run.json").read_text())["run"]
    assert train.main([*SMALL, "--output", str(folder)]) == 2
    assert f"holds the run {before} of " in tools.capsys.readouterr().err
    tools.printed("--output", str(folder), "--overwrite")
    assert json.loads((folder / "settings.json").read_text())["run"] != before


def test_resume(tools: Tools) -> None:
    """Half an epoch, and then the rest: the same run as one that was never stopped."""
    whole, parts = tools.folder / "whole", tools.folder / "parts"
    flags = ["--epochs", "3", "--batch-size", "16", "--dropout", "0.2", "--quiet"]
    tools.printed(*flags, "--output", str(whole))

    class Stops(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 12:  # of 24
                trainer.interrupt("test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_callbacks", lambda settings: [Stops()])
        tools.printed(*flags, "--output", str(parts))
    assert '"interrupted": 64' in (parts / "history.jsonl").read_text()
    assert train.main(["--resume", str(parts), "--quiet"]) == 0
    assert tools.capsys.readouterr().out.startswith("test accuracy")
    assert len((parts / "history.jsonl").read_text().splitlines()) == 3
    run_of = {folder: json.loads((folder / "run.json").read_text())["run"].encode() for folder in (whole, parts)}
    found = [(folder / "weights.safetensors").read_bytes().replace(run_of[folder], b"") for folder in (whole, parts)]
    assert found[0] == found[1]


def test_checkpoint_every(tools: Tools) -> None:
    written: list[int] = []
    save = Trainer.save_checkpoint

    def saved(self: Trainer, *arguments: Any) -> Path:
        written.append(self.model.step)
        return save(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", saved)
        for when, steps in (("2 steps", None), ("1", [4, 8]), ("2 epochs", [8]), ("10 minutes", [8]), ("never", [])):
            folder = tools.folder / when
            tools.printed("--output", str(folder), "--checkpoint-every", when, "--quiet")
            if steps is None:  # of several steps that are launched in one call, the last one
                assert written[-1] == 8
                assert all(later - earlier >= 2 for earlier, later in pairwise([0, *written[:-1]]))
            else:
                assert written == steps, when
            written.clear()
            assert (folder / "checkpoints").exists() == (when != "never")
    for bad in ("sometimes", "0", "1.5 steps", "0 minutes", "-1", "2 hours"):
        assert train.main([*SMALL, "--output", "x", f"--checkpoint-every={bad}"]) == 2
        assert "--checkpoint-every: checkpoints are for every '10 minutes', " in tools.capsys.readouterr().err


def test_report(tools: Tools) -> None:
    path = tools.folder / "report.html"
    tools.printed("--report", str(path), "--quiet", "--seed", "3")
    page = path.read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert f"--limit 120 --hidden 8 --epochs 2 --seed 3 --report {path} --quiet" in page
    assert "digits: 64-8-10, relu" in page


def test_log(tools: Tools) -> None:
    again: list[str] = []
    for name in ("log.jsonl", "log.csv"):
        tools.printed("--log", str(tools.folder / name), "--quiet", "--output", str(tools.folder), *again)
        again = ["--overwrite"]
    lines = (tools.folder / "log.jsonl").read_text().splitlines()
    known = [json.loads(line) for line in (tools.folder / "history.jsonl").read_text().splitlines()]
    timed = {"seconds", "rows_per_second"}
    assert [json.loads(line)["loss"] for line in lines] == [record["loss"] for record in known]
    head, *rows = (tools.folder / "log.csv").read_text().splitlines()
    assert head.split(",") == list(known[0])
    assert [float(row.split(",")[1]) for row in rows] == [record["loss"] for record in known]
    assert timed <= {*known[0]}
    assert train.main([*SMALL, "--log", "log.txt"]) == 2
    assert "--log: a log is a file whose name ends in .jsonl or .csv, not 'log.txt'" in tools.capsys.readouterr().err
    assert train.main([*SMALL, "--log", str(tools.folder / "nowhere" / "log.csv"), "--quiet"]) == 2
    assert "there is no folder" in tools.capsys.readouterr().err


def test_tensorboard(tools: Tools) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    tools.printed("--tensorboard", str(tools.folder / "events"), "--quiet")
    assert [path.name.startswith("events.out.tfevents.") for path in (tools.folder / "events").iterdir()] == [True]
    tools.monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert train.main([*SMALL, "--tensorboard", "events"]) == 2
    assert "--tensorboard: event files for TensorBoard need a library" in tools.capsys.readouterr().err


def test_quiet(tools: Tools) -> None:
    assert re.fullmatch(r"test accuracy [\d.]+% \(\d+ of 120\), loss [\d.]+\n", tools.printed("--quiet"))

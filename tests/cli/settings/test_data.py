"""Which rows a run is made on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import train
from nn import Dataset, StreamedDataset, Trainer
from nn.cli import UsageError
from nn.layers import Sigmoid
from tests.cli.settings.runs import Tools, digits, of_recipe, prepared, trained


def test_data(tools: Tools) -> None:
    x, y = np.arange(24.0).reshape(8, 3), np.array([0, 1] * 4)
    path = tools.folder / "mine.npz"
    np.savez(path, x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    run = prepared("--data", str(path))
    assert run.test is not None
    np.testing.assert_array_equal(run.training.features(), x[:6])
    np.testing.assert_array_equal(run.test.y, y[6:])
    assert prepared().training.n_features == 64


def test_data_dir(tools: Tools) -> None:
    """The files are looked for there, wherever the environment says."""
    (tools.folder / "empty").mkdir()
    (tools.folder / "other").mkdir()
    tools.monkeypatch.setenv("XPNET_DATA", str(tools.folder / "other"))
    assert train.main(["--data", "mnist", "--data-dir", str(tools.folder / "empty")]) == 2
    error = tools.capsys.readouterr().err
    assert str(tools.folder / "empty") in error
    assert str(tools.folder / "other") not in error


def test_window(tools: Tools) -> None:
    """Rows stay in the file, of which so many are in memory; where these are all, the run is that of memory."""
    rows = digits()
    assert rows.test is not None
    for name, array in {"x_train": rows.train.x, "x_test": rows.test.x}.items():
        np.save(tools.folder / f"{name}.npy", array)
        np.save(tools.folder / f"y{name[1:]}.npy", rows.train.y if name == "x_train" else rows.test.y)
    flags = ["--data", str(tools.folder), "--epochs", "2", "--hidden", "8", "--device", "cpu", "--quiet", "--window"]
    weights = []
    for size in ("full", "5000", "100"):
        run = train.prepare(train.parse([*flags, size])[0])
        assert isinstance(run.training, Dataset if size == "full" else StreamedDataset)
        assert isinstance(run.test, Dataset if size == "full" else StreamedDataset)
        if isinstance(run.training, StreamedDataset):
            assert run.training.window == int(size)
        train.train(run)
        weights.append(run.trainer.model.state_dict())
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert not all((weights[0][name] == weights[2][name]).all() for name in weights[0])
    tools.capsys.readouterr()
    for size, batch, told in (
        ("100", "25", "read in windows of 100 rows, 10 classes"),
        ("100", "32", "read in windows of 96 rows (whole batches), 10 classes"),
        ("8", "32", "read in windows of 32 rows (a batch, as 8 would be less), 10 classes"),
    ):
        words = ["--epochs", "1", "--device", "cpu", "--window", size, "--batch-size", batch]
        assert train.main([*flags[:2], *words]) == 0
        assert f"64 inputs, {told} " in f"{' '.join(tools.capsys.readouterr().out.split())} "


def test_limit(tools: Tools) -> None:
    run, rows = prepared("--limit", "50"), digits()
    assert run.test is not None
    for found, all_rows in ((run.training, rows.train), (run.test, rows.test)):
        np.testing.assert_array_equal(found.x, all_rows.x[:50])
        np.testing.assert_array_equal(found.y, all_rows.y[:50])
    text = '[data]\nrows = [[1], [2], [3]]\ntargets = [1.0, 2.0, 3.0]\n[training]\nloss = "mse"\n'
    assert of_recipe([*tools.recipe(text), "--limit", "2"]).training.y.tolist() == [1.0, 2.0]


def test_test_fraction(tools: Tools) -> None:
    run = train.prepare(train.parse(["--test-fraction", "0.5"])[0])
    assert run.test is not None
    assert (len(run.training), len(run.test)) == (898, 899)
    assert prepared("--test-fraction", "0").test is None


def test_validation(tools: Tools) -> None:
    """The rows held out are all the others, by class; they are never trained on."""
    fitted: list[Any] = []
    original = Trainer.fit

    def fit(self: Trainer, rows: Any, *arguments: Any, **others: Any) -> Any:
        fitted.append(rows)
        return original(self, rows, *arguments, **others)

    tools.monkeypatch.setattr(Trainer, "fit", fit)
    every = {row.tobytes() for row in digits().train.x[:120]}
    for share, count in (("0.25", 30), ("20", 20)):
        run = trained("--validation", share)
        assert run.validation is not None
        held_out, rest = ({row.tobytes() for row in rows.x} for rows in (run.validation, fitted[-1]))
        assert len(run.validation) == count
        assert held_out | rest == every
        assert not held_out & rest
        assert np.bincount(run.validation.y).min() >= 1
        last = run.trainer.history[-1]
        assert last["val_loss"] == pytest.approx(run.trainer.evaluate(run.validation)["loss"], rel=1e-6)
    run = trained("--validation", "test")
    assert run.test is not None
    assert len(fitted[-1]) == 120
    assert run.trainer.history[-1]["val_loss"] == pytest.approx(run.trainer.evaluate(run.test)["loss"], rel=1e-6)


def test_only(tools: Tools) -> None:
    run, rows = prepared("--only", "7", "3"), digits().train[:120]
    np.testing.assert_array_equal(run.training.x, rows.x[(rows.y == 3) | (rows.y == 7)])
    np.testing.assert_array_equal(run.training.y, (rows.y == 3)[(rows.y == 3) | (rows.y == 7)])
    assert run.training.class_names == ("7", "3")
    assert run.test is not None
    assert run.test.class_names == ("7", "3")


def test_positive(tools: Tools) -> None:
    run = prepared("--positive", "3")
    np.testing.assert_array_equal(run.training.y, digits().train.y[:120] == 3)
    assert run.training.class_names == ("not 3", "3")


def test_shift(tools: Tools) -> None:
    run = prepared("--shift", "-0.5")
    assert run.test is not None
    np.testing.assert_allclose(run.training.features(), digits().train.x[:120] / 16 - 0.5, atol=1e-6)
    np.testing.assert_allclose(run.test.features(), digits().test.x[:120] / 16 - 0.5, atol=1e-6)


FLOWERS = "length,size,kind\n" + "1.5,small,a\n,large,b\n2.5,small,b\n8.5,small,a\n" * 30


def of_flowers(tools: Tools, *flags: str) -> train.Run:
    (tools.folder / "t.csv").write_text(FLOWERS, encoding="utf-8")
    return prepared("--data", str(tools.folder / "t.csv"), *flags)


def test_label(tools: Tools) -> None:
    cleaned = ("--impute", "mean", "--categorical", "--test-fraction", "0")
    for words in (["kind"], ["3"], ["-1"]):
        assert of_flowers(tools, *cleaned, "--label", *words).training.class_names == ("a", "b")
    assert of_flowers(tools, *cleaned, "--label", "size").training.class_names == ("large", "small")
    (tools.folder / "v.csv").write_text("a,b,c\n" + "1,2,3\n4,5,7\n" * 20, encoding="utf-8")
    run = prepared("--data", str(tools.folder / "v.csv"), "--label", "c", "1", "--loss", "mse", "--test-fraction", "0")
    assert run.training.y[:2].tolist() == [[3.0, 1.0], [7.0, 4.0]]
    assert run.trainer.model.n_outputs == 2


def test_task(tools: Tools) -> None:
    (tools.folder / "v.csv").write_text("a,target\n" + "1.5,2\n4,5\n" * 20, encoding="utf-8")
    flags = ("--data", str(tools.folder / "v.csv"), "--loss", "mse", "--test-fraction", "0")
    for more, targets, n_outputs in (((), [2.0, 5.0], 1), (("--task", "classes"), [0, 1], 2)):
        run = prepared(*flags, *more)
        assert run.training.y[:2].tolist() == targets
        assert run.trainer.model.n_outputs == n_outputs
        assert isinstance(run.trainer.model.layers[-1], Sigmoid) == (n_outputs == 2)


def test_impute(tools: Tools) -> None:
    flags = ("--label", "kind", "--categorical", "--test-fraction", "0")
    for name, value in (("mean", 12.5 / 3), ("median", 2.5), ("most_frequent", 1.5)):
        run = of_flowers(tools, *flags, "--impute", name)
        np.testing.assert_allclose(run.training.x[:4, 0], [1.5, value, 2.5, 8.5], rtol=1e-12)
    with pytest.raises(UsageError, match=r"t\.csv, line 3, column 1 \(length\): the value is missing; .*--impute"):
        of_flowers(tools, *flags)


def test_categorical(tools: Tools) -> None:
    flags = ("--label", "kind", "--impute", "mean", "--test-fraction", "0")
    for words in ([], ["size"], ["2"], ["length", "size"]):
        run = of_flowers(tools, *flags, "--categorical", *words)
        np.testing.assert_array_equal(run.training.x[:4, -2:], [[0, 1], [1, 0], [0, 1], [0, 1]])
        assert run.training.n_features == (5 if "length" in words else 3)
    with pytest.raises(UsageError, match=r"t\.csv, line 2, column 2 \(size\): 'small' is not a number"):
        of_flowers(tools, *flags)

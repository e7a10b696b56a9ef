"""``python -m nn evaluate`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from nn import Adam, Linear, Sequential, Sigmoid, Trainer, load_data, load_model, save_model
from nn.data import read_csv
from tests.helpers.command import run

DIGITS: Any = load_data("digits")
TABLE = "\n".join(
    ["colour,size,weight,kind"]
    + [
        f"{'red' if i % 3 else 'blue'},{i},{'' if i == 5 else 2 * i},{'large' if i > 20 else 'small'}"
        for i in range(40)
    ]
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The folder of a run of train.py, and what it said of its test rows."""
    folder = tmp_path_factory.mktemp("run")
    words = ["--epochs", "2", "--output", str(folder), "--metrics", "macro_f1", "--quiet", "--device", "cpu"]
    assert train.main(words) == 0
    return folder, json.loads((folder / "settings.json").read_text())["test"]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on a table with names of classes, categories and a missing value."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "train.csv").write_text(TABLE)
    words = [
        "--data", str(folder / "train.csv"), "--label", "kind", "--impute", "mean", "--categorical", "colour",
        "--standardize", "--epochs", "40", "--lr", "0.1", "--output", str(folder / "run"), "--quiet",
    ]  # fmt: skip
    assert train.main(words) == 0
    return folder


def result_of(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code, out, err = run(capsys, "evaluate", *words, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_test_rows_are_those_of_train_py(
    digits: tuple[Path, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, told = digits
    found = result_of(capsys, folder, "digits", "--metrics", "macro_f1", "--device", "cpu")
    assert {name: found[name] for name in told} == pytest.approx(told, rel=1e-6)
    assert (found["rows"], found["count"], found["loss_name"]) == ("test", 360, "softmax_cross_entropy")
    code, out, _ = run(capsys, "evaluate", folder, "digits")
    assert code == 0
    assert out.splitlines()[0] == "360 test rows of digits, set aside as train.py does; --rows all for every row"
    assert out.splitlines()[1].startswith(f"accuracy {told['accuracy']:.2%} (")


@pytest.mark.parametrize(
    "flags",
    [
        [], ["--limit", "100"], ["--only", "1", "2", "--limit", "300"], ["--positive", "3", "--loss", "bce"],
        ["--test-fraction", "0.3"],
    ],
)  # fmt: skip
def test_without_data_it_is_those_of_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str]
) -> None:
    words = ["--epochs", "1", "--output", str(tmp_path / "run"), "--quiet", "--device", "cpu"]
    assert train.main([*words, *flags]) == 0
    capsys.readouterr()
    told = json.loads((tmp_path / "run" / "settings.json").read_text())["test"]
    found = result_of(capsys, tmp_path / "run", "--device", "cpu")
    assert {name: found[name] for name in told} == pytest.approx(told, rel=1e-6)


def test_without_data_a_file_is_found_from_where_the_run_began(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(TABLE.replace(",,", ",9,").replace("red", "1").replace("blue", "2"))
    assert train.main(["--data", "a.csv", "--label", "kind", "--epochs", "1", "--output", "run", "--quiet"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert result_of(capsys, tmp_path / "run")["count"] == 8


def test_without_data_and_without_a_run(
    digits: tuple[Path, dict[str, float]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "evaluate", digits[0] / "weights.safetensors")
    assert code == 2
    assert "say on which DATA, digits or new.csv for instance: " in err
    assert train.main(["--recipe", "people", "--epochs", "1", "--output", str(tmp_path / "p"), "--quiet"]) == 0
    code, _, err = run(capsys, "evaluate", tmp_path / "p")
    assert code == 2
    assert "the rows of this run stand in its recipe, people; say on which DATA" in err


@pytest.mark.parametrize(("rows", "count"), [("test", 360), ("train", 1437), ("all", 1797)])
def test_other_rows(
    digits: tuple[Path, dict[str, float]], capsys: pytest.CaptureFixture[str], rows: str, count: int
) -> None:
    found = result_of(capsys, digits[0], "digits", "--rows", rows)
    assert found["count"] == count
    model = load_model(digits[0] / "weights.safetensors", "cpu")
    data: Any = load_data("digits", test_fraction=0).train if rows == "all" else getattr(DIGITS, rows)
    assert found["accuracy"] == pytest.approx(Trainer(model).evaluate(data)["accuracy"])


def test_data_with_test_rows_of_their_own(
    digits: tuple[Path, dict[str, float]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    x, y = DIGITS.test.x, DIGITS.test.y
    np.savez(tmp_path / "a.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:90], y_test=y[50:90])
    assert result_of(capsys, digits[0], tmp_path / "a.npz")["count"] == 40
    assert result_of(capsys, digits[0], tmp_path / "a.npz", "--rows", "all")["count"] == 90
    _, out, _ = run(capsys, "evaluate", digits[0], tmp_path / "a.npz", "--limit", "10")
    assert out.splitlines()[0] == f"10 test rows of {tmp_path / 'a.npz'}"


def test_class_by_class(digits: tuple[Path, dict[str, float]], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "evaluate", digits[0], "digits", "--by-class")
    assert code == 0
    assert "confusion matrix: rows are the true classes" in out
    assert "macro avg" in out


def test_tables_are_read_as_the_training_rows_were(kinds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = kinds / "new.csv"
    new.write_text("kind;weight;size;colour\nlarge;60;30;red\nsmall;;2;blue\nsmall;4;2;red\n")
    found = result_of(capsys, kinds / "run", new, "--rows", "all", "--label", "kind")
    assert (found["count"], found["accuracy"]) == (3, 1)
    same = result_of(capsys, kinds / "run", kinds / "train.csv", "--label", "kind")
    assert same["count"] == 8
    told = json.loads((kinds / "run" / "settings.json").read_text())["test"]
    assert same["accuracy"] == pytest.approx(told["accuracy"])
    assert same["loss"] == pytest.approx(told["loss"], rel=1e-5)


def test_values(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,price\n" + "\n".join(f"{i / 40},{i % 3},{i / 20 + i % 3}" for i in range(40)))
    data = read_csv(tmp_path / "a.csv", label="price", task="values")
    model = Sequential(Linear(2, 1), backend="cpu")
    Trainer(model, "mse", Adam(0.1)).fit(data, 100, 10)
    save_model(model, tmp_path / "m.safetensors")
    found = result_of(capsys, tmp_path / "m.safetensors", tmp_path / "a.csv", "--rows", "all", "--label", "price")
    assert found["r2"] > 0.9
    assert found["loss_name"] == "mean_squared_error"
    other = result_of(
        capsys, tmp_path / "m.safetensors", tmp_path / "a.csv", "--rows", "all", "--label", "price", "--loss", "mae"
    )
    assert other["loss"] == pytest.approx(found["mae"], abs=1e-6)
    words = ["evaluate", tmp_path / "m.safetensors", tmp_path / "a.csv", "--label", "price", "--by-class"]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "--by-class is for classes" in err


def test_some_classes_and_one_against_all_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    two = DIGITS.train.only([1, 2])
    model = Sequential(Linear(64, 1), Sigmoid(), backend="cpu")
    Trainer(model, "binary_cross_entropy", Adam(0.01)).fit(two, 5)
    save_model(model, tmp_path / "two.safetensors")
    found = result_of(capsys, tmp_path / "two.safetensors", "digits", "--only", "1", "2")
    assert found["count"] == (DIGITS.test.y == 1).sum() + (DIGITS.test.y == 2).sum()
    assert found["accuracy"] > 0.9
    code, _, err = run(capsys, "evaluate", tmp_path / "two.safetensors", "digits")
    assert code == 2
    assert len(err.splitlines()) == 1
    zero = DIGITS.train.one_against_rest(0)
    model = Sequential(Linear(64, 1), Sigmoid(), backend="cpu")
    Trainer(model, "binary_cross_entropy", Adam(0.01)).fit(zero, 5)
    save_model(model, tmp_path / "zero.safetensors")
    found = result_of(capsys, tmp_path / "zero.safetensors", "digits", "--positive", "0")
    assert found["count"] == 360
    assert found["accuracy"] > 0.95


def test_a_shift_is_that_of_the_training_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--epochs", "1", "--shift", "-0.5", "--output", str(tmp_path), "--quiet", "--device", "cpu"]
    assert train.main(words) == 0
    capsys.readouterr()
    told = json.loads((tmp_path / "settings.json").read_text())["test"]
    found = result_of(capsys, tmp_path, "digits", "--device", "cpu")
    assert found["loss"] == pytest.approx(told["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["digits", "--rows", "some"], "error: --rows must be 'test', 'train' or 'all', not 'some'"),
        (["digits", "--test-fraction", "2"], "between 0 and 1"),
        (["digits", "--test-fraction", "0"], "digits has no test rows; say --rows all"),
        (["digits", "--window", "0"], "--window must be at least 1, not 0"),
        (["digits", "--window", "few"], "--window must be a whole number or full, not 'few'"),
        (["x.npy", "--window", "9" * 20], f"--window must be at least 1 and at most {2**63 - 1}, not {'9' * 20}"),
        (["digits", "--window", "9"], "digits is always loaded whole, so there are no windows of it"),
        (["digits", "--limit", "0"], "--limit must be at least 1, not 0"),
        (["digits", "--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["digits", "--limit", "9" * 20], f"--limit must be at least 1 and at most {2**63 - 1}, not {'9' * 20}"),
        (["digits", "--test-fraction", "half"], "error: --test-fraction must be a number, not 'half'"),
        (["digits", "--by-class", "--json"], "--by-class would do nothing here, as --json tells of all classes"),
        (["digits", "--metric", "auc"], "error: unknown flag --metric; did you mean --metrics? (--help lists all)"),
        (["digits", "mnist"], "error: unexpected 'mnist' (--help tells what evaluate takes)"),
        (["digits", "--label", "x"], "--label is for tables, and digits is none"),
        (["digits", "--metrics", "f1"], "unknown metric 'f1'"),
        (["digits", "--loss", "anger"], "anger"),
        (["digits", "--only", "12", "1"], "class 12 has no rows"),
        (["nowhere.csv"], "nowhere.csv"),
        (["sevens"], "'sevens' is neither a file nor a known source"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(
    digits: tuple[Path, dict[str, float]], capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, out, err = run(capsys, "evaluate", digits[0], *words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("python -m nn: error: ")
    assert sentence in line

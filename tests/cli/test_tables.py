"""Breast cancer, wine and diabetes straight from a CSV: scikit-learn's network is reached on the same rows."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import train
from tests.helpers.script import run

SEEDS = (0, 1)
EPOCHS = 200
#: The network of both: hidden units and learning rate; the batches of 200 rows and Adam are scikit-learn's defaults.
HIDDEN, RATES = 100, {"cancer": 0.001, "wine": 0.001, "diabetes": 0.01}
#: Scores of scikit-learn are reached up to so much: two of 114 and one of 36 test rows, and 0.03 of R2.
TOLERANCE = {"cancer": 2 / 114, "wine": 1 / 36, "diabetes": 0.03}


def write(name: str, path: Path) -> None:
    """The table as people have it: text classes, classes 1 to 3, or whole numbers to fit."""
    if name == "diabetes":
        data = load_diabetes(scaled=False)
        target = data.target.astype(int)
    else:
        data = load_breast_cancer() if name == "cancer" else load_wine()
        target = data.target_names[data.target] if name == "cancer" else data.target + 1
    lines = [",".join([*(column.replace(",", " ") for column in data.feature_names), "target"])]
    lines += [",".join([*map(repr, row), str(label)]) for row, label in zip(data.data.tolist(), target, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", RATES)
def test_scores_of_scikit_learn_are_reached(name: str, tmp_path: Path) -> None:
    write(name, tmp_path / f"{name}.csv")
    flags = ["--data", str(tmp_path / f"{name}.csv"), "--standardize", "--hidden", str(HIDDEN), "--optimizer", "adam"]
    flags += ["--lr", str(RATES[name]), "--batch-size", "200", "--epochs", str(EPOCHS), "--device", "cpu", "--quiet"]
    flags += ["--loss", "mse"] if name == "diabetes" else []
    own, theirs = [], []
    for seed in SEEDS:
        ours = train.prepare(train.parse([*flags, "--seed", str(seed)])[0])
        train.train(ours)
        assert ours.test is not None
        settings = {
            "hidden_layer_sizes": (HIDDEN,), "batch_size": min(200, len(ours.training)), "max_iter": EPOCHS,
            "learning_rate_init": RATES[name], "random_state": seed, "n_iter_no_change": EPOCHS,
        }  # fmt: skip
        network = MLPRegressor(**settings) if name == "diabetes" else MLPClassifier(**settings)
        pipeline = make_pipeline(StandardScaler(), network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            pipeline.fit(ours.training.x, ours.training.y)
        theirs.append(pipeline.score(ours.test.x, ours.test.y))
        predicted = np.ravel(ours.trainer.predict(ours.test))
        own.append(r2_score(ours.test.y, predicted) if name == "diabetes" else (predicted == ours.test.y).mean())
    assert np.mean(own) >= np.mean(theirs) - TOLERANCE[name], (own, theirs)
    assert np.mean(own) > {"cancer": 0.93, "wine": 0.9, "diabetes": 0.4}[name]


def test_names_of_classes_are_in_the_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write("cancer", tmp_path / "cancer.csv")
    flags = ["--data", str(tmp_path / "cancer.csv"), "--device", "cpu", "--epochs", "2", "--predictions", "2"]
    code, out, err = run(capsys, *flags, "--standardize")
    assert (code, err) == (0, "")
    assert "   benign " in out
    assert "30 inputs, 2 classes: benign, malignant" in re.sub(r"\n +", " ", out)
    assert "malignant" in out.partition("the first 2 test rows")[2] or "benign" in out.partition("the first 2 test")[2]
    assert "advice" not in out
    code, out, err = run(capsys, *flags, "--positive", "malignant", "--loss", "bce")
    assert (code, err) == (0, "")
    assert "not malignant" in out
    assert "advice    column worst area varies more than 100,000 times as much as column" in out
    assert run(capsys, *flags, "--only", "malign", "benign")[2].endswith(
        "class malign has no rows; the classes are benign, malignant\n"
    )


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (
            "1,5,0\n2,6,1\n1,7,0\n",
            [],
            "which column is the label? Say --label -1 for the last column, --label 1 for the",
        ),
        (
            "a,b,label\n1,,0\n2,6,1\n",
            [],
            "line 2, column 2 (b): the cell is empty: the value is missing; put one there",
        ),
        ("a,b,label\n1,x,0\n2,6,1\n", [], "line 2, column 2 (b): 'x' is not a number; correct the cell, or name the"),
        ("a,b,c\n1,2,3.5\n2,6,1\n", ["--loss", "mse"], "which column is the target? Say --label c, --label a, or"),
        (
            "a,b,label\n1,1e300,0\n2,6,1\n" * 1,
            ["--test-fraction", "0"],
            "x[0, 1] is 1e+300, but the network computes in",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    text: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text)
    code, _, err = run(capsys, "--data", str(tmp_path / "t.csv"), "--device", "cpu", "--quiet", *flags)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize("flags", [(), ("--task", "values")])
def test_values_are_not_for_a_loss_of_classes(
    flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,target\n" + "".join(f"{row % 7},{row / 3}\n" for row in range(40)))
    assert train.main(["--data", str(path), *flags]) == 2
    assert "the targets are values, but softmax_cross_entropy is a loss for classes; say --loss mse" in (
        capsys.readouterr().err
    )


def test_whole_numbers_that_are_rather_values_are_told_how_to_be_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,target\n" + "".join(f"{row % 7},{row}\n" for row in range(40)))
    assert train.main(["--data", str(path)]) == 2
    assert "if these are values to fit, say so (--loss mse, or task='values')" in capsys.readouterr().err


def test_one_class_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,label\n" + "".join(f"{row % 7},oak\n" for row in range(40)))
    assert train.main(["--data", str(path)]) == 2
    assert "t.csv: all rows are of class oak, so there is nothing to tell apart" in capsys.readouterr().err


def test_a_name_of_two_words_without_quotes_is_understood(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("petal length,petal width,kind\n" + "1,2,a\n2,1,b\n" * 20)
    code, _, err = run(capsys, "--data", str(path), "--label", "petal", "length", "--loss", "mse")
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("a.csv: the column 'petal length' is one name; write it in quotation marks\n")
    code, _, err = run(capsys, "--data", str(path), "--label", "kind", "petal length", "--loss", "mse")
    assert "quotation" not in err

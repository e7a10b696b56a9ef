"""What predicted classes are worth: the figures and the words of scikit-learn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

import nn
from nn.report.classes import class_scores, classes_text, confusion_matrix


@pytest.mark.parametrize("n", [2, 3, 10, 40])
@pytest.mark.parametrize("outputs", [0, 3])
@pytest.mark.parametrize("rows", [1, 7, 500])
def test_figures_and_table_are_those_of_scikit_learn(n: int, outputs: int, rows: int) -> None:
    """Also where a class has no rows or is never guessed, and where guesses are none of the classes."""
    rng = np.random.default_rng((n, outputs, rows))
    names = [f"class {number}" * (1 + number % 3) for number in range(n)]
    for share in (0.0, 0.5, 1.0):
        true = rng.integers(0, n, rows)
        predicted = np.where(rng.random(rows) < share, true, rng.integers(0, n + outputs, rows))
        labels = [*range(n)]
        expected = sklearn.metrics.precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
        for found, column in zip(class_scores(true, predicted, n), expected, strict=True):
            np.testing.assert_array_equal(found, column)
        matrix = confusion_matrix(true, predicted, n)
        if share or not outputs:  # scikit-learn takes no matrix without a row of the classes
            np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(true, predicted, labels=labels))
        table = sklearn.metrics.classification_report(
            true, predicted, labels=labels, target_names=names, digits=4, zero_division=0
        )
        if not np.any(true == predicted):
            table = re.sub(r"(\d+)\.0\n", r"  \1\n", table)  # where nothing is right it counts rows with a fraction
        assert classes_text(true, predicted, names) == table


def test_a_run_on_rows_with_test_rows_loads_no_scikit_learn(tmp_path: Path) -> None:
    """It takes a second, more than the rest of a short run."""
    x, y = np.eye(6), np.arange(6) % 3
    np.savez(tmp_path / "rows.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    program = (
        "import sys, train\n"
        f"assert train.main(['--data', {str(tmp_path / 'rows.npz')!r}, '--epochs', '1', '--device', 'cpu']) == 0\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('sklearn', 'scipy')])"
    )
    root = Path(nn.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert "f1-score" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"

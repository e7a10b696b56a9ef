"""What predicted classes are worth, with the figures and in the words of scikit-learn's ``classification_report``: here
without scikit-learn, since a run that needs nothing else of it would wait a second longer for its last lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

DIGITS = 4


class ClassScores(NamedTuple):
    """Of each class, 0 where nothing is to be divided by, and how many rows are of it."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    rows: np.ndarray


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, n: int) -> np.ndarray:
    """How many rows of each of ``n`` classes were predicted as each; guesses that are none of them are left out."""
    known = predicted < n
    counts = np.bincount(true[known].astype(np.int64) * n + predicted[known], minlength=n * n)
    return counts.reshape(n, n)


def class_scores(true: np.ndarray, predicted: np.ndarray, n: int) -> ClassScores:
    rows = np.bincount(true, minlength=n)
    guessed = np.bincount(predicted, minlength=n)[:n]
    hits = np.diagonal(confusion_matrix(true, predicted, n))
    return ClassScores(_share(hits, guessed), _share(hits, rows), _share(2 * hits, rows + guessed), rows)


def classes_text(true: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> str:
    """A table of each class, with the averages below it."""
    n = len(names)
    scores = class_scores(true, predicted, n)
    total = int(scores.rows.sum())
    width = max(*map(len, names), len("weighted avg"))

    def line(name: str, values: Sequence[float], rows: int) -> str:
        return f"{name:>{width}} " + "".join(f" {value:>9.{DIGITS}f}" for value in values) + f" {rows:>9}"

    lines = [f"{'':>{width}} " + "".join(f" {head:>9}" for head in ("precision", "recall", "f1-score", "support")), ""]
    lines += [line(name, values, rows) for name, *values, rows in zip(names, *scores, strict=True)]
    hits = np.diagonal(confusion_matrix(true, predicted, n)).sum()
    if np.all(predicted < n):
        lines += ["", f"{'accuracy':>{width}} {'':>20} {_share(hits, total):>9.{DIGITS}f} {total:>9}"]
    else:  # a guess that is no class misses one, and is none of those that another class has got
        guessed = np.count_nonzero(predicted < n)
        over_all = [_share(hits, guessed), _share(hits, total), _share(2 * hits, guessed + total)]
        lines += ["", line("micro avg", list(map(float, over_all)), total)]
    of_classes = scores[:3]
    lines.append(line("macro avg", [float(values.mean()) for values in of_classes], total))
    weighted = [float(np.average(values, weights=scores.rows)) for values in of_classes]
    return "\n".join([*lines, line("weighted avg", weighted, total), ""])


def _share(part: Any, whole: Any) -> np.ndarray:
    return np.where(np.equal(whole, 0), 0.0, np.asarray(part) / np.maximum(whole, 1))

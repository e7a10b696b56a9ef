"""``python -m benchmarks.estimators``: ``nn.MLPClassifier`` and ``nn.MLPRegressor`` beside those of scikit-learn.

The same rows, parameters and seeds, on five data sets that come with scikit-learn or are made by it. A seed decides
which quarter of the rows tests, and is the ``random_state`` of the estimators. They take turns, so that a machine that
becomes slower does so for all. Printed, and written to ``benchmarks/results/estimators.md``; a shorter table goes into
the pages that have a place for it.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter
from typing import Any

import numpy as np
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nn
from benchmarks.epoch import RESULTS, machine, ratio

Rows = tuple[np.ndarray, np.ndarray]
ROOT = Path(__file__).parent.parent
#: The pages with a short table, and what stands around it.
PAGES = [ROOT / "README.md", ROOT / "docs" / "estimators.md"]
BEGIN, END = "<!-- estimators -->\n", "<!-- /estimators -->"


@dataclass(frozen=True)
class Case:
    """A data set and how it is learnt.

    Attributes:
        rows: gives ``(X, y)``.
        estimator: the name of the class in either library.
        parameters: all that are not the defaults.
    """

    rows: Callable[[], Rows]
    estimator: str
    parameters: dict[str, Any]


def _standardized(rows: Rows) -> Rows:
    """Values to fit of mean 0 and deviation 1."""
    x, y = rows
    return x, (y - y.mean()) / y.std()


CASES = {
    "digits": Case(lambda: datasets.load_digits(return_X_y=True), "MLPClassifier", {}),
    "breast cancer": Case(lambda: datasets.load_breast_cancer(return_X_y=True), "MLPClassifier", {"solver": "lbfgs"}),
    "four classes": Case(
        lambda: datasets.make_classification(
            8000, 40, n_informative=12, n_classes=4, flip_y=0.02, class_sep=1.5, random_state=0
        ),
        "MLPClassifier",
        {"hidden_layer_sizes": (128, 64), "early_stopping": True, "alpha": 1e-3},
    ),
    "diabetes": Case(
        lambda: _standardized(datasets.load_diabetes(return_X_y=True)),
        "MLPRegressor",
        {"solver": "sgd", "learning_rate": "adaptive", "hidden_layer_sizes": (32,), "batch_size": 32, "alpha": 1.0},
    ),
    "Friedman 1": Case(
        lambda: _standardized(datasets.make_friedman1(4000, noise=1.0, random_state=0)),
        "MLPRegressor",
        {"hidden_layer_sizes": (64, 64), "activation": "tanh"},
    ),
}
#: Who is measured: what it is called, whose class it is, and what is said beside the parameters.
WHO: dict[str, tuple[Any, dict[str, Any]]] = {
    "scikit-learn": (neural_network, {}),
    "nn": (nn, {}),
    "nn, float32": (nn, {"dtype": "float32"}),
}


@dataclass
class Measured:
    """What one of them has shown on one data set, seed by seed."""

    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)


def measure(case: Case, seeds: int) -> dict[str, Measured]:
    """All of them on one data set, in turns."""
    found = {who: Measured() for who in WHO}
    x, y = case.rows()
    for seed in range(seeds):
        train, test, y_train, y_test = train_test_split(x, y, random_state=seed)
        for who, (library, more) in WHO.items():
            parameters = {**case.parameters, **more, "random_state": seed}
            estimator = make_pipeline(StandardScaler(), getattr(library, case.estimator)(**parameters))
            start = perf_counter()
            estimator.fit(train, y_train)
            found[who].seconds.append(perf_counter() - start)
            found[who].scores.append(float(estimator.score(test, y_test)))
            found[who].iterations.append(int(estimator[-1].n_iter_))
    return found


def spread(scores: Sequence[float]) -> float:
    """Their standard deviation; 0 for a single one."""
    return stdev(scores) if len(scores) > 1 else 0.0


def lines_of(name: str, case: Case, found: dict[str, Measured]) -> list[str]:
    """The rows of the table for one data set: one for each of them."""
    theirs = found["scikit-learn"]
    parameters = ", ".join(f"{key}={value!r}" for key, value in case.parameters.items())
    said = f"`{parameters}`" if parameters else "defaults"
    lines = []
    for who, of in found.items():
        each = [seconds / count for seconds, count in zip(of.seconds, of.iterations, strict=True)]
        their_each = [seconds / count for seconds, count in zip(theirs.seconds, theirs.iterations, strict=True)]
        faster = (
            f"{1 / ratio(of.seconds, theirs.seconds):.2f}, {1 / ratio(each, their_each):.2f}"
            if of is not theirs
            else ""
        )
        lines.append(
            f"| {name} | {said} | {who} | {mean(of.scores):.4f} ± {spread(of.scores):.4f} | "
            f"{mean(of.iterations):.0f} | {median(of.seconds):.3f} | {1000 * median(each):.2f} | {faster} |"
        )
    return lines


def short_line(name: str, found: dict[str, Measured]) -> str:
    """The row of the shorter table for one data set."""
    theirs = found["scikit-learn"]
    scores = [f"{mean(of.scores):.3f} ± {spread(of.scores):.3f}" for of in found.values()]
    faster = [f"{1 / ratio(of.seconds, theirs.seconds):.1f}" for of in found.values() if of is not theirs]
    return f"| {name} | {' | '.join([*scores, *faster])} |"


def write(text: str, short: str) -> None:
    """All figures to the file of results, the short table to the pages."""
    (RESULTS / "estimators.md").write_text(text, encoding="utf-8")
    for page in PAGES:
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}{short}{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many (10)")
    parser.add_argument(
        "--only", nargs="*", choices=CASES, default=list(CASES), help="of these data sets alone; writes nothing"
    )
    parser.add_argument("--no-write", action="store_true", help="print the table only")
    settings = parser.parse_args(argv)
    short = [
        "| data | scikit-learn: score | `nn` | in float32 | `nn`: times as fast | in float32 |",
        "|---|---|---|---|---|---|",
    ]
    lines = [
        "| data | parameters | who | score of the test rows | iterations | seconds of a fit | ms of an iteration | "
        "times as fast: a fit, an iteration |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        measure(CASES["digits"], 1)  # imports, and first calls
        for name in settings.only:
            found = measure(CASES[name], settings.seeds)
            lines += lines_of(name, CASES[name], found)
            short.append(short_line(name, found))
    lines += ["", f"Scores are accuracies or R^2, mean and deviation of {settings.seeds} seeds. {machine()}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if not settings.no_write and settings.only == list(CASES):
        write(text, "\n".join([*short, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

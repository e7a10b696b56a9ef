"""The metrics that have names. Their functions are scikit-learn's, so their values are, too."""

from __future__ import annotations

import math
import re
import warnings
from functools import partial
from typing import Any

from backends.arguments import check_whole_number
from backends.typing import HostArray

from .base import PATTERNS, Metric, register_metric


def top_k(targets: HostArray, scores: HostArray, k: int, sample_weight: HostArray | None = None) -> float:
    """How many of the rows have their class among the ``k`` that the network holds most likely."""
    from sklearn.metrics import top_k_accuracy_score

    return float(top_k_accuracy_score(targets, scores, k=k, labels=range(scores.shape[1]), sample_weight=sample_weight))


class TopK(Metric):
    """The share of the rows whose class is among the ``k`` most likely ones: by name ``"top3_accuracy"``, for any k.

    Raises:
        ValueError: k is no whole number of at least 2. (The first alone is the accuracy.)
    """

    def __init__(self, k: int) -> None:
        k = check_whole_number("the k of a top-k accuracy", k, least=2)
        function = partial(top_k, k=k)
        super().__init__(f"top{k}_accuracy", function, "scores", True, needs="classes", least_outputs=k + 1)


def named_top_k(name: str) -> Metric | None:
    """``TopK`` by its name."""
    found = re.fullmatch(r"top([2-9]|[1-9]\d+)_accuracy", name)
    return TopK(int(found[1])) if found else None


def auc(targets: HostArray, scores: HostArray, sample_weight: HostArray | None = None) -> float:
    """The area under the ROC curve: of class 1 against class 0; of n classes, the mean of each against the rest; of
    several yes-or-no questions, their mean. NaN, with a warning, where rows of a class are missing."""
    if scores.ndim == 1:
        return _area(targets, scores, sample_weight, "1")
    columns = range(scores.shape[1])
    if targets.ndim == 2:
        return _mean([_area(targets[:, k], scores[:, k], sample_weight, f"1 of output {k}") for k in columns])
    if len(columns) == 2:
        return _area(targets, scores[:, 1], sample_weight, "1")
    return _mean([_area(targets == k, scores[:, k], sample_weight, str(k)) for k in columns])


def _area(positive: HostArray, scores: HostArray, sample_weight: HostArray | None, name: str) -> float:
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import roc_auc_score

    if positive.min() == positive.max():
        missing = f"no rows of class {name}" if not positive.any() else f"only rows of class {name}"
        warnings.warn(f"auc is undefined (NaN), as there are {missing}", UndefinedMetricWarning, stacklevel=2)
        return math.nan
    return float(roc_auc_score(positive, scores, sample_weight=sample_weight))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def macro_f1(targets: HostArray, predictions: HostArray, sample_weight: HostArray | None = None) -> float:
    """The mean over the classes of the harmonic mean of precision and recall; 0 for a class that is never right."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="macro", sample_weight=sample_weight, zero_division=0.0))


def balanced_accuracy(targets: HostArray, predictions: HostArray, sample_weight: HostArray | None = None) -> float:
    """The mean over the classes of the share of correct rows."""
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():  # a class that is predicted and has no rows is left out, as it should be
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true", category=UserWarning)
        return float(balanced_accuracy_score(targets, predictions, sample_weight=sample_weight))


def mae(targets: HostArray, values: HostArray, sample_weight: HostArray | None = None) -> float:
    """The mean of |prediction - target|."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(targets, values, sample_weight=sample_weight))


def rmse(targets: HostArray, values: HostArray, sample_weight: HostArray | None = None) -> float:
    """The root of the mean of (prediction - target)^2; of several targets, the mean of their roots."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(targets, values, sample_weight=sample_weight))


def r2(targets: HostArray, values: HostArray, sample_weight: HostArray | None = None) -> float:
    """1 - sum of (prediction - target)^2 / sum of (target - mean target)^2; of several targets, the mean of it. NaN,
    with a warning, of one row."""
    from sklearn.metrics import r2_score

    return float(r2_score(targets, values, sample_weight=sample_weight))


def _named(function: Any, of: str, larger_is_better: bool, needs: str, least_outputs: int = 1) -> None:
    name = function.__name__
    register_metric(Metric(name, function, of, larger_is_better, needs=needs, least_outputs=least_outputs))


_named(auc, "scores", True, "classes")
_named(balanced_accuracy, "predictions", True, "classes")
_named(macro_f1, "predictions", True, "classes")
_named(mae, "predictions", False, "values")
_named(rmse, "predictions", False, "values")
_named(r2, "predictions", True, "values")
PATTERNS["top<k>_accuracy"] = named_top_k

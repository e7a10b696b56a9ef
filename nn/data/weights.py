"""Weights of rows: how much each row counts in the loss, in its gradient and in the metrics.

They are relative: only their ratios matter. ``relative`` divides them by their mean, so that the mean loss over all
rows is sum(w l) / sum(w); a row of weight 2 then counts as if it were there twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backends.arguments import is_number, is_whole_number, shown

from .checks import DataError, DataTypeError, check_numbers, check_weights
from .values import listed

EITHER = '"balanced" or a mapping from classes to weights'


def weighted(data: Any, weights: Any) -> Any:
    """A data set with these weights (n,), an array of any library or a list; None leaves it as it is.

    Raises:
        DataError: the data set has weights already, or these are not one number of at least 0 for each row.
    """
    if weights is None:
        return data
    if data.weights is not None:
        raise DataError("the data set has weights of its own already; leave out sample_weight, or multiply them first")
    return replace(data, weights=check_weights(check_numbers(weights, "sample_weight"), len(data), "sample_weight"))


def by_class(data: Any, class_weight: str | Mapping[Any, Any]) -> Any:
    """A data set with the weight of each row multiplied by that of its class.

    Args:
        class_weight: ``"balanced"`` for n / (k count), as in scikit-learn, k being how many classes have rows; or a
            mapping from a class, by its name or its number, to a weight; of classes that are named 1, 2, 3 a 1 is the
            name. Classes not in it weigh 1.

    Raises:
        DataError: the targets are no classes; a class does not exist, is named twice, or its weight is no number of at
            least 0.
        DataTypeError: ``class_weight`` is neither.
    """
    if data.class_names is None:
        raise DataError("class_weight needs class labels, but these targets are values; pass integer labels")
    labels, names = data.y, data.class_names
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise DataError(f"class_weight is {EITHER}, not {shown(class_weight)}")
        counts = np.bincount(labels, minlength=len(names))
        of_class = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    elif isinstance(class_weight, Mapping):
        of_class = _from_mapping(class_weight, names)
    else:
        raise DataTypeError(f"class_weight is {EITHER}, not {shown(class_weight)}")
    weights = of_class[labels]
    return replace(data, weights=weights if data.weights is None else weights * data.weights)


def _from_mapping(class_weight: Mapping[Any, Any], names: Sequence[str]) -> np.ndarray:
    weights, given = np.ones(len(names)), set[int]()
    for key, weight in class_weight.items():
        is_index = is_whole_number(key)
        if isinstance(key, str) or (is_index and str(key) in names):  # of classes 1, 2, 3 the 1 is that name
            index = list(names).index(str(key)) if str(key) in names else -1
        else:
            index = int(key) if is_index else -1
        if not 0 <= index < len(names):
            raise DataError(f"class_weight: there is no class {shown(key)}; the classes are {listed(names)}")
        if index in given:
            raise DataError(f"class_weight names class {names[index]} twice, by its number and by its name")
        given.add(index)
        if not (is_number(weight) and 0 <= float(weight) < math.inf):
            raise DataError(
                f"class_weight[{shown(key)}] is {shown(weight)}, but a weight is a finite number of at least 0"
            )
        weights[index] = weight
    return weights


def relative(weights: np.ndarray | None) -> np.ndarray | None:
    """``weights`` divided by their mean, float64; None where there are none, or where all are equal, which is the same.

    Raises:
        DataError: all are 0.
    """
    if weights is None:
        return None
    top = float(weights.max())
    if top == 0.0:
        raise DataError("the weights of all rows are 0; at least one must count")
    if weights.min() == top:
        return None
    scaled = weights.astype(np.float64) / top  # so that the sum is finite
    result: np.ndarray = scaled / scaled.mean()
    return result

"""Rows and their targets, given as one argument or as two: ``fit((x, y))`` and ``fit(x, y)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any, TypeVar

from .data import Dataset, StreamedDataset
from .data.checks import DataTypeError
from .data.streamed.as_streamed import lies_elsewhere
from .feed import Rows

Result = TypeVar("Result")


def targets_apart(method: Callable[..., Result]) -> Callable[..., Result]:
    """A method that takes data, which may then also be rows and targets, one after the other.

    ``method(data, *others)`` becomes ``method(x, y, *others)`` too, with ``y`` by position or by name. A number is
    never targets: ``fit(data, 5)`` are five epochs, as in ``fit(x, y, 5)``.

    Raises:
        DataTypeError: (a TypeError) the data have their targets already, or targets come without rows.
    """

    signature = inspect.signature(method)
    own, first, *others = signature.parameters.values()

    @wraps(method)
    def call(self: Any, *given: Any, **options: Any) -> Result:
        if first.name in options:
            given = (options.pop(first.name), *given)
        if not given:
            raise TypeError(f"{method.__name__} needs rows and targets, as in {method.__name__}(x, y)")
        data, *given = given  # type: ignore[assignment]
        y = options.pop("y", None)
        if given and not isinstance(given[0], Real):
            if y is not None:
                raise DataTypeError(f"{method.__name__}: the targets are given twice, by position and as y=...")
            y, *given = given  # type: ignore[assignment]
        return method(self, data if y is None else _pair(data, y, method.__name__), *given, **options)

    y = inspect.Parameter("y", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation="Any")
    vars(call)["__signature__"] = signature.replace(parameters=[own, first, y, *others])
    return call


def _pair(x: Any, y: Any, method: str) -> Any:
    if isinstance(x, tuple | Dataset | StreamedDataset | Rows):
        kind = "a tuple (x, y)" if isinstance(x, tuple) else f"a {type(x).__name__}"
        raise DataTypeError(
            f"{method}: {kind} has its targets already, so there cannot be others beside it; pass the rows as an array "
            f"or a list, as in {method}(x, y), or leave y out"
        )
    if isinstance(y, str) and not lies_elsewhere(x):
        raise DataTypeError(f"{method}: y must be targets, one for each row, not the text {y!r}")
    return x, y

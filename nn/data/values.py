"""What single values and the tables of pandas and polars are, and lists of names for messages.

Neither library is ever imported here: whoever passes a table of one has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def is_frame(x: Any) -> bool:
    """Whether this is a DataFrame of pandas or polars."""
    return library_of(x) != "" and hasattr(x, "columns") and (hasattr(x, "iloc") or hasattr(x, "to_series"))


def is_series(x: Any) -> bool:
    """Whether this is a column of pandas or polars: a Series, an Index, a Categorical or another of their arrays."""
    return library_of(x) != "" and hasattr(x, "dtype")


def library_of(x: Any) -> str:
    """``"pandas"`` or ``"polars"``; "" for what is of neither."""
    name = type(x).__module__.partition(".")[0]
    return name if name in ("pandas", "polars") else ""


def column_of(frame: Any, index: int) -> Any:
    """A column of a frame, as a Series."""
    return frame.to_series(index) if library_of(frame) == "polars" else frame.iloc[:, index]


def columns_at(frame: Any, indices: Sequence[int]) -> Any:
    """A frame of these columns, in this order."""
    return frame[:, [*indices]] if library_of(frame) == "polars" else frame.iloc[:, [*indices]]


def objects_of(column: Any) -> np.ndarray:
    """The values of a column as objects; what is missing as the library says it."""
    if library_of(column) != "polars":
        return np.asarray(column, dtype=object)
    objects = np.empty(len(column), dtype=object)
    objects[:] = column.to_list()
    return objects


def is_absent(value: Any) -> bool:
    """Whether a value stands for one that is not there: None, NaN, NaT or pandas's NA."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True


def listed(names: Sequence[Any], most: int = 8) -> str:
    """Names for a message: the first few, and how many there are."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"

"""What single values and things of pandas are, and lists of names for messages. pandas itself is never imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def is_frame(x: Any) -> bool:
    """Whether this is a pandas DataFrame."""
    return _is_pandas(x) and hasattr(x, "columns") and hasattr(x, "iloc")


def is_series(x: Any) -> bool:
    """Whether this is a column of pandas: a Series, an Index, a Categorical or another of its arrays."""
    return _is_pandas(x) and hasattr(x, "dtype")


def _is_pandas(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pandas"


def is_absent(value: Any) -> bool:
    """Whether a value stands for one that is not there: None, NaN, NaT or pandas's NA."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True


def listed(names: Sequence[Any], most: int = 8) -> str:
    """Names for a message: the first few, and how many there are."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"

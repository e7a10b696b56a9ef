"""What is wrong with values that are no array of numbers, and the remedy."""

from __future__ import annotations

import os
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from backends.arguments import shown

from .values import is_absent

TEXT = "turn it into numbers first (labels: sklearn.preprocessing.LabelEncoder)"


def why_unusable(values: Any, name: str, said: str) -> str:
    """A sentence on ``values``, called ``name``, of which the device has said that it cannot use them."""
    if isinstance(values, str | os.PathLike):
        path = shown(os.fspath(values))
        return f"{name} is {path}, where numbers in memory are wanted; if that is a file, give numpy.load({path})"
    known = str(getattr(values, "dtype", ""))
    if "complex" in known:
        return f"{name} has complex numbers; give their real and imaginary parts as columns, or abs({name})"
    if hasattr(values, "layout") or type(values).__module__.startswith(("scipy.", "cupy")):  # sparse
        return f"{name} cannot be used: {said}"
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):
        return _why_ragged(values, name) or f"{name} cannot be used: {said}"
    kind = array.dtype.kind
    if kind in "US":
        return f"{name} has text in it; {TEXT}"
    if kind == "c":
        return why_unusable(array, name, said)
    if kind in "mM":
        return f"{name} holds times ({array.dtype}); {name}.astype('int64') makes them numbers, to be scaled"
    if array.dtype.names:
        make = "numpy.lib.recfunctions.structured_to_unstructured"
        return f"{name} has the fields {', '.join(array.dtype.names[:5])}; make them columns: {make}({name})"
    if kind != "O" or not array.ndim:
        return f"{name} is {_a(values)}, which is no array of numbers; give an array, or a list of rows"
    return _why_objects(array, name)


def _why_objects(array: np.ndarray, name: str) -> str:
    """About the first object that is no number, or what to do if all are."""
    if any(isinstance(value, str | bytes) for value in array.flat):
        return f"{name} has text in it; {TEXT}"
    for index, value in np.ndenumerate(array):
        where = f"{name}[{', '.join(map(str, index))}]"
        if value is np.ma.masked:
            return f"{where} is masked; put a number there, or leave out the row"
        if isinstance(value, Decimal | Fraction):
            return f"{where} is {_a(value)}; give floats, as {FLOATS} makes them"
        if is_absent(value):
            return f"{where} is missing ({value}); put a number there or remove the row"
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return f"{where} is an integer of more than 64 bits; give floats, as {FLOATS} makes them"
        if not isinstance(value, int | float | np.number | np.bool_):
            return f"{where} is {_a(value)}, which is no number; put a number there or remove the row"
    return f"{name} holds numbers as Python objects; give floats, as {FLOATS} makes them"


FLOATS = "numpy.array(..., dtype=float)"


def _why_ragged(values: Any, name: str) -> str:
    if not isinstance(values, list | tuple):
        return ""
    lengths = [len(row) if hasattr(row, "__len__") else -1 for row in values]
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), 0)
    if not odd:
        return ""
    first, other = ("no" if n < 0 else n for n in (lengths[0], lengths[odd]))
    return f"{name} is ragged: {name}[0] has {first} values but {name}[{odd}] has {other}; make the rows alike"


def _a(value: Any) -> str:
    """``a set``, ``an Interval``."""
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"

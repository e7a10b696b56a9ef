"""Tables of pandas and polars: their columns and names as NumPy arrays. Neither is ever imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import DataError, DataTypeError
from .columns import Column, RawColumn, column_order, encode, text_of
from .values import column_of, columns_at, is_absent, library_of, objects_of

FRAME_TEXT = "turn it into numbers, or make the Dataset by nn.data.from_frame(frame, categorical=[...])"


def names_of(frame: Any) -> tuple[str, ...] | None:
    """The names of the columns; None where pandas has numbered them."""
    names = list(frame.columns)
    if names == list(range(len(names))):
        return None
    text = tuple(str(name) for name in names)
    if len(set(text)) < len(text):
        twice = next(name for name in text if text.count(name) > 1)
        raise DataError(f"x: two columns are called {twice!r}; rename one")
    return text


def raw_column(values: Any, name: str) -> RawColumn:
    """A column of pandas or polars as float64 with NaN for what is missing, or as objects, str or None.

    Raises:
        DataTypeError: it holds neither numbers nor text.
    """
    if library_of(values) == "polars" and values.dtype.is_numeric():
        return np.asarray(values.cast(float).to_numpy())  # with NaN for null
    kind = getattr(values.dtype, "kind", "O")
    if kind in "biuf":
        if hasattr(values.dtype, "numpy_dtype"):  # nullable
            return np.asarray(values.to_numpy(dtype="float64", na_value=np.nan))
        return np.asarray(values).astype(np.float64)
    if kind in "mMc":
        raise DataTypeError(f"{name} holds {values.dtype}; turn it into numbers first")
    objects = objects_of(values)
    present = [value for value in objects.tolist() if not is_absent(value)]
    if str(values.dtype) != "category" and all(_is_number(value) for value in present):
        return np.array([np.nan if is_absent(value) else float(value) for value in objects.tolist()])
    wrong = [value for value in present if not isinstance(value, str | bool | np.bool_) and not _is_number(value)]
    if wrong:
        raise DataTypeError(f"{name} holds {type(wrong[0]).__name__}; turn it into numbers or text first")
    return np.array([None if is_absent(value) else str(value) for value in objects.tolist()], dtype=object)


def _is_plain(frame: Any) -> bool:
    """Whether all columns are plain numbers or booleans."""
    if library_of(frame) != "polars":
        return all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in frame.dtypes)
    return all(dtype.is_integer() or dtype.is_float() or str(dtype) == "Boolean" for dtype in frame.dtypes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def frame_values(frame: Any, name: str) -> np.ndarray:
    """Targets (n, k) of a frame with columns of any numeric types.

    Raises:
        DataError: a value is missing, or is text.
    """
    if _is_plain(frame):
        return np.asarray(frame.to_numpy())
    labels = [f"{name}, column {str(column)!r}" for column in frame.columns]
    raw = [raw_column(column_of(frame, i), label) for i, label in enumerate(labels)]
    return encode([Column()] * len(raw), raw, lambda row, i: f"{labels[i]}, row {row}")


def frame_rows(frame: Any, learnt: Sequence[Column] | None) -> tuple[Any, tuple[Column, ...] | None]:
    """The rows of a frame as an array (n, features), and its columns.

    Args:
        learnt: what the model has learnt of its training table. Columns are taken by their names, in its order.

    Raises:
        DataError: a column is missing or unknown, a value is missing, or there is text.
    """
    names = names_of(frame)
    if learnt is not None and names is not None and any(column.name for column in learnt):
        frame = columns_at(frame, column_order(names, learnt, len(names), "x"))
    columns = tuple(learnt) if learnt is not None else None
    if columns is None and names is not None:
        columns = tuple(Column(name) for name in names)
    if _is_plain(frame) and (columns is None or all(c.categories is None for c in columns)):
        x = frame.to_numpy(order="c") if library_of(frame) == "polars" else frame.to_numpy()
        if x.dtype.kind in "biu" or (x.dtype.kind == "f" and not np.isnan(x).any()):
            return x, columns
    used = columns or tuple(Column() for _ in range(frame.shape[1]))
    labels = [f"x, column {str(name)!r}" for name in frame.columns]
    if len(used) != len(labels):
        raise DataError(f"x has {len(labels)} columns, but the training rows had {len(used)}")
    raw = [raw_column(column_of(frame, i), label) for i, label in enumerate(labels)]
    for column, values, label in zip(used, raw, labels, strict=True):
        if values.dtype.kind == "O" and column.categories is None:
            present = next((value for value in values if value is not None), None)
            kind = str(column_of(frame, labels.index(label)).dtype)
            held = "categories" if kind in ("category", "Categorical") else "text"
            raise DataTypeError(f"{label} holds {held}, {present!r} for example; {FRAME_TEXT}")
    return encode(used, raw, lambda row, i: f"{labels[i]}, row {row}"), columns


def array_rows(x: Any, learnt: Sequence[Column]) -> Any:
    """Rows of a table given as an array or lists, with missing values filled and categories encoded; ``x`` as it is,
    where it has the columns that the network takes and no value is missing.

    Raises:
        DataError: a value is missing that nothing stands for, or a category is not known.
    """
    if isinstance(x, np.ma.MaskedArray):  # what is masked is missing
        mask, x = np.ma.getmaskarray(x), x.data
        x = np.where(mask, np.array(None), x.astype(object)) if mask.any() else x
    if isinstance(x, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in x):
        return x
    try:
        array = np.array(x, dtype=object) if isinstance(x, list | tuple) else np.asarray(x)
    except (ValueError, TypeError):
        return x
    has_categories = any(column.categories is not None for column in learnt)
    as_read = array.ndim == 2 and array.shape[1] == len(learnt)
    if not as_read or array.dtype.kind not in "biufOU":
        return x
    if array.dtype.kind in "biuf":
        complete = array.dtype.kind != "f" or not np.isnan(array).any()
        encoded = sum(column.width for column in learnt) == len(learnt)
        if complete and (not has_categories or encoded):
            return x
    raw = []
    for index, column in enumerate(learnt):
        values = array[:, index].tolist()
        if column.categories is not None:
            raw.append(np.array([None if is_absent(v) else text_of(v) for v in values], dtype=object))
            continue
        try:
            raw.append(np.array([np.nan if is_absent(value) else float(value) for value in values]))
        except (ValueError, TypeError):
            return x
    return encode(learnt, raw, lambda row, i: f"x[{row}, {i}]")

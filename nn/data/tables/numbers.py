"""Tables of numbers, the label aside: read fast, by NumPy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from ..columns import Column
from ..dataset import Dataset
from ..units import PIXEL_SCALE, are_bytes, are_pixels, square
from .head import Head
from .options import Task
from .problems import explain
from .targets import Labels, classes_or_values, place_of_label
from .text import open_text

PIXEL_NAME = re.compile(r"pixel[ _-]?\d+", re.IGNORECASE)


def read_numbers(head: Head, task: Task) -> Dataset:
    labels = Labels() if task != "values" and len(head.targets) == 1 else None
    table = _numbers(head, labels)
    x = np.delete(table, head.targets, axis=1)
    if labels is None:
        y: np.ndarray = table[:, head.targets].astype(np.float64)
        y, class_names = (y[:, 0] if len(head.targets) == 1 else y), None
    else:
        codes = table[:, head.targets[0]].astype(np.int64)
        y, class_names = classes_or_values(list(labels.numbers), codes, task, partial(place_of_label, head))
    return as_numbers(x, y, class_names, [head.names[i] for i in head.features] if head.names else [])


def _numbers(head: Head, labels: Labels | None) -> np.ndarray:
    """All cells, checked: uint8 if they all fit, else float64; (rows, columns). The label column holds the numbers of
    the labels, where these are collected."""
    table: np.ndarray | None = None
    if head.integers:
        # Tables of pixels are the large ones; as uint8 they take an eighth of the memory.
        with suppress(ValueError, OverflowError, DeprecationWarning):
            table = _parse(head, labels, "uint8")
    try:
        if table is None:
            table = _parse(head, labels, "float64")
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        explain(head, labels is None, str(error))
    if table.shape[1] != head.width:
        explain(head, labels is None, "")
    if table.dtype != np.uint8 and not (np.isfinite(table.min()) and np.isfinite(table.max())):
        explain(head, labels is None, "")
    return table


def _parse(head: Head, labels: Labels | None, dtype: str) -> np.ndarray:
    converters: Any = None if labels is None else {head.targets[0]: labels}
    with open_text(head.path) as file, warnings.catch_warnings():
        # NumPy before 2.3 reads "1.5" as the integer 1 with a DeprecationWarning.
        warnings.simplefilter("error", DeprecationWarning)
        for _ in range(head.skip):
            next(file)
        return np.loadtxt(
            file, dtype=dtype, delimiter=head.separator, comments=None, quotechar='"', ndmin=2, converters=converters
        )


def as_numbers(x: np.ndarray, y: np.ndarray, class_names: tuple[str, ...] | None, features: Sequence[str]) -> Dataset:
    """A Dataset of numbers without a gap: pixels, if they are some, else float64. ``features`` are the names of the
    columns, if they have any."""
    named_pixels = bool(features) and all(PIXEL_NAME.fullmatch(name) for name in features)
    if are_bytes(x) if named_pixels else are_pixels(x):
        scale = PIXEL_SCALE if x.max() > 1 else 1.0
        return Dataset(x.astype(np.uint8), y, scale=scale, class_names=class_names, image_shape=square(x.shape[1]))
    image_shape = square(x.shape[1]) if named_pixels else None  # pixels that are scaled already
    columns = tuple(Column(name) for name in features) if features and image_shape is None else None
    x = x.astype(np.float64, copy=False)
    return Dataset(x, y, class_names=class_names, image_shape=image_shape, columns=columns)

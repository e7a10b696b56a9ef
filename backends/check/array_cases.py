"""Inputs of what takes rows, makes masks, and moves arrays in and out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..collectives import nodes_of
from .inputs import INF, NAN, Inputs, Made


def _take_rows(make: Inputs) -> Made:
    info = np.iinfo(np.int64)
    pixels = make.rng.integers(0, 256, (23, 5), dtype=np.uint8)
    special = make.array(np.resize([0.0, -0.0, NAN, INF, -INF, *make.tiny, make.huge], (23, 9)))
    labels = make.rng.integers(info.min, info.max, 23)
    order = make.order(23)
    for name, rows in (
        ("pixels", pixels), ("images", make.rng.integers(0, 256, (23, 2, 3), dtype=np.uint8)), ("labels", labels),
        ("int32", labels.astype(np.int32)), ("int16", labels.astype(np.int16)),
        ("floats", make.normal(23, 7)), ("special", special),
        ("targets", make.normal(23)), ("one column", make.normal(23, 1)), ("no column", make.normal(23, 0)),
    ):  # fmt: skip
        for order_or_none in (None, order):
            for start, count in ((0, 23), (5, 11), (np.array([5]), 11), (22, 1), (3, 0)):
                where = {"start": start, "count": count}
                yield name, (rows, order_or_none), where
                yield name, (rows, order_or_none), {**where, "scale": 1 / 255, "shift": -0.5}
    for scale, shift in ((1.0, 0.0), (1 / 255, 0.0), (3.0, 1e-3)):
        yield "pixels", (pixels, order), {"start": 1, "count": 20, "scale": scale, "shift": shift}


def _dropout_mask(make: Inputs) -> Made:
    key = tuple(make.rng.integers(0, 2**32, 2).tolist())
    for shape in ((3, 5), (1,), (0, 4), (2, 3, 4), (128, 10), (1031,)):
        for rate in (0.0, 0.1, 0.5, 0.9999):
            for step in (0, 2**31 + 7, np.array([5])):
                yield "", (), {"shape": shape, "rate": rate, "key": key, "step": step}
    for key in ((0, 0), (2**32 - 1, 2**32 - 1)):
        yield "", (), {"shape": (7, 9), "rate": 0.3, "key": key, "step": 2**40}


def _arrays(make: Inputs) -> Made:
    for name, x in make.elements():
        yield name, (x,), {}
    yield "one axis", (make.normal(1031),), {}
    yield "three axes", (make.normal(3, 5, 7),), {}
    yield "none", (make.normal(0),), {}


def _asarray(make: Inputs) -> Made:
    yield from _arrays(make)
    yield "rounded float64", (make.rng.normal(size=(9, 4)),), {}
    yield "float64 special", (np.array([[NAN, INF, -INF, 0.0, -0.0, 1e-3]]),), {}
    yield "Python list", ([[1.5, -2.25], [0.1, 3.0]],), {}
    yield "Python number", (0.1,), {}
    for dtype in ("bool", "uint8", "int8", "int16", "int32", "int64"):
        info = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        yield dtype, (np.array([info, info[::-1]]).astype(dtype),), {}


def _item(make: Inputs) -> Made:
    for value in (0.0, -0.0, 1 / 3, -1e4, NAN, INF, *make.tiny, make.huge):
        for shape in ((), (1,), (1, 1)):
            yield f"{value:g}", (make.array(np.full(shape, value)),), {}


def _shapes(make: Inputs) -> Made:
    for shape in ((), (0,), (1,), (1031,), (3, 5), (0, 4), (4, 0), (2, 3, 4)):
        yield "", (), {"shape": shape}


def _record(make: Inputs) -> Made:
    for n, count in ((6, 2), (12, 5), (40, 1)):
        starts = tuple(make.rng.integers(0, n - count + 1, 5).tolist())
        yield "", (make.normal(n, 3),), {"starts": starts, "count": count}


def _sum_over_processes(make: Inputs) -> Made:
    for blocks in (1, 3, 6, 7):
        count = len(nodes_of(range(blocks)))
        for n in (1, 33):
            yield "", (make.normal(count, n),), {"blocks": blocks}
        for name, values in make.summands(count):
            yield name, (values[:, None],), {"blocks": blocks}


ARRAY_MAKERS: dict[str, Callable[[Inputs], Made]] = {
    "take_rows": _take_rows,
    "dropout_mask": _dropout_mask,
    "asarray": _asarray,
    "to_numpy": _arrays,
    "copy": _arrays,
    "item": _item,
    "zeros": _shapes,
    "empty": _shapes,
    "record": _record,
    "sum_over_processes": _sum_over_processes,
}

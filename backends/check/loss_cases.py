"""Inputs of losses, and of ``argmax``, by which classes are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..typing import Array
from .inputs import INF, NAN, Inputs, Made


def _argmax(make: Inputs) -> Made:
    for name, z in make.logits():
        yield name, (z,), {}
        yield f"{name}, reversed", (z[:, ::-1].copy(),), {}
    yield "huge", (make.array([[-make.huge, make.huge], [INF, make.huge], [-INF, -make.huge], [-INF, -INF]]),), {}


def _loss_options(make: Inputs, m: int) -> Iterator[dict[str, Any]]:
    yield {}
    yield {"totals": np.array([10.0, 3.0]), "scale": 1 / 3}
    yield {"gradient": False}
    losses = make.array(np.full(m, NAN))
    yield {"weights": make.uniform(m), "losses": losses}
    yield {"weights": make.array(make.rng.integers(0, 3, m)), "scale": 1 / 3, "totals": np.array([10.0, 3.0])}
    yield {"losses": losses, "gradient": False}


def _softmax_cross_entropy(make: Inputs) -> Made:
    for name, z in make.logits():
        m, n = z.shape
        for options in _loss_options(make, len(z)):
            yield name, (z, make.rng.integers(0, n, m)), options
        yield f"{name}, first label", (z, np.zeros(m, np.int64)), {"scale": 1.0}
        yield f"{name}, last label", (z, np.full(m, n - 1, np.int64)), {"scale": 0.0}
        yield f"{name}, int32", (z, make.rng.integers(0, n, m, dtype=np.int32)), {}
        yield f"{name}, uint8", (z, make.rng.integers(0, min(n, 256), m, dtype=np.uint8)), {}
        for options in _loss_options(make, len(z)):
            yield f"{name}, smoothed", (z, make.rng.integers(0, n, m)), {"label_smoothing": 0.1, **options}
        yield f"{name}, all smoothed", (z, make.rng.integers(0, n, m)), {"label_smoothing": 1.0}
    yield "huge", (make.array([[make.huge, 0.0, 1.0], [-make.huge, 0.0, 1.0]]), np.array([0, 2])), {}
    yield "confident and correct", (make.array(np.diag([40.0] * 7)), np.arange(7)), {"scale": 1.0}


def _binary_cross_entropy(make: Inputs) -> Made:
    for name, z in make.logits():
        for options in _loss_options(make, len(z)):
            yield name, (z, make.uniform(*z.shape)), options
        yield f"{name}, hard targets", (z, make.array(make.rng.integers(0, 2, z.shape))), {"scale": 1.0}
        yield f"{name}, targets 1/2", (z, make.array(np.full(z.shape, 0.5))), {}
        for options in ({}, {"weights": make.uniform(len(z))}):
            yield f"{name}, one answer", (z, _one_hot(make, z.shape)), {"exclusive": True, **options}
    for target in (0.0, 1.0):
        yield "huge", (make.array([[make.huge], [-make.huge], [0.0]]), make.array(np.full((3, 1), target))), {}
        grid = np.linspace(-110, 110, 221)[:, None]
        yield "grid", (make.array(grid), make.array(np.full(grid.shape, target))), {"scale": 1.0}


def _one_hot(make: Inputs, shape: tuple[int, ...]) -> Array:
    return make.array(make.rng.integers(0, shape[1], shape[0])[:, None] == np.arange(shape[1]))


def _sigmoid_focal(make: Inputs) -> Made:
    settings: list[dict[str, Any]] = [{}, {"gamma": 0.0, "alpha": None}, {"gamma": 0.5}, {"gamma": 5.0, "alpha": 0.9}]
    for name, z in make.logits():
        for options in _loss_options(make, len(z)):
            yield name, (z, make.array(make.rng.integers(0, 2, z.shape))), options
        for chosen in settings:
            yield f"{name}, hard targets", (z, make.array(make.rng.integers(0, 2, z.shape))), {"scale": 1.0, **chosen}
        yield f"{name}, soft targets", (z, make.uniform(*z.shape)), {"gamma": 2.0}
        yield f"{name}, one answer", (z, _one_hot(make, z.shape)), {"exclusive": True}
    for target in (0.0, 1.0):
        yield "huge", (make.array([[make.huge], [-make.huge], [0.0]]), make.array(np.full((3, 1), target))), {}
        grid = np.linspace(-110, 110, 221)[:, None]
        for chosen in settings:
            yield "grid", (make.array(grid), make.array(np.full(grid.shape, target))), {"scale": 1.0, **chosen}


def _squared_error(make: Inputs) -> Made:
    for name, o in make.logits():
        for options in _loss_options(make, len(o)):
            yield name, (o, make.normal(*o.shape)), options
        yield f"{name}, nearly correct", (o, make.array(o * (1 + 4 * make.u))), {"scale": 1.0}
        yield f"{name}, correct", (o, o.copy()), {}
    yield "halves", (make.array([[0.5], [0.5 + make.u], [0.4]]), make.array([[0.0], [1.0], [0.5]])), {}
    yield "huge", (make.array([[make.huge], [1.0]]), make.array([[-make.huge], [0.5]])), {}


def _absolute_error(make: Inputs) -> Made:
    yield from _squared_error(make)
    yield "equal", (make.array([[1.0, -0.0]]), make.array([[1.0, 0.0]])), {"scale": 1.0}


def _huber(make: Inputs) -> Made:
    for name, inputs, options in _squared_error(make):
        yield name, inputs, options
        yield name, inputs, {"delta": 0.3, **options}
    for delta in (1.0, 0.1):
        edges = [delta, -delta, delta * (1 + 4 * make.u), delta * (1 - 4 * make.u), 0.0, -0.0, 3.0, -3.0, INF, -INF]
        yield "edges", (make.array([edges]), make.array(np.zeros((1, len(edges))))), {"delta": delta, "scale": 1.0}


LOSS_MAKERS: dict[str, Callable[[Inputs], Made]] = {
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "sigmoid_focal": _sigmoid_focal,
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "argmax": _argmax,
}

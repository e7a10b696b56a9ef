"""Inputs of products, activations, sums and functions of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..activations import ACTIVATIONS
from ..typing import Array
from .inputs import INF, NAN, SHAPES, Inputs, Made


def _matmul(make: Inputs) -> Made:
    shapes = ((1, 1, 1), (5, 4, 3), (1, 7, 1), (3, 1, 5), (13, 17, 11), (1, 300, 10), (64, 64, 64), (128, 100, 10))
    long = ((2, 4096, 3), (5, 1031, 4), (1, 4095, 1))
    for m, k, n in (*shapes, (0, 4, 3), (5, 0, 3), (5, 4, 0), *long):
        a, b = make.normal(m, k), make.normal(k, n)
        yield "random", (a, b), {}
        if k <= 300:
            yield "random", (a.T.copy(), b), {"transpose_a": True, "alpha": -0.7}
            yield "random", (a, b.T.copy()), {"transpose_b": True, "alpha": 0.1, "beta": 0.9, "out": make.normal(m, n)}
            yield "random", (a, b), {"beta": 1.0, "out": make.normal(m, n)}
            out = make.normal(m, n)
            yield "random", (a.T.copy(), b), {"transpose_a": True, "alpha": -0.7, "beta": 1.0, "times": 0.3, "out": out}
            yield "random", (a, b), {"alpha": 0.1, "times": make.array([0.3])}
            both = {"transpose_a": True, "transpose_b": True}
            yield "random", (a.T.copy(), b.T.copy()), {**both, "beta": -1 / 3, "out": make.normal(m, n)}
    for m, k, n in ((4, 9, 5), (3, 301, 2), (2, 2050, 2)):
        yield "wide range", (make.wide_range(m, k), make.wide_range(k, n)), {}
        for name, terms in make.summands(k):
            rows, ones = np.tile(terms, (m, 1)), np.ones((k, n), make.dtype)
            yield name, (rows, ones), {}
            yield name, (ones.T.copy(), rows.T.copy()), {"alpha": 3.0}
            yield name, (rows, rows[:1].T.copy()), {}
    for n in (4, 8, 12):  # a Hilbert matrix and the inverse of it, whose product is made of cancellations
        i = np.arange(1.0, n + 1)
        hilbert = 1 / (i[:, None] + i - 1)
        yield "ill-conditioned", (make.array(hilbert), make.array(np.linalg.inv(hilbert))), {}
        nearly = make.array(1 + make.u * 4 * make.rng.integers(-4, 5, (n, n)))
        yield "nearly singular", (nearly, make.array(nearly - 1.0)), {}
    one, two = make.array([[1.0], [2.0]]), make.array([[1.0, -2.0]])
    for scale in (*make.tiny, make.huge, make.huge / 4):
        yield f"times {scale:.1e}", (one, make.array(two * scale)), {}
        yield f"times {scale:.1e}", (make.array(np.full((2, 3), scale)), make.array(np.ones((3, 2)))), {}
    for name, x in make.specials():
        yield name, (x, make.array(np.arange(1.0, 13).reshape(4, 3))), {}
        yield name, (x, make.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [2.0, 0.5]])), {"alpha": 0.5}
        yield name, (x, make.normal(4, 4)), {"beta": 0.5, "out": np.resize(x, (len(x), 4))}
        yield name, (x, make.normal(4, 4)), {"beta": 1.0, "times": 0.0, "out": make.normal(len(x), 4)}


def _bias_activation(make: Inputs) -> Made:
    activation = make.part
    for name, z in make.elements():
        yield name, (z, None), {"activation": activation}
        kept = {"z_out": make.array(np.full(z.shape, NAN))} if name != "grid" else {}
        yield name, (z, make.normal(z.shape[1])), {"activation": activation, **kept}
    cancelling = make.normal(9, 1) * make.array(np.ones((1, 6)))
    yield "cancelling bias", (cancelling, -cancelling[4]), {"activation": activation}


def _bias_activation_backward(make: Inputs) -> Made:
    activation, known = make.part, ACTIVATIONS[make.part]
    for m, n in (*SHAPES, (3, 0), (1500, 3)):
        of_any_size = known.needs_z or activation in ("identity", "relu", "leaky_relu", "elu")
        saved = 3 * make.normal(m, n) if of_any_size else make.uniform(m, n)
        yield "random", (make.normal(m, n), saved), {"activation": activation}
        sums = make.array(np.full(n, NAN))
        yield "random", (make.wide_range(m, n), saved), {"activation": activation, "bias_gradient": sums}
    ends = make.array([[0.0, 1.0, 1.0 - make.u, make.tiny[-1]], [0.5, -0.0, 1.0 - 8 * make.u, 0.25]])
    options = {"activation": activation, "bias_gradient": make.array(np.full(4, NAN))}
    yield "saturated", (make.normal(2, 4), ends), options
    for name, dy in make.specials():
        yield name, (dy, make.uniform(*dy.shape)), options
        yield f"{name} in what is saved", (make.normal(*dy.shape), dy), options
    for name, terms in make.summands(601):
        columns = np.tile(terms[:, None], (1, 3))
        yield name, (columns, make.array(np.full((601, 3), 0.5))), {**options, "bias_gradient": make.normal(3)}


def _column_sum(make: Inputs) -> Made:
    for m, n in (*SHAPES, (3, 0), (4096, 2), (1501, 33)):
        yield "random", (make.normal(m, n),), {}
        yield "wide range", (make.wide_range(m, n),), {}
    for m in (2, 3, 10, 100, 513, 4097):
        for name, terms in make.summands(m):
            yield name, (np.tile(terms[:, None], (1, 3)),), {}
    for name, x in make.specials():
        yield name, (x,), {}
    yield "overflowing", (make.array(np.full((3, 2), make.huge)),), {}


def _multiply(make: Inputs) -> Made:
    for name, a in make.elements():
        yield name, (a, make.normal(*a.shape)), {}
        yield f"{name}, reversed", (a, a[:, ::-1].copy()), {}
        yield f"{name} times powers of 2", (a, make.array(2.0 ** make.rng.integers(-9, 9, a.shape))), {}


def _softmax(make: Inputs) -> Made:
    for name, z in make.logits():
        yield name, (z,), {}
    yield "huge", (make.array([[make.huge, -make.huge, 0.0], [make.huge, make.huge, 1.0]]),), {}


def _softmax_backward(make: Inputs) -> Made:
    for name, z in make.logits():
        dy = make.normal(*z.shape)
        with np.errstate(all="ignore"):
            e = np.exp(z - z.max(axis=1, keepdims=True, initial=-INF))
            y = make.array(e / e.sum(axis=1, keepdims=True))
        yield name, (dy, y), {}
        yield f"{name}, equal dy", (make.array(np.full(z.shape, 1 / 3)), y), {}
        yield f"{name} as dy", (z, make.array(np.full(z.shape, 1 / z.shape[1]))), {}


def _matrices_to_normalize(make: Inputs) -> Iterator[tuple[str, Array]]:
    for m, n in ((1, 1), (7, 5), (1, 10), (11, 1), (2, 3), (13, 17), (128, 10), (3, 257), (211, 3), (1543, 3)):
        yield "random", make.normal(m, n)
        yield "far from 0", make.array(1000.0 + make.rng.normal(size=(m, n)))
    yield "many rows", make.array(10.0 + make.rng.normal(size=(2741, 7)))
    yield "wide range", make.wide_range(12, 9)
    yield "equal", make.array(np.full((5, 6), 0.1))
    yield "nearly equal", make.array(1.0 + make.u * make.rng.integers(0, 8, (6, 5)))
    yield "small", make.array(1e-6 * make.rng.normal(size=(9, 11)))
    yield from make.specials()
    for name, terms in make.summands(301):
        yield name, np.tile(terms[:, None], (1, 3))
        yield name, np.tile(terms, (2, 1))


def _normalize(make: Inputs) -> Made:
    for name, x in _matrices_to_normalize(make):
        m, n = x.shape
        for axis, length in ((1, m), (0, n)):
            weight, bias = make.normal(n), make.normal(n)
            into = {"normalized": make.array(np.full((m, n), NAN)), "inverse": make.array(np.full(length, NAN))}
            yield name, (x, weight, bias, None), {"axis": axis, "epsilon": 1e-5, **into}
            yield name, (x, None, None, None), {"axis": axis, "epsilon": 1e-3}
        if m > 1:
            running = {"mean": make.normal(n), "variance": make.uniform(n)}
            yield name, (x, weight, bias, running), {"axis": 0, "epsilon": 1e-5, "momentum": 0.1}


def _normalize_backward(make: Inputs) -> Made:
    for name, dy in _matrices_to_normalize(make):
        m, n = dy.shape
        for axis, length in ((1, m), (0, n)):
            x, factor = make.normal(m, n), make.array(0.1 + make.uniform(length))
            sums = {key: make.array(np.full(n, NAN)) for key in ("bias_gradient", "gain_gradient")}
            yield name, (dy, x, factor, make.normal(n)), {"axis": axis, **sums}
            yield f"{name} as x^", (make.normal(m, n), dy, factor, None), {"axis": axis}


def _normalize_by(make: Inputs) -> Made:
    for name, x in make.elements():
        n = x.shape[1]
        yield name, (x, make.normal(n), make.uniform(n), make.normal(n), make.normal(n)), {"epsilon": 1e-5}
        yield name, (x, make.normal(n), make.array(np.zeros(n)), None, None), {"epsilon": 1e-3}
    many = make.normal(2741, 7), make.normal(7), make.uniform(7), make.normal(7), make.normal(7)
    yield "many rows", many, {"epsilon": 1e-5}


MATRIX_MAKERS: dict[str, Callable[[Inputs], Made]] = {
    "matmul": _matmul,
    "bias_activation": _bias_activation,
    "bias_activation_backward": _bias_activation_backward,
    "column_sum": _column_sum,
    "multiply": _multiply,
    "softmax": _softmax,
    "softmax_backward": _softmax_backward,
    "normalize": _normalize,
    "normalize_backward": _normalize_backward,
    "normalize_by": _normalize_by,
}

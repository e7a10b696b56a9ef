"""Steps that are joined into few launches on the emulated GPU, each with a result that is held against its bound, or
against the bits of the same operations launched one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from backends import StepNumbers
from backends.check.activations import ACTIVATIONS
from backends.check.bounds import Arithmetic, Bounded
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.rules import EXACT, RULES
from tests.helpers.emulated_cuda import EmulatedCudaDevice, launched


def backend_with(rules: Any, dtype: str = "float32", threads: int = 1) -> CupyBackend:
    backend = CupyBackend(EmulatedCudaDevice(threads), dtype)
    backend.rules = rules
    return backend


def updates_are_the_single_ones(count: int, dtype: str, threads: int = 1) -> None:
    """Updates by SGD of so many sections of the parameters."""
    parts = [slice(start, start + 14) for start in range(0, 14 * count, 14)]

    def run(rules: Any) -> tuple[list[str], list[np.ndarray]]:
        backend = backend_with(rules, dtype, threads)
        rng = np.random.default_rng(1)
        w, g, v = (backend.asarray(rng.standard_normal(70).astype(dtype)) for _ in range(3))

        def step(numbers: StepNumbers, size: int) -> None:
            for number, part in enumerate(parts):
                state = {"velocity": v[part]} if number % 2 else {}
                settings: dict[str, Any] = {"momentum": 0.9, "nesterov": number > 2} if number % 2 else {}
                settings |= {"weight_decay": 0.1, "n_decayed": 5 * number}
                backend.update("sgd", w[part], g[part], state, learning_rate=numbers.learning_rate, **settings)

        launched.names.clear()
        recorded = backend.record(step)
        for number in range(3):
            recorded(StepNumbers(0, number, number + 1, 0.1), 1)
        return [name for name in launched.names if name.startswith("sgd")], [backend.to_numpy(x) for x in (w, v)]

    alone, expected = run(())
    joined, found = run(EXACT)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert alone == ["sgd_update"] * count
    assert joined == [f"sgd_updates_{min(count, 4)}"] + ["sgd_update"] * (count > 4)


HEADS = {
    # rows, inputs, classes, activation before, bias, alpha, gathered, first of the rows' weights
    "small": (33, 20, 10, "sigmoid", True, 1.0, True, None),
    "one row": (1, 7, 3, "tanh", True, 1.0, True, None),
    "no bias": (16, 9, 5, "relu", False, 1.0, False, None),
    "weights": (15, 12, 4, "sigmoid", True, 1.0, True, 0.5),
    "no activation": (10, 6, 32, "identity", True, 1.0, False, None),
    "no dx": (9, 30, 2, "", True, 1 / 255, True, None),
    "one class": (5, 8, 1, "sigmoid", True, 1.0, False, None),
    "widest": (6, 256, 12, "relu", True, 1.0, False, None),
    "many rows": (512, 3, 2, "tanh", True, 1.0, False, None),
    "sums apart": (300, 64, 3, "sigmoid", True, 1.0, False, None),
}


def head_is_within_its_bounds(which: str, dtype: str, threads: int = 1) -> None:
    m, k, n, activation, has_bias, alpha, gathers, weight = HEADS[which]
    rng, backend = np.random.default_rng(6), backend_with(RULES, dtype, threads)
    x = rng.uniform(-0.9, 0.9, (m, k)).astype(dtype)
    matrix, bias = rng.standard_normal((k, n)).astype(dtype), rng.standard_normal(n).astype(dtype)
    labels, order, start = rng.integers(0, n, 2 * m), rng.permutation(2 * m), m // 2
    chosen = order[start : start + m] if gathers else np.arange(start, start + m)
    weights = None if weight is None else np.linspace(weight, 1.5, m).astype(dtype)
    up = backend.asarray
    rows, order_up, classes = up(labels), up(order), up(labels[chosen])
    batch = backend.empty((m,), np.int64) if gathers else classes
    x_up, matrix_up, bias_up = up(x), up(matrix), up(bias)
    weights_up = None if weights is None else up(weights)
    found = {"z": backend.empty((m, n)), "d": backend.empty((m, n)), "losses": backend.empty((m,))}
    found |= {"d sums": backend.empty((n,)), "dx": backend.empty((m, k)), "dx sums": backend.empty((k,))}
    found["totals"] = up(np.array([2.5, 3.0]), np.float64)

    def step(numbers: StepNumbers, count: int) -> None:
        if gathers:
            backend.take_rows(rows, order_up, numbers.start, count, out=batch)
        backend.matmul(x_up, matrix_up, alpha=alpha, out=found["z"])
        if has_bias:
            backend.bias_activation(found["z"], bias_up, out=found["z"])
        backend.softmax_cross_entropy(
            *(found["z"], batch), totals=found["totals"], weights=weights_up, losses=found["losses"], out=found["d"]
        )
        backend.column_sum(found["d"], out=found["d sums"])
        if activation:
            backend.matmul(found["d"], matrix_up, transpose_b=True, out=found["dx"])
            dx, sums = found["dx"], found["dx sums"]
            backend.bias_activation_backward(dx, x_up, activation, out=dx, bias_gradient=sums)

    launched.names.clear()
    backend.record(step)(StepNumbers(start, 0, 1, 0.1), m)
    names = [name for name in launched.names if name not in ("copy", "set_numbers", "advance_numbers")]
    if which == "sums apart":
        assert names == ["head_identity", "activation_backward_sigmoid"]
    else:
        of_sums = ["activation_backward_identity"] if activation == "identity" else []
        assert names == [f"head_{activation or 'identity'}", *of_sums]

    real, wide = Arithmetic(dtype), Arithmetic("float64")
    product = real.exact(x).matmul(real.exact(matrix))
    z = product if alpha == 1.0 else real.number(alpha) * product
    z = z + real.exact(bias) if has_bias else z
    shifted = z - z.max(1)
    e = shifted.exp()
    normalizer = e.sum(1, keepdims=True)
    onehot = real.exact(labels[chosen][:, None] == np.arange(n))
    d = (e / normalizer - onehot) * real.number(1 / m)
    losses = normalizer[:, 0].log() - shifted[np.arange(m), labels[chosen]]
    weighted = losses
    if weights is not None:
        d, weighted = d * real.exact(weights)[:, None], losses * real.exact(weights)
    expected = {"z": z, "d": d, "losses": losses, "d sums": d.sum(0)}
    if activation:
        dx = d.matmul(real.exact(matrix).T)
        expected["dx"] = dx if activation == "identity" else dx * ACTIVATIONS[activation][1](real.exact(x))
        expected["dx sums"] = expected["dx"].sum(0)
    down = {name: backend.to_numpy(array) for name, array in found.items()}
    for name, bounded in expected.items():
        assert (np.abs(down[name] - bounded.value) <= bounded.error).all(), name
    loss = weighted.wide(wide).sum() + wide.exact(2.5)
    assert abs(down["totals"][0] - loss.value) <= loss.error
    correct = np.argmax(down["z"], axis=1) == labels[chosen]
    assert down["totals"][1] == pytest.approx(3 + (correct if weights is None else correct * weights).sum(), rel=1e-6)
    np.testing.assert_array_equal(backend.to_numpy(batch), labels[chosen])


WHOLE = {
    # rows, inputs, hidden, classes, activation, biases, alpha, positions on the device
    "mnist": (9, 784, 64, 10, "sigmoid", True, 1 / 255, True),
    "one row": (1, 3, 5, 2, "tanh", True, 1.0, False),
    "no bias": (8, 20, 7, 3, "sigmoid", False, 1 / 255, True),
    "widest": (5, 11, 128, 8, "tanh", True, 1 / 255, False),
    "one unit": (6, 40, 1, 4, "sigmoid", True, 1 / 255, True),
    "relu": (33, 17, 10, 32, "relu", True, 1 / 255, True),
}


def network_is_within_its_bounds(which: str, dtype: str, threads: int = 1) -> None:
    m, inputs, k, n, activation, biased, alpha, scattered = WHOLE[which]
    if dtype == "float64":
        inputs = min(inputs, 512)  # more are computed by cuBLAS
    rng, backend = np.random.default_rng(12), backend_with(RULES, dtype, threads)
    pixels = rng.integers(0, 256, (2 * m, inputs), dtype=np.uint8)
    labels, order, start = rng.integers(0, n, 2 * m), rng.permutation(2 * m), m // 2
    w1, w2 = (rng.standard_normal(shape).astype(dtype) / 4 for shape in ((inputs, k), (k, n)))
    b1, b2 = rng.standard_normal(k).astype(dtype), rng.standard_normal(n).astype(dtype)
    up, real = backend.asarray, Arithmetic(dtype)
    rows, classes, order_up = up(pixels), up(labels), up(order) if scattered else None
    here = {"w1": up(w1), "w2": up(w2), "b1": up(b1), "b2": up(b2)}
    found = {"x": backend.empty((m, inputs)), "h": backend.empty((m, k)), "z": backend.empty((m, n))}
    found |= {"d": backend.empty((m, n)), "dx": backend.empty((m, k)), "totals": backend.zeros((2,), np.float64)}
    found |= {"d sums": backend.empty((n,)), "dx sums": backend.empty((k,))}
    batch = backend.empty((m,), np.int64)

    def step(numbers: StepNumbers, count: int) -> None:
        backend.take_rows(rows, order_up, numbers.start, count, scale=1.0, out=found["x"])
        backend.take_rows(classes, order_up, numbers.start, count, out=batch)
        backend.matmul(found["x"], here["w1"], alpha=alpha, out=found["h"])
        backend.bias_activation(found["h"], here["b1"] if biased else None, activation, out=found["h"])
        backend.matmul(found["h"], here["w2"], out=found["z"])
        backend.bias_activation(found["z"], here["b2"] if biased else None, out=found["z"])
        backend.softmax_cross_entropy(found["z"], batch, totals=found["totals"], out=found["d"])
        if biased:
            backend.column_sum(found["d"], out=found["d sums"])
        backend.matmul(found["d"], here["w2"], transpose_b=True, out=found["dx"])
        sums = found["dx sums"] if biased else None
        backend.bias_activation_backward(found["dx"], found["h"], activation, out=found["dx"], bias_gradient=sums)

    launched.names.clear()
    backend.record(step)(StepNumbers(start, 0, 1, 0.1), m)
    names = [name for name in launched.names if name not in ("copy", "set_numbers", "advance_numbers")]
    assert names == [f"small_{activation}"]

    chosen = order[start : start + m] if scattered else np.arange(start, start + m)
    product = real.exact(pixels[chosen]).matmul(real.exact(w1))
    z = product if alpha == 1.0 else real.number(alpha) * product
    forward, derivative = ACTIVATIONS[activation]
    h = forward(z + real.exact(b1) if biased else z)
    logits = h.matmul(real.exact(w2))
    logits = logits + real.exact(b2) if biased else logits
    shifted = logits - logits.max(1)
    e = shifted.exp()
    normalizer = e.sum(1, keepdims=True)
    losses = normalizer[:, 0].log() - shifted[np.arange(m), labels[chosen]]
    d = (e / normalizer - real.exact(labels[chosen][:, None] == np.arange(n))) * real.number(1 / m)
    dx = d.matmul(real.exact(w2).T) * derivative(h)
    expected = {"h": h, "z": logits, "d": d, "dx": dx}
    if biased:
        expected |= {"d sums": d.sum(0), "dx sums": dx.sum(0)}
    down = {name: backend.to_numpy(array) for name, array in found.items()}
    for name, bounded in expected.items():
        assert (np.abs(down[name] - bounded.value) <= bounded.error).all(), name
    loss = losses.wide(Arithmetic("float64")).sum()
    assert abs(down["totals"][0] - loss.value) <= loss.error
    assert down["totals"][1] == (np.argmax(down["z"], axis=1) == labels[chosen]).sum()
    np.testing.assert_array_equal(down["x"], pixels[chosen].astype(dtype), strict=True)
    np.testing.assert_array_equal(backend.to_numpy(batch), labels[chosen])


GRADIENTS = {
    # rows, weights of each layer, whether products add to velocities, momentum, alpha
    "small": (33, [(20, 7), (7, 5)], False, 0.9, 1 / 255),
    "folded": (33, [(20, 7), (7, 5)], True, 0.9, 1.0),
    "plain": (128, [(17, 65)], False, 0.0, 1.0),
    "one row": (1, [(16, 64), (64, 3), (3, 33)], True, 0.5, 1.0),
    "more than one launch takes": (9, [(5, 4)] * 4, True, 0.5, 1.0),
    "more rows than a block takes": (129, [(5, 4)], True, 0.5, 1.0),
    "more weights than are its": (3, [(512, 257)], False, 0.5, 1.0),
}


def gradients_are_within_their_bounds(which: str, dtype: str, threads: int = 1) -> None:
    m, shapes, folded, momentum, alpha = GRADIENTS[which]
    rng, backend = np.random.default_rng(8), backend_with(RULES, dtype, threads)
    up, n_biases, rate, decay, kept = backend.asarray, 21, 0.25, 0.125, 1 - momentum
    sizes = [-(-height * width // 16) * 16 for height, width in shapes]
    n_weights, begins = sum(sizes), np.cumsum([0, *sizes])
    flat = {name: rng.standard_normal(n_weights + n_biases).astype(dtype) for name in ("w", "g", "v")}
    x = [rng.standard_normal((m, height)).astype(dtype) for height, _ in shapes]
    dz = [rng.standard_normal((m, width)).astype(dtype) for _, width in shapes]
    here = {name: up(values) for name, values in flat.items()}
    x_up, dz_up, rate_up = [*map(up, x)], [*map(up, dz)], up(np.array([rate], dtype))
    into, beta = ("v", momentum) if folded else ("g", 0.0)

    def step(numbers: StepNumbers, count: int) -> None:
        for rows, slopes, begin, shape in zip(x_up, dz_up, begins, shapes, strict=False):
            to = here[into][begin : begin + shape[0] * shape[1]].reshape(shape)
            factor = alpha * kept if folded else alpha
            backend.matmul(rows, slopes, transpose_a=True, alpha=factor, beta=beta, out=to)
        both: dict[str, Any] = {"momentum": momentum, "dampening": momentum} if momentum else {}
        w, g, v = here["w"], here["g"], here["v"]
        options: dict[str, Any] = {"learning_rate": rate_up, "weight_decay": decay, "n_decayed": n_weights}
        if folded:
            weights, biases = slice(0, n_weights), slice(n_weights, None)
            backend.update("sgd", w[weights], v[weights], {}, **options)
            backend.update("sgd", w[biases], g[biases], {"velocity": v[biases]}, learning_rate=rate_up, **both)
        else:
            state = {"velocity": v} if momentum else {}
            backend.update("sgd", w, g, state, **options, **both)

    launched.names.clear()
    backend.record(step)(StepNumbers(0, 0, 1, rate), m)
    names = [name for name in launched.names if name not in ("copy", "set_numbers", "advance_numbers")]
    updates = "sgd_updates_2" if folded else "sgd_update"
    if which in ("more rows than a block takes", "more weights than are its"):
        assert names == ["gemm", updates]
    else:
        assert names == ["gemm"] * (len(shapes) - 3) + [f"gradients_and_update_{min(len(shapes), 3)}"]

    real = Arithmetic(dtype)
    found = {name: backend.to_numpy(array) for name, array in here.items()}
    touched = np.zeros(n_weights + n_biases, bool)
    gradient = {name: np.array(values, np.longdouble) for name, values in flat.items()}
    error = np.zeros(n_weights + n_biases, np.longdouble)
    for rows, slopes, begin, (height, width) in zip(x, dz, begins, shapes, strict=False):
        part = slice(begin, begin + height * width)
        product = real.number(alpha) * real.exact(rows.T).matmul(real.exact(slopes))
        gradient["g"][part], error[part] = product.value.ravel(), product.error.ravel()
        touched[part] = True
    g = Bounded(real, gradient["g"], error)
    pushed = real.number(kept) * g
    v = real.number(momentum) * real.exact(flat["v"]) + pushed if momentum else real.exact(flat["v"])
    if folded:  # what no product writes stays
        v = v.where(touched | (np.arange(len(touched)) >= n_weights), real.exact(flat["v"]))
    direction = v if momentum else g
    decayed = real.exact(np.where(np.arange(len(touched)) < n_weights, decay, 0.0))
    w = real.exact(flat["w"])
    expected = {"w": w - (real.exact(rate) * direction + real.exact(rate) * decayed * w), "v": v}
    if not folded:
        expected["g"] = g
    for name, bounded in expected.items():
        # Folded, the factor of the fresh gradient is rounded with alpha, and once more with the product.
        allowed = bounded.error * (2 if folded else 1)
        assert (np.abs(found[name] - bounded.value) <= allowed).all(), name


def joined_steps() -> Iterator[Callable[[str], None]]:
    """All of them, each to be called with a dtype."""
    for count in (2, 3, 4):
        yield partial(updates_are_the_single_ones, count)
    for table, holds in (
        (HEADS, head_is_within_its_bounds),
        (WHOLE, network_is_within_its_bounds),
        (GRADIENTS, gradients_are_within_their_bounds),
    ):
        for which in table:
            yield partial(holds, which)

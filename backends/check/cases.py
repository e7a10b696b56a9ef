"""The inputs that ``backends.check`` tries: random, at the edges, and chosen to do harm.

Every operation has a function here that yields its cases. What a case holds depends on the seed, the operation and the
dtype alone, so that it can be repeated.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS
from ..arguments import check_dtype, check_flag, check_seed, check_text, unknown
from ..collectives import nodes_of
from ..typing import Array
from ..updates import RULES
from .distortion_cases import DISTORTION_MAKERS
from .inputs import INF, NAN, SHAPES, Inputs, Made
from .picture_cases import PICTURE_MAKERS


@dataclass(frozen=True, eq=False)
class Case:
    """Inputs of an operation. ``options`` are the keyword arguments; arrays among them go to the device too."""

    operation: str
    name: str
    inputs: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Array]:
        """The arrays that are given in a dict."""
        return next((x for x in self.inputs if isinstance(x, dict)), {})


def parts() -> list[str]:
    """Every operation; one that is other code for each activation or rule stands there once for each of them.

    ``"matmul"``, ``"bias_activation relu"``, ``"update adam"``, ...: ``cases`` and ``check`` take these names too.
    """
    return [f"{operation} {part}".rstrip() for operation in MAKERS for part in PARTS.get(operation, ("",))]


def cases(operation: str, dtype: str, seed: int = 0, flushes: bool = False) -> Iterator[Case]:
    """The cases of an operation, or of one of its ``parts``.

    Args:
        dtype: what the floats of the inputs are rounded to.
        flushes: whether the device may take denormals for 0. Where a comparison with 0 hangs on that, there is no
            right answer, and such inputs are left out.
    """
    operation, _, part = check_text("operation", operation, "the name of an operation").partition(" ")
    if operation not in MAKERS:
        raise ValueError(unknown("operation", operation, MAKERS))
    dtype, flushes = check_dtype("dtype", dtype), check_flag("flushes", flushes)
    seed = check_seed("seed", seed)
    known = list(PARTS.get(operation, ("",)))
    if part and part not in known:
        raise ValueError(unknown("operation", f"{operation} {part}", parts()))
    for one in [part] if part else known:
        rng = np.random.default_rng((seed, zlib.crc32(f"{operation} {one} {dtype}".encode())))
        yield from _cases_of(operation, Inputs(rng, np.dtype(dtype), flushes, one))


def _cases_of(operation: str, make: Inputs) -> Iterator[Case]:
    for name, inputs, options in MAKERS[operation](make):
        words = (x if isinstance(x, str) else "x".join(map(str, _extents(x))) for x in inputs)
        shapes = " ".join(filter(None, words))
        said = " ".join(f"{key}={value}" for key, value in options.items() if not isinstance(value, np.ndarray))
        yield Case(operation, " ".join(filter(None, (name, shapes, said))), inputs, options)


def _extents(x: Any) -> tuple[int, ...]:
    """The shape of an array, or an input that is a height and a width."""
    shape: tuple[int, ...] = x if isinstance(x, tuple) else getattr(x, "shape", ())
    return shape


# ---- products, sums and activations ----------------------------------------------------------------------------------


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


# ---- rows ------------------------------------------------------------------------------------------------------------


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


# ---- updates and flat buffers ----------------------------------------------------------------------------------------


def _flat(make: Inputs) -> Iterator[tuple[str, Callable[[], Array]]]:
    for n in (0, 1, 7, 1031):
        yield "random", partial(make.normal, n)
    yield "wide range", lambda: make.wide_range(61)
    yield "small", lambda: make.array(1e-7 * make.rng.normal(size=13))
    yield "tiny", lambda: make.array(make.rng.permutation([*make.tiny, 0.0, -0.0, 1.0]))


def _update(make: Inputs) -> Made:
    known = {"sgd": _sgd, "adam": _adam, "rmsprop": _over_root, "adagrad": _over_root}
    return known.get(make.part, _registered)(make)


def _sgd(make: Inputs) -> Made:
    kinds: tuple[dict[str, Any], ...] = (
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.9, "nesterov": True},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.0, "dampening": 0.25, "weight_decay": 1e-4},
        {},
        {"weight_decay": 0.01},
    )
    for name, draw in _flat(make):
        for kind in kinds:
            for rate in (0.1, make.array([0.3])):
                params = draw()
                decay = {"n_decayed": len(params) * 2 // 3} if "weight_decay" in kind else {}
                state = {"velocity": draw()} if "momentum" in kind else {}
                yield name, ("sgd", params, draw(), state), {"learning_rate": rate, **kind, **decay}
    for bad in (NAN, INF, -INF):
        for momentum in (0.0, 0.9):
            inputs = ("sgd", make.normal(3), make.array([1.0, bad, 2.0]), {"velocity": make.normal(3)})
            yield f"{bad}", inputs, {"learning_rate": 0.5, "momentum": momentum}


def _adam(make: Inputs) -> Made:
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"beta1": 0.0, "beta2": 0.9, "epsilon": 1e-4},
        {"beta1": 0.5, "beta2": 0.0, "weight_decay": 0.1},
        {"weight_decay": 1e-4},
        {"epsilon": 0.01, "epsilon_hat": True},
    )
    for name, draw in _flat(make):
        for kind in kinds:
            for number in (1, 2, 1000, np.array([10**6])):
                rate: Any = make.array([0.003]) if number == 2 else 0.001
                params = draw()
                decay = {"n_decayed": (len(params) + 1) // 2} if "weight_decay" in kind else {}
                options = {"number": number, "learning_rate": rate, **kind, **decay}
                state = {"mean": draw(), "square": np.abs(draw())}
                yield name, ("adam", params, draw(), state), options
                if number == 1:
                    fresh = {"mean": 0 * params, "square": 0 * params}
                    yield f"{name}, fresh", ("adam", params, draw(), fresh), options
    for bad in (NAN, INF, -INF):
        state = {"mean": make.normal(3), "square": make.uniform(3)}
        inputs = ("adam", make.normal(3), make.array([1.0, bad, 2.0]), state)
        yield f"{bad}", inputs, {"number": 3, "learning_rate": 0.1}


def _over_root(make: Inputs) -> Made:
    """The rules that divide by the root of a sum of squares."""
    rule = make.part
    kinds: dict[str, tuple[dict[str, Any], ...]] = {
        "rmsprop": (
            {},
            {"alpha": 0.9, "epsilon": 1e-3, "epsilon_inside": True},
            {"momentum": 0.9, "weight_decay": 0.01},
            {"alpha": 0.5, "centered": True, "epsilon": 1e-2},
            {"alpha": 0.0, "centered": True, "epsilon": 1e-3, "momentum": 0.5},
            {"centered": True, "epsilon": 1e-3, "epsilon_inside": True, "momentum": 0.9, "weight_decay": 0.1},
        ),
        "adagrad": (
            {},
            {"epsilon": 1e-4, "weight_decay": 0.01},
            {"epsilon": 1e-3, "epsilon_inside": True},
        ),
    }
    for name, draw in _flat(make):
        for kind in kinds[rule]:
            settings = {key: value for key, value in kind.items() if key != "weight_decay"}
            for rate in (0.1, make.array([0.3])):
                params = draw()
                decay = {"n_decayed": len(params) * 2 // 3} if "weight_decay" in kind else {}
                for is_fresh in (True, False):
                    state = {key: 0 * params if is_fresh else draw() for key in RULES[rule].state_names(settings)}
                    state |= {key: np.abs(x) for key, x in state.items() if key in ("square", "squares")}
                    words = f"{name}, fresh" if is_fresh else name
                    yield words, (rule, params, draw(), state), {"learning_rate": rate, **kind, **decay}
    for bad in (NAN, INF, -INF):
        for kind in kinds[rule]:
            settings = {key: value for key, value in kind.items() if key != "weight_decay"}
            state = {key: make.uniform(3) for key in RULES[rule].state_names(settings)}
            inputs = (rule, make.normal(3), make.array([1.0, bad, 2.0]), state)
            yield f"{bad}", inputs, {"learning_rate": 0.1, **settings}


def _add_penalty(make: Inputs) -> Made:
    for name, draw in _flat(make):
        for factors in ({}, {"l2": 0.01}, {"l1": 1e-3}, {"l1": 0.5, "l2": 1e-4}):
            yield name, (draw(), draw()), dict(factors)
    for bad in (NAN, INF, -INF, 0.0, -0.0):
        for factors in ({"l2": 0.01}, {"l1": 0.5}, {"l1": 1.0, "l2": 1.0}):
            yield f"{bad}", (make.array([1.0, bad, bad]), make.array([bad, 2.0, bad])), dict(factors)


def _registered(make: Inputs) -> Made:
    """A rule of which only the table knows: its defaults, and each optional array switched on."""
    rule = RULES[make.part]
    kinds = [{}, *({setting: 0.9} for setting in rule.optional.values())]
    for name, draw in _flat(make):
        for kind in kinds:
            for number in (1, np.array([1000])):
                params = draw()
                for state in (np.abs(draw()), 0 * params):
                    arrays = {key: state.copy() for key in rule.state_names(kind)}
                    options = {"number": number, "learning_rate": 0.01, "weight_decay": 0.1, **kind}
                    inputs = (rule.name, params, draw(), arrays)
                    yield name, inputs, {**options, "n_decayed": len(params) // 2}


def _special_vectors(make: Inputs) -> Iterator[tuple[str, Array]]:
    for name, x in make.specials():
        yield name, x.ravel()


def _axpby(make: Inputs) -> Made:
    for name, draw in _flat(make):
        for alpha, beta in ((1.0, 0.0), (0.3, 0.0), (0.3, 1.0), (1.0, 1.0), (-0.7, 0.9), (0.0, 1.0), (1.0, -1.0)):
            x = draw()
            y = make.array(np.full(x.shape, NAN)) if beta == 0.0 else draw()
            yield f"{name}, {alpha:g} x + {beta:g} y", (alpha, x, beta, y), {}
    for name, x in _special_vectors(make):
        for alpha, beta in ((0.5, 0.0), (0.5, 1.0), (0.0, 1.0), (0.5, 0.25)):
            yield f"{name}, {alpha:g} x + {beta:g} y", (alpha, x, beta, make.normal(len(x))), {}
            yield f"{name} in y, {alpha:g} x + {beta:g} y", (alpha, make.normal(len(x)), beta, x), {}


def _clip_norm(make: Inputs) -> Made:
    for n in (0, 1, 7, 1031, 20_000):
        for limit in (1e-3, 0.5, 1e6):
            yield f"random, {limit:g}", (make.normal(n), limit), {}
            yield f"wide range, {limit:g}", (make.wide_range(n), limit), {"norm": make.array([NAN])}
    for name, x in _special_vectors(make):
        for limit in (0.25, 100.0):
            yield f"{name}, {limit:g}", (x, limit), {"norm": make.array([NAN])}
    yield "at the limit", (make.array([3.0, 4.0]), 5.0), {}
    yield "just below the limit", (make.array([3.0, 4.0]), 5.0 + 1e-5), {}
    if make.dtype == np.float32:
        yield "huge", (make.array([make.huge, -make.huge, 1.0]), 2.0), {}


def _clip_values(make: Inputs) -> Made:
    for name, draw in _flat(make):
        for limit in (1e-3, 0.5, 1.0, 1e6):
            yield f"{name}, {limit:g}", (draw(), limit), {}
    for name, x in _special_vectors(make):
        yield name, (x, 0.75), {}
    yield "at the limits", (make.array([-2.0, -1.0, 1.0, 2.0, 1.0 - make.u, 1.0 + 2 * make.u]), 1.0), {}


def _update_average(make: Inputs) -> Made:
    for name, draw in _flat(make):
        for decay in (0.0, 0.5, 0.9, 0.9999):
            for number, first in ((1, 1), (2, 1), (7, 7), (3, 7), (8, 7), (np.array([9]), 9), (np.array([10]), 9)):
                what = f"{name}, {decay:g}, {'on the device' if isinstance(number, np.ndarray) else ''}"
                yield what, (draw(), draw(), decay), {"number": number, "first": first}
    for name, x in _special_vectors(make):
        for number in (1, 2):
            yield name, (make.normal(len(x)), x, 0.9), {"number": number}
            yield f"{name} in the average", (x, make.normal(len(x)), 0.9), {"number": number}
    same = make.normal(257)
    yield "equal values", (same, same.copy(), 0.999), {"number": 2}


def _sum_of_squares(make: Inputs) -> Made:
    for n in (0, 1, 7, 1031, 5000):
        yield "random", (make.normal(n),), {}
        yield "wide range", (make.wide_range(n),), {}
    for n in (2, 50, 3001):
        for name, terms in make.summands(n):
            yield name, (terms,), {}
    for name, x in make.specials():
        yield name, (x.ravel(),), {}
    if make.dtype == np.float32:
        yield "huge", (make.array([make.huge, -make.huge, 1.0]),), {}


def _all_finite(make: Inputs) -> Made:
    for n in (0, 1, 2, 257, 5000):
        yield "finite", (make.wide_range(n),), {}
        for bad in (NAN, INF, -INF):
            for index in {0, n // 2, n - 1} if n else ():
                x = make.normal(n)
                x[index] = bad
                yield f"{bad} at {index}", (x,), {}
    yield "ends", (make.array([*make.tiny, 0.0, -0.0, make.huge, -make.huge]),), {}


# ---- rows and masks, arrays in and out -------------------------------------------------------------------------------


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


MAKERS: dict[str, Callable[[Inputs], Made]] = {
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
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "sigmoid_focal": _sigmoid_focal,
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "argmax": _argmax,
    "update": _update,
    "axpby": _axpby,
    "clip_norm": _clip_norm,
    "clip_values": _clip_values,
    "update_average": _update_average,
    "add_penalty": _add_penalty,
    "sum_of_squares": _sum_of_squares,
    "all_finite": _all_finite,
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
    **PICTURE_MAKERS,
    **DISTORTION_MAKERS,
}
#: The operations that are other code for each activation or rule.
PARTS: dict[str, Collection[str]] = {
    "bias_activation": ACTIVATIONS,
    "bias_activation_backward": ACTIVATIONS,
    "update": RULES,
}
#: What has no result that could be right or wrong: it is called, and tested in ``tests/backends``.
WITHOUT_RESULT = {"use", "synchronize"}

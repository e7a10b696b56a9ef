"""Inputs of updates and of other operations on flat buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..typing import Array
from ..updates import RULES
from .inputs import INF, NAN, Inputs, Made


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


UPDATE_MAKERS: dict[str, Callable[[Inputs], Made]] = {
    "update": _update,
    "axpby": _axpby,
    "clip_norm": _clip_norm,
    "clip_values": _clip_values,
    "update_average": _update_average,
    "add_penalty": _add_penalty,
    "sum_of_squares": _sum_of_squares,
    "all_finite": _all_finite,
}

"""Activations and their derivatives as formulas, in numbers that carry an error bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ..activations import get_activation
from . import namespace
from .bounds import Bounded


def sigmoid(z: Bounded) -> Bounded:
    """1 / (1 + exp(-z)), with the error of computing it as 1/2 + tanh(z/2) / 2."""
    half = z.arithmetic.exact(0.5)
    computed = half + half * (half * z).tanh()
    e = np.exp(-np.abs(z.value))
    value = np.where(z.value < 0, e, 1) / (1 + e)
    return Bounded(z.arithmetic, value, computed.error, computed.size)


def _one_minus(x: Bounded) -> Bounded:
    return x.arithmetic.exact(1.0) - x


#: The distance from 0 where tails of the normal distribution are 0 in any dtype.
_FAR = 40.0


def _tail_of_normal(a: Bounded) -> Bounded:
    """Q(a) = erfc(a / sqrt 2) / 2 for 0 <= a <= 40, computed as erfc or as exp(-a^2 / 2) P(u) t (``backends.gelu``).

    As erfc it is off by 5 units in the last place, and by 2 roundings of its argument, each of which changes it by
    a^2 + 1 in relation to it. The other way: Horner's rule by the sum of gamma_{2i+1} |c_i| <= 6.5 u, in relation to
    P >= 0.4 by 17 u; u itself by 4 roundings, which change P by at most 8 u in relation to it; t, the products, the
    exponential and the approximation by 14 u; and one rounding of a^2 by a^2 / 2. So 40 u and 2 a^2 u bound both.
    """
    rule = a.arithmetic
    x = a.value / np.sqrt(rule.reference(2))
    rounded = x.astype(np.float64)
    density = np.exp(-(rounded.astype(rule.reference) ** 2))
    erfc = np.vectorize(math.erfc, otypes=[np.float64])(rounded).astype(rule.reference)
    value = (erfc - 2 / np.sqrt(rule.reference(np.pi)) * density * (x - rounded)) / 2
    value = np.where(a.value >= _FAR, 0, value)
    nearest = np.maximum(a.value - a.error, 0)
    moved = a.error * 0.4 * np.exp(-nearest * nearest / 2)
    error = value * rule.roundoff * (40 + 2 * a.value * a.value) + moved + 4 * rule.underflow
    return Bounded(rule, value, error)


def _clipped(z: Bounded, limit: float) -> Bounded:
    return namespace.minimum(namespace.maximum(z, -limit), limit)


def _normal_distribution(z: Bounded) -> Bounded:
    """Phi(z), as a tail or 1 minus that."""
    tail = _tail_of_normal(abs(_clipped(z, _FAR)))
    return tail.where(z < 0, _one_minus(tail))


def _gelu_slope(z: Bounded) -> Bounded:
    near, number = _clipped(z, _FAR), z.arithmetic.number
    gaussian = (number(-0.5) * (near * near)).exp()
    return _normal_distribution(z) + number(1 / math.sqrt(2 * math.pi)) * near * gaussian


def _tanh_of_gelu(near: Bounded) -> Bounded:
    root, number = math.sqrt(2 / math.pi), near.arithmetic.number
    return (near * (number(root) + number(0.044715 * root) * (near * near))).tanh()


def _gelu_tanh(z: Bounded) -> Bounded:
    return z.arithmetic.exact(0.5) * z * (_tanh_of_gelu(_clipped(z, 10.0)) + 1.0)


def _gelu_tanh_slope(z: Bounded) -> Bounded:
    root, number, half = math.sqrt(2 / math.pi), z.arithmetic.number, z.arithmetic.exact(0.5)
    near = _clipped(z, 10.0)
    t = _tanh_of_gelu(near)
    inner = number(root) + number(3 * 0.044715 * root) * (near * near)
    return half * (t + 1.0) + half * near * (_one_minus(t * t) * inner)


def _silu(z: Bounded) -> Bounded:
    h = z.arithmetic.exact(0.5) * z
    return h + h * h.tanh()


def _silu_slope(z: Bounded) -> Bounded:
    half = z.arithmetic.exact(0.5)
    t = (half * z).tanh()
    return half * (t + 1.0) + half * half * z * _one_minus(t * t)


def _softplus(z: Bounded) -> Bounded:
    return z.positive() + (-abs(z)).exp().log1p()


def _leaky_relu(z: Bounded) -> Bounded:
    return z.where(z > 0, z.arithmetic.number(0.01) * z)


def _leaky_relu_slope(y: Bounded) -> Bounded:
    return namespace.where(y > 0, namespace.ones_like(y), y.arithmetic.number(np.full(y.value.shape, 0.01)))


def _elu(z: Bounded) -> Bounded:
    return z.where(z > 0, namespace.minimum(z, 0.0).expm1())


def _elu_slope(y: Bounded) -> Bounded:
    return namespace.ones_like(y).where(y > 0, y + 1.0)


def activation_formulas(name: str) -> tuple[Callable[[Bounded], Bounded], Callable[[Bounded], Bounded]]:
    """f(z), and f' from what its derivative is written in; of one that was registered, its own array-API formulas."""
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    known = get_activation(name)
    derivative = namespace.ones_like if known.derivative is None else partial(known.derivative, namespace)
    return partial(known.forward, namespace), derivative


#: name: f(z), and f'(z) from y = f(z), or from z where the table says so.
ACTIVATIONS: dict[str, tuple[Callable[[Bounded], Bounded], Callable[[Bounded], Bounded]]] = {
    "identity": (lambda z: z, lambda y: y.arithmetic.exact(np.ones_like(y.value))),
    "sigmoid": (sigmoid, lambda y: y * _one_minus(y)),
    "tanh": (lambda z: z.tanh(), lambda y: _one_minus(y * y)),
    "relu": (lambda z: z.positive(), lambda y: namespace.astype(y > 0, y.arithmetic)),
    "gelu": (lambda z: z * _normal_distribution(z), _gelu_slope),
    "gelu_tanh": (_gelu_tanh, _gelu_tanh_slope),
    "silu": (_silu, _silu_slope),
    "softplus": (_softplus, lambda y: -((-y).expm1())),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope),
    "elu": (_elu, _elu_slope),
}

"""Functions of the array API for numbers that carry an error bound.

A formula that is written in array-API calls, ``forward(xp, z)`` of an activation or ``direction(xp, ...)`` of an
optimizer's rule, gives its own bound when it is handed this module as ``xp`` and ``Bounded`` as arrays. That is how the
check knows what to expect of an activation or a rule that was registered after it was written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..typing import Array
from .bounds import Arithmetic, Bounded, Condition


def exp(x: Bounded) -> Bounded:
    return x.exp()


def expm1(x: Bounded) -> Bounded:
    return x.expm1()


def log(x: Bounded) -> Bounded:
    return x.log()


def log1p(x: Bounded) -> Bounded:
    return x.log1p()


def sin(x: Bounded) -> Bounded:
    return x.sin()


def cos(x: Bounded) -> Bounded:
    return x.cos()


def tanh(x: Bounded) -> Bounded:
    return x.tanh()


def sqrt(x: Bounded) -> Bounded:
    return x.sqrt()


def abs(x: Bounded) -> Bounded:
    return x.__abs__()


def maximum(a: Bounded, b: Bounded | float) -> Bounded:
    return a.maximum(_like(a, b))


def minimum(a: Bounded, b: Bounded | float) -> Bounded:
    return -((-a).maximum(-_like(a, b)))


def where(condition: Condition | Array, a: Bounded | float, b: Bounded | float) -> Bounded:
    """One of them must be ``Bounded``."""
    one = a if isinstance(a, Bounded) else b
    assert isinstance(one, Bounded)
    return _like(one, a).where(condition, _like(one, b))


def zeros_like(x: Bounded) -> Bounded:
    return x.arithmetic.exact(np.zeros(x.value.shape))


def ones_like(x: Bounded) -> Bounded:
    return x.arithmetic.exact(np.ones(x.value.shape))


def astype(x: Any, dtype: Arithmetic) -> Bounded:
    """Numbers in another arithmetic; of a condition, 0 and 1."""
    if isinstance(x, Condition):
        one, zero = (dtype.exact(np.full(x.value.shape, number)) for number in (1.0, 0.0))
        return one.where(x, zero)
    return x.rounded_to(dtype) if isinstance(x, Bounded) else dtype.exact(x)


def _like(one: Bounded, other: Bounded | float) -> Bounded:
    return other if isinstance(other, Bounded) else one.arithmetic.number(np.full(one.value.shape, other))

"""GELU, exact and by tanh: for array-API calls, for NumPy in place and for CUDA.

The exact one needs the tail of the normal distribution, and NumPy and the array-API standard have no erf:

    Q(a) = P(Z > a) = erfc(a / sqrt 2) / 2 = exp(-a^2 / 2) P(u) t    with  t = 1 / (a + 4),  u = (a - 4) t

for a >= 0. P is smooth over the whole half line, which u maps to [-1, 1), and so a polynomial of a low degree comes as
near as the rounding. The form is that of J. L. Schonfelder, "Chebyshev expansions for the error and related
functions", Mathematics of Computation 32, 1978; the coefficients are its truncated Chebyshev expansion, computed with
50 digits: 24 of them are off by less than 1e-16 for float64, 12 by less than 1e-9 for float32. What a computer makes of
it is off by 3 units in the last place, and by a^2 / 2 more of them for the exponential's argument.
"""

from __future__ import annotations

import math
from typing import Any

from .typing import Array, Namespace

#: By the bits of the dtype: the coefficients of P, from that of u^0 on.
COEFFICIENTS: dict[int, tuple[float, ...]] = {
    32: (
        0.7552851305166057, -0.6078966313662241, 0.38713739385984314, -0.1865221598399514,
        0.060396648278004936, -0.007537717159683632, -0.0034799546374434, 0.0016220401055284282,
        0.00013365338709444132, -0.0002155737762864521, -1.7310823014754183e-06, 2.118298425522466e-05,
    ),
    64: (
        0.7552851304157514, -0.6078966419718923, 0.3871374007422266, -0.1865218579596366,
        0.06039657489036092, -0.007540188967386312, -0.003479692356651503, 0.001630818467409908,
        0.00013334420916014906, -0.00023109501736277065, -1.907676030725369e-06, 3.5145111902821675e-05,
        7.146021531461125e-07, -5.9216110458789275e-06, -6.249551077946586e-07, 1.0247851015726165e-06,
        2.647337282459231e-07, -1.5977396132416962e-07, -7.878360346411933e-08, 1.7844927700156655e-08,
        1.6067386973537812e-08, -5.873626459003625e-10, -1.6886576997143875e-09, -1.1997782587250477e-10,
    ),
}  # fmt: skip
_MIDDLE = 4.0


def gaussian_and_tail(xp: Namespace, a: Array) -> tuple[Array, Array]:
    """exp(-a^2 / 2) and Q(a), of ``a`` from 0 to 40, beyond which both are 0 in any dtype; in array-API calls."""
    gaussian = xp.exp(-0.5 * (a * a))
    t = 1.0 / (a + _MIDDLE)
    u = (a - _MIDDLE) * t
    highest, *others = reversed(COEFFICIENTS[xp.finfo(a.dtype).bits])
    p = highest * u + others[0]
    for coefficient in others[1:]:
        p = p * u + coefficient
    return gaussian, gaussian * (p * t)


def numpy_gaussian_and_tail(np: Any, a: Array, tail: Array) -> None:
    """The same with the functions of ``np``: the exponential is left in ``a``, Q(a) goes to ``tail``."""
    t, u = np.empty_like(a), np.empty_like(a)
    np.add(a, _MIDDLE, out=t)
    np.divide(1.0, t, out=t)
    np.subtract(a, _MIDDLE, out=u)
    np.multiply(u, t, out=u)
    highest, *others = reversed(COEFFICIENTS[8 * a.dtype.itemsize])
    np.multiply(u, highest, out=tail)
    np.add(tail, others[0], out=tail)
    for coefficient in others[1:]:
        np.multiply(tail, u, out=tail)
        np.add(tail, coefficient, out=tail)
    np.multiply(tail, t, out=tail)
    np.multiply(a, a, out=a)
    np.multiply(a, -0.5, out=a)
    np.exp(a, out=a)
    np.multiply(tail, a, out=tail)


# ---- GELU: z Q(-z), Q the tail of the normal distribution ------------------------------------------------------------

#: Further from 0 than this, tails and slopes are 0 in any dtype, and the squares of larger numbers may be infinite.
_FAR = 40.0
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
_ROOT_HALF = math.sqrt(0.5)


def forward(xp: Namespace, z: Array) -> Array:
    _, tail = gaussian_and_tail(xp, xp.minimum(xp.abs(z), _FAR * xp.ones_like(z)))
    return z * xp.where(z < 0, tail, 1.0 - tail)


def derivative(xp: Namespace, z: Array) -> Array:
    """Phi(z) + z phi(z)"""
    near = _clipped(xp, z, _FAR)
    gaussian, tail = gaussian_and_tail(xp, xp.abs(near))
    return xp.where(z < 0, tail, 1.0 - tail) + _DENSITY * near * gaussian


def _clipped(xp: Namespace, z: Array, limit: float) -> Array:
    ones = xp.ones_like(z)
    return xp.minimum(xp.maximum(z, -limit * ones), limit * ones)


def _phi(np: Any, z: Array, a: Array, out: Array) -> None:
    """The normal distribution function of z, from a = |z|, which becomes exp(-z^2 / 2)."""
    below = np.empty(z.shape, np.bool_)
    tail = np.empty_like(z)
    np.less(z, 0.0, out=below)
    numpy_gaussian_and_tail(np, a, tail)
    np.subtract(1.0, tail, out=out)
    np.copyto(out, tail, where=below)


def numpy_forward(np: Any, z: Array, out: Array) -> None:
    a, phi = np.empty_like(z), np.empty_like(z)
    np.abs(z, out=a)
    np.minimum(a, _FAR, out=a)
    _phi(np, z, a, phi)
    np.multiply(z, phi, out=out)


def numpy_derivative(np: Any, z: Array, out: Array) -> None:
    near, a = np.empty_like(z), np.empty_like(z)
    np.clip(z, -_FAR, _FAR, out=near)
    np.abs(near, out=a)
    _phi(np, z, a, out)
    np.multiply(near, a, out=near)
    np.multiply(near, _DENSITY, out=near)
    np.add(out, near, out=out)


_CLOSE = f"(z > REAL({_FAR}) ? REAL({_FAR}) : z < REAL(-{_FAR}) ? REAL(-{_FAR}) : z)"
CUDA_FORWARD = f"z * (REAL(0.5) * erfc(-z * REAL({_ROOT_HALF!r})))"
CUDA_DERIVATIVE = (
    f"REAL(0.5) * erfc(-@ * REAL({_ROOT_HALF!r})) + @ * (REAL({_DENSITY!r}) * exp(REAL(-0.5) * (@ * @)))"
).replace("@", _CLOSE)

# ---- GELU by tanh: z (1 + tanh(A (z + B z^3))) / 2 -------------------------------------------------------------------

_A, _B = math.sqrt(2.0 / math.pi), 0.044715
#: Further from 0 than this, tanh is 1 or -1 in any dtype.
_FLAT = 10.0


def tanh_forward(xp: Namespace, z: Array) -> Array:
    near = _clipped(xp, z, _FLAT)
    return (0.5 * z) * (1.0 + xp.tanh(near * (_A + (_A * _B) * (near * near))))


def tanh_derivative(xp: Namespace, z: Array) -> Array:
    """(1 + t) / 2 + z (1 - t^2) (A + 3 A B z^2) / 2"""
    near = _clipped(xp, z, _FLAT)
    square = near * near
    t = xp.tanh(near * (_A + (_A * _B) * square))
    return 0.5 * (1.0 + t) + (0.5 * near) * ((1.0 - t * t) * (_A + (3.0 * _A * _B) * square))


def _numpy_tanh(np: Any, near: Array, square: Array, t: Array) -> None:
    np.multiply(near, near, out=square)
    np.multiply(square, _A * _B, out=t)
    np.add(t, _A, out=t)
    np.multiply(t, near, out=t)
    np.tanh(t, out=t)


def numpy_tanh_forward(np: Any, z: Array, out: Array) -> None:
    near, square, t = np.empty_like(z), np.empty_like(z), np.empty_like(z)
    np.clip(z, -_FLAT, _FLAT, out=near)
    _numpy_tanh(np, near, square, t)
    np.add(t, 1.0, out=t)
    np.multiply(z, 0.5, out=out)
    np.multiply(out, t, out=out)


def numpy_tanh_derivative(np: Any, z: Array, out: Array) -> None:
    near, square, t = np.empty_like(z), np.empty_like(z), np.empty_like(z)
    np.clip(z, -_FLAT, _FLAT, out=near)
    _numpy_tanh(np, near, square, t)
    np.multiply(t, t, out=out)
    np.subtract(1.0, out, out=out)
    np.multiply(square, 3.0 * _A * _B, out=square)
    np.add(square, _A, out=square)
    np.multiply(out, square, out=out)
    np.multiply(near, 0.5, out=near)
    np.multiply(out, near, out=out)
    np.add(t, 1.0, out=t)
    np.multiply(t, 0.5, out=t)
    np.add(out, t, out=out)


_TANH_CLOSE = f"(z > REAL({_FLAT}) ? REAL({_FLAT}) : z < REAL(-{_FLAT}) ? REAL(-{_FLAT}) : z)"
_TANH = "tanh(@ * (REAL(A) + REAL(AB) * (@ * @)))"
CUDA_TANH_FORWARD, CUDA_TANH_DERIVATIVE = (
    text.replace("TANH", _TANH)
    .replace("REAL(3AB)", f"REAL({3.0 * _A * _B!r})")
    .replace("REAL(AB)", f"REAL({_A * _B!r})")
    .replace("REAL(A)", f"REAL({_A!r})")
    .replace("@", _TANH_CLOSE)
    for text in (
        "(REAL(0.5) * z) * (REAL(1) + TANH)",
        "REAL(0.5) * (REAL(1) + TANH) + (REAL(0.5) * @) * ((REAL(1) - TANH * TANH) * (REAL(A) + REAL(3AB) * (@ * @)))",
    )
)

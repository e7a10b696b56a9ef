"""The tail of the normal distribution, which GELU needs: NumPy and the array-API standard have no erf.

    Q(a) = P(Z > a) = erfc(a / sqrt 2) / 2 = exp(-a^2 / 2) P(u) t    with  t = 1 / (a + 4),  u = (a - 4) t

for a >= 0. P is smooth over the whole half line, which u maps to [-1, 1), and so a polynomial of a low degree comes as
near as the rounding. The form is that of J. L. Schonfelder, "Chebyshev expansions for the error and related
functions", Mathematics of Computation 32, 1978; the coefficients are its truncated Chebyshev expansion, computed with
50 digits: 24 of them are off by less than 1e-16 for float64, 12 by less than 1e-9 for float32. What a computer makes of
it is off by 3 units in the last place, and by a^2 / 2 more of them for the exponential's argument.
"""

from __future__ import annotations

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

"""Numbers that carry a bound on the error that a device may make in computing them.

A formula written with ``Bounded`` gives its value, in NumPy's widest float, and beside it how far the result of any
sound implementation in float32 or float64 may be from it. This is the running error analysis of N. J. Higham, *Accuracy
and Stability of Numerical Algorithms*, 2nd ed., SIAM 2002, sections 2.2, 3.1 and 3.3, with nothing dropped as of second
order. With u the unit roundoff (2^-24 or 2^-53) and gamma_k = k u / (1 - k u):

* one operation + - * / or sqrt rounds once: fl(x) = x (1 + d), |d| <= u. A fused multiply-add rounds less often;
* a sum of n terms is off by at most gamma_{n-1} sum |x_i|, a product of depth K by gamma_K |a| |b|, whatever the order
  of the summation and wherever multiply-adds are fused (sections 3.1 and 3.5);
* a library function is off by the units in the last place of ``ULPS``;
* below the smallest normal number a product or quotient is off by half the smallest denormal, or, on a device that
  flushes denormals, every result and every input by that smallest normal number.

What was off before goes through each operation by its exact rule; for exp, |e^(x+d) - e^x| <= e^x (e^|d| - 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..typing import Array

#: What formulas are evaluated in: 64 bits of mantissa on x86; where it is no wider than float64, ``roundoff`` says so.
Wide = np.longdouble
_REFERENCE = float(np.finfo(Wide).eps) / 2

#: Units in the last place by which a library's function may be off. NumPy's own vectorized float32 logarithm is off by
#: up to 3.83 and Intel's SVML, which NumPy uses with AVX-512, by less than 4; SLEEF (PyTorch), glibc and CUDA claim 1
#: or 2. sqrt is rounded right by IEEE 754.
ULPS = {"exp": 4, "expm1": 4, "log": 4, "log1p": 4, "tanh": 4}


@dataclass(frozen=True)
class Arithmetic:
    """Floats of a device: the dtype's name, and whether denormals may be flushed to 0."""

    dtype: str
    flushes: bool = False

    @property
    def roundoff(self) -> float:
        """u of the dtype, plus the u of the reference, which rounds wherever the device does."""
        return float(np.finfo(self.dtype).eps) / 2 + _REFERENCE

    @property
    def largest(self) -> float:
        return float(np.finfo(self.dtype).max)

    @property
    def smallest_normal(self) -> float:
        return float(np.finfo(self.dtype).tiny)

    @property
    def underflow(self) -> Any:
        """By how much a product or a quotient near 0 may be off; where `Wide` is float64, the reference likewise."""
        denormal = Wide(np.finfo(self.dtype).smallest_subnormal)
        return self.smallest_normal if self.flushes else denormal / 2 if denormal / 2 > 0 else denormal

    def gamma(self, k: int) -> float:
        """k u / (1 - k u), which bounds the effect of k roundings in a row."""
        return k * self.roundoff / (1 - k * self.roundoff)

    def exact(self, x: Any) -> Bounded:
        """Numbers that the device was given in its own dtype; a denormal it may take for 0."""
        value = np.asarray(x).astype(Wide)
        denormal = np.abs(value) < self.smallest_normal
        error = np.where(denormal, np.abs(value), 0) if self.flushes else np.zeros_like(value)
        return Bounded(self, value, error, np.abs(value))

    def number(self, x: Any) -> Bounded:
        """A Python number, rounded once on its way to the device, unless the dtype has it."""
        value = np.asarray(x, Wide)
        fits = value.astype(self.dtype).astype(Wide) == value
        return Bounded(self, value, np.where(fits, 0, self.roundoff * np.abs(value)), np.abs(value))


@dataclass(frozen=True)
class Bounded:
    """A value, how far what a device computed may be from it, and the size of the terms it was added up from.

    ``size`` is |value| where nothing cancels; errors are reported in relation to it.
    """

    arithmetic: Arithmetic
    value: Array
    error: Array
    size: Array

    def __add__(self, other: Bounded | float) -> Bounded:
        other = self._lifted(other)
        return self._sum_with(other, self.value + other.value)

    def __sub__(self, other: Bounded | float) -> Bounded:
        other = self._lifted(other)
        return self._sum_with(other, self.value - other.value)

    def __mul__(self, other: Bounded | float) -> Bounded:
        other = self._lifted(other)
        error = np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error
        return self._rounded(self.value * other.value, error, self.size * other.size)

    def __truediv__(self, other: Bounded | float) -> Bounded:
        other = self._lifted(other)
        value = self.value / other.value
        least = np.abs(other.value) - other.error
        error = np.where(least > 0, (self.error + np.abs(value) * other.error) / least, np.inf)
        return self._rounded(value, error, self.size / np.abs(other.value))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> Bounded:
        return self._lifted(other) - self

    def __rtruediv__(self, other: float) -> Bounded:
        return self._lifted(other) / self

    def __pow__(self, exponent: int) -> Bounded:
        """The square, which every library computes as a product."""
        if exponent != 2:
            raise ValueError(f"only squares have a bound here, not the power {exponent}")
        return self * self

    def __gt__(self, other: float) -> Array:
        """Whether the value is larger; for numbers that a device was given, whose error is 0."""
        return self.value > other

    def __lt__(self, other: float) -> Array:
        return self.value < other

    def __ge__(self, other: float) -> Array:
        return self.value >= other

    def __le__(self, other: float) -> Array:
        return self.value <= other

    def __neg__(self) -> Bounded:
        return Bounded(self.arithmetic, -self.value, self.error, self.size)

    def __abs__(self) -> Bounded:
        return Bounded(self.arithmetic, np.abs(self.value), self.error, self.size)

    def __getitem__(self, key: Any) -> Bounded:
        return Bounded(self.arithmetic, self.value[key], self.error[key], self.size[key])

    @property
    def dtype(self) -> Arithmetic:
        return self.arithmetic

    @property
    def T(self) -> Bounded:
        return Bounded(self.arithmetic, self.value.T, self.error.T, self.size.T)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Bounded:
        """The sum along an axis: off by gamma_{n-1} of the sum of the sizes, in any order."""

        def added(x: Array) -> Array:
            return x.sum(axis=axis, keepdims=keepdims)

        n = self.value.size if axis is None else self.value.shape[axis]
        rule, error = self.arithmetic, added(self.error)
        rounding = rule.gamma(max(n - 1, 0)) * added(np.abs(self.value) + self.error)
        flushed = n * rule.underflow if rule.flushes else 0.0
        return self._of(added(self.value), error + rounding + flushed, added(self.size))

    def mean(self, axis: int) -> Bounded:
        """The mean: a division by n, or a product with the rounded 1/n."""
        return self.sum(axis) * self.arithmetic.number(Wide(1) / self.value.shape[axis])

    def max(self, axis: int) -> Bounded:
        """The largest along an axis, which is kept; NaN where there is one."""
        largest = [x.max(axis=axis, keepdims=True) for x in (self.value, self.error, self.size)]
        return Bounded(self.arithmetic, *largest)

    def matmul(self, other: Bounded) -> Bounded:
        """The product of matrices of depth K: off by gamma_K |a| |b|."""
        depth, rule = self.value.shape[1], self.arithmetic
        a, b = np.abs(self.value) + self.error, np.abs(other.value) + other.error
        error = rule.gamma(depth) * (a @ b) + depth * (1 + rule.gamma(depth)) * rule.underflow
        if np.any(self.error) or np.any(other.error):
            error = error + np.abs(self.value) @ other.error + self.error @ b
        return self._of(self.value @ other.value, error, self.size @ other.size)

    def exp(self) -> Bounded:
        value, d = np.exp(self.value), self.error
        error = np.where(d < 1, value * np.expm1(np.minimum(d, 1)), np.exp(self.value + d) - value)
        return self._function("exp", value, error, value)

    def expm1(self) -> Bounded:
        error = np.exp(self.value) * np.expm1(self.error)
        return self._function("expm1", np.expm1(self.value), error, np.abs(np.expm1(self.value)))

    def log(self) -> Bounded:
        value, part = np.log(self.value), self.error / self.value
        error = np.where(part < 1, -np.log1p(-np.minimum(part, 1)), np.inf)
        return self._function("log", value, error, np.abs(value) + self.size / np.abs(self.value))

    def log1p(self) -> Bounded:
        """Of numbers that are not negative, where the slope is at most 1."""
        value = np.log1p(self.value)
        return self._function("log1p", value, self.error, np.abs(value))

    def tanh(self) -> Bounded:
        value = np.tanh(self.value)
        nearest = np.maximum(np.abs(self.value) - self.error, 0)  # to 0, where the slope is largest
        return self._function("tanh", value, self.error / np.cosh(np.minimum(nearest, 1e3)) ** 2, np.abs(value))

    def sqrt(self) -> Bounded:
        value, d = np.sqrt(self.value), self.error
        low = np.sqrt(np.maximum(self.value - d, 0))
        far = np.maximum(value, np.sqrt(self.value + d) - value)  # where it may have been 0 before the root
        error = np.where(self.value > d, d / np.where(value > 0, value + low, 1), far)
        return self._rounded(value, error, value)

    def positive(self) -> Bounded:
        """max(x, 0)."""
        zero = Wide(0)
        return self._of(np.maximum(self.value, zero), self.error, np.maximum(np.sign(self.value), zero) * self.size)

    def maximum(self, other: Bounded) -> Bounded:
        """The larger of two, element by element: off by no more than either; NaN where there is one."""
        first = (self.value >= other.value) | np.isnan(self.value)
        error = np.maximum(self.error, other.error)
        value, size = (np.where(first, a, b) for a, b in ((self.value, other.value), (self.size, other.size)))
        return self._of(value, error, size)

    def where(self, condition: Array, other: Bounded) -> Bounded:
        """This where the condition holds, the other elsewhere."""
        pairs = ((self.value, other.value), (self.error, other.error), (self.size, other.size))
        return Bounded(self.arithmetic, *(np.where(condition, a, b) for a, b in pairs))

    def or_as(self, other: Bounded) -> Bounded:
        """This value, however of two ways it was computed: with the larger of the two bounds."""
        return Bounded(self.arithmetic, self.value, np.maximum(self.error, other.error), self.size)

    def wide(self, arithmetic: Arithmetic) -> Bounded:
        """The same in an arithmetic that has all numbers of this one."""
        return Bounded(arithmetic, self.value, self.error, self.size)

    def rounded_to(self, arithmetic: Arithmetic) -> Bounded:
        """The same, rounded to another arithmetic."""
        rounded = arithmetic.dtype != self.arithmetic.dtype
        result = Bounded(arithmetic, self.value, self.error, self.size)
        return result._rounded(self.value, self.error, self.size) if rounded else result

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _lifted(self, other: Bounded | float) -> Bounded:
        return other if isinstance(other, Bounded) else self.arithmetic.number(other)

    def _sum_with(self, other: Bounded, value: Array) -> Bounded:
        error = self.error + other.error
        rule = self.arithmetic
        flushed = rule.underflow if rule.flushes else 0.0  # sums below the smallest normal number are exact
        return self._of(value, error + rule.roundoff * (np.abs(value) + error) + flushed, self.size + other.size)

    def _rounded(self, value: Array, error: Array, size: Array, roundings: int = 1) -> Bounded:
        rule = self.arithmetic
        rounding = roundings * rule.roundoff * (np.abs(value) + error)
        return self._of(value, error + rounding + roundings * rule.underflow, size)

    def _function(self, name: str, value: Array, error: Array, size: Array) -> Bounded:
        return self._rounded(value, error, size, 2 * ULPS[name])  # one ulp is at most 2 u of the value

    def _of(self, value: Array, error: Array, size: Array) -> Bounded:
        """What is too large for the dtype is infinite there; what is infinite or NaN has no error."""
        largest = self.arithmetic.largest
        value = np.where(np.abs(value) - error > largest, np.copysign(np.inf, value), value)
        return Bounded(self.arithmetic, value, np.where(np.isfinite(value), error, 0), size)

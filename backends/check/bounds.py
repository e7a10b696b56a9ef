"""Numbers that carry a bound on the error that a device may make in computing them.

A formula written with ``Bounded`` gives its value, in a wide float, and beside it how far the result of any sound
implementation in float32 or float64 may be from it. This is the running error analysis of N. J. Higham, *Accuracy
and Stability of Numerical Algorithms*, 2nd ed., SIAM 2002, sections 2.2, 3.1 and 3.3, with nothing dropped as of second
order. With u the unit roundoff (2^-24 or 2^-53) and gamma_k = k u / (1 - k u):

* one operation + - * / or sqrt rounds once: fl(x) = x (1 + d), |d| <= u. A fused multiply-add rounds less often;
* a sum of n terms is off by at most gamma_{n-1} sum |x_i|, a product of depth K by gamma_K |a| |b|, whatever the order
  of the summation and wherever multiply-adds are fused (sections 3.1 and 3.5);
* a library function is off by the units in the last place of ``ULPS``;
* below the smallest normal number a product or quotient is off by half the smallest denormal, or, on a device that
  flushes denormals, every result and every input by that smallest normal number.

What was off before goes through each operation by its exact rule; for exp, |e^(x+d) - e^x| <= e^x (e^|d| - 1). Where
a comparison could come out either way, ``where`` allows for both.

The gamma_K of long sums is the worst case: all roundings go the same way. Rounding errors that are independent and of
mean 0 add up to at most gamma~_K, with K replaced by L sqrt(K), with a probability of at least 1 - 2 K exp(-L^2 / 2)
(Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019, section 3).
An ``Arithmetic`` with a ``confidence`` L uses the smaller of the two. The check does not: its inputs are made to reach
the worst case. The comparison of training runs does (``nn.verify``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import inf, sqrt
from typing import Any

import numpy as np

from ..typing import Array

#: What the check evaluates formulas in: 64 bits of mantissa on x86; where it is no wider than float64, ``roundoff``
#: says so.
Wide = np.longdouble

#: Units in the last place by which a library's function may be off. NumPy's own vectorized float32 logarithm is off by
#: up to 3.83 and Intel's SVML, which NumPy uses with AVX-512, by less than 4; SLEEF (PyTorch), glibc and CUDA claim 1
#: or 2. sqrt is rounded right by IEEE 754.
ULPS = {"cos": 4, "sin": 4, "exp": 4, "expm1": 4, "log": 4, "log1p": 4, "tanh": 4}
#: Those of a power, for which CUDA claims 4 in float32 and 2 in float64.
ULPS_OF_POWER = 8


@dataclass(frozen=True)
class Arithmetic:
    """Floats of a device, and how errors are reckoned.

    Attributes:
        dtype: its name.
        flushes: whether denormals may be flushed to 0.
        confidence: L of the probable bound of sums; infinite for the worst case.
        reference: the NumPy float type that formulas are evaluated in.
        counts_reference: whether results of the device are compared with the reference, which rounds too; False where
            they are compared with those of another device.
    """

    dtype: str
    flushes: bool = False
    confidence: float = inf
    reference: Any = Wide
    counts_reference: bool = True

    @cached_property
    def roundoff(self) -> float:
        """u of the dtype, plus the u of the reference, which rounds wherever the device does."""
        of_reference = float(np.finfo(self.reference).eps) / 2 if self.counts_reference else 0.0
        return float(np.finfo(self.dtype).eps) / 2 + of_reference

    @cached_property
    def largest(self) -> float:
        return float(np.finfo(self.dtype).max)

    @cached_property
    def smallest_normal(self) -> float:
        return float(np.finfo(self.dtype).tiny)

    @cached_property
    def underflow(self) -> Any:
        """By how much a product or a quotient near 0 may be off; where the reference is no wider, it likewise."""
        denormal = self.reference(np.finfo(self.dtype).smallest_subnormal)
        return self.smallest_normal if self.flushes else denormal / 2 if denormal / 2 > 0 else denormal

    @cached_property
    def largest_squared(self) -> Any:
        """Infinite where the reference has no such number."""
        with np.errstate(over="ignore"):
            return self.reference(self.largest) * self.reference(self.largest)

    def gamma(self, k: float) -> float:
        """k u / (1 - k u), which bounds the effect of k roundings in a row."""
        return k * self.roundoff / (1 - k * self.roundoff)

    def of_sum(self, k: int) -> float:
        """gamma~_k, which bounds the effect of the roundings in a sum of products of depth k: gamma of k or, where that
        is less, of L sqrt(k)."""
        return self.gamma(min(k, self.confidence * sqrt(k)) if k > 0 else 0)

    def exact(self, x: Any) -> Bounded:
        """Numbers that the device was given in its own dtype; a denormal it may take for 0."""
        value = np.asarray(x).astype(self.reference)
        if self.flushes and np.any(denormal := np.abs(value) < self.smallest_normal):
            return Bounded(self, value, np.where(denormal, np.abs(value), 0))
        return Bounded(self, value, _no_error(self.reference, value.shape))

    def number(self, x: Any) -> Bounded:
        """A Python number, rounded once on its way to the device, unless the dtype has it."""
        return _number(self, x) if isinstance(x, int | float | np.floating) else _rounded_once(self, x)


@dataclass(frozen=True)
class Condition:
    """Where something holds, and where that is sure whatever the errors of the numbers compared."""

    value: Array
    sure: Array

    def __and__(self, other: Condition) -> Condition:
        surely_not = (self.sure & ~self.value) | (other.sure & ~other.value)
        return Condition(self.value & other.value, (self.sure & other.sure) | surely_not)

    def __or__(self, other: Condition) -> Condition:
        return ~(~self & ~other)

    def __invert__(self) -> Condition:
        return Condition(~self.value, self.sure)


@dataclass(frozen=True)
class Bounded:
    """A value, how far what a device computed may be from it, and the size of the terms it was added up from.

    Attributes:
        valued: the value, or what computes it, where it may be that nobody asks.
        error: an array of the same shape.
        sized: the size, or what computes it: only the report of the check asks for it. By default |value|.
    """

    arithmetic: Arithmetic
    valued: Array | Callable[[], Array]
    error: Array
    sized: Array | Callable[[], Array] | None = None

    @cached_property
    def value(self) -> Array:
        """What exact arithmetic gives."""
        return self.valued() if callable(self.valued) else self.valued

    @cached_property
    def size(self) -> Array:
        """The sum of the absolute values of the terms, |value| where nothing cancels; errors are reported in relation
        to it."""
        if self.sized is None:
            return np.abs(self.value)
        return self.sized() if callable(self.sized) else self.sized

    @property
    def is_exact(self) -> bool:
        """Whether it is known without a look at each element that there is no error."""
        return not any(self.error.strides) and self.error.size > 0 and not self.error.flat[0]

    def __add__(self, other: Operand) -> Bounded:
        other = self._lifted(other)
        return self._sum_with(other, self.value + other.value)

    def __sub__(self, other: Operand) -> Bounded:
        other = self._lifted(other)
        return self._sum_with(other, self.value - other.value)

    def __mul__(self, other: Operand) -> Bounded:
        other = self._lifted(other)
        return self._rounded(self.value * other.value, self._error_of_product(other), lambda: self.size * other.size)

    def __truediv__(self, other: Operand) -> Bounded:
        other = self._lifted(other)
        value = self.value / other.value
        least = np.abs(other.value) - other.error
        error = np.where(least > 0, (self.error + np.abs(value) * other.error) / least, np.inf)
        return self._rounded(value, error, lambda: self.size / np.abs(other.value))

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

    def __gt__(self, other: Operand) -> Condition:
        return self._compared(np.greater, other)

    def __lt__(self, other: Operand) -> Condition:
        return self._compared(np.less, other)

    def __ge__(self, other: Operand) -> Condition:
        return self._compared(np.greater_equal, other)

    def __le__(self, other: Operand) -> Condition:
        return self._compared(np.less_equal, other)

    def __neg__(self) -> Bounded:
        return Bounded(self.arithmetic, -self.value, self.error, lambda: self.size)

    def __abs__(self) -> Bounded:
        return Bounded(self.arithmetic, np.abs(self.value), self.error, lambda: self.size)

    def __getitem__(self, key: Any) -> Bounded:
        return Bounded(self.arithmetic, self.value[key], self.error[key], lambda: self.size[key])

    @property
    def dtype(self) -> Arithmetic:
        return self.arithmetic

    @property
    def T(self) -> Bounded:
        return Bounded(self.arithmetic, self.value.T, self.error.T, lambda: self.size.T)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Bounded:
        """The sum along an axis: off by gamma_{n-1} of the sum of the absolute values, in any order."""

        def added(x: Array) -> Array:
            return x.sum(axis=axis, keepdims=keepdims)

        n = self.value.size if axis is None else self.value.shape[axis]
        rule, error = self.arithmetic, added(self.error)
        rounding = rule.of_sum(n - 1) * added(np.abs(self.value) + self.error)
        flushed = n * rule.underflow if rule.flushes else 0.0
        return self._of(added(self.value), error + rounding + flushed, lambda: added(self.size))

    def mean(self, axis: int) -> Bounded:
        """The mean: a division by n, or a product with the rounded 1/n."""
        return self.sum(axis) * self.arithmetic.number(Wide(1) / self.value.shape[axis])

    def max(self, axis: int) -> Bounded:
        """The largest along an axis, which is kept; NaN where there is one."""
        value, error = (x.max(axis=axis, keepdims=True) for x in (self.value, self.error))
        return Bounded(self.arithmetic, value, error, lambda: self.size.max(axis=axis, keepdims=True))

    def matmul(self, other: Bounded) -> Bounded:
        """The product of matrices of depth K: off by gamma_K |a| |b|."""
        depth, rule = self.value.shape[1], self.arithmetic
        gamma, a, b = rule.of_sum(depth), np.abs(self.value), np.abs(other.value)
        if not other.is_exact:
            b += other.error
        # gamma |a| |b| + |a| other.error + self.error |b|, in as few products as there are
        error = a @ (gamma * b if other.is_exact else gamma * b + other.error)
        if not self.is_exact:
            error += (1 + gamma) * (self.error @ b)
        error += depth * (1 + gamma) * rule.underflow

        def value() -> Array:
            return self.value @ other.value

        def size() -> Array:
            return self.size @ other.size

        if np.max(error, initial=0) < gamma * rule.largest:  # and so is |a| |b|
            return Bounded(rule, value, error, size)
        return self._of(value(), error, size)

    def exp(self) -> Bounded:
        value, d = np.exp(self.value), self.error
        error = np.where(d < 1, value * np.expm1(np.minimum(d, 1)), np.exp(self.value + d) - value)
        return self._function("exp", value, error)

    def expm1(self) -> Bounded:
        error = np.exp(self.value) * np.expm1(self.error)
        return self._function("expm1", np.expm1(self.value), error)

    def log(self) -> Bounded:
        value, part = np.log(self.value), self.error / self.value
        error = np.where(part < 1, -np.log1p(-np.minimum(part, 1)), np.inf)
        return self._function("log", value, error, lambda: np.abs(value) + self.size / np.abs(self.value))

    def log1p(self) -> Bounded:
        """Of numbers that are not negative, where the slope is at most 1."""
        value = np.log1p(self.value)
        return self._function("log1p", value, self.error)

    def tanh(self) -> Bounded:
        value = np.tanh(self.value)
        nearest = np.maximum(np.abs(self.value) - self.error, 0)  # to 0, where the slope is largest
        return self._function("tanh", value, self.error / np.cosh(np.minimum(nearest, 300)) ** 2)

    def sin(self) -> Bounded:
        value = np.sin(self.value)
        return self._function("sin", value, self.error, lambda: np.abs(value) + self.size)

    def cos(self) -> Bounded:
        value = np.cos(self.value)
        return self._function("cos", value, self.error, lambda: np.abs(value) + self.size)

    def sqrt(self) -> Bounded:
        value, d = np.sqrt(self.value), self.error
        low = np.sqrt(np.maximum(self.value - d, 0))
        far = np.maximum(value, np.sqrt(self.value + d) - value)  # where it may have been 0 before the root
        error = np.where(self.value > d, d / np.where(value > 0, value + low, 1), far)
        return self._rounded(value, error)

    def power(self, exponent: float) -> Bounded:
        """To a power of at least 0, of numbers that are not negative."""
        value, d = self.value**exponent, self.error
        high, low = (self.value + d) ** exponent - value, value - np.maximum(self.value - d, 0) ** exponent
        return self._rounded(value, np.maximum(high, low), None, 2 * ULPS_OF_POWER)

    def positive(self) -> Bounded:
        """max(x, 0)."""
        return self._of(np.maximum(self.value, 0), self.error, lambda: np.maximum(np.sign(self.value), 0) * self.size)

    def maximum(self, other: Bounded) -> Bounded:
        """The larger of two, element by element: off by no more than either; NaN where there is one."""
        first = (self.value >= other.value) | np.isnan(self.value)
        value, error = np.where(first, self.value, other.value), np.maximum(self.error, other.error)
        return self._of(value, error, lambda: np.where(first, self.size, other.size))

    def where(self, condition: Condition | Array, other: Bounded) -> Bounded:
        """This where the condition holds, the other elsewhere; where that is not sure, with a bound for both."""
        if not isinstance(condition, Condition):
            condition = Condition(condition, np.asarray(True))
        holds: Array = condition.value
        value: Array = np.where(holds, self.value, other.value)
        error: Array = np.where(holds, self.error, other.error)
        if not np.all(condition.sure):
            left, right = np.abs(value - self.value) + self.error, np.abs(value - other.value) + other.error
            error = np.where(condition.sure, error, np.maximum(left, right))
        return Bounded(self.arithmetic, value, error, lambda: np.where(holds, self.size, other.size))

    def or_as(self, other: Bounded) -> Bounded:
        """This value, however of two ways it was computed: with the larger of the two bounds."""
        return Bounded(self.arithmetic, self.value, np.maximum(self.error, other.error), lambda: self.size)

    def overflowed(self) -> Bounded:
        """The same, with infinity for what is too large for the dtype."""
        return self._of(self.value, self.error, lambda: self.size)

    def wide(self, arithmetic: Arithmetic) -> Bounded:
        """The same in an arithmetic that has all numbers of this one."""
        value, error = (x.astype(arithmetic.reference) for x in (self.value, self.error))
        return Bounded(arithmetic, value, error, lambda: self.size)

    def rounded_to(self, arithmetic: Arithmetic) -> Bounded:
        """The same, rounded to another arithmetic."""
        result = self.wide(arithmetic)
        if arithmetic.dtype == self.arithmetic.dtype:
            return result
        return result._rounded(result.value, result.error, lambda: self.size)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _lifted(self, other: Operand) -> Bounded:
        if isinstance(other, Condition):
            one, zero = (self.arithmetic.exact(np.full(other.value.shape, x)) for x in (1.0, 0.0))
            return one.where(other, zero)
        return other if isinstance(other, Bounded) else self.arithmetic.number(other)

    def _compared(self, how: Callable[[Array, Array], Array], other: Operand) -> Condition:
        other = self._lifted(other)
        error = self.error + other.error
        return Condition(how(self.value, other.value), (error == 0) | ~(np.abs(self.value - other.value) <= error))

    def _error_of_product(self, other: Bounded) -> Array | None:
        """|a| other.error + (|b| + other.error) self.error"""
        if self.is_exact:
            return None if other.is_exact else np.abs(self.value) * other.error
        if other.is_exact:
            return np.abs(other.value) * self.error
        return np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error

    def _sum_with(self, other: Bounded, value: Array) -> Bounded:
        error = self.error if other.is_exact else other.error if self.is_exact else self.error + other.error
        rule = self.arithmetic  # sums below the smallest normal number are exact, unless they are flushed
        rounded = self._with_rounding(value, error, rule.roundoff, rule.underflow if rule.flushes else 0.0)
        return self._of(value, rounded, lambda: self.size + other.size)

    def _rounded(
        self, value: Array, error: Array | None, sized: Callable[[], Array] | None = None, roundings: int = 1
    ) -> Bounded:
        rule = self.arithmetic
        rounded = self._with_rounding(value, error, roundings * rule.roundoff, roundings * rule.underflow)
        return self._of(value, rounded, sized)

    def _with_rounding(self, value: Array, error: Array | None, part: float, underflow: float) -> Array:
        """error + part (|value| + error) + underflow"""
        result = np.abs(value)
        if error is not None:
            result = result + error
        result *= part
        if error is not None:
            result += error
        if underflow:
            result += underflow
        return result

    def _function(self, name: str, value: Array, error: Array, sized: Callable[[], Array] | None = None) -> Bounded:
        return self._rounded(value, error, sized, 2 * ULPS[name])  # one ulp is at most 2 u of the value

    def _of(self, value: Array, error: Array, sized: Callable[[], Array] | None) -> Bounded:
        """What is too large for the dtype is infinite there; what is infinite or NaN has no error."""
        largest = self.arithmetic.largest
        if not np.vdot(value, value) < self.arithmetic.largest_squared:  # one of them may be too large, or NaN
            value = np.where(np.abs(value) - error > largest, np.copysign(np.inf, value), value)
            error = np.where(np.isfinite(value), error, 0)
        return Bounded(self.arithmetic, value, error, sized)


#: What a formula may combine a ``Bounded`` with.
Operand = Bounded | Condition | float


@lru_cache(maxsize=128)
def _no_error(dtype: Any, shape: tuple[int, ...]) -> Array:
    """Zeros, which take no memory and by which ``is_exact`` knows them."""
    return np.broadcast_to(dtype(0), shape)


def _rounded_once(rule: Arithmetic, x: Any) -> Bounded:
    """Numbers that may not be in the dtype."""
    number = np.asarray(x, Wide)
    fits, value = number.astype(rule.dtype) == number, number.astype(rule.reference)
    if fits.all():
        return Bounded(rule, value, _no_error(rule.reference, value.shape))
    return Bounded(rule, value, np.where(fits, 0, rule.roundoff * np.abs(value)))


_number = lru_cache(maxsize=256)(_rounded_once)

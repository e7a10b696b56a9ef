"""Every operation of ``Backend`` as its formula, in numbers that carry an error bound.

Written anew from the docstrings of ``backends.base`` and not from the code there. NumPy arrays in, which the device has
exactly, or ``Bounded`` numbers, which it has computed before; out come the results as ``Bounded`` where rounding is
allowed, and as NumPy arrays where they must be equal bit for bit. Where backends are
free to compute something in one of two ways, the bound is the larger of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import random
from ..typing import Array
from ..updates import get_rule
from . import namespace
from .activations import activation_formulas, sigmoid
from .bounds import Bounded, Wide
from .core import FormulaCore, Given, Results
from .distortion_formulas import DistortionFormulas
from .picture_formulas import PictureFormulas


@dataclass(frozen=True)
class Shape:
    """A result of which only shape and dtype are promised."""

    shape: tuple[int, ...]
    dtype: str


class Formulas(PictureFormulas, DistortionFormulas, FormulaCore):
    """The formulas in one arithmetic; those on pictures are in ``picture_formulas`` and ``distortion_formulas``."""

    def matmul(
        self,
        a: Given,
        b: Given,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        out: Array | None = None,
    ) -> Results:
        """gamma_K |a| |b|, a rounding or two of each term for times, alpha and beta, and that of the last sum."""
        left, right = self.given(a.T if transpose_a else a), self.given(b.T if transpose_b else b)
        product = left.matmul(right if alpha == 1.0 else self.real.number(alpha) * right)
        if not isinstance(times, float) or times != 1.0:
            product = self.real.number(float(np.asarray(times).reshape(()))) * product
        if beta != 0.0:
            product = product + self.real.number(beta) * self.real.exact(out)
        return (product,)

    def bias_activation(
        self, z: Given, bias: Array | None, activation: str = "identity", z_out: Array | None = None
    ) -> Results:
        x = self.given(z)
        if bias is not None:
            x = x + self.real.exact(bias)
        y = activation_formulas(activation)[0](x)
        return (y,) if z_out is None else (y, x)

    def bias_activation_backward(
        self, dy: Array, saved: Array, activation: str = "identity", bias_gradient: Array | None = None
    ) -> Results:
        dz = self.real.exact(dy)
        if activation != "identity":
            dz = dz * activation_formulas(activation)[1](self.real.exact(saved))
        return dz, None if bias_gradient is None else dz.sum(0)

    def column_sum(self, x: Array) -> Results:
        return (self.real.exact(x).sum(0),)

    def multiply(self, a: Array, b: Array) -> Results:
        return (self.real.exact(a) * self.real.exact(b),)

    def softmax(self, logits: Array) -> Results:
        z = self.real.exact(logits)
        e = (z - z.max(1)).exp()
        return (e / e.sum(1, keepdims=True),)

    def softmax_backward(self, dy: Array, y: Array) -> Results:
        d, p = self.real.exact(dy), self.real.exact(y)
        return (p * (d - (d * p).sum(1, keepdims=True)),)

    def softmax_cross_entropy(
        self, logits: Array, labels: Array, label_smoothing: float = 0.0, **options: Any
    ) -> Results:
        (m, n), z = logits.shape, self.real.exact(logits)
        shifted = z - z.max(1)
        e = shifted.exp()
        normalizer = e.sum(1, keepdims=True)
        picked, expected = shifted[np.arange(m), labels], self.real.exact(labels[:, None] == np.arange(n))
        scale = self.real.number(_scale(m, **options))
        factor = self._weighted(scale, **options)
        pulled = expected * factor
        if label_smoothing:
            kept = self.real.number(1 - Wide(label_smoothing))
            spread = self.real.number(Wide(label_smoothing) / n)
            picked = picked * kept + shifted.sum(1) * spread
            pulled = expected * (factor * kept) + factor * spread
            expected = expected * kept + spread
        losses = normalizer[:, 0].log() - picked
        valid = ~np.isnan(logits).any(axis=1)
        correct = (self.argmax(logits)[0] == labels) & valid
        gradient = self._weighted((e / normalizer - expected) * scale, **options)
        return self._loss(losses, correct, gradient.or_as(e * (factor / normalizer) - pulled), **options)

    def binary_cross_entropy(self, logits: Array, targets: Array, exclusive: bool = False, **options: Any) -> Results:
        (m, n), z, t = logits.shape, self.real.exact(logits), self.real.exact(targets)
        losses = z.positive() - z * t + (-abs(z)).exp().log1p()
        correct = self._answered(logits, targets, exclusive)
        gradient = self._weighted((sigmoid(z) - t) * self.real.number(_scale(m, **options) / n), **options)
        return self._loss(losses.mean(1), correct, gradient, **options)

    def sigmoid_focal(
        self,
        logits: Array,
        targets: Array,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        exclusive: bool = False,
        **options: Any,
    ) -> Results:
        (m, n), z, t = logits.shape, self.real.exact(logits), self.real.exact(targets)
        number, one = self.real.number, self.real.exact(1.0)
        e = (-abs(z)).exp()
        likely = one / (one + e)
        unlikely = e * likely
        yes, no = likely.where(logits >= 0, unlikely), unlikely.where(logits >= 0, likely)
        yes, no = (Bounded(self.real, np.where(np.isnan(logits), np.nan, x.value), x.error) for x in (yes, no))
        entropy = z.positive() - z * t + e.log1p()
        miss = yes * (one - t) + no * t
        factor = miss.power(gamma)
        if alpha is not None:
            factor = factor * (number(alpha) * t + number(1 - Wide(alpha)) * (one - t))
        correct = self._answered(logits, targets, exclusive)
        least = self.real.exact(np.full(logits.shape, np.finfo(self.real.dtype).smallest_normal))
        share = likely * unlikely / miss.maximum(least)
        share = Bounded(self.real, share.value, np.minimum(share.error, 1.01))  # it is between 0 and 1
        slope = yes - t + number(gamma) * (share * (one - number(2.0) * t) * entropy)
        gradient = self._weighted(factor * slope * number(_scale(m, **options) / n), **options)
        return self._loss((factor * entropy).mean(1), correct, gradient, **options)

    def squared_error(self, outputs: Array, targets: Array, **options: Any) -> Results:
        m, n = outputs.shape
        difference = self.real.exact(outputs) - self.real.exact(targets)
        gradient = self._weighted(difference * self.real.number(2 * _scale(m, **options) / n), **options)
        return self._loss((difference * difference).mean(1), self._nearest(outputs, targets), gradient, **options)

    def absolute_error(self, outputs: Array, targets: Array, **options: Any) -> Results:
        m, n = outputs.shape
        difference = self.real.exact(outputs) - self.real.exact(targets)
        sure = ~(np.abs(difference.value) <= difference.error) | (difference.value == 0)
        sign = Bounded(self.real, np.sign(difference.value), np.where(sure, 0.0, 1.0).astype(self.real.reference))
        gradient = self._weighted(sign * self.real.number(_scale(m, **options) / n), **options)
        return self._loss(abs(difference).mean(1), self._nearest(outputs, targets), gradient, **options)

    def huber(self, outputs: Array, targets: Array, delta: float = 1.0, **options: Any) -> Results:
        m, n = outputs.shape
        difference = self.real.exact(outputs) - self.real.exact(targets)
        limit = self.real.number(delta)
        near = -(-difference.maximum(-limit)).maximum(-limit)
        values = near * (difference - near * self.real.exact(0.5))
        gradient = self._weighted(near * self.real.number(_scale(m, **options) / n), **options)
        return self._loss(values.mean(1), self._nearest(outputs, targets), gradient, **options)

    def normalize(
        self,
        x: Given,
        weight: Array | None,
        bias: Array | None,
        running: dict[str, Array] | None,
        axis: int,
        epsilon: float,
        momentum: float = 0.0,
        normalized: Any = None,
        inverse: Any = None,
    ) -> Results:
        """In two passes: the mean first, then the squares of what differs from it. y, x^, 1 / sqrt(variance + epsilon),
        and the running mean and variance, where there are some."""
        given, number = self.given(x), self.real.number
        count = given.value.shape[axis]
        mean = given.sum(axis, keepdims=True) * number(Wide(1) / count)
        difference = given - mean
        squares = (difference * difference).sum(axis, keepdims=True)
        factor = 1.0 / (squares * number(Wide(1) / count) + number(epsilon)).sqrt()
        standard = difference * factor
        results = self._scaled(standard, weight, bias), standard, factor[:, 0] if axis == 1 else factor[0]
        if running is None:
            return results
        kept, fresh = number(1 - Wide(momentum)), number(momentum)
        of_batch = {"mean": mean[0], "variance": squares[0] * number(Wide(1) / (count - 1))}
        return *results, *(kept * self.real.exact(x) + fresh * of_batch[name] for name, x in running.items())

    def normalize_backward(
        self,
        dy: Given,
        normalized: Given,
        inverse: Given,
        weight: Array | None,
        axis: int,
        bias_gradient: Any = None,
        gain_gradient: Any = None,
    ) -> Results:
        d, standard, factor = self.given(dy), self.given(normalized), self.given(inverse)
        g = d if weight is None else d * self.real.exact(weight)
        part = self.real.number(Wide(1) / d.value.shape[axis])
        of_g = g.sum(axis, keepdims=True) * part
        of_both = (g * standard).sum(axis, keepdims=True) * part
        dx = (g - of_g - standard * of_both) * (factor[:, None] if axis == 1 else factor)
        if axis == 0 and weight is not None:  # the weight of a column may be multiplied last
            inner = d - d.sum(0) * part - standard * ((d * standard).sum(0) * part)
            dx = dx.or_as(inner * factor * self.real.exact(weight))
        sums = (d.sum(0), bias_gradient), ((d * standard).sum(0), gain_gradient)
        return dx, *(None if asked is None else values for values, asked in sums)

    def normalize_by(
        self,
        x: Given,
        mean: Array,
        variance: Array,
        weight: Array | None,
        bias: Array | None,
        epsilon: float,
    ) -> Results:
        factor = 1.0 / (self.real.exact(variance) + self.real.number(epsilon)).sqrt()
        return (self._scaled((self.given(x) - self.real.exact(mean)) * factor, weight, bias),)

    def _scaled(self, x: Bounded, weight: Array | None, bias: Array | None) -> Bounded:
        if weight is not None:
            x = x * self.real.exact(weight)
        return x if bias is None else x + self.real.exact(bias)

    def argmax(self, x: Array) -> Results:
        """The first of the largest; 0 where there is a NaN."""
        first = np.argmax(x == x.max(axis=1, keepdims=True), axis=1) if x.size else np.zeros(len(x))
        return (first.astype(np.int64),)

    def update(
        self,
        rule: str,
        params: Array,
        gradient: Given,
        state: dict[str, Array],
        learning_rate: Any,
        number: Any = 1,
        weight_decay: float = 0.0,
        n_decayed: int = 0,
        **settings: Any,
    ) -> Results:
        """The parameters, and the arrays of the state in their order."""
        known = get_rule(rule)
        exact = {name: self.real.exact(x) for name, x in state.items()}
        rate, t = self._rate(learning_rate), self.wide.exact(np.ravel(number))
        g, full = self.given(gradient), known.with_defaults(settings)
        if rule == "sgd":
            change, changed = self._sgd(g, rate, exact.get("velocity"), **full)
        elif rule == "adam":
            change, changed = self._adam(g, rate, exact["mean"], exact["square"], t, **full)
        else:  # it gives its own bound
            direction, changed = known.direction(namespace, g, exact, t, **full)
            change = rate * direction
        new_params = self._updated(params, change, rate, weight_decay, n_decayed)
        return new_params, *(changed[name] for name in state)

    def _sgd(
        self, g: Bounded, rate: Bounded, velocity: Bounded | None, momentum: float, dampening: float, nesterov: bool
    ) -> tuple[Bounded, dict[str, Bounded]]:
        if velocity is None:
            return rate * g, {}
        pushed = self.real.number(1 - Wide(dampening)) * g
        v = self.real.number(momentum) * velocity + pushed
        return rate * (pushed + self.real.number(momentum) * v if nesterov else v), {"velocity": v}

    def _adam(
        self, g: Bounded, rate: Bounded, mean: Bounded, square: Bounded, t: Bounded,
        beta1: float, beta2: float, epsilon: float, epsilon_hat: bool,
    ) -> tuple[Bounded, dict[str, Bounded]]:  # fmt: skip
        number = self.real.number
        mean = number(beta1) * mean + number(1 - Wide(beta1)) * g
        square = number(beta2) * square + number(1 - Wide(beta2)) * (g * g)
        correction = self._correction(beta2, t)
        added = number(epsilon) / correction.sqrt() if epsilon_hat else number(epsilon)
        root = (square / correction).sqrt() + added
        corrected = mean / self._correction(beta1, t)
        change = (rate * corrected / root).or_as(rate * (corrected / root))
        return change, {"mean": mean, "square": square}

    def axpby(self, alpha: float, x: Given, beta: float, y: Given) -> Results:
        scaled = self.real.number(alpha) * self.given(x)
        return (scaled if beta == 0.0 else scaled + self.real.number(beta) * self.given(y),)

    def clip_norm(self, x: Array, limit: float, norm: Array | None = None) -> Results:
        """The factor is computed in ``wide`` and then rounded."""
        values, one = self.wide.exact(x), self.wide.exact(1.0)
        found = (values * values).sum().sqrt()[None]
        factor = self.wide.exact(limit) / (found + self.wide.exact(1e-6))
        factor = one.where(factor >= one, factor)
        return self.real.exact(x) * factor.rounded_to(self.real), found

    def clip_values(self, x: Array, limit: float) -> Results:
        value, high = self.real.exact(x), self.real.number(limit)
        value = high.where(value > high, value)
        return ((-high).where(value < -high, value),)

    def update_average(self, average: Array, x: Array, decay: float, number: Any, first: int = 1) -> Results:
        """A copy is one bit for bit."""
        if int(np.ravel(number)[0]) <= first:
            return (x,)
        old = self.real.exact(average)
        return (old + self.real.number(1 - Wide(decay)) * (self.real.exact(x) - old),)

    def add_penalty(self, gradient: Given, weights: Array, l1: float = 0.0, l2: float = 0.0) -> Results:
        result, w = self.given(gradient), self.real.exact(weights)
        if l2 != 0.0:
            result = result + self.real.number(l2) * w
        if l1 != 0.0:
            result = result + self.real.number(l1) * self.real.exact(np.sign(weights))
        return (result,)

    def sum_of_squares(self, x: Array) -> Results:
        values = self.wide.exact(x)
        return ((values * values).sum(),)

    def all_finite(self, x: Array) -> Results:
        return (np.array(all(map(math.isfinite, x.tolist()))),)

    def take_rows(
        self, rows: Array, order: Array | None, start: Any, count: int, scale: float | None = None, shift: float = 0.0
    ) -> Results:
        first = int(np.ravel(start)[0])
        positions = range(len(rows))[first : first + count] if order is None else order[first : first + count].tolist()
        taken = np.array([rows[position] for position in positions], rows.dtype).reshape(count, *rows.shape[1:])
        if scale is None:
            return (taken,)
        same = taken.dtype == self.real.dtype
        values = self.real.exact(taken) if same else self.real.number(taken)
        return (values * self.real.number(scale) + self.real.number(shift),)

    def dropout_mask(self, shape: tuple[int, ...], rate: float, key: tuple[int, int], step: Any) -> Results:
        number, kept = int(np.ravel(step)[0]), np.dtype(self.real.dtype).type(1.0 / (1.0 - rate))
        bits = [random.mask_bits(element, key, number) for element in range(math.prod(shape))]
        mask = np.array([0.0 if word < random.mask_threshold(rate) else kept for word in bits], self.real.dtype)
        return (mask.reshape(shape),)

    # ---- arrays in and out ------------------------------------------------------------------------------------------

    def asarray(self, x: Any) -> Results:
        array = np.asarray(x)
        return (array.astype(self.real.dtype) if array.dtype.kind == "f" else array,)

    def to_numpy(self, x: Array) -> Results:
        return (x,)

    def copy(self, x: Array) -> Results:
        return (x,)

    def item(self, x: Array) -> Results:
        return (np.float64(x.reshape(())),)

    def empty(self, shape: tuple[int, ...]) -> Results:
        return (Shape(shape, self.real.dtype),)

    def zeros(self, shape: tuple[int, ...]) -> Results:
        return (np.zeros(shape, self.real.dtype),)

    def record(self, x: Array, starts: tuple[int, ...], count: int) -> Results:
        """What a recorded ``take_rows(x, None, start, count)`` leaves at each start."""
        return (np.stack([x[start : start + count] for start in starts]),)

    def sum_over_processes(self, values: Array, blocks: int) -> Results:
        """The sums of the nodes of a process that is alone, added up from the last one."""
        total = self.real.exact(values[-1])
        for own in values[-2::-1]:
            total = self.real.exact(own) + total
        return (total,)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _answered(self, logits: Array, targets: Array, exclusive: bool) -> Array:
        valid = ~np.isnan(logits)
        if exclusive:
            return (self.argmax(logits)[0] == self.argmax(targets)[0]) & valid.all(axis=1)
        correct: Array = (((logits > 0) == (targets > 0.5)) & valid).all(axis=1)
        return correct

    def _nearest(self, outputs: Array, targets: Array) -> Array:
        if outputs.shape[1] == 1:
            correct = (outputs[:, 0] > 0.5) == (targets[:, 0] > 0.5)
        else:
            correct = self.argmax(outputs)[0] == self.argmax(targets)[0]
        return correct & ~np.isnan(outputs).any(axis=1)

    def _weighted(self, x: Bounded, weights: Array | None = None, **_: Any) -> Bounded:
        """Rows times their weights."""
        return x if weights is None else x * self.real.exact(weights)[:, None]

    def _loss(
        self,
        values: Bounded,
        correct: Array,
        dz: Bounded,
        totals: Array | None = None,
        scale: float | None = None,
        gradient: bool = True,
        weights: Array | None = None,
        losses: Array | None = None,
    ) -> Results:
        """The sums over the rows, in ``wide``, added to ``totals``; the gradient; the loss of each row, if asked for.

        The count of correct rows has no error, unless they have weights.
        """
        weighted = values if weights is None else values * self.real.exact(weights)
        counted = self.wide.exact(correct)
        if weights is not None:
            counted = counted * self.real.exact(weights).wide(self.wide)
        loss = weighted.wide(self.wide).sum()
        count = self.wide.exact(counted.value.sum()) if weights is None else counted.sum()
        if totals is not None:
            loss, count = loss + self.wide.exact(totals[0]), count + self.wide.exact(totals[1])
        if weights is None:
            count = self.wide.exact(count.value)
        value, error = np.array([loss.value, count.value]), np.array([loss.error, count.error])
        sums = Bounded(self.wide, value, error, lambda: np.array([loss.size, count.size]))
        results = sums, dz if gradient else None
        return results if losses is None else (*results, values)

    def _rate(self, learning_rate: Any) -> Bounded:
        is_array = isinstance(learning_rate, np.ndarray)
        return self.real.exact(learning_rate) if is_array else self.real.number(learning_rate)

    def _updated(self, params: Array, change: Bounded, rate: Bounded, weight_decay: float, n_decayed: int) -> Bounded:
        """p - (change + rate decay p), or (1 - rate decay) p - change, which is the same."""
        p = self.real.exact(params)
        plain = p - change
        if weight_decay == 0.0 or n_decayed == 0:
            return plain
        decay = rate * self.real.number(weight_decay)
        one_way = p - (change + decay * p)
        other_way = p * (self.real.exact(1.0) - decay) - change
        return one_way.or_as(other_way).where(np.arange(len(params)) < n_decayed, plain)

    def _correction(self, beta: float, number: Bounded) -> Bounded:
        """1 - beta^number, computed in ``wide`` as -expm1(number log(beta)) and then rounded."""
        if beta == 0.0:
            return self.real.exact(1.0)
        return (-(number * self.wide.exact(beta).log()).expm1()).rounded_to(self.real)


def _scale(m: int, scale: float | None = None, **_: Any) -> Any:
    return Wide(1) / max(m, 1) if scale is None else Wide(scale)

"""How far two backends may differ in what they compute from equal numbers.

Summing n products a_i b_i with rounding errors of at most u each, in whatever order and with or without FMA, errs by at
most

    min(n, L sqrt(n)) u sum |a_i b_i|,    u = 2**-24 in float32, 2**-53 in float64

The n is the classical bound (Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1). The
L sqrt(n) holds for errors that are independent and of mean 0, with a probability of at least 1 - 2 n exp(-L**2 / 2)
(Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019, section 3).
The safety factor is L = 8: of 10**9 sums of 1,000 products one is expected to be out of it with a probability of 3 %.
Elementwise formulas are given ``ROUNDINGS`` errors of u each, and everything is allowed twice, once for each backend.
"""

from __future__ import annotations

import math

import numpy as np

from backends import Backend
from backends.typing import Array, HostArray

from ..layers import Context, Dropout, ElementwiseActivation, Flatten, Layer, Linear, Softmax
from ..optimizers import SGD, Adam, Optimizer

#: L in the bound of Higham and Mary.
CONFIDENCE = 8.0
#: Rounding errors in an elementwise formula: at most two functions (exp, log, tanh), whose libraries promise 4 units in
#: the last place, 8 u, or better; the few sums and products around them are far below what is left of that.
ROUNDINGS = 16


def input_scale(ctx: Context) -> float:
    """What the first product multiplies the rows by; 1 in every other layer."""
    return float(ctx.sinks["output"].get("alpha", 1.0))


class Rounding:
    """How much two backends may differ in a tensor that they compute from equal numbers.

    In the formulas of this class, g(n) = min(n, L sqrt(n)) u bounds the error of n summed products relative to the sum
    of their absolute values, e = ``ROUNDINGS`` u that of an elementwise formula. The absolute values are summed over
    the very numbers of the step. L = ``CONFIDENCE``; where it comes from says the text of this module.

    Attributes:
        u: the unit roundoff: the largest relative error of one rounding.
        floor: allowed beyond everything: 2**24 times the smallest normal number, far below any number that matters and
            far above what is lost where a device flushes denormal numbers to 0.
    """

    def __init__(self, backend: Backend) -> None:
        limits = np.finfo(backend.dtype_name)
        self.u = float(limits.eps) / 2
        self.floor = float(limits.tiny) * 2**24
        self.few = ROUNDINGS * self.u
        self.host = backend.to_numpy

    def sums(self, n: int) -> float:
        """g(n) = min(n, L sqrt(n)) u"""
        return min(n, CONFIDENCE * math.sqrt(n)) * self.u

    def both(self, error: HostArray) -> HostArray:
        """Each of two backends may err so much."""
        return 2.0 * error + self.floor

    def forward(self, layer: Layer, ctx: Context, x: Array, y: Array) -> HostArray | None:
        """For y of a layer.

        Linear: g(n + 2) (|s x| |W| + |b|) + e for an activation with values in [-1, 1]; no activation has a derivative
        above 1. Softmax: (g(n) + e) y (1 + |x - max x|), because an error in an exponent is a relative one in y.
        """
        x, y = self.host(x), self.host(y)
        if type(layer) is Flatten:
            return None
        if type(layer) is Linear:
            parameters = {name: np.abs(self.host(value)) for name, value in ctx.parameters.items()}
            terms = np.abs(input_scale(ctx) * x) @ parameters["weight"] + parameters.get("bias", 0.0)
            return self.both(self.sums(x.shape[1] + 2) * terms + self._function(layer.activation, y))
        if type(layer) is Dropout:
            return self.both(self.u * np.abs(y))
        if type(layer) is Softmax:
            return self.both((self.sums(y.shape[1]) + self.few) * y * (1.0 + np.abs(x - x.max(axis=1, keepdims=True))))
        if isinstance(layer, ElementwiseActivation):
            return self.both(self._function(layer.function, y))
        return self.unknown(y, x)

    def _function(self, activation: str, y: HostArray) -> HostArray:
        """Of an activation itself: none of identity and ReLU, e for those that are computed from tanh."""
        return 0.0 * y if activation in ("identity", "relu") else self.few * np.maximum(np.abs(y), 1.0)

    def loss(self, operation: str, outputs: Array, targets: Array, result: Array) -> tuple[HostArray, HostArray]:
        """For the sum of the losses of m rows of n outputs, and for the gradient of their mean.

        Cross-entropy of softmax, p = softmax(z), s = z - max z: (g(n) + e) sum (1 + |s_label| + log sum exp s), and
        (g(n) + e) (p (1 + |s|) + onehot) / m. Of sigmoid: (g(n) + e) sum mean (1 + |z| + |z t|), and e (1 + |t|) /
        (n m). Squared error: (g(n) + e) times the loss, and e |o - t| 2 / (n m). Loss sums are added up in float64.
        """
        z, t = self.host(outputs), self.host(targets)
        m, n = z.shape
        some = self.sums(n) + self.few
        if operation == "softmax_cross_entropy":
            s = z - z.max(axis=1, keepdims=True)
            normalizer = np.exp(s).sum(axis=1, keepdims=True)
            hit = t[:, None] == np.arange(n)
            losses = 1.0 + np.abs(s)[hit] + np.log(normalizer[:, 0])
            return self.both(some * losses.sum(keepdims=True)), self.both(
                some * (np.exp(s) / normalizer * (1.0 + np.abs(s)) + hit) / m
            )
        if operation == "binary_cross_entropy":
            losses = (1.0 + np.abs(z) + np.abs(z * t)).mean(axis=1)
            return self.both(some * losses.sum(keepdims=True)), self.both(self.few * (1.0 + np.abs(t)) / (n * m))
        if operation == "squared_error":
            difference = np.abs(z - t)
            losses = (difference * difference).mean(axis=1)
            return self.both(some * losses.sum(keepdims=True)), self.both(self.few * difference * 2.0 / (n * m))
        unknown = self.unknown(self.host(result), z)
        return unknown[:1], unknown

    def backward(
        self, layer: Layer, ctx: Context, given: HostArray, dz: Array, which: str, result: Array
    ) -> HostArray | None:
        """For a gradient that a layer computes from dy, which is ``given`` here; a Linear layer leaves dz there.

        Linear, m rows, n outputs: dz may err by e |dy|, so that with d(k) = g(k) |dz| + e |dy| db may by the column
        sums of d(m), dW by |s x|^T d(m + 1), dx by d(n) |W|^T. Softmax: (g(n) + e) y (|dy| + sum |dy| y). Other
        activations: e |dy|. Dropout: u |dx|.
        """
        dy = np.abs(given)
        if type(layer) is Flatten:
            return None
        if type(layer) is Linear:
            m, n = dy.shape

            def d(k: int) -> HostArray:
                return self.sums(k) * np.abs(self.host(dz)) + self.few * dy

            if which == "bias":
                return self.both(d(m).sum(axis=0))
            if which == "weight":
                return self.both(np.abs(input_scale(ctx) * self.host(ctx.saved[0])).T @ d(m + 1))
            if which == "input":
                return self.both(d(n) @ np.abs(self.host(ctx.parameters["weight"])).T)
            return self.both(self.few * dy)
        if type(layer) is Dropout:
            return self.both(self.u * np.abs(self.host(result)))
        if type(layer) is Softmax:
            y = self.host(ctx.saved)
            return self.both((self.sums(dy.shape[1]) + self.few) * y * (dy + (dy * y).sum(axis=1, keepdims=True)))
        if isinstance(layer, ElementwiseActivation):
            return self.both(self.few * dy)
        return self.unknown(self.host(result), given)

    def update(self, optimizer: Optimizer, before: dict[str, HostArray], decayed: int) -> dict[str, HostArray]:
        """For the parameters p and the optimizer's state after an update, by their names.

        State: e times the sum of the absolute values of its terms. Parameters: 3 u |p| (two products and the
        subtraction) + 2 e |step|, where |step| is the update computed from absolute values.
        """
        p, g = np.abs(before["parameter"]), np.abs(before["gradient"])
        rate, decay = optimizer.rate(optimizer.steps), getattr(optimizer, "weight_decay", 0.0)
        if type(optimizer) is SGD:
            step, state = g, dict[str, HostArray]()
            if "velocity" in before:
                pushed = (1.0 - optimizer.dampening) * g
                step = state["velocity"] = optimizer.momentum * np.abs(before["velocity"]) + pushed
                if optimizer.nesterov:
                    step = pushed + optimizer.momentum * step
        elif type(optimizer) is Adam:
            mean = optimizer.beta1 * np.abs(before["mean"]) + (1.0 - optimizer.beta1) * g
            square = optimizer.beta2 * before["square"] + (1.0 - optimizer.beta2) * (g * g)
            state = {"mean": mean, "square": square}
            correction1, correction2 = 1.0 - optimizer.beta1**optimizer.steps, 1.0 - optimizer.beta2**optimizer.steps
            with np.errstate(all="ignore"):
                step = mean / correction1 / (np.sqrt(square / correction2) + optimizer.epsilon)
        else:
            state = {name: np.abs(value) + g for name, value in before.items() if name not in ("parameter", "gradient")}
            step = sum(state.values(), g)
        step = rate * step
        step[:decayed] += rate * decay * p[:decayed]
        allowed = {name: self.both(self.few * terms) for name, terms in state.items()}
        return {"parameter": self.both(3.0 * self.u * p + 2.0 * self.few * step), **allowed}

    def unknown(self, result: HostArray, given: HostArray) -> HostArray:
        """For a layer, loss or optimizer that xpnet does not know: taken for sums over everything that it is given, of
        terms as large as the root mean square of that or of the result: g(size) (|result| + rms)."""
        rms = max(float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) for values in (result, given))
        return self.both(self.sums(given.size) * (np.abs(result) + rms))


def rounding_text(dtype: str) -> str:
    """What is allowed, in a line."""
    return (
        f"2 min(K, {CONFIDENCE:g} sqrt(K)) u sum |a b| for a sum of K products, {2 * ROUNDINGS} u for an elementwise "
        f"formula; u = 2^{round(math.log2(float(np.finfo(dtype).eps) / 2))}"
    )

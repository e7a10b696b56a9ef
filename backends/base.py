"""The specification: every operation that a network needs, written once in array-API calls.

``Backend`` computes with any array library that follows the array-API standard and lets arrays be written in place.
``NumpyBackend`` and ``CupyBackend`` override operations where that is measurably faster, with the same signature and
the same result; ``get_backend(..., fused=False)`` gives this class itself on any device.

Rules that hold for every operation:

* Rows are examples: ``x (m, n_in)``, ``W (n_in, n_out)``, ``b (n_out,)``. Pictures are ``x (m, height, width,
  channels)``: so their channels are the columns of a matrix (m height width, channels), on which every operation on
  columns works as it is.
* Arrays are on this backend's device and, unless the text says otherwise, in its float dtype.
* The result is returned and, where ``out`` is given, written into it. Callers use what is returned. ``out`` may be one
  of the inputs only where the text says so.
* Nothing waits for the host: results that are numbers stay on the device until ``item`` or ``to_numpy`` reads them.
* Numbers handed in are Python numbers. Those that change from step to step (learning rate, batch position, step count)
  may also be arrays of shape (1,) on the device, which a recorded step reads again at every replay.
"""

from __future__ import annotations

from typing import Any

from . import random
from .activations import get_activation
from .core import DTYPES as DTYPES
from .core import check_beta, check_z_out, scaled
from .pictures import ConvolutionOperations, DistortionOperations, PoolingOperations
from .typing import Array
from .updates import get_rule


class Backend(ConvolutionOperations, PoolingOperations, DistortionOperations):
    """An array library on a device, a float dtype, and the operations of network training; ``Core`` says what the
    arguments and attributes are. Those on pictures are in ``backends.pictures``."""

    # ---- products and activations -----------------------------------------------------------------------------------

    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        out: Array | None = None,
    ) -> Array:
        """times alpha op(a) op(b) + beta out: the GEMM of the BLAS. op(a) is ``a`` or its transpose.

        ``a`` and ``b`` have two dimensions. ``out`` must overlap neither; with ``beta != 0`` it must be given, and with
        ``beta == 0`` its contents, NaN included, are not read. ``times`` may be an array of shape (1,) on the device.
        """
        check_beta("matmul", beta, out)
        product = self.xp.matmul(a.T if transpose_a else a, b.T if transpose_b else b)
        return self._result(scaled(product, alpha, beta, times, out), out)

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        activation: str = "identity",
        *,
        out: Array | None = None,
        z_out: Array | None = None,
    ) -> Array:
        """y = f(z + bias), f one of ``backends.activations``. ``z (m, n)``, ``bias (n,)`` or None; ``out`` may be z.

        ``z_out``, where it is given, is where z + bias is left as well, for an activation whose derivative needs it. It
        may be ``z``, and must not be ``out``.
        """
        check_z_out("bias_activation", z_out, out)
        if bias is not None:
            z = z + bias
        if z_out is not None:
            z = self._result(z, z_out)
        return self._result(get_activation(activation).forward(self.xp, z), out)

    def bias_activation_backward(
        self,
        dy: Array,
        saved: Array,
        activation: str = "identity",
        *,
        out: Array | None = None,
        bias_gradient: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """The chain rule through y = f(z + bias): ``dz = dy * f'(z + bias)``, and the bias gradient, its column sums.

        ``saved`` is what f' is computed from: y, or z + bias for an activation with ``needs_z``. ``out`` may be ``dy``.
        Where ``bias_gradient (n,)`` is given it is written and returned; else the second result is None.
        """
        derivative = get_activation(activation).derivative
        dz = self._result(dy if derivative is None else dy * derivative(self.xp, saved), out)
        return dz, None if bias_gradient is None else self.column_sum(dz, out=bias_gradient)

    def column_sum(self, x: Array, *, out: Array | None = None) -> Array:
        """The sum of the rows of ``x (m, n)``: shape (n,)."""
        return self._result(self.xp.sum(x, axis=0, dtype=x.dtype), out)

    def multiply(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """The elementwise product of two arrays of one shape; ``out`` may be either."""
        return self._result(a * b, out)

    def softmax(self, logits: Array, *, out: Array | None = None) -> Array:
        """exp(z_j) / sum_k exp(z_k) along each row, the row maximum subtracted first; ``out`` may be the logits."""
        xp = self.xp
        e = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        return self._result(e / xp.sum(e, axis=1, keepdims=True, dtype=e.dtype), out)

    def softmax_backward(self, dy: Array, y: Array, *, out: Array | None = None) -> Array:
        """The chain rule through y = softmax(z): dz_j = y_j (dy_j - sum_k dy_k y_k). ``out`` may be ``dy``."""
        inner = self.xp.sum(dy * y, axis=1, keepdims=True, dtype=dy.dtype)
        return self._result(y * (dy - inner), out)

    # ---- normalization: of rows or of columns -----------------------------------------------------------------------

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        running: dict[str, Array] | None = None,
        *,
        axis: int,
        epsilon: float,
        momentum: float = 0.0,
        normalized: Array | None = None,
        inverse: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """y = weight x^ + bias with x^ = (x - mean) / sqrt(variance + epsilon), mean and variance along ``axis``.

        The variance is that of the numbers themselves: the sum of the squares of x - mean, divided by their number.

        Args:
            x: (m, n), with at least one number along the axis.
            weight, bias: (n,) each; None for 1 and 0.
            running: ``"mean"`` and ``"variance"`` (n,), for axis 0 and m > 1. Each moves in place to (1 - momentum)
                times itself plus momentum times that of the columns, where the variance is divided by m - 1, not by m.
            axis: 1 for the mean and variance of each row, as in layer normalization; 0 for those of each column, as in
                batch normalization.
            normalized: (m, n), where x^ goes; must not be x.
            inverse: where 1 / sqrt(variance + epsilon) goes; (m,) for axis 1, (n,) for axis 0.
            out: where y goes; may be x.

        Returns:
            ``(y, normalized, inverse)``.
        """
        xp = self.xp
        part = 1.0 / x.shape[axis]
        mean = part * xp.sum(x, axis=axis, keepdims=True, dtype=x.dtype)
        x = x - mean
        squares = xp.sum(x * x, axis=axis, keepdims=True, dtype=x.dtype)
        factor = 1.0 / xp.sqrt(part * squares + epsilon)
        if running is not None:
            for name, fresh in (("mean", mean), ("variance", squares * (1.0 / (x.shape[0] - 1)))):
                kept = running[name]
                self._result((1.0 - momentum) * kept + momentum * xp.reshape(fresh, kept.shape), kept)
        normalized = self._result(x * factor, normalized)
        inverse = self._result(xp.reshape(factor, (-1,)), inverse)
        return self._result(_scaled(normalized, weight, bias), out), normalized, inverse

    def normalize_backward(
        self,
        dy: Array,
        normalized: Array,
        inverse: Array,
        weight: Array | None,
        *,
        axis: int,
        bias_gradient: Array | None = None,
        gain_gradient: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None, Array | None]:
        """The chain rule through ``normalize``: dx = inverse (g - mean(g) - x^ mean(g x^)), g = weight dy.

        The means are along ``axis``. Where ``bias_gradient (n,)`` is given, it becomes the column sums of dy, and
        ``gain_gradient (n,)``, that of the weight, those of dy x^. ``out`` may be ``dy``.

        Returns:
            ``(dx, bias_gradient, gain_gradient)``.
        """
        xp = self.xp
        part = 1.0 / dy.shape[axis]
        if gain_gradient is not None:
            self._result(xp.sum(dy * normalized, axis=0, dtype=dy.dtype), gain_gradient)
        if bias_gradient is not None:
            self._result(xp.sum(dy, axis=0, dtype=dy.dtype), bias_gradient)
        g = dy if weight is None else dy * weight
        of_g = part * xp.sum(g, axis=axis, keepdims=True, dtype=g.dtype)
        of_both = part * xp.sum(g * normalized, axis=axis, keepdims=True, dtype=g.dtype)
        factor = xp.reshape(inverse, (-1, 1)) if axis == 1 else inverse
        return self._result((g - of_g - normalized * of_both) * factor, out), bias_gradient, gain_gradient

    def normalize_by(
        self,
        x: Array,
        mean: Array,
        variance: Array,
        weight: Array | None,
        bias: Array | None,
        *,
        epsilon: float,
        out: Array | None = None,
    ) -> Array:
        """y = weight (x - mean) / sqrt(variance + epsilon) + bias, of columns by a given mean and variance (n,).
        ``out`` may be ``x``."""
        x = (x - mean) * (1.0 / self.xp.sqrt(variance + epsilon))
        return self._result(_scaled(x, weight, bias), out)

    # ---- losses: sum over the rows, count of correct rows and gradient in one operation ------------------------------

    def softmax_cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        label_smoothing: float = 0.0,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Softmax and the cross-entropy of its result against class labels, from the logits.

        The loss of a row is log(sum_k exp(z_k)) - z_label, computed with the row maximum subtracted, so that no
        logarithm of 0 is taken; its gradient is ``softmax(z) - onehot(label)`` times ``scale``. A row is correct where
        the label has the largest logit (the first of several equal ones), and never where a logit is NaN.

        With ``label_smoothing`` s the target is not onehot(label) but (1 - s) onehot(label) + s / n (Szegedy et al.,
        "Rethinking the Inception architecture for computer vision", 2016), so that z_label in the loss becomes
        (1 - s) z_label + s mean_k(z_k).

        Args:
            logits: (m, n).
            labels: (m,) integers in [0, n); not checked here.
            label_smoothing: in [0, 1].
            totals: (2,) of dtype ``wide``; the loss sum and the number of correct rows are added to it in place.
            gradient: whether to compute the gradient; None is returned for it otherwise.
            scale: factor of the gradient; 1/m by default, for the mean over the batch.
            weights: (m,); the loss, the correct count and the gradient of row i are multiplied by ``weights[i]``.
            losses: (m,); the loss of each row, before it is multiplied, is written there.
            out: where the gradient goes; may be ``logits``.

        Returns:
            ``(totals, dlogits)``.
        """
        xp = self.xp
        m, n = logits.shape
        labels = xp.astype(labels, xp.int64, copy=False)  # uint8 has no class above 255
        hit = labels[:, None] == xp.arange(n, dtype=xp.int64, device=self.device.handle)
        top = xp.max(logits, axis=1, keepdims=True)
        shifted = logits - top
        e = xp.exp(shifted)
        normalizer = xp.sum(e, axis=1, keepdims=True, dtype=e.dtype)
        label_logit = xp.sum(xp.where(hit, shifted, xp.zeros_like(shifted)), axis=1, dtype=e.dtype)
        if label_smoothing:
            mean = xp.sum(shifted, axis=1, dtype=e.dtype) * (label_smoothing / n)
            label_logit = label_logit * (1.0 - label_smoothing) + mean
        values = xp.log(normalizer[:, 0]) - label_logit
        correct = (self.argmax(logits) == labels) & (top[:, 0] == top[:, 0])
        totals = self._add_totals(totals, values, correct, weights, losses)
        if not gradient:
            return totals, None
        target = xp.astype(hit, e.dtype)
        if label_smoothing:
            target = target * (1.0 - label_smoothing) + label_smoothing / n
        dlogits = (e / normalizer - target) * self._scale(scale, m)
        return totals, self._result(self._weighted(dlogits, weights), out)

    def binary_cross_entropy(
        self,
        logits: Array,
        targets: Array,
        *,
        exclusive: bool = False,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Sigmoid and the binary cross-entropy of its result against targets in [0, 1], from the logits.

        The loss of an element is -t log(sigma(z)) - (1 - t) log(1 - sigma(z)), computed as
        max(z, 0) - z t + log(1 + exp(-|z|)); that of a row is the mean over its n elements, and the gradient
        (sigma(z) - t) / n times ``scale``. A row is correct where every logit is above 0 exactly if its target is above
        1/2; if the targets are ``exclusive``, where the largest logit is at the largest target; and never where a logit
        is NaN.

        Args:
            logits: (m, n); n is 1 for one question per row.
            targets: (m, n) floats.
            exclusive: whether the n questions have one answer, so that a row is of one class out of n.
            totals, gradient, scale, weights, losses, out: as in ``softmax_cross_entropy``.
        """
        xp = self.xp
        m, n = logits.shape
        zero = xp.zeros_like(logits)
        values = xp.maximum(logits, zero) - logits * targets + xp.log1p(xp.exp(-xp.abs(logits)))
        correct = self._answered(logits, targets, exclusive)
        totals = self._add_totals(totals, xp.mean(values, axis=1), correct, weights, losses)
        if not gradient:
            return totals, None
        probability = get_activation("sigmoid").forward(xp, logits)
        dlogits = (probability - targets) * (self._scale(scale, m) / n)
        return totals, self._result(self._weighted(dlogits, weights), out)

    def sigmoid_focal(
        self,
        logits: Array,
        targets: Array,
        *,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        exclusive: bool = False,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Sigmoid and the focal loss of its result against targets in [0, 1], from the logits: the binary
        cross-entropy with less weight for what is already right (Lin et al., "Focal loss for dense object detection",
        2017).

        With p = sigma(z) and miss = p (1 - t) + (1 - p) t, the probability that is given to the other answer, the loss
        of an element is a miss^gamma times its binary cross-entropy c, where a = alpha t + (1 - alpha) (1 - t), or 1
        without ``alpha``. Its derivative is a miss^gamma (p - t + gamma p (1 - p) (1 - 2 t) / miss c). The loss of a
        row is the mean over its n elements; rows are correct as in ``binary_cross_entropy``.

        Args:
            logits, targets: (m, n).
            gamma: at least 0, which is binary cross-entropy.
            alpha: in [0, 1], the weight of the answer yes; None for equal weights of 1.
            exclusive: as in ``binary_cross_entropy``.
            totals, gradient, scale, weights, losses, out: as in ``softmax_cross_entropy``.
        """
        xp = self.xp
        m, n = logits.shape
        zero = xp.zeros_like(logits)
        e = xp.exp(-xp.abs(logits))
        larger = 1.0 / (1.0 + e)
        smaller = e * larger
        yes, no = xp.where(logits >= 0, larger, smaller), xp.where(logits >= 0, smaller, larger)
        entropy = xp.maximum(logits, zero) - logits * targets + xp.log1p(e)
        miss = yes * (1.0 - targets) + no * targets
        factor = miss**gamma
        if alpha is not None:
            factor = factor * (alpha * targets + (1.0 - alpha) * (1.0 - targets))
        correct = self._answered(logits, targets, exclusive)
        totals = self._add_totals(totals, xp.mean(factor * entropy, axis=1), correct, weights, losses)
        if not gradient:
            return totals, None
        # Where both are so small that they are 0, the factor is, too.
        least = xp.full_like(miss, float(xp.finfo(miss.dtype).smallest_normal))
        share = larger * smaller / xp.maximum(miss, least)
        slope = yes - targets + gamma * (share * (1.0 - 2.0 * targets)) * entropy
        dlogits = factor * slope * (self._scale(scale, m) / n)
        return totals, self._result(self._weighted(dlogits, weights), out)

    def squared_error(
        self,
        outputs: Array,
        targets: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """The squared error of outputs against targets.

        The loss of a row is the mean of ``(o - t)^2`` over its n elements, the gradient ``2 (o - t) / n`` times
        ``scale``. A row is correct where the largest output is at the largest target, or, for n = 1, where both are
        above 1/2 or both not; never where an output is NaN. (For regression that count means nothing; ignore it.)

        Args:
            outputs, targets: (m, n).
            totals, gradient, scale, weights, losses, out: as in ``softmax_cross_entropy``.
        """
        xp = self.xp
        m, n = outputs.shape
        difference = outputs - targets
        correct = self._nearest(outputs, targets)
        totals = self._add_totals(totals, xp.mean(difference * difference, axis=1), correct, weights, losses)
        if not gradient:
            return totals, None
        doutputs = difference * (2.0 * self._scale(scale, m) / n)
        return totals, self._result(self._weighted(doutputs, weights), out)

    def absolute_error(
        self,
        outputs: Array,
        targets: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """The absolute error of outputs against targets.

        The loss of a row is the mean of ``|o - t|`` over its n elements, the gradient ``sign(o - t) / n`` times
        ``scale``, 0 where both are equal. Rows are correct as in ``squared_error``.

        Args:
            outputs, targets: (m, n).
            totals, gradient, scale, weights, losses, out: as in ``softmax_cross_entropy``.
        """
        xp = self.xp
        m, n = outputs.shape
        difference = outputs - targets
        correct = self._nearest(outputs, targets)
        totals = self._add_totals(totals, xp.mean(xp.abs(difference), axis=1), correct, weights, losses)
        if not gradient:
            return totals, None
        doutputs = xp.sign(difference) * (self._scale(scale, m) / n)
        return totals, self._result(self._weighted(doutputs, weights), out)

    def huber(
        self,
        outputs: Array,
        targets: Array,
        *,
        delta: float = 1.0,
        totals: Array | None = None,
        gradient: bool = True,
        scale: float | None = None,
        weights: Array | None = None,
        losses: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """The Huber loss of outputs against targets: the squared error near 0, the absolute error far from it (Huber,
        "Robust estimation of a location parameter", 1964).

        With d = o - t and c = d, but no further from 0 than ``delta``, the loss of a row is the mean of c (d - c / 2)
        over its n elements: d^2 / 2 where |d| <= delta, and delta (|d| - delta / 2) elsewhere. The gradient is c / n
        times ``scale``. Rows are correct as in ``squared_error``.

        Args:
            outputs, targets: (m, n).
            delta: above 0.
            totals, gradient, scale, weights, losses, out: as in ``softmax_cross_entropy``.
        """
        xp = self.xp
        m, n = outputs.shape
        difference = outputs - targets
        near = xp.clip(difference, -delta, delta)
        correct = self._nearest(outputs, targets)
        totals = self._add_totals(totals, xp.mean(near * (difference - 0.5 * near), axis=1), correct, weights, losses)
        if not gradient:
            return totals, None
        doutputs = near * (self._scale(scale, m) / n)
        return totals, self._result(self._weighted(doutputs, weights), out)

    def argmax(self, x: Array) -> Array:
        """The column of the largest element of each row: the first of equal ones, 0 in a row with NaN. int64 (m,)."""
        xp = self.xp
        is_top = x == xp.max(x, axis=1, keepdims=True)
        return xp.argmax(xp.astype(is_top, xp.int8), axis=1)

    # ---- updates and checks on flat buffers -----------------------------------------------------------------------

    def update(
        self,
        rule: str,
        params: Array,
        gradient: Array,
        state: dict[str, Array],
        *,
        learning_rate: float | Array,
        number: int | Array = 1,
        weight_decay: float = 0.0,
        n_decayed: int = 0,
        **settings: Any,
    ) -> Array:
        """Parameters after an update by a rule of ``backends.updates``, on flat buffers, in place.

        params <- params - learning_rate (direction + weight_decay params), the decay for the first ``n_decayed``
        elements. The direction is the rule's, from the gradient and the state.

        Args:
            rule: ``"sgd"``, ``"adam"`` or another name in the table.
            params, gradient: (n,). The gradient's contents are arbitrary afterwards, except that rule ``"sgd"`` without
                state leaves them: a velocity may stand there.
            state: the arrays (n,) that the rule keeps with these settings, by name; updated in place. It may be empty
                for a rule that keeps none.
            number: of this update, from 1; a Python int, or an int64 array of shape (1,).
            settings: of the rule; the table has the defaults.

        Returns:
            ``params``.
        """
        known = get_rule(rule)
        known.check_state(state, settings)
        if not isinstance(number, int):
            number = self.xp.astype(number, self.wide)
        direction, changed = known.direction(self.xp, gradient, state, number, **known.with_defaults(settings))
        for name, values in changed.items():
            state[name] = self._result(values, state[name])
        change = learning_rate * direction
        if weight_decay != 0.0 and n_decayed > 0:
            change[:n_decayed] = change[:n_decayed] + (learning_rate * weight_decay) * params[:n_decayed]
        return self._result(params - change, params)

    def axpby(self, alpha: float, x: Array, beta: float, y: Array) -> Array:
        """alpha x + beta y, in ``y``: the operation of that name of the BLAS, on flat buffers that do not overlap.

        With ``beta == 0`` the contents of ``y``, NaN included, are not read.
        """
        scaled = alpha * x
        return self._result(scaled if beta == 0.0 else scaled + beta * y, y)

    def clip_norm(self, x: Array, limit: float, *, norm: Array | None = None) -> tuple[Array, Array]:
        """x times min(1, limit / (|x| + 1e-6)), in place, so that its norm is at most ``limit``; and |x| as it was.

        |x| is the root of the sum of squares of all elements. The formula is that of PyTorch's ``clip_grad_norm_``. A
        NaN makes all elements NaN; an infinite element makes itself NaN and finite ones 0: neither is hidden.

        Args:
            x: (n,).
            norm: (1,) of dtype ``wide``, where |x| goes.

        Returns:
            ``(x, norm)``.
        """
        xp = self.xp
        found = xp.reshape(xp.sqrt(self.sum_of_squares(x)), (1,))
        factor = limit / (found + 1e-6)
        factor = xp.where(factor >= 1.0, xp.ones_like(factor), factor)
        return self._result(x * xp.astype(factor, x.dtype), x), self._result(found, norm)

    def clip_values(self, x: Array, limit: float) -> Array:
        """Each element of ``x`` (n,) moved into [-limit, limit], in place; NaN stays NaN."""
        high = self.xp.full_like(x, limit)
        return self._result(self.xp.maximum(self.xp.minimum(x, high), -high), x)

    def update_average(self, average: Array, x: Array, decay: float, *, number: int | Array, first: int = 1) -> Array:
        """The exponential moving average of the values that ``x`` takes, in place: average + (1 - decay) (x - average).

        It begins with a copy: up to update ``first`` the average is ``x`` itself, whatever it was. In this form of the
        formula, and not as decay average + (1 - decay) x, an average of equal values is that value: in float32 the two
        rounded factors of the other do not add up to 1, and it would end 1e-5 off for a decay of 0.999.

        Args:
            average, x: (n,).
            number: of the update that has changed ``x``; a Python int, or an int64 array of shape (1,).
            first: the number of the update that the average begins with.
        """
        if isinstance(number, int) and number <= first:
            return self._result(x, average)
        moved = average + (1.0 - decay) * (x - average)
        return self._result(moved if isinstance(number, int) else self.xp.where(number <= first, x, moved), average)

    def add_penalty(
        self, gradient: Array, weights: Array, *, l1: float = 0.0, l2: float = 0.0, out: Array | None = None
    ) -> Array:
        """gradient + l2 weights + l1 sign(weights): that of the loss plus l2 / 2 sum w^2 + l1 sum |w|.

        A term with a factor of 0 is left out; the sign of 0 is 0.

        Args:
            gradient, weights: (n,). ``out`` may be the gradient.
        """
        if l2 != 0.0:
            gradient = gradient + l2 * weights
        if l1 != 0.0:
            gradient = gradient + l1 * self.xp.sign(weights)
        return self._result(gradient, out)

    def sum_of_squares(self, x: Array) -> Array:
        """The sum of the squares of all elements, of dtype ``wide``, shape ()."""
        x = self.xp.astype(x, self.wide)
        return self.xp.sum(x * x)

    def all_finite(self, x: Array) -> Array:
        """Whether no element is NaN or infinite: a boolean of shape () on the device."""
        return self.xp.all(self.xp.isfinite(x))

    # ---- rows and masks ---------------------------------------------------------------------------------------------

    def take_rows(
        self,
        rows: Array,
        order: Array | None,
        start: int | Array,
        count: int,
        *,
        scale: float | None = None,
        shift: float = 0.0,
        out: Array | None = None,
    ) -> Array:
        """A batch: rows ``order[start], ..., order[start + count - 1]``, times ``scale``, plus ``shift``.

        Args:
            rows: (n, ...), of any dtype.
            order: (n,) int64, the order of this epoch, or None for 0, 1, 2, ...
            start: the first position; a Python int, or an int64 array of shape (1,).
            count: how many; ``start + count`` must not exceed n.
            scale: None gathers only and keeps the dtype of ``rows``; with a number the result has the backend's dtype.
        """
        xp = self.xp
        if not isinstance(start, int):
            positions = start + xp.arange(count, dtype=xp.int64, device=self.device.handle)
            taken = xp.take(rows, positions if order is None else xp.take(order, positions, axis=0), axis=0)
        elif order is None:
            taken = rows[start : start + count, ...]
        else:
            taken = xp.take(rows, order[start : start + count], axis=0)
        if scale is not None:
            taken = xp.astype(taken, self.dtype) * scale + shift
        return self._result(taken, out)

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        *,
        rate: float,
        key: tuple[int, int],
        step: int | Array,
        out: Array | None = None,
    ) -> Array:
        """The mask of inverted dropout: 0 with probability ``rate``, else 1 / (1 - rate).

        An element depends on (key, step, its flat index) alone and is equal on every backend: see ``backends.random``.

        Args:
            rate: in [0, 1).
            key: from ``random.mask_key``.
            step: of the training step; a Python int, or an int64 array of shape (1,).
        """
        xp = self.xp
        size = 1
        for extent in shape:
            size *= extent
        bits = random.mask_bits(xp.arange(size, dtype=xp.int64, device=self.device.handle), key, step)
        kept = xp.astype(bits >= random.mask_threshold(rate), self.dtype)
        return self._result(xp.reshape(kept * (1.0 / (1.0 - rate)), shape), out)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _scale(self, scale: float | None, rows: int) -> float:
        return 1.0 / max(rows, 1) if scale is None else scale

    def _answered(self, logits: Array, targets: Array, exclusive: bool) -> Array:
        """Which rows a sigmoid answers correctly: (m,) bool."""
        xp = self.xp
        if exclusive:
            return (self.argmax(logits) == self.argmax(targets)) & xp.all(logits == logits, axis=1)
        return xp.all(((logits > 0) == (targets > 0.5)) & (logits == logits), axis=1)

    def _nearest(self, outputs: Array, targets: Array) -> Array:
        """Which rows have the largest output at the largest target, or both on the same side of 1/2: (m,) bool."""
        xp = self.xp
        if outputs.shape[1] == 1:
            correct = ((outputs > 0.5) == (targets > 0.5))[:, 0]
        else:
            correct = self.argmax(outputs) == self.argmax(targets)
        return correct & xp.all(outputs == outputs, axis=1)

    def _weighted(self, gradient: Array, weights: Array | None) -> Array:
        return gradient if weights is None else gradient * weights[:, None]

    def _add_totals(
        self, totals: Array | None, values: Array, correct: Array, weights: Array | None, losses: Array | None
    ) -> Array:
        """The sums over the rows, of their losses and of those that are correct, each times its weight."""
        xp = self.xp
        if losses is not None:
            self._result(values, losses)
        correct = xp.astype(correct, self.wide)
        if weights is not None:
            values, correct = values * weights, correct * xp.astype(weights, self.wide)
        sums = xp.stack([xp.sum(values, dtype=self.wide), xp.sum(correct)])
        return sums if totals is None else self._result(totals + sums, totals)


def _scaled(x: Array, weight: Array | None, bias: Array | None) -> Array:
    """weight x + bias"""
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias

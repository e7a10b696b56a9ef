"""How far two backends may differ in what they compute from equal numbers: the sum of their error bounds.

The bounds are those of ``backends.check``: each operation is evaluated by its formula, on the very numbers of the step,
in numbers that carry the error of any sound implementation. What a layer computes from a result of its own that nobody
replaced (dW from dz) inherits that result's error. Two things differ from the check:

* sums are bounded by min(n, L sqrt(n)) u with L = ``CONFIDENCE``, not by the worst case n u, which no training run
  comes near: of 10**9 sums of 1,000 products one is expected to be out of it with a probability of 3 %;
* the formulas are evaluated in float64, which is fast, and whose own rounding does not matter: devices are compared
  with each other, not with the formula.

Only a layer, loss or formula that has no bound there gets the rough one of ``Rounding.unknown``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from backends import Backend
from backends.activations import get_activation
from backends.check import Bounded, formulas
from backends.check.activations import ACTIVATIONS
from backends.typing import HostArray
from backends.updates import BUILT_IN

from ..feed import AugmentedFeed
from ..layers import (
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dropout,
    ElementwiseActivation,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    Softmax,
)
from ..layers.linear import BEFORE_ACTIVATION
from ..layers.norm import INVERSE, NORMALIZED, Normalization
from ..optimizers import Optimizer

#: L in the bound of Higham and Mary.
CONFIDENCE = 8.0
#: What a formula of a user's own may raise that is handed numbers with a bound, for which not everything is defined.
NO_BOUND = (AttributeError, TypeError, ValueError)


@dataclass
class LayerNumbers:
    """The numbers of a layer in one step, on the host.

    Attributes:
        layer: whose they are.
        x: the rows that it was given.
        scale: what its first product multiplies them by.
        parameter: gives a parameter by its name.
        dy: the gradient that it was given on the way back.
        tensors: what it has computed, by the names that the plan shows them under.
    """

    layer: Layer
    x: HostArray
    scale: float
    parameter: Callable[[str], HostArray]
    dy: HostArray = None
    tensors: dict[str, HostArray] = field(default_factory=dict)
    _backward: Any = None

    @property
    def is_linear(self) -> bool:
        return _computes_as(self.layer, Linear)

    @property
    def normalization(self) -> Normalization | None:
        """The layer, where it is one of these and does not compute in a way of its own."""
        layer = self.layer
        if not isinstance(layer, Normalization):
            return None
        return layer if any(_computes_as(layer, known) for known in (BatchNorm, LayerNorm, BatchNorm2d)) else None

    @property
    def weight(self) -> HostArray | None:
        """Of a normalization."""
        return self.parameter("weight") if "weight" in self.layer.parameters() else None

    @property
    def bias(self) -> HostArray | None:
        return self.parameter("bias") if "bias" in self.layer.parameters() else None

    @property
    def activation(self) -> str:
        """That which the layer is or ends in."""
        name: str = getattr(self.layer, "activation", "") or getattr(self.layer, "function", "identity")
        return name

    @property
    def has_formula_of_users(self) -> bool:
        """Whether its activation is one that was registered."""
        return self.activation not in (*ACTIVATIONS, Softmax.function)

    @property
    def saved(self) -> HostArray:
        """What the derivative of the activation is written in."""
        needs_z = get_activation(self.activation).needs_z
        return self.tensors["activation"] if not needs_z else self.tensors.get(BEFORE_ACTIVATION, self.x)


class Rounding:
    """How much two of some backends may differ in a tensor that they compute from equal numbers.

    Args:
        backends: of one dtype.
    """

    def __init__(self, *backends: Backend) -> None:
        self.formulas = formulas(*backends, confidence=CONFIDENCE, with_reference=False)

    def moves(self, layer: Layer) -> bool:
        """Whether a layer moves numbers and computes none."""
        return layer.only_moves

    def of_layer(self, numbers: LayerNumbers, phase: str, name: str) -> HostArray:
        """For what a layer computes, forward or backward."""
        given = numbers.x if phase == "forward" else numbers.dy
        try:
            with np.errstate(all="ignore"):
                bounded = (self._forward if phase == "forward" else self._backward)(numbers, name)
        except NO_BOUND:
            if not numbers.has_formula_of_users:
                raise
            bounded = None
        result = numbers.tensors[name]
        return self.unknown(result, given) if bounded is None else _shaped(_both(bounded), result.shape)

    def _forward(self, numbers: LayerNumbers, name: str) -> Any:
        layer, x = numbers.layer, numbers.x
        if (norm := numbers.normalization) is not None:
            results = self.formulas.normalize(
                _matrix(x), numbers.weight, numbers.bias, None, axis=norm.axis, epsilon=norm.epsilon
            )
            return dict(zip(("activation", NORMALIZED, INVERSE), results, strict=True)).get(name)
        if name not in ("activation", BEFORE_ACTIVATION):
            return None
        if (windows := _windows_of(layer)) is not None:
            return self._of_pictures(numbers, windows, name)
        if numbers.is_linear:
            assert isinstance(layer, Linear)
            (product,) = self.formulas.matmul(x, numbers.parameter("weight"), alpha=numbers.scale)
            bias = numbers.parameter("bias") if layer.bias else None
            y, z = self.formulas.bias_activation(product, bias, layer.activation, z_out=x)
            return z if name == BEFORE_ACTIVATION else y
        if _computes_as(layer, Softmax):
            return self.formulas.softmax(x)[0]
        if _computes_as(layer, ElementwiseActivation):
            return self.formulas.bias_activation(x, None, numbers.activation)[0]
        return self._masked(numbers, x)

    def _backward(self, numbers: LayerNumbers, name: str) -> Any:
        layer, dy = numbers.layer, numbers.dy
        if (norm := numbers.normalization) is not None:
            saved = numbers.tensors[NORMALIZED], numbers.tensors[INVERSE]
            dy = _matrix(dy)
            dx, db, dw = self.formulas.normalize_backward(dy, *saved, numbers.weight, norm.axis, dy, dy)
            return dw if name.endswith(".weight") else db if name.endswith(".bias") else dx
        if (windows := _windows_of(layer)) is not None:
            return self._of_pictures_backward(numbers, windows, name)
        if numbers.is_linear:
            if numbers._backward is None:
                numbers._backward = self.formulas.bias_activation_backward(dy, numbers.saved, numbers.activation, dy)
            dz, db = numbers._backward
            if name.endswith(".weight"):
                return self.formulas.matmul(numbers.x, dz, transpose_a=True, alpha=numbers.scale)[0]
            if name == "gradient of the input":
                return self.formulas.matmul(dz, numbers.parameter("weight"), transpose_b=True)[0]
            return db if name.endswith(".bias") else dz
        if _computes_as(layer, Softmax):
            return self.formulas.softmax_backward(dy, numbers.tensors["activation"])[0]
        if _computes_as(layer, ElementwiseActivation):
            return self.formulas.bias_activation_backward(dy, numbers.saved, numbers.activation)[0]
        return self._masked(numbers, dy)

    def _of_pictures(self, numbers: LayerNumbers, windows: dict[str, Any], name: str) -> Any:
        """Of convolution and pooling."""
        layer, x = numbers.layer, _pictures(numbers.x)
        if isinstance(layer, Conv2d):
            y, z = self.formulas.conv2d(
                x, numbers.parameter("weight"), numbers.bias, layer.activation, **windows, alpha=numbers.scale, z_out=x
            )
            return z if name == BEFORE_ACTIVATION else y
        pool = self.formulas.max_pool2d if isinstance(layer, MaxPool2d | GlobalMaxPool2d) else self.formulas.avg_pool2d
        return pool(x, **(windows or _whole(x)))[0]

    def _of_pictures_backward(self, numbers: LayerNumbers, windows: dict[str, Any], name: str) -> Any:
        layer, x, dy = numbers.layer, _pictures(numbers.x), numbers.dy
        if isinstance(layer, Conv2d):
            if numbers._backward is None:
                weight, saved = numbers.parameter("weight"), numbers.saved
                numbers._backward = self.formulas.conv2d_backward(
                    dy, saved, x, weight, numbers.activation, **windows, alpha=numbers.scale, bias_gradient=dy
                )
            dx, dz, dw, db = numbers._backward
            if name == "gradient of the input":
                return dx
            return dw if name.endswith(".weight") else db if name.endswith(".bias") else dz
        settings = windows or _whole(x)
        y = _pictures(numbers.tensors["activation"])
        dy = dy.reshape(y.shape)
        if isinstance(layer, MaxPool2d | GlobalMaxPool2d):
            return self.formulas.max_pool2d_backward(dy, x, y, **settings)[0]
        return self.formulas.avg_pool2d_backward(dy, x.shape[1:3], **settings)[0]

    def _masked(self, numbers: LayerNumbers, given: HostArray) -> Any:
        """Of Dropout; None for a layer that is not known."""
        mask = numbers.tensors.get("dropout mask")
        if mask is None or not _computes_as(numbers.layer, Dropout):
            return None
        return self.formulas.multiply(given, mask)[0]

    def loss(
        self, operation: str, outputs: HostArray, targets: HostArray, **options: Any
    ) -> tuple[HostArray, HostArray]:
        """For loss sum and count of correct rows, (2,), and for the gradient of the mean loss.

        Args:
            options: of the operation, such as ``weights``.
        """
        formula = getattr(self.formulas, operation, None) if operation else None
        if formula is None:
            unknown = self.unknown(outputs, outputs)
            return np.asarray([unknown.sum(), 0.0]), unknown
        with np.errstate(all="ignore"):
            totals, gradient = formula(outputs, targets, **options)
        return _both(totals), _both(gradient)

    def update(
        self, optimizer: Optimizer, before: dict[str, HostArray], n_decayed: int, differ: HostArray
    ) -> dict[str, HostArray]:
        """For the parameters and the optimizer's state after an update, by the names of the flat buffers.

        Args:
            before: these and the gradient, as they were.
            differ: which elements are asked for, a boolean array.
        """
        names = ("parameter", *optimizer.state)
        unknown = partial(self.unknown, given=before["gradient"])
        if type(optimizer).update_of is not Optimizer.update_of:
            return {name: unknown(before[name]) for name in names}
        is_ours = optimizer.rule in BUILT_IN
        if not is_ours:  # it may be one that is not elementwise
            differ = np.ones_like(differ)
        indices = np.flatnonzero(differ)
        given = {name: values[indices] for name, values in before.items()}
        try:
            with np.errstate(all="ignore"):
                n_decayed, gradient = int(np.searchsorted(indices, n_decayed)), self.formulas.given(given["gradient"])
                if penalty := optimizer.penalty():
                    (changed,) = self.formulas.add_penalty(gradient, given["parameter"], **penalty)
                    gradient = changed.where(np.arange(len(indices)) < n_decayed, gradient)
                results = self.formulas.update(
                    optimizer.rule, given["parameter"], gradient, {name: given[name] for name in names[1:]},
                    learning_rate=optimizer.rate(optimizer.steps), number=optimizer.steps,
                    weight_decay=optimizer.weight_decay if optimizer.decoupled else 0.0, n_decayed=n_decayed,
                    **optimizer.settings_of_rule(),
                )  # fmt: skip
        except NO_BOUND:
            if is_ours:
                raise
            return {name: unknown(before[name]) for name in names}
        errors = {name: np.zeros(differ.shape) for name in names}
        for error, result in zip(errors.values(), results, strict=True):
            error[indices] = _both(result)
        return errors

    def pictures(self, feed: AugmentedFeed, x: HostArray, drawn: HostArray) -> HostArray:
        """For pictures that are distorted at random, (m, h, w, c) as they were: the draws, which have no error, are
        given."""
        host = feed.backend.to_numpy
        with np.errstate(all="ignore"):
            (maps,) = self.formulas.affine_maps(drawn, feed.size_of_pictures, **feed.settings)
            fields = None
            if feed.smoothing is not None:
                down, across, _ = feed.smoothing
                (fields,) = self.formulas.elastic_fields(drawn, host(down), host(across))
            (y,) = self.formulas.warp(x, maps, fields, fill=feed.outside, cutout=feed.cutout)
        return _both(y)

    def flat(self, operation: str, *inputs: Any, **options: Any) -> HostArray:
        """For the result of an operation on flat buffers, whose contents before it are given."""
        with np.errstate(all="ignore"):
            result = getattr(self.formulas, operation)(*inputs, **options)[0]
        return _both(result) if isinstance(result, Bounded) else np.zeros(result.shape)

    def unknown(self, result: HostArray, given: HostArray) -> HostArray:
        """For what has no bound: taken for sums over everything that was given, of terms as large as the root mean
        square of that or of the result: gamma~_size (|result| + rms)."""
        rms = max(float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) for values in (result, given))
        return 2.0 * self.formulas.real.of_sum(given.size) * (np.abs(result).astype(np.float64) + rms)


def _windows_of(layer: Layer) -> dict[str, Any] | None:
    """The settings of an operation on pictures, empty for windows that are as large as these; None for another."""
    if _computes_as(layer, Conv2d):
        assert isinstance(layer, Conv2d)
        return layer.windows
    if _computes_as(layer, MaxPool2d) or _computes_as(layer, AvgPool2d):
        assert isinstance(layer, MaxPool2d | AvgPool2d)
        return layer.windows
    return {} if _computes_as(layer, GlobalMaxPool2d) or _computes_as(layer, GlobalAvgPool2d) else None


def _whole(x: HostArray) -> dict[str, Any]:
    """One window over the whole picture."""
    return {"size": x.shape[1:3], "stride": x.shape[1:3]}


def _pictures(x: HostArray) -> HostArray:
    """Rows (m, height, width) with their one channel; (m, channels) as pictures of one number for each channel."""
    if x.ndim == 2:
        return x[:, None, None, :]
    return x if x.ndim == 4 else x[..., None]


def _matrix(x: HostArray) -> HostArray:
    return x.reshape(-1, x.shape[-1])


def _shaped(error: HostArray, shape: tuple[int, ...]) -> HostArray:
    """An error as its numbers are seen; one for all of them, where it is."""
    return error.reshape(shape) if error.size == math.prod(shape) else error


def _both(bounded: Bounded) -> HostArray:
    """Each of two backends may err so much."""
    return 2.0 * bounded.error


def _computes_as(layer: Layer, known: type[Layer]) -> bool:
    """Whether a layer is of a known kind, and does not compute by a forward or backward of its own."""
    own, theirs = type(layer), known
    return isinstance(layer, known) and (own.forward, own.backward) == (theirs.forward, theirs.backward)


def rounding_text(dtype: str) -> str:
    """What is allowed, in a line."""
    return (
        f"twice the error bound of each operation, its sums of K terms within min(K, {CONFIDENCE:g} sqrt(K)) u; "
        f"u = 2^{round(math.log2(float(np.finfo(dtype).eps) / 2))}"
    )

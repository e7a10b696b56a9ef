"""Losses: what a network is trained to make small. Each is the mean over the rows of a batch.

The formulas, for loss, count of correct rows and gradient, are operations of ``backends.base.Backend``. A loss with an
output activation (softmax, sigmoid) is computed from the values *before* it: stable, and the derivative is simply
(probability - target) / m. A network without that last layer hands its outputs, the logits, to the loss and means the
same.

A loss of your own is a function: see ``CustomLoss``.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from backends import Backend
from backends.arguments import (
    ArgumentTypeError,
    NamedArguments,
    check_choice,
    check_flag,
    check_function,
    check_number,
    check_text,
    did_you_mean,
    shown,
    unknown,
)
from backends.typing import Array

Targets = Literal["classes", "values"]
#: Of which a loss can have the values before.
OUTPUT_ACTIVATIONS = ("", "softmax", "sigmoid")
#: Operations that are told whether the yes-or-no questions of a row have one answer.
ANSWERS = ("binary_cross_entropy", "sigmoid_focal")


@dataclass(frozen=True)
class Loss(NamedArguments):
    """What a loss is: how it is computed, which targets it takes, and what its outputs mean.

    Attributes:
        name: what ``get_loss`` and the command line call it.
        operation: the operation of ``Backend`` that computes it.
        output_activation: the function that turns the values the loss is computed from into probabilities; "" for
            none.
        targets: ``"classes"`` (one label per row) or ``"values"`` (n numbers per row).
        unit_interval: whether targets must lie in [0, 1].
        settings: of the operation, as pairs of name and value.
    """

    name: str
    operation: str
    output_activation: str = ""
    targets: Targets = "values"
    unit_interval: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_text("Loss: name", self.name)
        check_text("Loss: operation", self.operation)
        check_choice("Loss: output_activation", self.output_activation, OUTPUT_ACTIVATIONS)
        check_choice("Loss: targets", self.targets, ("classes", "values"))
        check_flag("Loss: unit_interval", self.unit_interval)
        if self.operation and not hasattr(Backend, self.operation):
            raise ValueError(f"Loss: a backend has no operation {shown(self.operation)}")
        try:
            dict(self.settings)
        except (TypeError, ValueError):
            wanted = "pairs of name and value"
            raise ArgumentTypeError(f"Loss: settings must be {wanted}, not {shown(self.settings)}") from None

    @property
    def recordable(self) -> bool:
        """Whether it computes by operations of the backend alone, so that a training step can be repeated without its
        Python code. Of a subclass with a ``__call__`` of its own it is not known, unless it says so."""
        return type(self).__call__ is Loss.__call__

    def __call__(
        self,
        backend: Backend,
        outputs: Array,
        targets: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        weights: Array | None = None,
        losses: Array | None = None,
        scale: float | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """``(totals, doutputs)``: [loss sum, correct rows] added to ``totals``, and the gradient of the mean loss.

        Args:
            weights: (m,), what each row counts, in all three; 1 by default.
            losses: (m,), where the loss of each row is written, without its weight.
            scale: what the gradient of a row's loss is multiplied by, where that is not 1/m.
        """
        operation = getattr(backend, self.operation)
        options = dict(self.settings) if scale is None else {**dict(self.settings), "scale": scale}
        result: tuple[Array, Array | None] = operation(
            outputs,
            targets,
            totals=totals,
            gradient=gradient,
            weights=weights,
            losses=losses,
            out=out,
            **options,
        )
        return result

    @property
    def own_settings(self) -> dict[str, Any]:
        """What ``get_loss`` takes with its name to give an equal one."""
        return {}

    def with_one_answer(self) -> Loss:
        """The same loss for rows that are of one class out of n: where it is of n yes-or-no questions, a row is correct
        where the largest output is that of its class."""
        if self.operation not in ANSWERS:
            return self
        same = copy.copy(self)
        object.__setattr__(same, "settings", (*self.settings, ("exclusive", True)))
        return same


class _Named(Loss):
    """A loss that comes with xpnet, whose ``__init__`` takes its settings."""

    @property
    def own_settings(self) -> dict[str, Any]:
        return dict(self.settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings)})"


class SoftmaxCrossEntropy(_Named):
    """-log(softmax(z)_label): one class out of n per row.

    Args:
        label_smoothing: s in [0, 1): the target of the class is 1 - s + s / n, that of the others s / n, as in PyTorch.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        smoothing = check_number("label_smoothing", label_smoothing, least=0.0, below=1.0)
        settings = (("label_smoothing", smoothing),) if smoothing else ()
        super().__init__(
            "softmax_cross_entropy",
            "softmax_cross_entropy",
            output_activation="softmax",
            targets="classes",
            settings=settings,
        )


class BinaryCrossEntropy(_Named):
    """-t log(p) - (1 - t) log(1 - p), p = sigmoid(z): a yes or a no per output, the mean over the outputs.

    Targets are (m, n) floats from 0 to 1, of which several in a row may be 1; or class labels, 0 and 1 for one output,
    one of n for n outputs.
    """

    def __init__(self) -> None:
        super().__init__(
            "binary_cross_entropy", "binary_cross_entropy", output_activation="sigmoid", unit_interval=True
        )


class Focal(_Named):
    """Binary cross-entropy of a sigmoid per output, with less weight for what is already right: the focal loss of Lin
    et al. (2017), a (1 - p_t)^gamma (-log p_t), p_t being the probability of the right answer and a = alpha for a yes,
    1 - alpha for a no; the mean over the outputs. Targets are as for ``BinaryCrossEntropy``.

    Args:
        gamma: at least 0, which is binary cross-entropy.
        alpha: in [0, 1]; None for no weights, a = 1.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25) -> None:
        of_yes = None if alpha is None else check_number("alpha", alpha, least=0.0, most=1.0)
        super().__init__(
            "focal",
            "sigmoid_focal",
            output_activation="sigmoid",
            unit_interval=True,
            settings=(("gamma", check_number("gamma", gamma, least=0.0)), ("alpha", of_yes)),
        )


class MeanSquaredError(_Named):
    """The mean over the outputs of (y - t)^2: regression, or classes as numbers."""

    def __init__(self) -> None:
        super().__init__("mean_squared_error", "squared_error")


class MeanAbsoluteError(_Named):
    """The mean over the outputs of |y - t|: regression in which a few rows may be far off."""

    def __init__(self) -> None:
        super().__init__("mean_absolute_error", "absolute_error")


class Huber(_Named):
    """The mean over the outputs of d^2 / 2 for d = y - t up to ``delta``, and delta (|d| - delta / 2) beyond: the
    squared error of what is near, the absolute error of what is far off.

    Args:
        delta: above 0.
    """

    def __init__(self, delta: float = 1.0) -> None:
        chosen = check_number("delta", delta, above=0.0, hint="; at 0 it would be mean_absolute_error")
        super().__init__("huber", "huber", settings=(("delta", chosen),))


class CustomLoss(Loss):
    """A loss of your own, from a function of the array library's namespace, the outputs and the targets.

    ``function(xp, outputs, targets)`` gives ``(losses, slopes)``: the loss of each row, (m,), and its derivative with
    respect to the outputs of that row, (m, n). ``xp`` follows the array-API standard, whatever the device. Weights, the
    mean over the rows and the division of the gradient by m are not the function's concern. ``nn.check_gradients``
    says whether losses and slopes fit each other. ::

        def pinball(xp, outputs, targets):
            short = targets - outputs
            losses = xp.mean(xp.maximum(0.9 * short, -0.1 * short), axis=1)
            return losses, xp.where(short > 0, -0.9, 0.1) / outputs.shape[1]

        Trainer(model, pinball)

    Args:
        function: as above. It must not write into its arguments.
        name: by default the function's.
        targets: what it is given: ``"values"``, floats (m, n), or ``"classes"``, int64 labels (m,).
        output_activation: that of which ``outputs`` are the values before, ``"softmax"`` or ``"sigmoid"``; "" where the
            outputs are the network's as they are.
        recordable: whether a training step may be repeated without the function's Python code: it must then compute by
            operations of a backend alone, so only say so where you know how steps are recorded.
    """

    def __init__(
        self,
        function: Callable[[Any, Array, Array], tuple[Array, Array]],
        *,
        name: str = "",
        targets: Targets = "values",
        output_activation: str = "",
        recordable: bool = False,
    ) -> None:
        check_function("the function of a loss", function, "a function (xp, outputs, targets)")
        check_text("the name of a loss", name)
        check_flag("recordable", recordable)
        called = name or getattr(function, "__name__", type(function).__name__)
        if {called, ALIASES.get(called)} & {name for name, loss in LOSSES.items() if isinstance(loss, _Named)}:
            raise ValueError(f"there is a loss {called} already; give yours another name: CustomLoss(..., name=...)")
        settings = ("function", function), ("recordable", recordable)
        super().__init__(called, "", output_activation=output_activation, targets=targets, settings=settings)

    @property
    def recordable(self) -> bool:
        return bool(dict(self.settings)["recordable"])

    def __call__(
        self,
        backend: Backend,
        outputs: Array,
        targets: Array,
        *,
        totals: Array | None = None,
        gradient: bool = True,
        weights: Array | None = None,
        losses: Array | None = None,
        scale: float | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        xp, (m, _) = backend.xp, outputs.shape
        values, slopes = self._computed(xp, outputs, targets)
        if losses is not None:
            losses[...] = values
        counted = xp.astype(self._correct(backend, outputs, targets), backend.wide)
        if weights is not None:
            values, counted = values * weights, counted * xp.astype(weights, backend.wide)
        sums = xp.stack([xp.sum(xp.astype(values, backend.wide)), xp.sum(counted)])
        if totals is None:
            totals = sums
        else:
            totals += sums
        if not gradient:
            return totals, None
        share = 1.0 / max(m, 1) if scale is None else scale
        slopes = slopes * share if weights is None else slopes * (weights * share)[:, None]
        if out is None:
            return totals, slopes
        out[...] = slopes
        return totals, out

    def _computed(self, xp: Any, outputs: Array, targets: Array) -> tuple[Array, Array]:
        found = dict(self.settings)["function"](xp, outputs, targets)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                f"loss {self.name}: its function must give two arrays, the losses of the rows and their derivatives, "
                f"not {type(found).__name__}"
            )
        values, slopes = found
        shapes = tuple(getattr(values, "shape", ())), tuple(getattr(slopes, "shape", ()))
        if shapes != (tuple(outputs.shape[:1]), tuple(outputs.shape)):
            raise ValueError(
                f"loss {self.name}: its function gave arrays of shapes {shapes[0]} and {shapes[1]}; for outputs "
                f"{tuple(outputs.shape)} the losses of the rows are {tuple(outputs.shape[:1])} and their derivatives "
                f"{tuple(outputs.shape)}"
            )
        return values, slopes

    def _correct(self, backend: Backend, outputs: Array, targets: Array) -> Array:
        if self.targets == "classes":
            return backend.argmax(outputs) == targets
        if outputs.shape[1] > 1:
            return backend.argmax(outputs) == backend.argmax(targets)
        border = 0.0 if self.output_activation == "sigmoid" else 0.5
        return ((outputs > border) == (targets > 0.5))[:, 0]


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        SoftmaxCrossEntropy(),
        BinaryCrossEntropy(),
        MeanSquaredError(),
        MeanAbsoluteError(),
        Huber(),
        Focal(),
    )
}
#: Shorter names that people know.
ALIASES = {
    "cross_entropy": "softmax_cross_entropy",
    "bce": "binary_cross_entropy",
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
}


#: Under these names no other loss can be registered.
BUILT_IN = frozenset({*LOSSES, *ALIASES})


def register_loss(loss: Loss | Callable[..., Any]) -> Loss:
    """Let a loss of your own be asked for by its name; so a model that was trained with it, saved and loaded goes on
    with it.

    Raises:
        ValueError: its name is that of a built-in loss.
        TypeError: it is neither a Loss nor a function.
    """
    if isinstance(loss, str):
        raise TypeError(f"a loss to be registered is a Loss or a function (xp, outputs, targets), not {shown(loss)}")
    made = get_loss(loss)
    if made.name in BUILT_IN:
        raise ValueError(f"the loss {made.name!r} is built in; register yours under another name")
    LOSSES[made.name] = made
    return made


def get_loss(loss: str | Loss | Callable[..., Any], **settings: Any) -> Loss:
    """The loss that ``loss`` names, with these settings; a ``Loss`` as it is; a function as a ``CustomLoss``.

    Raises:
        ValueError: the name is not known (the message lists those that are), the loss has no such setting, or the
            setting's value cannot be.
        TypeError: it is none of the three.
    """
    if not isinstance(loss, str):
        if isinstance(loss, type) or not callable(loss):
            hint = f"; write {loss.__name__}()" if isinstance(loss, type) and issubclass(loss, Loss) else ""
            raise TypeError(f"a loss is a name, a Loss or a function (xp, outputs, targets), not {shown(loss)}{hint}")
        return loss if isinstance(loss, Loss) else CustomLoss(loss)
    name = ALIASES.get(loss, loss)
    if name not in LOSSES:
        raise ValueError(unknown("loss", loss, [*LOSSES, *ALIASES], "; one of your own is given as a function"))
    if not settings:
        return LOSSES[name]
    known = loss_settings(name)
    for setting in settings:
        if setting not in known:
            near = did_you_mean(setting, known)
            raise ValueError(
                f"the loss {name} has no setting {shown(setting)}{near}; it has {', '.join(known) or 'none'}"
            )
    return type(LOSSES[name])(**settings)


def loss_settings(name: str) -> list[str]:
    """The settings of the loss of that name or alias: what ``get_loss`` takes with it."""
    kind = type(LOSSES[ALIASES.get(name, name)])
    return [] if not issubclass(kind, _Named) else [*inspect.signature(kind).parameters]

"""Losses: what a network is trained to make small. Each is the mean over the rows of a batch.

The formulas, for loss, count of correct rows and gradient, are operations of ``backends.base.Backend``. A loss with an
output activation (softmax, sigmoid) is computed from the values *before* it: stable, and the derivative is simply
(probability - target) / m. A network without that last layer hands its outputs, the logits, to the loss and means the
same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backends import Backend
from backends.typing import Array


@dataclass(frozen=True)
class Loss:
    """What a loss is: how it is computed, which targets it takes, and what its outputs mean.

    Attributes:
        name: what ``get_loss`` and the command line call it.
        operation: the operation of ``Backend`` that computes it.
        output_activation: the function that turns the values the loss is computed from into probabilities; "" for
            none.
        targets: ``"classes"`` (one label per row) or ``"values"`` (n numbers per row).
        unit_interval: whether targets must lie in [0, 1].
    """

    name: str
    operation: str
    output_activation: str = ""
    targets: Literal["classes", "values"] = "values"
    unit_interval: bool = False

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
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """``(totals, doutputs)``: [loss sum, correct rows] added to ``totals``, and the gradient of the mean loss.

        Args:
            weights: (m,), what each row counts, in all three; 1 by default.
            losses: (m,), where the loss of each row is written, without its weight.
        """
        operation = getattr(backend, self.operation)
        result: tuple[Array, Array | None] = operation(
            outputs, targets, totals=totals, gradient=gradient, weights=weights, losses=losses, out=out
        )
        return result


LOSSES = {
    loss.name: loss
    for loss in (
        # -log(softmax(z)_label): one class out of n per row
        Loss("softmax_cross_entropy", "softmax_cross_entropy", output_activation="softmax", targets="classes"),
        # -t log(p) - (1 - t) log(1 - p), p = sigmoid(z): a yes or a no per output
        Loss("binary_cross_entropy", "binary_cross_entropy", output_activation="sigmoid", unit_interval=True),
        # the mean over the outputs of (y - t)^2: regression, or classes as numbers
        Loss("mean_squared_error", "squared_error"),
    )
}
#: Shorter names that people know.
ALIASES = {"cross_entropy": "softmax_cross_entropy", "bce": "binary_cross_entropy", "mse": "mean_squared_error"}


def get_loss(loss: str | Loss) -> Loss:
    """The loss that ``loss`` names; a ValueError that lists the known names otherwise."""
    if isinstance(loss, Loss):
        return loss
    name = ALIASES.get(loss, loss)
    if name not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; known are {', '.join([*LOSSES, *ALIASES])}")
    return LOSSES[name]

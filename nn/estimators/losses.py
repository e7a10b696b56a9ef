"""The losses of the estimators: scikit-learn's by their names, and any other of ``nn``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from backends.typing import Array, Namespace

from ..losses import CustomLoss, Loss, get_loss


class Objective(NamedTuple):
    """What a network is trained to make small, and how that relates to scikit-learn's loss.

    Attributes:
        loss: of ``nn``.
        times: its gradient is so many times that of scikit-learn. Steps are made equal by a learning rate that is so
            many times smaller (sgd), an epsilon (adam) and a penalty that are so many times larger.
        told: scikit-learn's number for it is so many times its own.
    """

    loss: Loss
    times: float = 1.0
    told: float = 1.0


def poisson(xp: Namespace, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Half the Poisson deviance for outputs z that are the logarithm of what is expected, the sum over the outputs:
    exp(z) - t z, and t log(t) - t, which is 0 for z = log(t); the slope is exp(z) - t."""
    expected = xp.exp(outputs)
    positive = xp.where(targets > 0, targets, xp.ones_like(targets))
    losses = expected - targets * outputs + targets * xp.log(positive) - targets
    return xp.sum(losses, axis=1), expected - targets


def of_classes(loss: str | Loss | Callable[..., Any], kind: str, n_classes: int) -> tuple[Objective, int, str]:
    """The objective of a classifier, the number of outputs, and the output activation by scikit-learn's name.

    Args:
        loss: ``"log_loss"``; or a loss of ``nn``, computed from the probabilities where it has no output activation.
        kind: of the labels, ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        n_classes: how many classes there are, or labels in a row.

    Raises:
        ValueError: the loss is not known, or is for one class out of n, and rows have several labels.
    """
    if loss == "log_loss":
        if kind == "multiclass":
            return Objective(get_loss("softmax_cross_entropy")), n_classes, "softmax"
        # Ours is the mean over the labels of a row, scikit-learn's their sum.
        outputs = n_classes if kind == "multilabel" else 1
        return Objective(get_loss("binary_cross_entropy"), 1.0 / outputs, float(outputs)), outputs, "logistic"
    found = get_loss(loss)
    one_class = found.output_activation == "softmax" or found.targets == "classes"
    if kind == "multilabel":
        if one_class:
            raise ValueError(f"the loss {found.name} is for one class a row, but these rows have several labels")
        return Objective(found), n_classes, "logistic"
    if kind == "binary" and not one_class:
        return Objective(found), 1, "logistic"
    several = found.output_activation == "sigmoid"
    return Objective(found), max(n_classes, 2), "logistic" if several else "softmax"


def of_values(loss: str | Loss | Callable[..., Any], n_outputs: int) -> tuple[Objective, str]:
    """The objective of a regressor, and the output activation by scikit-learn's name.

    Raises:
        ValueError: the loss is not known, or is one of classes.
    """
    if loss == "squared_error":
        # The mean over the outputs of (y - t)^2; scikit-learn's gradient is that of half the sum.
        return Objective(get_loss("mean_squared_error"), 2.0 / n_outputs, 0.5), "identity"
    if loss == "poisson":
        return Objective(CustomLoss(poisson)), "exp"
    found = get_loss(loss)
    if found.output_activation or found.targets == "classes":
        raise ValueError(f"the loss {found.name} is one of classes; a regressor needs one of values")
    return Objective(found), "identity"

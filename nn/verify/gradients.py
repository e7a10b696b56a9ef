"""A check of hand-written gradients against central differences, for users' own layers and for the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.arguments import check_flag, check_kind, check_number, check_seed, check_whole_number

from ..data import Dataset, as_dataset
from ..data.streamed.reader import some_rows
from ..data.weights import weighted
from ..losses import Loss
from ..messages import OneSentence
from ..model import Sequential
from ..trainer import Trainer

#: Steps tried, one after the other, until the differences of two sizes agree.
STEPS = (2e-4, 5e-5, 1.25e-5)
#: Derivatives smaller than this times max(1, |loss|) are compared absolutely: rounding hides their last digits.
FLOOR = 1e-3


class GradientError(OneSentence, AssertionError):
    """A gradient from backpropagation differs from the numeric one."""


@dataclass
class GradientReport:
    """What ``check_gradients`` saw.

    Attributes:
        worst: the largest error, relative to the larger of the two derivatives (and of ``FLOOR``).
        where: the direction or the parameter of that error.
        checked: how many derivatives were compared.
        kinks: how many were drawn again, or left out, because the loss is not smooth there (ReLU at 0).
    """

    worst: float = 0.0
    where: str = ""
    checked: int = 0
    kinks: int = 0


def check_gradients(
    model: Sequential,
    loss: str | Loss | Callable[..., Any],
    x: Any,
    y: Any,
    *,
    directions: int = 10,
    coordinates: bool = False,
    tolerance: float = 1e-6,
    seed: int = 0,
    sample_weight: Any = None,
) -> GradientReport:
    """Compare ``model.backward`` with central differences of the loss on the rows ``(x, y)``.

    The loss is differentiated along random directions through all parameters at once and, with ``coordinates``, along
    each parameter by itself (for tiny networks). Differences of two step sizes are combined by Richardson's
    extrapolation; where the sizes disagree, the loss has a kink nearby and another direction is drawn. Dropout keeps
    the mask of the model's current step.

    Args:
        model: in float64; its parameters are left as they were.
        tolerance: the largest relative error allowed.
        sample_weight: (m,), what each row counts.

    Raises:
        GradientError: an error is larger; the message names where.
        ValueError: the model is not in float64, or every direction drawn has a kink.
    """
    check_kind("model", model, Sequential, "a Sequential")
    directions = check_whole_number("directions", directions, least=0)
    coordinates, seed = check_flag("coordinates", coordinates), check_seed("seed", seed)
    tolerance = check_number("tolerance", tolerance, above=0.0)
    if model.backend.dtype_name != "float64":
        raise ValueError("gradients are checked in float64; build the model with dtype='float64'")
    rng = np.random.default_rng(seed)
    report = GradientReport()
    state = model.backend.to_numpy(model.store.flat_state).copy()  # a layer's forward may move it
    loss_at, gradient = _loss_and_gradient(model, loss, weighted(as_dataset((x, y)), sample_weight))
    start = model.backend.to_numpy(model.flat_parameters).copy()

    def compare(direction: np.ndarray, where: str) -> bool:
        numeric = _derivative(loss_at, start, direction, tolerance)
        if numeric is None:
            report.kinks += 1
            return False
        backprop = float(gradient @ direction)
        size = max(abs(numeric), abs(backprop), FLOOR * max(1.0, abs(loss_at(start))))
        error = abs(numeric - backprop) / size
        report.checked += 1
        if not error <= report.worst:
            report.worst, report.where = error, where
        if not error <= tolerance:
            raise GradientError(
                f"{where}: backpropagation gives {backprop:.12g}, central differences {numeric:.12g} "
                f"(relative error {error:.2g}, allowed {tolerance:g})"
            )
        return True

    try:
        spans = {name: model.store.layout.span(name) for name in model.parameters}
        for number in range(directions):
            for _ in range(20):
                direction = np.zeros_like(start)
                for span in spans.values():
                    direction[span] = rng.standard_normal(span.stop - span.start)
                if compare(direction / np.linalg.norm(direction), f"random direction {number}"):
                    break
            else:
                raise ValueError("the loss has a kink along every direction tried; use other rows or initial values")
        if coordinates:
            for name, span in spans.items():
                for index in range(span.start, span.stop):
                    direction = np.zeros_like(start)
                    direction[index] = 1.0
                    compare(direction, f"{name}[{index - span.start}]")
    finally:
        model.flat_parameters[...] = model.backend.asarray(start)
        model.store.flat_state[...] = model.backend.asarray(state)
    return report


def _loss_and_gradient(
    model: Sequential, loss: str | Loss | Callable[..., Any], data: Dataset
) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
    """The loss as a function of the flat parameters, and its gradient by backpropagation where they are now."""
    backend = model.backend
    trainer = Trainer(model, loss)
    with backend.use():
        rows = trainer.upload(some_rows(data, "gradients"))
        batch, targets, weights = trainer.feed(rows).batch(0, len(rows))
        plan = trainer.plan(rows, training=True)

    def loss_at(parameters: np.ndarray, gradient: bool = False) -> float:
        with backend.use():
            model.flat_parameters[...] = backend.asarray(parameters)
            totals = backend.zeros((2,), backend.wide)
            totals = (plan.gradients if gradient else plan.evaluate)(batch, targets, totals, model.step, weights)
            return float(backend.to_numpy(totals)[0]) / len(rows)

    loss_at(backend.to_numpy(model.flat_parameters).copy(), gradient=True)
    return loss_at, backend.to_numpy(model.flat_gradients).copy()


def _derivative(
    loss_at: Callable[[np.ndarray], float], start: np.ndarray, direction: np.ndarray, tolerance: float
) -> float | None:
    """The derivative of the loss along ``direction``; None where the loss has a kink there.

    For a smooth function the central differences D of steps h and h/2 agree up to O(h^2), and the jumps J between
    forward and backward differences halve with h. A kink breaks the one or the other, wherever it lies in [-h, h].
    """
    here = loss_at(start)
    floor = FLOOR * max(1.0, abs(here))
    for h in STEPS:
        ahead, behind = loss_at(start + h * direction), loss_at(start - h * direction)
        half_ahead, half_behind = loss_at(start + h / 2 * direction), loss_at(start - h / 2 * direction)
        wide, narrow = (ahead - behind) / (2 * h), (half_ahead - half_behind) / h
        jump, half_jump = (ahead - 2 * here + behind) / h, (half_ahead - 2 * here + half_behind) / (h / 2)
        allowed = 0.2 * tolerance * max(abs(narrow), floor) + 20 * np.finfo(float).eps * max(1.0, abs(here)) / h
        if abs(wide - narrow) <= allowed and abs(2 * half_jump - jump) <= allowed:
            return (4 * narrow - wide) / 3
    return None

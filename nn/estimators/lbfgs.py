"""L-BFGS: SciPy's, over the flat buffer of the parameters; loss and gradient are those of a training step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from ..data import Dataset
from ..trainer import Trainer
from .losses import Objective


def minimized(
    trainer: Trainer,
    data: Dataset,
    objective: Objective,
    penalty: float,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    after: Callable[[int, float], bool],
) -> tuple[int, float]:
    """Move the parameters to where the mean loss over all rows, with the penalty, is least.

    Args:
        trainer: of the network; its loss is differentiated, its optimizer is not used.
        objective: how that loss relates to the one which is made small.
        penalty: times half the sum of the squares of all weights, of one row.
        max_iter: most iterations.
        max_fun: most evaluations of loss and gradient.
        tol: training ends where no element of the gradient is larger.
        after: called after each iteration with its number and the loss; whether to end training.

    Returns:
        How many iterations were made, and the loss with the penalty.

    Warns:
        ConvergenceWarning: it ended before the gradient was that small.
    """
    model, backend = trainer.model, trainer.backend
    store = model.store
    decayed = store.layout.n_decayed
    with backend.use():
        rows = trainer.upload(model.dataset(data), keep_scaled=True)
        model.remember_data(rows.units, rows.data, trainer.loss)
        plan, (x, y, weights) = trainer.plan(rows, training=True), trainer.feed(rows).batch(0, len(rows))
        totals = backend.zeros((2,), backend.wide)
        store.flat_gradients[...] = 0.0  # what lies between the gradients, too, as L-BFGS sees the whole buffer

        def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
            store.flat_parameters[...] = backend.asarray(flat, backend.dtype)
            totals[...] = 0.0
            plan.gradients(x, y, totals, model.step, weights)
            loss = float(backend.to_numpy(totals)[0]) / len(rows) / objective.times
            slope = backend.to_numpy(store.flat_gradients).astype(np.float64) / objective.times
            part = flat[:decayed]
            slope[:decayed] += penalty * part
            return loss + 0.5 * penalty * float(part @ part), slope

        def told(loss: float, flat: np.ndarray) -> float:
            """The loss by scikit-learn's number for it."""
            squares = 0.5 * penalty * float(flat[:decayed] @ flat[:decayed])
            return (loss - squares) * objective.times * objective.told + squares

        iterations, ended = 0, False

        def each(intermediate_result: Any) -> None:
            nonlocal iterations, ended
            iterations += 1
            ended = after(iterations, told(float(intermediate_result.fun), intermediate_result.x))
            if ended:
                raise StopIteration

        found = minimize(
            value,
            backend.to_numpy(store.flat_parameters).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=each,
            options={"maxiter": max_iter, "maxfun": max_fun, "gtol": tol},
        )
        store.flat_parameters[...] = backend.asarray(found.x, backend.dtype)
        store.gradients_are_kept = False  # they are those of the last evaluation, which may be of other parameters
    if found.status != 0 and not ended:
        more = f"\nIncrease the number of iterations (max_iter={max_iter})." if found.nit >= max_iter else ""
        warnings.warn(
            f"lbfgs failed to converge after {found.nit} iteration(s) (status={found.status}):\n{found.message}\n{more}"
            "\nColumns of about the same size help: sklearn.preprocessing.StandardScaler.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return int(found.nit), told(float(found.fun), found.x)

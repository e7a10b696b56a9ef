"""When training ends, and how its learning rate falls: the rules of scikit-learn's MLP, as a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends.typing import Array

from ..callbacks import Callback
from ..callbacks.base import Trainer
from ..history import Record
from .losses import Objective

#: A learning rate that is adaptive falls by this factor, and no further below this.
FALL, LEAST_RATE = 5.0, 1e-6


class Convergence(Callback):
    """Counts epochs, writes what they find into the attributes of an estimator, and ends training.

    Args:
        estimator: an MLPClassifier or MLPRegressor, which is fitted by one call of ``Trainer.fit``.
        objective: that it is trained for.
        penalty: what to add to it, times the sum of the squares of all weights.
        batches: steps of an epoch.
        score: that of the held-out rows, from a record; None where there are none.
        ended: called after each epoch; whether to end training. None for never.
        count: how many epochs before have brought nothing.

    Attributes:
        count: so far.
        stopped: whether it has ended training.
    """

    def __init__(
        self,
        estimator: Any,
        objective: Objective,
        penalty: float,
        batches: int,
        score: Callable[[Record], float] | None,
        ended: Callable[[], bool] | None,
        count: int,
    ) -> None:
        self.estimator, self.objective, self.penalty, self.batches = estimator, objective, penalty, batches
        self.score, self.ended, self.count = score, ended, count
        self.stopped = False
        self.best: Array | None = None
        self._squares = 0.0
        self._rows = 0
        self._tells = False

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self._rows = rows
        self._tells = bool(self.estimator.verbose) and trainer.backend.collectives.rank == 0
        self._squares = self._sum_of_squares(trainer)
        if self.estimator.early_stopping:
            self.best = trainer.backend.copy(trainer.model.store.flat_parameters)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        found = self.estimator
        found.n_iter_ += 1
        found.t_ += self._rows
        found.loss_ = self._loss(trainer, record)
        found.loss_curve_.append(found.loss_)
        if self._tells:
            print(f"Iteration {found.n_iter_}, loss = {found.loss_:.8f}")
        if "val_loss" in record:
            found.validation_loss_curve_.append(record["val_loss"] * self.objective.told)
        self._compare(trainer, record)
        if found.solver == "sgd" and found.learning_rate == "invscaling":
            self._set_rate(trainer, found.learning_rate_init / (found.t_ + 1) ** found.power_t)
        if self.count > found.n_iter_no_change:
            self._react(trainer)
        if self.ended is not None and self.ended():
            self._stop(trainer, "a callback of scikit-learn has ended training")

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.best is not None:
            trainer.backend.copy(self.best, trainer.model.store.flat_parameters)
            self.best = None

    def _loss(self, trainer: Trainer, record: Record) -> float:
        """The mean over the steps of the loss with its penalty, as each step has found it. Of the penalty the mean is
        taken from its values before the first step and after the last one, as if it went along a line."""
        before, self._squares = self._squares, self._sum_of_squares(trainer)
        mean = before + (self._squares - before) * (self.batches - 1) / (2 * self.batches)
        return float(record["loss"]) * self.objective.told + self.penalty * mean

    def _sum_of_squares(self, trainer: Trainer) -> float:
        if self.penalty == 0.0:
            return 0.0
        store, backend = trainer.model.store, trainer.backend
        weights = store.flat_parameters[: store.layout.n_decayed]
        return float(backend.item(backend.xp.sum(weights * weights)))

    def _compare(self, trainer: Trainer, record: Record) -> None:
        """How many epochs have brought nothing, by the score of the held-out rows or by the loss."""
        found = self.estimator
        score = np.nan
        if self.score is not None:
            score = self.score(record)
            found.validation_scores_.append(score)
            if self._tells:
                print(f"Validation score: {score:f}")
        if not found.early_stopping:
            worse = found.loss_ > found.best_loss_ - found.tol
            found.best_loss_ = min(found.loss_, found.best_loss_)
        else:
            worse = score < found.best_validation_score_ + found.tol
            if score > found.best_validation_score_:
                found.best_validation_score_ = score
                self.best = trainer.backend.copy(trainer.model.store.flat_parameters, self.best)
        self.count = self.count + 1 if worse else 0

    def _react(self, trainer: Trainer) -> None:
        """End training, or lower the learning rate."""
        found = self.estimator
        what = "Validation score" if found.early_stopping else "Training loss"
        reason = f"{what} did not improve more than tol={found.tol:f} for {found.n_iter_no_change} consecutive epochs."
        if found.solver == "sgd" and found.learning_rate == "adaptive":
            rate = float(trainer.optimizer.learning_rate) * self.objective.times
            if rate > LEAST_RATE:
                self._set_rate(trainer, rate / FALL)
                self.count = 0
                if self._tells:
                    print(f"{reason} Setting learning rate to {rate / FALL:f}")
                return
            reason += " Learning rate too small."
        self._stop(trainer, f"{reason} Stopping.")

    def _set_rate(self, trainer: Trainer, rate: float) -> None:
        """From now on this is the learning rate. In scikit-learn a velocity has the learning rates in it that its steps
        were made with, so what has gathered in ours must not take up the new one."""
        optimizer, new = trainer.optimizer, rate / self.objective.times
        if "velocity" in optimizer.state:
            velocity = optimizer.state["velocity"]
            velocity[...] = velocity * (float(optimizer.learning_rate) / new)
        optimizer.learning_rate = new

    def _stop(self, trainer: Trainer, reason: str) -> None:
        if self._tells:
            print(reason)
        self.stopped = True
        trainer.stop(reason)

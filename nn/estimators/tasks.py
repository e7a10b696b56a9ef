"""``sklearn.callback``: an epoch, or an iteration of L-BFGS, is a task of a fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from .network import shown

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing, where scikit-learn knows no callbacks."""


class Tasks:
    """Tells the callbacks of scikit-learn that iterations have ended; there may be none.

    Args:
        estimator: that is fitted.
        context: of the callbacks; None for none.
        given: what the hooks are told: ``X``, ``y`` and ``metadata``.
    """

    def __init__(self, estimator: Any = None, context: Any = None, given: dict[str, Any] | None = None) -> None:
        self.estimator, self.context, self.given = estimator, context, given or {}

    def ended(self) -> bool:
        """An iteration has ended; whether a callback says that training ends."""
        if self.context is None:
            return False
        task = self.context.subcontext(task_name="iteration")
        told: dict[str, Any] = {"estimator": self.estimator, "reconstruction_attributes": self._as_fitted, **self.given}
        task.call_on_fit_task_begin(**told)
        return bool(task.call_on_fit_task_end(**told))

    def _as_fitted(self) -> dict[str, Any]:
        """Attributes of an estimator as if training had ended now: with a network of its own."""
        trainer = deepcopy(self.estimator._trainer)
        coefs, intercepts = shown(trainer.model, "weight"), shown(trainer.model, "bias")
        weights = {"coefs_": coefs, "intercepts_": intercepts, "_shown": [*coefs, *intercepts]}
        return {"_trainer": trainer, "model_": trainer.model, **weights}


class TasksMixin(CallbackSupportMixin):
    """An estimator whose fit tells its tasks."""

    @contextmanager
    def _tasks(self: Any, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Iterator[Tasks]:
        if not (hasattr(self, "_init_callback_context") and hasattr(self, "_skl_callbacks")):
            yield Tasks()
            return
        context = self._init_callback_context(max_subtasks=1 if incremental else self.max_iter)
        weights = None if sample_weight is None else {"sample_weight": sample_weight}
        given = {"X": X, "y": y, "metadata": weights}
        context.call_on_fit_task_begin(estimator=self, **given)
        tasks = Tasks(self, context, given)
        yield tasks
        context.call_on_fit_task_end(estimator=self, reconstruction_attributes=tasks._as_fitted, **given)

"""What both estimators have in common: from rows and parameters to a trained network, and its outputs."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil, inf, isfinite
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from backends.collectives import find_collectives

from ..data import Dataset, Units
from ..data.units import square
from ..device_rows import device_rows
from ..divergence import TrainingDiverged
from ..history import Record
from ..model import Sequential
from ..optimizers import SGD, Adam, Optimizer
from ..trainer import Trainer
from .arrays import ROWS_AT_A_TIME, Kind, dense, dispatched_kind, like, on_host
from .convergence import Convergence
from .lbfgs import minimized
from .losses import Objective
from .network import build, parameter_names, shown
from .parameters import CONSTRAINTS
from .tasks import Tasks, TasksMixin

#: The solvers that train in batches; only they leave these records.
IN_BATCHES = ("adam", "sgd")
RECORDS = ("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_loss_", "best_validation_score_")


class MLP(TasksMixin, BaseEstimator, ABC):
    """The common base of ``MLPClassifier`` and ``MLPRegressor``; not to be used itself."""

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    loss_: float
    best_loss_: float | None
    best_validation_score_: float | None

    # ---- what the two differ in -------------------------------------------------------------------------------------

    @abstractmethod
    def _read_targets(self, y: Any, first: bool, incremental: bool) -> np.ndarray:
        """Validated targets as a data set has them; those of the first fit say what the outputs are."""

    @abstractmethod
    def _encoded(self, y: Any) -> np.ndarray:
        """Validated targets as a data set has them, of what is known from the first fit."""

    @abstractmethod
    def _objective_for(self, y: np.ndarray) -> tuple[Objective, int, str]:
        """What to train for, how many outputs that takes, and the output activation by scikit-learn's name."""

    @abstractmethod
    def _data(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Dataset:
        """Rows and targets for the trainer."""

    @abstractmethod
    def _score_of(self, data: Dataset, record: Record) -> float:
        """The score of held-out rows after an epoch; its record has the loss, and the accuracy for classes."""

    @abstractmethod
    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        """By what rows are held out in proportion."""

    def _weights_of(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        """What each row counts: of classes also by class."""
        return sample_weight

    # ---- fit --------------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False) -> Any:
        hidden = self._hidden_sizes()
        self._refuse_what_has_no_meaning(incremental)
        first = not hasattr(self, "_trainer") or not (self.warm_start or incremental)
        x, targets, weights = self._read(X, y, sample_weight, first, incremental)
        goes_on = incremental and not first and self._optimizer_of == self.solver
        random_state = None if goes_on else self._random_state()  # nothing is drawn then
        if first:
            self._begin(x, targets, hidden, random_state)
        else:
            self._take_up(hidden)
        with self._tasks(X, y, sample_weight, incremental) as tasks:
            if self.solver in IN_BATCHES:
                self._fit_in_batches(x, targets, weights, random_state, incremental, tasks)
            else:
                self._fit_by_lbfgs(x, targets, weights, tasks)
            self._show()
        loss = getattr(self, "loss_", 0.0)  # an interrupt may have come before the first
        if not (isfinite(loss) and all(np.isfinite(array).all() for array in self._shown)):
            raise ValueError(_not_finite("the loss or a parameter is infinite or NaN"))
        return self

    def _random_state(self) -> np.random.RandomState:
        """What draws; of processes that fit together, the same on all where none is given."""
        state: np.random.RandomState = check_random_state(self.random_state)
        if self.distributed and self.random_state is None:
            state = find_collectives().broadcast(state)
        return state

    def _trainer_for(self, model: Sequential, *optimizer: Optimizer) -> Trainer:
        blocks = None if self.blocks is None else int(self.blocks)
        return Trainer(model, self._objective.loss, *optimizer, distributed=bool(self.distributed), blocks=blocks)

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not all(isinstance(size, Integral) for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be whole numbers, got {sizes}.")
        sizes = [int(size) for size in sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _refuse_what_has_no_meaning(self, incremental: bool) -> None:
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver == "lbfgs":
            in_batches = {
                "dropout": 0,
                "augment": None,
                "callbacks": None,
                "validation_data": None,
                "distributed": False,
                "blocks": None,
            }
            for name, unset in in_batches.items():
                if (value := getattr(self, name)) != unset and not (name == "callbacks" and not value):
                    raise ValueError(f"{name} has no meaning for solver='lbfgs'; use 'adam' or 'sgd', or leave it out")

    def _read(
        self, X: Any, y: Any, sample_weight: Any, first: bool, incremental: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows, targets and weights on the host, in the dtype of the network."""
        kind = dispatched_kind(X)
        x, y = self._validated(X, y, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(on_host(sample_weight), x)
        targets = self._read_targets(y, first, incremental)
        weights = self._weights_of(y, sample_weight, incremental)
        self._kind: Kind | None = kind
        if first:
            self._dtype = x.dtype.name if self.dtype is None else self.dtype
        return self._dense(x), targets, weights

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        x, y = validate_data(
            self,
            on_host(X),
            on_host(y),
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1 and not issparse(y):
            y = column_or_1d(y, warn=True)
        return x, y

    def _dense(self, x: Any) -> np.ndarray:
        return np.ascontiguousarray(dense(x), dtype=self._dtype)

    def _begin(self, x: np.ndarray, y: np.ndarray, hidden: list[int], random_state: Any) -> None:
        """A new network, and attributes as before any training."""
        self._objective, outputs, self.out_activation_ = self._objective_for(y)
        units = [x.shape[1], *hidden, outputs]
        model = build(
            units, self.activation, self.out_activation_, self.dropout, self.device, self._dtype, random_state
        )
        self.n_layers_, self.n_outputs_ = len(units), outputs
        self.n_iter_ = self.t_ = 0
        for name in RECORDS:
            self.__dict__.pop(name, None)
        self._no_improvement_count, self._optimizer_of = 0, ""
        self._trainer = self._trainer_for(model)
        self.model_: Sequential = model
        self._show()

    def _take_up(self, hidden: list[int]) -> None:
        """Go on with the network as it is, with weights that were set since."""
        have = [array.shape[1] for array in self.coefs_[:-1]]
        if have != hidden:
            raise ValueError(
                f"the network to go on with has hidden layers of {have}, but hidden_layer_sizes says {hidden}; set "
                "it back, or fit with warm_start=False"
            )
        self._load_what_was_set()

    # ---- adam and sgd -----------------------------------------------------------------------------------------------

    def _fit_in_batches(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        random_state: Any,
        incremental: bool,
        tasks: Tasks,
    ) -> None:
        data, held_out = self._divided(x, y, weights, random_state)
        if self.augment is not None:
            data = replace(data, image_shape=_picture_shape(data.n_features))
        size = self._batch_size(len(data))
        if not incremental or self._optimizer_of != self.solver:
            self.model_.seed = int(random_state.randint(np.iinfo(np.int32).max))
            self._trainer = self._trainer_for(self.model_, self._optimizer())
            self._optimizer_of = self.solver
        of_batch = size * (1.0 if data.weights is None else float(data.weights.mean()))
        penalty = float(self.alpha) / of_batch
        trainer = self._trainer
        decay = {"weight_decay": penalty * self._objective.times, "decoupled": False}
        for name, value in decay.items():
            if getattr(trainer.optimizer, name) != value:  # a setting that is set is checked again
                setattr(trainer.optimizer, name, value)
        trainer.augment = self.augment
        if self.model_.units is None:
            self.model_.units = Units.of(data)  # so that it gives no advice: columns are scaled by the user
        self.n_iter_ = 0
        self._begin_records(held_out is not None)
        convergence = Convergence(
            self,
            self._objective,
            0.5 * penalty,
            ceil(len(data) / size),
            None if held_out is None else lambda record: self._score_of(held_out, record),
            tasks.ended,
            self._no_improvement_count,
        )
        epochs = 1 if incremental else self.max_iter
        try:
            with self._told_as_scikit_learn():
                trainer.fit(
                    data,
                    epochs,
                    size,
                    shuffle=self.shuffle,
                    validation=held_out,
                    callbacks=[convergence, *(self.callbacks or ())],
                )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        else:
            of_first = trainer.backend.collectives.rank == 0
            if of_first and self.n_iter_ == self.max_iter and not (incremental or trainer.stopping):
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        self._no_improvement_count = convergence.count

    def _begin_records(self, scored: bool) -> None:
        """Records that are not there from fits before, with which a warm start goes on."""
        beginnings: tuple[Any, ...] = [], [] if scored else None, [] if scored else None, None, None
        for name, beginning in zip(RECORDS, beginnings, strict=True):
            if getattr(self, name, None) is None:
                setattr(self, name, beginning)
        if self.early_stopping:
            self.best_loss_ = None
            if self.best_validation_score_ is None:
                self.best_validation_score_ = -inf
        elif self.best_loss_ is None:
            self.best_loss_ = inf

    def _divided(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, random_state: Any
    ) -> tuple[Dataset, Dataset | None]:
        """Rows to train on, and rows to evaluate on: those given as ``validation_data``, or a fraction for early
        stopping, which scikit-learn draws."""
        if self.validation_data is not None:
            return self._data(x, y, weights), self._validation_rows()
        if not self.early_stopping:
            return self._data(x, y, weights), None
        rest, held_out = train_test_split(
            np.arange(len(x)),
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=self._stratify(y),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )

        def part(rows: np.ndarray) -> Dataset:
            return self._data(x[rows], y[rows], None if weights is None else weights[rows])

        return part(rest), part(held_out)

    def _validation_rows(self) -> Dataset:
        if len(self.validation_data) not in (2, 3):
            raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *weights = self.validation_data
        x, y = self._validated(X, y, reset=False)
        targets = self._encoded(y)
        given = _check_sample_weight(on_host(weights[0]), x) if weights and weights[0] is not None else None
        return self._data(self._dense(x), targets, given)

    def _batch_size(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
        return int(min(self.batch_size, rows))

    def _optimizer(self) -> Optimizer:
        rate, times = float(self.learning_rate_init), self._objective.times
        if self.solver == "adam":
            return Adam(rate, float(self.beta_1), float(self.beta_2), float(self.epsilon) * times, epsilon_hat=True)
        momentum = float(self.momentum)
        return SGD(rate / times, momentum, nesterov=bool(self.nesterovs_momentum) and momentum > 0.0)

    # ---- lbfgs ------------------------------------------------------------------------------------------------------

    def _fit_by_lbfgs(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, tasks: Tasks) -> None:
        data = self._data(x, y, weights)
        if self.model_.units is None:
            self.model_.units = Units.of(data)

        def after(number: int, loss: float) -> bool:
            self.n_iter_, self.loss_ = number, loss
            if self.verbose:
                print(f"Iteration {number}, loss = {loss:.8f}")
            return tasks.ended()

        with self._told_as_scikit_learn():
            self.n_iter_, self.loss_ = minimized(
                self._trainer,
                data,
                self._objective,
                float(self.alpha) / (len(data) if data.weights is None else float(data.weights.sum())),
                max_iter=self.max_iter,
                max_fun=self.max_fun,
                tol=self.tol,
                after=after,
            )

    @contextmanager
    def _told_as_scikit_learn(self) -> Iterator[None]:
        """A context in which a divergence is the error that scikit-learn raises for it, with what is known of it."""
        try:
            yield
        except TrainingDiverged as error:
            self._show()
            raise ValueError(_not_finite(str(error))) from error

    # ---- weights, as scikit-learn shows them ------------------------------------------------------------------------

    def _show(self) -> None:
        """Let ``coefs_`` and ``intercepts_`` be what the network has."""
        self.coefs_, self.intercepts_ = shown(self.model_, "weight"), shown(self.model_, "bias")
        self._shown = [*self.coefs_, *self.intercepts_]

    def _load_what_was_set(self) -> None:
        """Let the network have ``coefs_`` and ``intercepts_`` that were set by others."""
        now = [*self.coefs_, *self.intercepts_]
        if len(now) == len(self._shown) and all(a is b for a, b in zip(now, self._shown, strict=True)):
            return
        names = [*parameter_names(self.model_, "weight"), *parameter_names(self.model_, "bias")]
        if len(now) != len(names):
            raise ValueError(
                f"coefs_ and intercepts_ have {len(now)} arrays, but the network takes {len(names)}, two for each of "
                "its layers"
            )
        self.model_.load_state_dict(dict(zip(names, now, strict=True)))
        self._show()

    # ---- outputs ----------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any, method: str) -> np.ndarray:
        """(n, n_outputs) values of the output activation for rows as a user gives them."""
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)
        kind = dispatched_kind(X)
        if self._kind is not None and kind is not None and kind != self._kind:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): got {kind.library} on {kind.device}, but fit had {self._kind.library} on "
                f"{self._kind.device}"
            )
        self._load_what_was_set()
        if self._is_on_device(X):
            return self._activated(self.model_(X))
        x = X if self._may_stay(X) else self._validated_rows(X)
        if not issparse(x):
            return self._computed(x)
        rows = x.tocsr()
        parts = (rows[start : start + ROWS_AT_A_TIME] for start in range(0, rows.shape[0], ROWS_AT_A_TIME))
        return np.concatenate([self._computed(part.toarray()) for part in parts])

    def _is_on_device(self, X: Any) -> bool:
        """Whether these rows are in order and in the memory of a GPU, where the network is: there they stay."""
        model = self.model_
        if not model.backend.device.holds(X) or hasattr(self, "feature_names_in_"):
            return False
        return device_rows(X, model.backend, model.units, model.row_shape) is not None

    def _may_stay(self, X: Any) -> bool:
        """Whether scikit-learn's validation would find these rows in order and give them back as they are. To ask this
        takes a tenth of the time, which is that of a prediction of few rows."""
        if type(X) is not np.ndarray or X.dtype not in (np.float64, np.float32) or X.ndim != 2 or not len(X):
            return False
        if X.shape[1] != self.n_features_in_ or hasattr(self, "feature_names_in_"):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            return isfinite(X.sum())  # without an array as large as X

    def _validated_rows(self, X: Any) -> Any:
        floats = (np.float64, np.float32)
        return validate_data(self, on_host(X), accept_sparse=["csr", "csc"], dtype=floats, reset=False)

    def _computed(self, x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, dtype=self._dtype)
        return self._activated(self.model_(Dataset(x, np.empty((len(x), 0), dtype=np.float32))))

    def _activated(self, outputs: np.ndarray) -> np.ndarray:
        """The network has every output activation but this one."""
        return np.exp(outputs) if self.out_activation_ == "exp" else outputs

    def _like(self, result: Any, X: Any) -> Any:
        return like(result, X)

    # ---- copies and pickles, and what scikit-learn asks for ---------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_trainer" in state:
            self._load_what_was_set()
            for name in ("coefs_", "intercepts_", "_shown"):
                state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_trainer" in state:
            self._show()

    def _check_solver(self) -> bool:
        if self.solver not in IN_BATCHES:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_trainer")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


def _picture_shape(columns: int) -> tuple[int, ...]:
    """The shape of square pictures that rows of so many columns may be."""
    if (found := square(columns)) is not None:
        return found
    if columns % 3 == 0 and (found := square(columns // 3)) is not None:
        return (*found, 3)
    raise ValueError(
        f"augment distorts pictures, and rows of {columns} columns are no square ones; nn.Trainer takes pictures of "
        "any height and width"
    )


def _not_finite(what: str) -> str:
    return (
        "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
        f"preprocessed. ({what})"
    )

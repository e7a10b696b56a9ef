"""``MLPRegressor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from ..data import Augment, Dataset
from ..history import Record
from ..losses import Loss
from .base import MLP
from .losses import Objective, of_values
from .parameters import CONSTRAINTS


class MLPRegressor(RegressorMixin, MLP):
    """A regressor with the interface of ``sklearn.neural_network.MLPRegressor``, trained by ``nn.Trainer``.

    >>> from nn import MLPRegressor
    >>> rows = [[number / 10] for number in range(20)]
    >>> regressor = MLPRegressor(hidden_layer_sizes=8, solver="lbfgs", random_state=0)
    >>> bool(regressor.fit(rows, [x * x for [x] in rows]).score(rows, [x * x for [x] in rows]) > 0.99)
    True

    Parameters and attributes are those of ``MLPClassifier``, but for the following; there is no ``class_weight``.

    Args:
        loss: ``"squared_error"``, half the squared error; ``"poisson"``, half the Poisson deviance, the network giving
            the logarithm of what is expected; the name of another loss of ``nn`` that has no output activation, such as
            ``"huber"``; a ``Loss``; or a function, see ``nn.losses.CustomLoss``. For several values a row steps follow
            the sum over these, and the numbers told are means, as in scikit-learn; unlike there lbfgs makes that sum
            small, too.

    Attributes:
        validation_scores_, best_validation_score_: R^2 of held-out rows, where there are any.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    def __init__(
        self,
        loss: str | Loss | Callable[..., Any] = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        augment: Augment | None = None,
        validation_data: Any = None,
        callbacks: Any = None,
        device: str = "cpu",
        dtype: str | None = None,
        distributed: bool = False,
        blocks: int | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.augment = augment
        self.validation_data = validation_data
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.distributed = distributed
        self.blocks = blocks

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train on rows and values.

        Args:
            X: (n, features), dense or sparse, of any array library.
            y: (n,) or (n, k) values.
            sample_weight: (n,) numbers of at least 0, what each row counts.
        """
        self._fit(X, y, sample_weight)
        return self

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch on these rows, going on where the last fit ended; arguments as of ``fit``."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Any:
        """The values of each row: (n,), or (n, k) for several."""
        outputs = self._outputs(X, "predict")
        return self._like(outputs[:, 0] if self.n_outputs_ == 1 else outputs, X)

    # ---- what is different for values -------------------------------------------------------------------------------

    def _read_targets(self, y: Any, first: bool, incremental: bool) -> np.ndarray:
        if not first and (columns := 1 if y.ndim == 1 else y.shape[1]) != self.n_outputs_:
            raise ValueError(
                f"y has {columns} values a row, but the network to go on with has {self.n_outputs_} outputs"
            )
        return self._encoded(y)

    def _encoded(self, y: Any) -> np.ndarray:
        values = np.asarray(y)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float64)
        if self.loss == "poisson" and (values < 0).any():
            raise ValueError("loss='poisson' needs values of at least 0 in y")
        return values

    def _objective_for(self, y: np.ndarray) -> tuple[Objective, int, str]:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        objective, out_activation = of_values(self.loss, outputs)
        return objective, outputs, out_activation

    def _data(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Dataset:
        return Dataset(x, y, weights=weights)

    def _score_of(self, data: Dataset, record: Record) -> float:
        return float(r2_score(data.y, self._computed(data.x), sample_weight=data.weights))

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        return None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

"""``MLPClassifier``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from ..data import Augment, Dataset
from ..history import Record
from ..losses import Loss
from .arrays import on_host
from .base import MLP
from .labels import Labels
from .losses import Objective, of_classes
from .parameters import CONSTRAINTS


class MLPClassifier(ClassifierMixin, MLP):
    """A classifier with the interface of ``sklearn.neural_network.MLPClassifier``, trained by ``nn.Trainer``.

    >>> from nn import MLPClassifier, load_data
    >>> digits = load_data("digits")
    >>> rows, labels = digits.train.features(), digits.train.y
    >>> classifier = MLPClassifier((32,), max_iter=50, tol=0.01, random_state=0).fit(rows, labels)
    >>> bool(classifier.score(digits.test.features(), digits.test.y) > 0.9)
    True

    The parameters up to ``max_fun`` are scikit-learn's, with its defaults and meanings; equal ``random_state`` give its
    initial values, and its rows for early stopping. Where it differs: ``momentum`` is below 1. In a step on
    part of the rows, weights of rows are divided by their mean over all rows, and the penalty by the number of rows in
    a full batch times that mean; scikit-learn divides both by the sum of the weights in the batch. The orders of the
    rows are those of ``nn``. A divergence ends training at once, with scikit-learn's error.

    Args:
        hidden_layer_sizes: units of each hidden layer; a number for one layer.
        activation: of the hidden layers: ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``; or another of ``nn``:
            ``"gelu"``, ``"silu"``, ``"elu"``, ``"leaky_relu"``, ``"softplus"``, or a layer such as ``LeakyReLU(0.2)``.
        solver: ``"adam"`` and ``"sgd"`` train in batches, ``"lbfgs"`` on all rows at once.
        alpha: of the penalty, alpha / 2 times the sum of the squares of the weights, divided by the number of rows.
        batch_size: rows of a step; ``"auto"`` for 200, or all where there are fewer.
        learning_rate: ``"constant"``, ``"invscaling"`` (``learning_rate_init / (t_ + 1) ** power_t`` from the second
            epoch on) or ``"adaptive"`` (a fifth, as often as training would end); for sgd.
        learning_rate_init: the learning rate, of adam too.
        power_t: for ``"invscaling"``.
        max_iter: most epochs, or most iterations of lbfgs.
        shuffle: whether each epoch has an order of its own.
        random_state: of initial values, held-out rows, orders and dropout.
        tol: training ends when the loss, or with early stopping the score, has not become better by this for more than
            ``n_iter_no_change`` epochs; of lbfgs, when no element of the gradient is larger.
        verbose: whether to print a line for each epoch.
        warm_start: whether ``fit`` goes on from the weights that there are. ``coefs_`` and ``intercepts_`` may be set
            before.
        momentum, nesterovs_momentum: of sgd.
        early_stopping: whether to end training by the score of held-out rows, and to keep the best weights.
        validation_fraction: of the rows, held out for that.
        beta_1, beta_2, epsilon: of adam.
        n_iter_no_change: see ``tol``.
        max_fun: most evaluations of the loss by lbfgs.
        loss: ``"log_loss"``; the name of another loss of ``nn``, such as ``"focal"``; a ``Loss``; or a function, see
            ``nn.losses.CustomLoss``.
        class_weight: what the rows of each class count: a dict by label, or ``"balanced"``, as in scikit-learn's other
            classifiers; for several labels a row a list of dicts.
        dropout: the part of the hidden units that each step leaves out; for adam and sgd.
        augment: random distortions of the training rows, which are the pixels of square pictures, of one channel or of
            three, row by row, channels last; for adam and sgd.
        validation_data: ``(X, y)`` or ``(X, y, sample_weight)``, rows to evaluate after each epoch; early stopping then
            goes by these. For adam and sgd.
        callbacks: of ``nn``, for adam and sgd. (Those of scikit-learn are given to ``set_callbacks``.)
        device: where to compute: ``"cpu"``, ``"cuda"``, ``"numba"``, ``"auto"`` or another that ``nn`` knows.
        dtype: ``"float32"`` or ``"float64"``; None for that of X, as in scikit-learn: float64, unless X is float32.
        distributed, blocks: as of ``Trainer``: whether the processes that were started together fit one estimator, each
            on its part of every batch, and into how many blocks of rows batches are cut; for adam and sgd.

    Attributes:
        classes_: (k,) the labels, sorted.
        coefs_, intercepts_: the weights and biases of each layer. Where NumPy computes these are the network's own
            arrays; of a GPU they are copies that cannot be written to. New ones may be set anywhere.
        loss_, best_loss_, loss_curve_: of the last epoch, of the best one (None with early stopping), and of all.
        validation_scores_, validation_loss_curve_, best_validation_score_: the same of held-out rows, where there are
            any; scores are accuracies.
        n_iter_, t_: epochs of the last fit, and rows that steps were made on.
        n_layers_, n_outputs_, out_activation_: of the network.
        n_features_in_, feature_names_in_: of X.
        model_: the network, to be saved by ``nn.save_model`` for instance. It numbers classes 0, 1, ...

    Raises:
        ValueError, TypeError: a parameter or the data cannot be used, or training diverged; in scikit-learn's words
            where it has such an error.

    Warns:
        ConvergenceWarning: ``max_iter`` came before the end.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    classes_: np.ndarray

    def __init__(
        self,
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
        loss: str | Loss | Callable[..., Any] = "log_loss",
        class_weight: Any = None,
        dropout: float = 0.0,
        augment: Augment | None = None,
        validation_data: Any = None,
        callbacks: Any = None,
        device: str = "cpu",
        dtype: str | None = None,
        distributed: bool = False,
        blocks: int | None = None,
    ) -> None:
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
        self.loss = loss
        self.class_weight = class_weight
        self.dropout = dropout
        self.augment = augment
        self.validation_data = validation_data
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.distributed = distributed
        self.blocks = blocks

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Train on rows and labels.

        Args:
            X: (n, features), dense or sparse, of any array library.
            y: (n,) labels of any kind, or (n, k) of 0 and 1 for several labels a row.
            sample_weight: (n,) numbers of at least 0, what each row counts.
        """
        self._fit(X, y, sample_weight)
        return self

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch on these rows, going on where the last fit ended.

        Args:
            X, y, sample_weight: as of ``fit``; y need not have all classes.
            classes: (k,) all classes of all calls. The first call needs them; not for several labels a row, whose
                number is that of the columns.
        """
        labels, classes = on_host(y), on_host(classes)
        several = not hasattr(self, "classes_") and type_of_target(labels).startswith("multilabel")
        if classes is None and several:
            classes = np.arange(np.shape(labels)[1])
        if _check_partial_fit_first_call(self, classes):
            self._labels = Labels.of(labels, None if several else self.classes_)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Any:
        """The label of each row, (n,); or (n, k) of 0 and 1, sparse if those in training were, for several a row."""
        outputs = self._outputs(X, "predict")
        return self._like(self._labels.decode(outputs), X)

    def predict_proba(self, X: Any) -> Any:
        """(n, k) probabilities, in the order of ``classes_``; for several labels a row of each label."""
        outputs = self._outputs(X, "predict_proba")
        return self._like(self._labels.probabilities(outputs), X)

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of ``predict_proba``; -inf for a probability of 0."""
        outputs = self._outputs(X, "predict_log_proba")
        with np.errstate(divide="ignore"):
            return self._like(np.log(self._labels.probabilities(outputs)), X)

    # ---- what is different for classes ------------------------------------------------------------------------------

    def _read_targets(self, y: Any, first: bool, incremental: bool) -> np.ndarray:
        if incremental:
            if self._labels.missing(y):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                    f"'y' has {Labels.of(y).classes}."
                )
            return self._labels.encode(y)
        if first:
            self._labels = Labels.of(y)
            self.classes_ = self._labels.classes
        elif (now := Labels.of(y)).kind != self._labels.kind or list(now.classes) != list(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {now.classes}"
            )
        return self._labels.encode(y)

    def _encoded(self, y: Any) -> np.ndarray:
        if self._labels.missing(y):
            raise ValueError(f"a label of validation_data is none of the classes {self.classes_}")
        return self._labels.encode(y)

    def _weights_of(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which does not see all rows; compute the "
                "weights with sklearn.utils.class_weight.compute_class_weight and pass them as a dict"
            )
        of_class: np.ndarray = compute_sample_weight(self.class_weight, y)
        return of_class if sample_weight is None else of_class * sample_weight

    def _objective_for(self, y: np.ndarray) -> tuple[Objective, int, str]:
        return of_classes(self.loss, self._labels.kind, len(self._labels.classes))

    def _data(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Dataset:
        names = None if y.ndim > 1 else tuple(str(label) for label in self._labels.classes)
        return Dataset(x, y, class_names=names, weights=weights)

    def _score_of(self, data: Dataset, record: Record) -> float:
        if "val_accuracy" in record:
            return float(record["val_accuracy"])
        found = (self._computed(data.x) > 0.5).astype(np.float32)
        return float(accuracy_score(data.y, found, sample_weight=data.weights))

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        # As in scikit-learn: one label a row of more than two classes is one-hot there, and not stratified.
        return y if y.ndim == 1 and len(self._labels.classes) <= 2 else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

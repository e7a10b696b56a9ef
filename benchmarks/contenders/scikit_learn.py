"""scikit-learn's classifier."""

from __future__ import annotations

import numpy as np

from .base import Contender
from .config import MOMENTUM, Config, is_gpu


class ScikitLearn(Contender):
    """scikit-learn's MLPClassifier, an epoch of ``fit`` at a time."""

    name = "scikit-learn"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if is_gpu(device):
            raise ImportError("it computes on the CPU")
        if config.layers:
            raise ImportError("it has no filters")
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        warnings.simplefilter("ignore", ConvergenceWarning)
        # Its velocity takes in the gradient times the learning rate, undampened: hence the factor.
        self.model = MLPClassifier(
            config.widths[1:-1],
            activation={"sigmoid": "logistic"}.get(config.activation, config.activation),
            solver="sgd",
            alpha=0.0,
            batch_size=config.batch_size,
            learning_rate_init=config.learning_rate * (1 - MOMENTUM),
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            max_iter=1,
            warm_start=True,
            random_state=0,
        )
        self.x, self.y = x / np.float32(255), y

    def epoch(self) -> None:
        self.model.fit(self.x, self.y)

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.model.score(x / np.float32(255), y))

    def version(self) -> str:
        import sklearn

        return f"scikit-learn {sklearn.__version__}"

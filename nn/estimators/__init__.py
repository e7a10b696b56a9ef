"""Estimators with the interface of scikit-learn's, on top of ``nn.Trainer``: ``MLPClassifier`` and ``MLPRegressor``.

Their parameters mean what those of ``sklearn.neural_network`` mean; ``docs/estimators.md`` says where they do not, and
what there is beside them.
"""

from __future__ import annotations

try:
    from sklearn.utils.validation import validate_data as _since_scikit_learn_1_6  # noqa: F401
except ImportError as error:
    raise ImportError(
        "nn.MLPClassifier and nn.MLPRegressor need scikit-learn 1.6 or newer: pip install -U scikit-learn"
    ) from error

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]

"""Networks to and from PyTorch, Keras and scikit-learn."""

from __future__ import annotations

from .keras_models import from_keras, to_keras
from .sklearn_models import from_sklearn, to_sklearn
from .torch_modules import from_torch, to_torch

__all__ = ["from_keras", "from_sklearn", "from_torch", "to_keras", "to_sklearn", "to_torch"]

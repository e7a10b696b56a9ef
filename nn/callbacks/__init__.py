"""Callbacks: what happens around the training loop."""

from __future__ import annotations

from .base import Callback, CallbackError, LambdaCallback
from .checkpoint import Checkpoint
from .display import PrintEpochs, ProgressBar
from .logs import CSVLog, JSONLog
from .plateau import ReduceOnPlateau
from .rates import LearningRateSchedule
from .saving import SaveModel
from .stopping import EarlyStopping
from .tensorboard import TensorBoard

__all__ = [
    "CSVLog",
    "Callback",
    "CallbackError",
    "Checkpoint",
    "EarlyStopping",
    "JSONLog",
    "LambdaCallback",
    "LearningRateSchedule",
    "PrintEpochs",
    "ProgressBar",
    "ReduceOnPlateau",
    "SaveModel",
    "TensorBoard",
]

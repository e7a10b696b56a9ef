"""Callbacks: what happens around the training loop."""

from __future__ import annotations

from .base import Callback, LambdaCallback
from .display import PrintEpochs, ProgressBar
from .logs import CSVLog, JSONLog
from .monitor import MonitorError
from .plateau import ReduceOnPlateau
from .rates import LearningRateSchedule
from .saving import SaveModel
from .stopping import EarlyStopping
from .tensorboard import TensorBoard

__all__ = [
    "CSVLog",
    "Callback",
    "EarlyStopping",
    "JSONLog",
    "LambdaCallback",
    "LearningRateSchedule",
    "MonitorError",
    "PrintEpochs",
    "ProgressBar",
    "ReduceOnPlateau",
    "SaveModel",
    "TensorBoard",
]

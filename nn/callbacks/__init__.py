"""Callbacks: what happens around the training loop."""

from __future__ import annotations

from .base import Callback
from .display import PrintEpochs, ProgressBar
from .plateau import ReduceOnPlateau

__all__ = ["Callback", "PrintEpochs", "ProgressBar", "ReduceOnPlateau"]

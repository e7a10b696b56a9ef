"""Callbacks: what happens around the training loop."""

from __future__ import annotations

from .base import Callback
from .display import PrintEpochs, ProgressBar

__all__ = ["Callback", "PrintEpochs", "ProgressBar"]
